"""One run: a world, a database, clients, and engine processes that come and go, from one seed."""

import asyncio
import gc
import random  # noqa: TID251 - only ever seeded, never ambient
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Final

import msgspec
import structlog

from bestex.audit.audit import audit
from bestex.audit.evidence import Evidence
from bestex.domain.errors import EngineFencedError
from bestex.domain.events import RoutingDetail, SubmittedDetail
from bestex.domain.tokens import TokenRegistry, load_tokens
from bestex.journal.evidence import MemoryJournalEvidence
from bestex.journal.memory import MemoryDatabase
from bestex.simulation.callers import Canceller, Closer, DeadManHolder, Mover, Operator
from bestex.simulation.clients import Client
from bestex.simulation.clock import VirtualClock
from bestex.simulation.database import DatabaseServer
from bestex.simulation.engine import EngineProcess, Surroundings
from bestex.simulation.faults import PROBABILITIES, Luck, of_the_world
from bestex.simulation.invariants import Checks, Invariant, Violation
from bestex.simulation.loop import new_loop
from bestex.simulation.mishaps import Mishaps
from bestex.simulation.network import Network
from bestex.simulation.prices import MarketPrices
from bestex.simulation.process import Process, State
from bestex.simulation.referee import Referee, WatchedLedger
from bestex.simulation.scenario import Options, Scenario, draw
from bestex.simulation.trace import Trace
from bestex.simulation.watchers import FeedWatcher
from bestex.venues.simulated.chain import SimulatedChain
from bestex.venues.simulated.evidence import MemoryLedgerEvidence
from bestex.venues.simulated.world import SimulatedWorld, open_simulation

_TOKENS: Final = load_tokens()
"""What scenarios are drawn with; each run has a registry of its own, which learns of launches."""

