"""Put the engine together and run it. The only module that knows which adapter stands behind which port."""

import asyncio
import gc
import os
import platform
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, TypeVar

import asyncpg
import structlog
import uvloop
from pydantic import ValidationError

from bestex import __version__
from bestex.ambient import SystemClock, SystemIds
from bestex.api.app import Application, create_rest
from bestex.api.direct_entry import DirectEntry
from bestex.api.execute import OrderEntry
from bestex.api.feed import Feed
from bestex.api.guard import Guard
from bestex.api.launches import LaunchReader
from bestex.api.market import MarketReader
from bestex.api.operations import OperationsReader
from bestex.api.operator import OperatorReader
from bestex.api.orders import OrderReader
from bestex.api.server import HttpServer, listen
from bestex.api.stream import EntryStream, OpenStreams, StatusStream
from bestex.config import Settings, unknown_settings
from bestex.domain.errors import BestexError, EngineFencedError
from bestex.domain.tokens import TokenRegistry, load_tokens
from bestex.engine.engine import Engine, EngineLimits
from bestex.engine.intake import IntakeLimits
from bestex.engine.landing import LandingLimits
from bestex.engine.operator import Operator
from bestex.engine.rearming import RearmPolicy
from bestex.engine.retry import RetryPolicy
from bestex.hub import LocalHub
from bestex.journal.connections import LOST
from bestex.journal.embedded import EmbeddedPostgres, EmbeddedPostgresError
from bestex.journal.engines import Enrolment
from bestex.journal.migrations import has_journal, migrate
from bestex.journal.postgres import PostgresJournal
from bestex.journal.published_head import HeadFile, head_path, why_behind
from bestex.journal.trigger_store import PostgresTriggerStore
from bestex.observability import Metrics, RecoveryProgress, set_up_logging
from bestex.ports import HaltCause, LogHead
from bestex.routing.router import QuoteLimits, Router
from bestex.venues.simulated.faults import parse_faults
from bestex.venues.simulated.ledger import LedgerUnavailableError
from bestex.venues.simulated.postgres_ledger import PostgresLedger
from bestex.venues.simulated.world import LOOK_EVERY_S, SimulatedWorld, open_simulation

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_SETTINGS: Final = 2

START_DATABASE_S: Final = 30.0  # for an embedded server that died between its start and its first use
START_POLL_S: Final = 0.1

# Each part of a stop, beside the drain that comes first; under 2 s together.
STOP_HTTP_S: Final = 0.4  # for answers under way
STOP_ANSWERS_S: Final = 0.15  # for answers of which only this much is known: that the engine stops
STOP_DRAIN_S: Final = 0.2  # for the last commits of the journal, and of the simulated chain
STOP_DATABASE_S: Final = 0.4  # for the embedded server; it finishes its checkpoint by itself
STOP_PARTS_S: Final = 1.6  # all of these

T = TypeVar("T")

_log = structlog.get_logger("bestex")


