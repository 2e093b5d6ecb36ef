"""`bestex api`: takes orders and answers for them; others over the same database execute them."""

from contextlib import AsyncExitStack

import structlog

from bestex.api.health import HealthApp
from bestex.api.server import HttpServer, listen
from bestex.api.stream import OpenStreams
from bestex.bootstrap.application import application
from bestex.bootstrap.dispatching import make_dispatcher, ring
from bestex.bootstrap.journal_process import engine_limits, quote_limits
from bestex.bootstrap.process import STOP_DRAIN_S, within
from bestex.bootstrap.serving import answering, stop_serving
from bestex.bootstrap.shared import SharedProcess
from bestex.engine.entry import EntryEngine
from bestex.engine.operator import Operator
from bestex.engine.patience import PatientChain
from bestex.hub.follower import LogFollower
from bestex.hub.local import LocalHub
from bestex.journal.trigger_store import PostgresTriggerStore
from bestex.observability import Metrics
from bestex.ports import EngineMode
from bestex.routing.router import Router

_log = structlog.get_logger("bestex")


class ApiProcess(SharedProcess):
    mode = EngineMode.API

    async def _run(self, exits: AsyncExitStack) -> None:
        settings, began, metrics = self._settings, self._clock.monotonic(), Metrics()
        listener = exits.enter_context(listen(settings.host, settings.port))
        journal = await self._open_shared_journal(metrics, exits)
        early = HealthApp(lambda: self._what_keeps_from_work(journal), metrics.text, otherwise="unavailable")
        async with answering(early, listener):
            world = await self._connect_world(exits)
        dispatcher = make_dispatcher(settings, self._dsn, self._clock)
        router = Router(world.venues, self._clock, quote_limits(settings))
        store = PostgresTriggerStore(self._dsn)
        exits.callback(store.close)
        limits = engine_limits(settings)
        engine = EntryEngine(
            journal,
            store,
            world.market_data,
            world.wallet,
            self._tokens,
            self._clock,
            self._ids,
            limits.intake,
            lambda log: ring(dispatcher, log),
        )
        exits.callback(engine.close)
        chain = PatientChain(world.chain, limits.chain_deadline_s)
        operator = Operator(
            engine,
            journal,
            chain,
            world.wallet,
            self._tokens,
            self._clock,
            lambda: self._publish_anew(journal, exits),
        )
        exits.push_async_callback(operator.stop)
        await engine.begin()

        hub = LocalHub()
        follower = LogFollower(journal, hub, self._clock)
        await follower.open()
        await self._hear(journal, engine.halts, follower, exits)
        self._start("dispatch", dispatcher.run(), exits)
        self._start("entry", engine.run(), exits)

        streams = OpenStreams()
        limits_kept = engine.limits
        metrics.gauge("orders_waiting", "Orders that wait for a worker, in all", lambda: limits_kept.there_are.waiting)
        metrics.gauge("orders_open", "Orders that have not ended, in all", lambda: limits_kept.there_are.open)
        metrics.gauge("orders_watched", "Orders that are watched, in all", lambda: limits_kept.there_are.watched)
        metrics.gauge("halted", "1 while nothing is signed", lambda: engine.gate.halt is not None)
        metrics.gauge("watchers", "Subscriptions to events", lambda: hub.watchers)
        metrics.gauge("streams", "Open streams", lambda: len(streams))
        metrics.gauge("log_behind", "Events committed and not followed yet", lambda: follower.behind)
        app, direct = application(
            settings=settings,
            tokens=self._tokens,
            clock=self._clock,
            intake=engine.intake,
            orders=engine.orders,
            dead_man=engine.dead_man,
            operator=operator,
            journal=journal,
            store=store,
            hub=hub,
            router=router,
            wallet=world.wallet,
            market_data=world.market_data,
            control=world.control,
            metrics=metrics,
            streams=streams,
            not_ready=lambda: self._what_keeps_from_work(journal),
        )
        server = HttpServer(app, listener, streams, direct)
        serving = self._watch_over("server", server.run())
        self._ready(began, url=f"http://{settings.host}:{settings.port}", simnet=settings.simnet_url)
        await self._stopped()

        self._not_ready = "stopping"
        engine.close()
        await stop_serving(server, serving, engine.intake)
        await within(journal.drain(), STOP_DRAIN_S)