ENGINE_TTL_S: Final = 5.0  # after so long a silence, another engine may take the place
HEALTHY_S: Final = 900.0  # in which every order must end once nothing goes wrong any more
_HEALING_S: Final = (0.0, 1.0, 15.0)  # the longest time between one fault's end and the next one's
_TROUBLE_S: Final = 20.0  # from a start, at least, until the world heals: a new engine meets it as it is
_COLLECT_EVERY: Final = 100_000  # objects
_LOOK_EVERY_S: Final = 0.25
_ANSWERED_S: Final = 5.0  # after a late answer of the database, until an engine that waited for it is expected to go on
_PAUSES_S: Final = ((0.01, 0.5), (0.5, 5.0), (5.0, 90.0), (60.0, 200.0))  # between a death and the next start
_BROKEN: Final = frozenset(
    {
        "engine.part_ended",
        "firing.defect",
        "journal.listener_broke",
        "journal.rows_rejected",
        "landing.defect",
        "order.defect",
        "order.executor_broke",
        "launches.order_unreadable",
        "prices.order_unreadable",
        "recovery.order_unreadable",
        "slicer.defect",
    }
)
"""What the engine logs when a part of it breaks."""


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to."""

    seed: int
    point: int | None  # where it was to crash
    place: str | None  # what the process was about to do there, or had just done
    points: int  # where it might have crashed
    places: int  # different ones of them in the code; 0 when they were not counted
    ends: dict[str, int]  # orders by their last status
    kinds: dict[str, int]  # orders by their kind, slices among them
    slices: int
    firings: int  # of watched orders
    attempts: int  # signed
    retries: int
    crashes: int
    stalls: int
    takeovers: int  # of a stalled engine's place
    stops: int  # in order
    restarts: int
    faults: dict[str, int]  # how often each really struck
    checks: dict[str, int]  # how often each invariant was checked
    simulated_s: float
    digest: str  # of all that happened; empty when it was not asked for
    violation: Violation | None


class Run:
    """One run, from its scenario to its outcome."""

    def __init__(self, scenario: Scenario, tokens: TokenRegistry, point: int | None) -> None:
        self._scenario = scenario
        self._point = point
        self.loop = new_loop()
        self.trace = Trace(self.loop)
        self.checks = Checks()
        self._clock = VirtualClock(self.loop)
        self._database = MemoryDatabase()
        self._tokens = tokens
        self.referee = Referee(self.checks, self.trace, self._database, tokens)
        self._ledger = WatchedLedger(self.referee)
        self._outside = copy_context()
        self._luck = Luck(f"{scenario.seed}/luck", scenario.faults)
        self._pauses = random.Random(f"{scenario.seed}/pauses")  # noqa: S311 -- repetition, not secrecy
        self._server = DatabaseServer(self.loop, self._database, self._luck, self.referee, self._outside)
        mishaps_luck = random.Random(f"{scenario.seed}/mishaps")  # noqa: S311 -- the same
        self.mishaps = Mishaps(mishaps_luck, self._kill, self._stall)
        self.referee.when_written = self.mishaps.busy
        self._counts_points = bool(scenario.crashes or scenario.stalls) or point is not None
        self.engine: EngineProcess | None = None  # the one that clients find
        self._alive: list[EngineProcess] = []
        self._starts = 0
        self._place: str | None = None
        self.crashes = self.stalls = self.takeovers = self.stops = self.halts = 0
        self._healed_at: float | None = None
        self._started_at = 0.0
        self._around: Surroundings | None = None
        self._world: SimulatedWorld | None = None
        self._network: Network | None = None

    def count_points(self) -> dict[str, list[int]]:
        """Have the run note its points by their place in the code, in what this returns."""
        self._counts_points = True
        self.mishaps.places = {}
        return self.mishaps.places

    def go(self) -> None:
        """Run to the end or to the first violation."""
        with _heard(self._broke):
            self.loop.run(self._main())
            self.loop.close()

    # --- The course of a run

    async def _main(self) -> None:
        scenario = self._scenario
        self._world = world = await self._open_world()
        self._around = Surroundings(
            self.loop, self._clock, self._server, world, self._tokens, self.trace, scenario.profile, scenario.seed
        )
        passing = asyncio.create_task(world.run())
        try:
            await self._play()
        finally:
            self._stop()
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)
        await world.close()
        if self.checks.failed is None:
            self.referee.finish()
        if self.checks.failed is None:
            await self._audit()

    async def _audit(self) -> None:
        """What `bestex verify` would say of the journal and the ledger that the run leaves."""
        evidence = Evidence(MemoryJournalEvidence(self._database), MemoryLedgerEvidence(self._ledger))
        report = await audit(evidence, None, lambda _: None)
        told = "; ".join(finding.message for finding in report.findings)
        self.checks.check(Invariant.AUDITS_CLEAN, report.clean, told)

    async def _play(self) -> None:
        """Engines, clients and watchers, until all is done or something is wrong."""
        scenario = self._scenario
        if scenario.crashes:
            self.mishaps.kill_sometimes(scenario.crashes)
        self.mishaps.stall_sometimes(scenario.stalls)
        if self._point is not None:
            self.mishaps.kill_at(self._point)
        self._start()
        self._network = network = Network(self.loop, self._clock, self, self._luck, self.referee, self.trace)
        clients = [asyncio.create_task(work) for work in self._clients(network)]
        self.halts = len(scenario.halts_s)
        for at_s in scenario.restarts_at_s:
            self.loop.call_at(at_s, self._stop_in_order, context=self._outside)
        others = [asyncio.create_task(FeedWatcher(network).run()), asyncio.create_task(self._close(network, clients))]
        await self._until_done(clients)
        for task in (*clients, *others):
            task.cancel()
        await asyncio.gather(*clients, *others, return_exceptions=True)

    def _clients(self, network: Network) -> Iterator[Coroutine[None, None, None]]:
        scenario, world = self._scenario, self._world
        if world is None:
            raise RuntimeError("there is no world yet")
        self.referee.quiet.prices = prices = MarketPrices(world.market, self._clock)
        for wish in scenario.wishes:
            yield Client(network, wish, prices).run()
        for at_s, for_s in scenario.halts_s:
            yield Operator(network, at_s, for_s).run()
        for cancel in scenario.cancels:
            yield Canceller(network, cancel).run()
        if scenario.dead_man is not None:
            yield DeadManHolder(network, scenario.dead_man).run()
        if scenario.moves or scenario.migrations:
            yield Mover(network, world.control, scenario.moves, scenario.migrations).run()

    @staticmethod
    async def _close(network: Network, clients: list[asyncio.Task[None]]) -> None:
        """Once nothing goes wrong any more and all clients are gone, nothing rests for ever."""
        await network.healed.wait()
        await asyncio.wait(clients)
        await Closer(network).run()

    async def _open_world(self) -> SimulatedWorld:
        scenario = self._scenario
        world = await open_simulation(
            seed=scenario.seed,
            profile=scenario.profile,
            slot_ms=scenario.slot_ms,
            tokens=self._tokens,
            clock=self._clock,
            entropy=scenario.seed.to_bytes(32, "big"),
            ledger=self._ledger,
            launch_every_s=scenario.launch_every_s,
            faults=of_the_world(scenario.faults),
        )
        self.referee.funds.wallet = world.wallet
        if isinstance(world.chain, SimulatedChain):
            self.referee.ledger.chain = world.chain
        return world

    async def _until_done(self, clients: list[asyncio.Task[None]]) -> None:
        """Wait until all clients have what they want and all orders have settled; heal the world on the way."""
        heals_at = self._scenario.heals_at_s
        healing: asyncio.Task[None] | None = None
        while not (all(client.done() for client in clients) and self._settled()):
            await asyncio.sleep(_LOOK_EVERY_S)
            if self.loop.errors:
                self.checks.fail(Invariant.NOTHING_BREAKS, self.loop.errors[0])
            self._look_at_what_rests()
            if self.checks.failed is not None:
                return
            if self._healed_at is not None:
                if self.loop.time() >= self._healed_at + HEALTHY_S:
                    break
            elif self.engine is not None and self.loop.time() >= max(heals_at, self._started_at + _TROUBLE_S):
                healing = healing or asyncio.create_task(self._heal())
        if healing is not None:
            healing.cancel()
        for client in clients:
            self.checks.check(Invariant.EVERY_ORDER_ENDS, client.done(), "a client or watcher still waits")

    def _look_at_what_rests(self) -> None:
        engine, quiet = self.engine, self.referee.quiet
        if (
            self._healed_at is None
            or engine is None
            or engine.process.state is not State.RUNNING
            or not (engine.open and engine.recovered)
            or self._database.halt is not None
            or self.loop.time() < self._server.answers_until + _ANSWERED_S
        ):
            quiet.unquiet()
        else:
            quiet.look(len(engine.engine.watch) + engine.engine.watch.firing, self._clock)

    def _settled(self) -> bool:
        return self.referee.unsettled == 0

    async def _heal(self) -> None:
        """Let one fault after the other never strike again: some meet a world that is half well."""
        self.mishaps.heal()
        names = [name for name in self._scenario.faults if name in PROBABILITIES]
        self._pauses.shuffle(names)
        longest_s = self._pauses.choice(_HEALING_S)
        for name in names:
            await asyncio.sleep(self._pauses.uniform(0.0, longest_s))
            self.trace.note(f"no more {name}")
            self._luck.heal(name)
            if self._world is not None and name in of_the_world(self._scenario.faults):
                await self._world.control.set_faults({name: 0.0})
        self._server.heal()
        self._healed_at = self.loop.time()
        if self._network is not None:
            self._network.healed.set()

    # --- Engine processes

    def _start(self) -> None:
        """Start an engine in the place of the last one."""
        if self._around is None:
            raise RuntimeError("there is no world yet")
        for engine_id in list(self._database.engines):
            self._database.bury(engine_id)
        self._starts += 1
        self._started_at = self.loop.time()
        number = self._starts
        process = Process(self.loop, f"engine {number}", self.mishaps.step if self._counts_points else None)
        engine = process.context.run(EngineProcess, self._around, process, number)
        self.trace.note(f"engine {number} starts")
        self.engine = engine
        self._alive.append(engine)
        process.when_dead[lambda: self._died(engine)] = None
        process.spawn(engine.run(self._exited)).add_done_callback(self._broke_off, context=self._outside)
        self.mishaps.started()

    def _kill(self, process: Process, where: str) -> None:
        self.crashes += 1
        self._place = where
        self.trace.note(f"{process.name} is killed", None, where)
        process.kill()

    def _died(self, engine: EngineProcess) -> None:
        """A process is gone; when it had the place, another starts after a while."""
        self._alive.remove(engine)
        if self.engine is engine:
            self.engine = None
            pause = self._pauses.uniform(*self._pauses.choice(_PAUSES_S))
            self.loop.call_later(pause, self._start_if_free, context=self._outside)

    def _start_if_free(self) -> None:
        if self.engine is None:
            self._start()

    def _exited(self, engine: EngineProcess, error: BaseException | None) -> None:
        """A process ends by itself."""
        self.trace.note(f"{engine.process.name} exits", None, repr(error))
        fenced = isinstance(error, EngineFencedError) and engine.engine_id not in self._database.engines
        self.checks.check(Invariant.NOTHING_BREAKS, error is None or fenced, f"a part of the engine ended: {error!r}")
        engine.process.kill()

    def _broke_off(self, running: "asyncio.Task[None]") -> None:
        if not running.cancelled() and (error := running.exception()) is not None:
            self.checks.fail(Invariant.NOTHING_BREAKS, f"an engine did not start or stop: {error!r}")

    def _stop_in_order(self) -> None:
        if self.engine is not None and self.engine.process.alive:
            self.stops += 1
            self.trace.note(f"{self.engine.process.name} is told to stop")
            self.engine.stop()

    def _stall(self, process: Process, where: str, seconds: float) -> None:
        self.stalls += 1
        self.trace.note(f"{process.name} is stopped for {seconds:.3f} s", None, where)
        process.stall()
        if seconds > ENGINE_TTL_S:
            after = self._pauses.uniform(ENGINE_TTL_S, seconds)
            self.loop.call_later(after, self._take_place_of, process, context=self._outside)
        self.loop.call_later(seconds, self._go_on, process, context=self._outside)

    def _take_place_of(self, process: Process) -> None:
        if self.engine is not None and self.engine.process is process and process.alive:
            self.takeovers += 1
            self._start()

    def _go_on(self, process: Process) -> None:
        if process.alive:
            self.trace.note(f"{process.name} goes on")
            process.go_on()

    def _stop(self) -> None:
        for engine in list(self._alive):
            engine.process.when_dead.clear()
            engine.process.kill()
        self._alive.clear()

    # --- Violations

    def _broke(self, event: str, details: str) -> None:
        if event in _BROKEN:
            self.checks.fail(Invariant.NOTHING_BREAKS, f"{event}: {details}")

    # --- What it came to

    def outcome(self, *, digest: bool = False) -> Outcome:
        referee = self.referee
        events = [stored.event for order in referee.orders for stored in order.history]
        orders = [order.order for order in referee.orders if order.order is not None]
        failed = self.checks.failed
        violation = None
        if failed is not None:
            invariant, what, order_id = failed
            violation = Violation(invariant, what, order_id, self.loop.time(), self.trace.story(order_id))
        struck = Counter(self._luck.struck)
        struck.update({"stall": self.stalls, "restart": self.stops, "halt": self.halts})
        if self._world is not None:
            struck.update(self._world.struck)
        return Outcome(
            seed=self._scenario.seed,
            point=self._point,
            place=self._place if self._point is not None else None,
            points=self.mishaps.points,
            places=0,
            ends=dict(Counter(_end_of(order.history[-1].event) for order in referee.orders if order.history)),
            kinds=dict(Counter(order.kind.value for order in orders)),
            slices=sum(order.terms.slice_number is not None for order in orders),
            firings=sum(order.state.fired for order in referee.orders),
            attempts=sum(isinstance(e.detail, SubmittedDetail) and e.detail.signature is not None for e in events),
            retries=sum(isinstance(e.detail, RoutingDetail) and e.detail.previous is not None for e in events),
            crashes=self.crashes,
            stalls=self.stalls,
            takeovers=self.takeovers,
            stops=self.stops,
            restarts=max(0, self._starts - 1),
            faults={name: times for name, times in struck.items() if times},
            checks={invariant.value: count for invariant, count in self.checks.counts.items()},
            simulated_s=self.loop.time(),
            digest=f"{self.trace.digest()} {self._database.head_hash.hex()}" if digest else "",
            violation=violation,
        )


def _end_of(event: object) -> str:
    return str(getattr(event, "status", "none"))


def simulate(seed: int, options: Options, *, point: int | None = None, digest: bool = False) -> Outcome:
    """Run one seed; with `point`, one engine process is killed there."""
    run = Run(draw(seed, options, _TOKENS), load_tokens(), point)
    with _seldom_collecting():
        run.go()
    return run.outcome(digest=digest)


def points_of(seed: int, options: Options) -> dict[str, list[int]]:
    """The points at which one engine process of a seed might be killed when no other is, by their place in the code."""
    run = Run(draw(seed, options, _TOKENS), load_tokens(), None)
    places = run.count_points()
    with _seldom_collecting():
        run.go()
    return places


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """A run makes many objects and little garbage: looking for it often costs a quarter of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_EVERY, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _heard(listen: Callable[[str, str], None]) -> Iterator[None]:
    """What the engine logs goes to `listen`, nothing to the terminal."""
    before = structlog.get_config()

    def hear(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        name = str(event.get("event"))
        listen(name, ", ".join(f"{key}={value!r}" for key, value in event.items() if key != "event"))
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.processors.format_exc_info, hear],
        wrapper_class=structlog.make_filtering_bound_logger(40),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