def run_server(**overrides: object) -> int:
    """Run the engine until it is told to stop; the process's exit code."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type] # checked by the settings themselves
        tokens = _named("BESTEX_TOKENS_FILE", lambda: _tokens(settings))
        faults = _named("BESTEX_SIM_FAULTS", lambda: parse_faults(settings.sim_faults))
    except ValidationError as error:
        for each in error.errors():
            name = "_".join(str(part) for part in each["loc"]).upper()
            shown = name if name in ("PORT", "DATABASE_URL") else f"BESTEX_{name}"
            _complain(f"{shown}: {each['msg']}")
        return EXIT_BAD_SETTINGS
    except _BadSettingError as error:
        _complain(str(error))
        return EXIT_BAD_SETTINGS
    set_up_logging(
        settings.log_level, as_json=not sys.stderr.isatty() if settings.log_json is None else settings.log_json
    )
    for name in unknown_settings(os.environ):
        _log.warning("settings.unknown", name=name)
    try:
        return uvloop.run(Process(settings, tokens, faults).run())
    except (EmbeddedPostgresError, LedgerUnavailableError, BestexError) as error:
        _complain(str(error))
        return EXIT_FAILED
    except LOST as error:
        _complain(f"the database at {settings.database_host} cannot be reached: {error or type(error).__name__}")
        return EXIT_FAILED
    except asyncpg.PostgresError as error:
        _complain(f"the database at {settings.database_host} cannot be used: {error}")
        return EXIT_FAILED


def _tokens(settings: Settings) -> TokenRegistry:
    return load_tokens(settings.tokens_file.read_bytes() if settings.tokens_file else None)


def _named(variable: str, read: Callable[[], T]) -> T:
    """What `read` gives; `_BadSettingError` names the variable when it cannot be read."""
    try:
        return read()
    except (OSError, ValueError) as error:
        raise _BadSettingError(f"{variable}: {error}") from error


class _BadSettingError(Exception):
    """A setting that names something else is bad."""


def _complain(message: str) -> None:
    sys.stderr.write(f"bestex: {message}\n")


class Process:
    """One engine process, from its first step to its last."""

    def __init__(self, settings: Settings, tokens: TokenRegistry, faults: dict[str, float]) -> None:
        self._settings = settings
        self._tokens = tokens
        self._faults = faults
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._background: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._starting: asyncio.Task[Any] | None = None  # until the engine has started
        self._has_place = False  # on the database, as its one engine
        self._failed = False
        self._not_ready: str | None = "starting"

    async def run(self) -> int:
        """Start, serve until told to stop, stop. A stop is obeyed while starting too."""
        self._starting = asyncio.current_task()
        self._own_signals()
        try:
            return await self._run()
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            return EXIT_OK

    async def _run(self) -> int:
        settings, began = self._settings, self._clock.monotonic()
        async with AsyncExitStack() as exits:
            listener = exits.enter_context(listen(settings.host, settings.port))
            dsn = settings.database_url or await self._embedded_database(exits)
            new = not await self._has_journal(dsn)
            if new:
                await migrate(dsn)
            enrolment = Enrolment(dsn, self._ids.order_id(), f"{platform.node()}, process {os.getpid()}", self._clock)
            await enrolment.enrol()
            self._has_place = True
            exits.push_async_callback(enrolment.leave)
            if not new:
                await migrate(dsn)  # never under a living engine
            self._start("signs of life", enrolment.keep(), exits)

            metrics, hub = Metrics(), LocalHub()
            journal = PostgresJournal(dsn, enrolment.engine_id, self._clock)
            behind = await self._publish_head(journal, exits)
            journal.listen(metrics.committed)
            journal.listen(hub.publish)
            exits.push_async_callback(journal.close)
            self._start("journal", journal.run(), exits)

            world = await self._simulation(dsn)
            exits.push_async_callback(lambda: _within(world.close(), STOP_DRAIN_S))
            self._start("simulated world", world.run(), exits)

            limits = QuoteLimits(settings.quote_timeout_ms / 1000, settings.quote_grace_ms / 1000)
            router = Router(world.venues, self._clock, limits)
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
            if behind is not None:
                await journal.halt(behind, HaltCause.JOURNAL_BEHIND)
            await operator.obey()
            self._start("landing", engine.run(), exits)

            streams = OpenStreams()
            self._show_gauges(metrics, engine, hub, streams)
            app, direct = self._application(engine, operator, journal, store, hub, router, world, metrics, streams)
            server = HttpServer(app, listener, streams, direct)
            serving = asyncio.create_task(server.run(), name="server")
            recovering = asyncio.create_task(self._recover(engine, began), name="recovery")
            for task in (serving, recovering):
                task.add_done_callback(self._ended_by_itself)
            self._starting = None
            await self._stop.wait()

            recovering.cancel()
            self._not_ready = "stopping"
            await engine.drain(max(0.0, settings.drain_s - STOP_PARTS_S))
            await server.stop()
            await asyncio.wait((serving,), timeout=STOP_HTTP_S)
            engine.intake.answer_open()
            await asyncio.wait((serving,), timeout=STOP_ANSWERS_S)
            serving.cancel()
            await engine.stop()
            await _within(journal.drain(), STOP_DRAIN_S)
            return self._exit_code()

    async def _publish_head(self, journal: PostgresJournal, exits: AsyncExitStack) -> str | None:
        """Publish the log's head from now on; not when the journal is behind it: then what is wrong with it."""
        settings = self._settings
        head = await journal.log_head()
        path = settings.head_file or head_path(settings.data_dir, head.journal_id)
        self._head_file = HeadFile(path, head.journal_id, self._clock)
        published = self._head_file.read()
        row_hash = await journal.hash_at(published.position) if published is not None else None
        journal.on_head(self._head_file.publish)
        exits.callback(self._head_file.close)
        if (behind := why_behind(published, head, row_hash)) is not None:
            return behind
        self._begin_publishing(head, exits)
        return None

    async def _publish_anew(self, journal: PostgresJournal, exits: AsyncExitStack) -> None:
        """Publish the head of a journal that was behind, now that it is reconciled; the old head is set aside."""
        if self._head_file.is_open:  # it never was behind
            return
        head = await journal.log_head()
        aside = self._head_file.set_aside(self._clock.now_us())
        _log.warning("head.superseded", kept_as=str(aside))
        self._begin_publishing(head, exits)

    def _begin_publishing(self, head: LogHead, exits: AsyncExitStack) -> None:
        self._head_file.open()
        self._head_file.publish(head.position, head.hash)
        self._start("published head", self._head_file.run(), exits)

    def _application(
        self,
        engine: Engine,
        operator: Operator,
        journal: PostgresJournal,
        store: PostgresTriggerStore,
        hub: LocalHub,
        router: Router,
        world: SimulatedWorld,
        metrics: Metrics,
        streams: OpenStreams,
    ) -> tuple[Guard, DirectEntry]:
        async def not_ready() -> str | None:
            await journal.head()
            return self._not_ready

        entry = OrderEntry(engine.intake, self._tokens, self._clock)
        rest = create_rest(
            OrderReader(engine.orders, engine.dead_man, journal, self._tokens, self._clock),
            MarketReader(router, self._tokens, world.wallet, world.control),
            OperationsReader(not_ready, metrics.text),
            OperatorReader(operator, journal, self._tokens),
            LaunchReader(store, world.market_data),
        )
        application = Application(
            entry,
            EntryStream(entry, journal, hub, streams),
            StatusStream(journal, hub, streams),
            Feed(journal, hub, streams, self._clock),
            rest,  # type: ignore[arg-type] # Litestar's own names for the ASGI types
        )
        guard = Guard(application, self._settings.allowed_hosts, self._settings.cors_origins)
        return guard, DirectEntry(entry, guard)

    async def _has_journal(self, dsn: str) -> bool:
        """`has_journal`. An embedded server that ends just now is started again by its supervisor: wait for that."""
        patience_until = self._clock.monotonic() + START_DATABASE_S
        while True:
            try:
                return await has_journal(dsn)
            except (asyncpg.CannotConnectNowError, *LOST):
                if self._settings.database_url or self._clock.monotonic() > patience_until:
                    raise
            await self._clock.sleep(START_POLL_S)

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
        settings = self._settings
        return await open_simulation(
            seed=settings.seed,
            profile=settings.profile,
            slot_ms=settings.sim_slot_ms,
            tokens=self._tokens,
            clock=self._clock,
            entropy=self._ids.entropy(),
            ledger=PostgresLedger(dsn),
            faults=self._faults,
            launch_every_s=settings.sim_launch_every_s,
        )

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
        # What stands now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
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

    def _show_gauges(self, metrics: Metrics, engine: Engine, hub: LocalHub, streams: OpenStreams) -> None:
        metrics.gauge("orders_waiting", "Orders that wait to be executed", lambda: engine.dispatcher.waiting)
        metrics.gauge("orders_executing", "Orders executing", lambda: engine.dispatcher.executing)
        metrics.gauge(
            "orders_landing", "Orders that wait for proof of what became of them", lambda: len(engine.landing)
        )
        metrics.gauge("orders_confirmed", "Orders confirmed and not final yet", lambda: engine.landing.confirmed)
        metrics.gauge(
            "orders_watched", "Orders that wait for a price, a launch, or their slices", lambda: len(engine.watch)
        )
        metrics.gauge("orders_firing", "Watched orders that fire now", lambda: engine.watch.firing)
        metrics.gauge("halted", "1 while nothing is signed", lambda: engine.gate.halt is not None)
        metrics.gauge("watchers", "Subscriptions to events", lambda: hub.watchers)
        metrics.gauge("streams", "Open streams", lambda: len(streams))

    def _start(self, name: str, work: Coroutine[Any, Any, None], exits: AsyncExitStack) -> None:
        """Run something until the exit comes back to it. It must not end before: its end stops the engine."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: self._stop.set())
        self._background.append(task)
        exits.push_async_callback(_cancel, task)

    def _own_signals(self) -> None:
        """The first SIGTERM or SIGINT stops the engine in order; the second ends the process at once."""

        def received() -> None:
            if self._stop.is_set():
                os._exit(EXIT_FAILED)
            _log.info("engine.stopping")
            self._stop.set()
            if self._starting is not None:
                self._starting.cancel()

        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, received)

    def _ended_by_itself(self, task: asyncio.Task[None]) -> None:
        """The server must not end by itself, and the recovery not by an error: the engine stops, with exit code 1."""
        if self._stop.is_set() or task.cancelled():
            return
        error = task.exception()
        if error is not None or task.get_name() == "server":
            _log.error("engine.part_ended", part=task.get_name(), exc_info=error)
            self._failed = True
            self._stop.set()

    def _exit_code(self) -> int:
        """0 when told to stop; 1, with the reason in the log, when a part of the engine ended by itself."""
        code = EXIT_FAILED if self._failed else EXIT_OK
        for task in self._background:
            if task.done() and not task.cancelled():
                error = task.exception()
                code = EXIT_FAILED
                if isinstance(error, EngineFencedError):
                    _log.error("engine.fenced", reason=str(error))
                else:
                    _log.error("engine.part_ended", part=task.get_name(), exc_info=error)
        return code


def engine_limits(settings: Settings) -> EngineLimits:
    """The engine's limits as the settings have them."""
    return EngineLimits(
        concurrency=settings.concurrency,
        intake=IntakeLimits(settings.intake, settings.open_orders, settings.watched_orders),
        rearming=RearmPolicy(base_s=settings.rearm_base_ms / 1000, max_s=settings.rearm_max_ms / 1000),
        landing=LandingLimits.looking_every(LOOK_EVERY_S[settings.profile]),
        retry=RetryPolicy(
            attempts=settings.retry_attempts,
            base_s=settings.retry_base_ms / 1000,
            factor=settings.retry_factor,
            max_s=settings.retry_max_ms / 1000,
            jitter=settings.retry_jitter,
        ),
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


async def _within(work: Coroutine[Any, Any, None], seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(work, seconds)
