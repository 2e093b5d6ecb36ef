"""`bestex serve`: the whole engine in one process, with the simulated world and an embedded database."""

import gc
import os
from contextlib import AsyncExitStack
from typing import Any

import structlog

from bestex import __version__
from bestex.api.server import HttpServer, listen
from bestex.api.stream import OpenStreams
from bestex.bootstrap.application import application
from bestex.bootstrap.journal_process import JournalProcess, engine_limits, quote_limits
from bestex.bootstrap.process import STOP_DATABASE_S, STOP_DRAIN_S, STOP_PARTS_S, within
from bestex.bootstrap.serving import stop_serving
from bestex.bootstrap.simulation import open_world
from bestex.config import Settings
from bestex.domain.tokens import TokenRegistry
from bestex.engine.engine import Engine
from bestex.engine.operator import Operator
from bestex.hub.local import LocalHub
from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.trigger_store import PostgresTriggerStore
from bestex.observability import Metrics, RecoveryProgress
from bestex.ports import EngineMode
from bestex.routing.router import Router
from bestex.venues.simulated.world import SimulatedWorld

_log = structlog.get_logger("bestex")


class InlineProcess(JournalProcess):
    """Everything, alone on its database."""

    mode = EngineMode.INLINE

    def __init__(self, settings: Settings, tokens: TokenRegistry, faults: dict[str, float]) -> None:
        super().__init__(settings, tokens)
        self._faults = faults

    async def _run(self, exits: AsyncExitStack) -> None:
        settings, began = self._settings, self._clock.monotonic()
        listener = exits.enter_context(listen(settings.host, settings.port))
        dsn = settings.database_url or await self._embedded_database(exits)
        journal = await self._open_journal(dsn, exits)
        metrics, hub = Metrics(), LocalHub()
        await self._halt_if_behind(journal, exits)
        journal.listen(metrics.committed)
        journal.listen(hub.publish)
        exits.push_async_callback(journal.close)
        self._start("journal", journal.run(), exits)

        world = await self._simulation(dsn)
        exits.push_async_callback(lambda: within(world.close(), STOP_DRAIN_S))
        self._start("simulated world", world.run(), exits)

        router = Router(world.venues, self._clock, quote_limits(settings))
        store = PostgresTriggerStore(dsn)
        exits.callback(store.close)
        engine = Engine(
            journal,
            router,
            world.chain,
            world.wallet,
            world.market_data,
            store,
            self._tokens,
            self._clock,
            self._ids,
            engine_limits(settings),
        )
        journal.listen(engine.committed)
        exits.push_async_callback(engine.stop)
        operator = Operator(
            engine,
            journal,
            engine.chain,
            world.wallet,
            self._tokens,
            self._clock,
            lambda: self._publish_anew(journal, exits),
        )
        exits.push_async_callback(operator.stop)
        await operator.obey()
        self._start("engine", engine.run(), exits)

        streams = OpenStreams()
        _show_gauges(metrics, engine, hub, streams)
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
        recovering = self._watch_over("recovery", self._recover(engine, began), may_end=True)
        await self._stopped()

        recovering.cancel()
        self._not_ready = "stopping"
        await engine.drain(max(0.0, settings.drain_s - STOP_PARTS_S))
        await stop_serving(server, serving, engine.intake)
        await engine.stop()
        await within(journal.drain(), STOP_DRAIN_S)

    async def _embedded_database(self, exits: AsyncExitStack) -> str:
        settings = self._settings
        user = settings.postgres_user if os.geteuid() == 0 else None
        adopted = False

        def on_event(event: str, fields: dict[str, Any]) -> None:
            nonlocal adopted
            adopted |= event == "postgres.adopted"
            _log.info(event, **fields)

        async def stop() -> None:
            if self._has_place or not adopted:  # else it is the living engine's, which has refused this one
                await database.stop(STOP_DATABASE_S)

        database = EmbeddedPostgres(settings.data_dir, server_user=user, on_event=on_event)
        await database.start()
        self._start("database", database.supervise(), exits)
        exits.push_async_callback(stop)
        return database.dsn

    async def _simulation(self, dsn: str) -> SimulatedWorld:
        return await open_world(self._settings, dsn, self._tokens, self._clock, self._ids, self._faults)

    async def _recover(self, engine: Engine, began: float) -> None:
        """Take over what a dead engine left, then be ready."""
        gc.disable()  # what a recovery makes stays: looking at it again and again is in vain
        try:
            with RecoveryProgress("recovering") as progress:
                recovered = await engine.recover(lambda recovered, total: progress(recovered.orders, total))
            with RecoveryProgress("watching again") as progress:
                watched = await engine.watch_again(progress)
        finally:
            gc.enable()
        self._collect_seldom()
        self._not_ready = None
        settings = self._settings
        if recovered.orders:
            _log.info(
                "engine.recovered",
                orders=recovered.orders,
                executed_again=recovered.to_execute,
                to_prove=recovered.to_prove,
                to_finalize=recovered.to_finalize,
            )
        _log.info(
            "engine.ready",
            version=__version__,
            url=f"http://{settings.host}:{settings.port}",
            profile=settings.profile,
            recovered_orders=recovered.orders,
            watched_orders=watched,
            seconds=round(self._clock.monotonic() - began, 2),
        )


def _show_gauges(metrics: Metrics, engine: Engine, hub: LocalHub, streams: OpenStreams) -> None:
    metrics.gauge("orders_waiting", "Orders that wait to be executed", lambda: engine.dispatcher.waiting)
    metrics.gauge("orders_executing", "Orders executing", lambda: engine.dispatcher.executing)
    metrics.gauge("orders_landing", "Orders that wait for proof of what became of them", lambda: len(engine.landing))
    metrics.gauge("orders_confirmed", "Orders confirmed and not final yet", lambda: engine.landing.confirmed)
    metrics.gauge(
        "orders_watched", "Orders that wait for a price, a launch, or their slices", lambda: len(engine.watch)
    )
    metrics.gauge("orders_firing", "Watched orders that fire now", lambda: engine.watch.firing)
    metrics.gauge("halted", "1 while nothing is signed", lambda: engine.gate.halt is not None)
    metrics.gauge("watchers", "Subscriptions to events", lambda: hub.watchers)
    metrics.gauge("streams", "Open streams", lambda: len(streams))
