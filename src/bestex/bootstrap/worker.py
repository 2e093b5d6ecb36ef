"""`bestex worker`: executes orders that others over the same database accept and fire."""

from contextlib import AsyncExitStack

from bestex.bootstrap.dispatching import make_dispatcher
from bestex.bootstrap.journal_process import engine_limits, quote_limits
from bestex.bootstrap.process import STOP_DRAIN_S, STOP_PARTS_S, within
from bestex.bootstrap.shared import SharedProcess
from bestex.engine.halt_following import HaltFollower
from bestex.engine.worker import Worker, WorkerLimits
from bestex.observability import Metrics
from bestex.ports import EngineMode
from bestex.routing.router import Router


class WorkerProcess(SharedProcess):
    mode = EngineMode.WORKER

    async def _run(self, exits: AsyncExitStack) -> None:
        settings, began, metrics = self._settings, self._clock.monotonic(), Metrics()
        journal = await self._open_shared_journal(metrics, exits)
        self._serve_health(journal, metrics, exits)
        world = await self._connect_world(exits)
        dispatcher = make_dispatcher(settings, self._dsn, self._clock)
        worker = Worker(
            journal,
            dispatcher,
            Router(world.venues, self._clock, quote_limits(settings)),
            world.chain,
            world.wallet,
            self._tokens,
            self._clock,
            self._ids,
            engine_limits(settings),
            WorkerLimits(),
        )
        journal.listen(worker.committed)
        exits.push_async_callback(worker.stop)
        halts = HaltFollower(journal, worker.gate, self._clock, worker.execution.refold)
        await halts.obey()
        self._start("halts", halts.run(), exits)
        await self._hear(journal, halts, None, exits)
        self._start("dispatch", dispatcher.run(), exits)
        self._start("worker", worker.run(), exits)
        _show_gauges(metrics, worker)
        self._ready(began, simnet=settings.simnet_url, queue=settings.queue)
        await self._stopped()

        self._not_ready = "stopping"
        await worker.drain(max(0.0, settings.drain_s - STOP_PARTS_S))
        await worker.stop()
        await within(journal.drain(), STOP_DRAIN_S)


def _show_gauges(metrics: Metrics, worker: Worker) -> None:
    execution = worker.execution
    metrics.gauge("orders_waiting", "Orders held that wait to be executed", lambda: execution.dispatcher.waiting)
    metrics.gauge("orders_executing", "Orders executing", lambda: execution.dispatcher.executing)
    metrics.gauge("orders_landing", "Orders that wait for proof of what became of them", lambda: len(execution.landing))
    metrics.gauge("orders_confirmed", "Orders confirmed and not final yet", lambda: execution.landing.confirmed)
    metrics.gauge("halted", "1 while nothing is signed", lambda: worker.gate.halt is not None)
