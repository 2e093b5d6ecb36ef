"""`bestex watcher`: fires the watched orders in the books that it owns."""

from contextlib import AsyncExitStack

from bestex.bootstrap.dispatching import make_dispatcher, ring
from bestex.bootstrap.process import STOP_DRAIN_S, within
from bestex.bootstrap.shared import SharedProcess
from bestex.engine.watcher import WatcherEngine
from bestex.hub.follower import LogFollower
from bestex.hub.local import LocalHub
from bestex.journal.book_leases import PostgresBookLeases
from bestex.journal.trigger_store import PostgresTriggerStore
from bestex.observability import Metrics
from bestex.ports import EngineMode


class WatcherProcess(SharedProcess):
    mode = EngineMode.WATCHER

    async def _run(self, exits: AsyncExitStack) -> None:
        settings, began, metrics = self._settings, self._clock.monotonic(), Metrics()
        journal = await self._open_shared_journal(metrics, exits)
        self._serve_health(journal, metrics, exits)
        world = await self._connect_world(exits)
        dispatcher = make_dispatcher(settings, self._dsn, self._clock)
        store = PostgresTriggerStore(self._dsn)
        exits.callback(store.close)
        leases = PostgresBookLeases(self._dsn, journal.engine_id)
        exits.callback(leases.close)
        engine = WatcherEngine(
            journal, store, leases, world.market_data, self._tokens, self._clock, lambda log: ring(dispatcher, log)
        )
        exits.callback(engine.close)
        follower = LogFollower(journal, LocalHub(), self._clock)
        follower.listen(engine.committed)
        await follower.open()
        await self._hear(journal, engine.halts, follower, exits)
        self._start("dispatch", dispatcher.run(), exits)
        self._start("watcher", engine.run(), exits)
        metrics.gauge("books", "Books owned", lambda: engine.books_owned)
        metrics.gauge("orders_watched", "Orders watched here", lambda: engine.orders_watched)
        metrics.gauge("orders_firing", "Watched orders that fire now", lambda: engine.firing)
        metrics.gauge("halted", "1 while nothing is signed", lambda: engine.gate.halt is not None)
        metrics.gauge("log_behind", "Events committed and not followed yet", lambda: follower.behind)
        self._ready(began, simnet=settings.simnet_url)
        await self._stopped()

        self._not_ready = "stopping"
        await within(engine.drain(), STOP_DRAIN_S)
        await within(journal.drain(), STOP_DRAIN_S)
        await within(engine.leave(), STOP_DRAIN_S)
