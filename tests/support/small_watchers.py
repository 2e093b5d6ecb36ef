"""Watchers, an api and a worker over one journal in memory; clocks that stand still until a test moves them."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from bestex.domain.events import RoutingDetail
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.order_state import OrderView
from bestex.domain.terms import NO_TERMS, Kind, Terms
from bestex.domain.tokens import Pair
from bestex.engine.entry import EntryEngine
from bestex.engine.execution import Execution
from bestex.engine.intake import IntakeLimits, OrderRequest
from bestex.engine.order_log import OrderLog
from bestex.engine.signing import SigningGate
from bestex.engine.watcher import WatcherEngine
from bestex.journal.book_leases import MemoryBookLeases
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.journal.trigger_store import MemoryTriggerStore, TriggerTables
from bestex.ports import EngineMode
from bestex.routing.router import QuoteLimits, Router
from bestex.venues.scripted import ScriptedMarketData, fixed_curve
from tests.support.clock import FakeClock
from tests.support.small_engine import (
    LIMITS,
    PATIENCE_S,
    SOL_USDC,
    STEP_S,
    TOKENS,
    FixedIds,
    ScriptedChain,
    ScriptedVenue,
    ScriptedWallet,
)

FEED_S: Final = 0.02  # between two looks at the log
CLAIM_S: Final = 0.05  # between two claims of the worker


class ProcessClock:
    """`Clock` of one process that can be stopped, as by SIGSTOP, or have its own idea of the time."""

    def __init__(self, world: FakeClock) -> None:
        self._world = world
        self._runs = asyncio.Event()
        self._runs.set()
        self._missed_s = 0.0

    @property
    def runs(self) -> bool:
        return self._runs.is_set()

    def stop(self) -> None:
        """Have the process do nothing."""
        self._runs.clear()

    def go_on(self, *, knows: bool = True) -> None:
        """Have it go on; `knows` how much time has passed."""
        if knows:
            self._missed_s = 0.0
        self._runs.set()

    def miss(self, seconds: float) -> None:
        """Have it not notice that so much time has passed, but by the date."""
        self._missed_s = seconds

    def now_us(self) -> int:
        return self._world.now_us()

    def monotonic(self) -> float:
        return self._world.monotonic() - self._missed_s

    async def sleep(self, seconds: float) -> None:
        await self._world.sleep(seconds)
        await self._runs.wait()


class SmallProcess:
    """A process with its journal."""

    def __init__(self, cluster: "SmallCluster", mode: EngineMode) -> None:
        self.clock = ProcessClock(cluster.clock)
        self.journal = MemoryJournal(cluster.database, str(uuid.uuid4()), self.clock, mode)
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, *works: Coroutine[Any, Any, None]) -> None:
        self.tasks = [asyncio.create_task(work) for work in works]

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []


class SmallWatcher(SmallProcess):
    """A watcher, which follows the log by itself and hears the prices that it is told."""

    def __init__(self, cluster: "SmallCluster") -> None:
        super().__init__(cluster, EngineMode.WATCHER)
        self._database = cluster.database
        self._position = len(cluster.database.log)
        self.market = ScriptedMarketData(self.clock)
        self.rung: list[str] = []  # orders that the workers were told of
        self.leases = MemoryBookLeases(cluster.database, self.journal.engine_id, cluster.clock)
        self.engine = WatcherEngine(
            self.journal,
            MemoryTriggerStore(cluster.tables),
            self.leases,
            self.market,
            TOKENS,
            self.clock,
            lambda log: self.rung.append(log.order.id),
        )

    @property
    def keys(self) -> set[str]:
        """The books that it owns, as the database has it."""
        return {key for key, row in self._database.books.items() if row.owner == self.journal.engine_id}

    def price(self, price: str, pair: Pair = SOL_USDC) -> None:
        """Have a price come to this watcher now."""
        self.market.tick(pair, fixed_curve(pair, price), at_us=self.clock.now_us())

    async def follow(self) -> None:
        """Hand on what is committed, for ever."""
        while True:
            events = self._database.log[self._position :]
            self._position += len(events)
            if events:
                self.engine.committed(events)
            await self.clock.sleep(FEED_S)


class SmallCluster:
    """The processes over one database."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.database = MemoryDatabase()
        self.tables = TriggerTables()
        self.ids = FixedIds()
        self.watchers: list[SmallWatcher] = []
        self.venue = ScriptedVenue()
        self.chain = ScriptedChain()
        self.wallet = ScriptedWallet()
        self.api = SmallProcess(self, EngineMode.API)
        self.market = ScriptedMarketData(self.clock)
        self._begun = False
        self.entry = EntryEngine(
            self.api.journal,
            MemoryTriggerStore(self.tables),
            self.market,
            self.wallet,
            TOKENS,
            self.clock,
            self.ids,
            IntakeLimits(),
            lambda _: None,
        )
        self.worker = SmallProcess(self, EngineMode.WORKER)
        router = Router([self.venue], self.clock, QuoteLimits())
        self.execution = Execution(
            self.worker.journal,
            router,
            self.chain,
            self.wallet,
            TOKENS,
            self.clock,
            self.ids,
            LIMITS,
            SigningGate(),
            _left_to_watchers,
            lambda _: None,
        )

    def watcher(self) -> SmallWatcher:
        """One more watcher, running."""
        watcher = SmallWatcher(self)
        watcher.start(watcher.journal.run(), watcher.follow(), watcher.engine.run())
        self.watchers.append(watcher)
        return watcher

    def start(self) -> None:
        self.api.start(self.api.journal.run(), self.entry.run())
        self.worker.start(self.worker.journal.run(), self.execution.landing.run(), self._work())

    async def _work(self) -> None:
        """Execute what waits for a worker, for ever."""
        while True:
            claimed = await self.worker.journal.claim_waiting(100)
            for log in await self.execution.recovery.take_up(claimed):
                self.execution.go_on(log)
            await self.worker.clock.sleep(CLAIM_S)

    def owner(self, key: str) -> SmallWatcher | None:
        """Who has taken a book up."""
        return next((each for each in self.watchers if key in each.keys and each.engine.books.may_fire(key)), None)

    async def order(self, kind: Kind = Kind.LIMIT, token_in: str = "SOL", token_out: str = "USDC", **terms: Any) -> str:
        """Accept an order of 1.5 of a token for another; its id."""
        paid, bought = TOKENS.get(token_in), TOKENS.get(token_out)
        demanded = Terms(**terms) if terms else NO_TERMS
        request = OrderRequest(kind, paid, bought, 15 * 10 ** (paid.decimals - 1), 50, terms=demanded)
        return await self.accept(request)

    async def accept(self, request: OrderRequest) -> str:
        """Its order's id."""
        if not self._begun:
            await self.entry.begin()
            self._begun = True
        return (await self.entry.intake.accept(request, "local", None)).order_id

    def price(self, price: str, pair: Pair = SOL_USDC) -> None:
        """Have a price come to all watchers that run."""
        for watcher in self.watchers:
            if watcher.clock.runs and watcher.tasks:
                watcher.price(price, pair)

    def firings(self, order_id: str) -> int:
        """How often an order fired."""
        events = self.database.orders[order_id].events
        return sum(isinstance(e.event.detail, RoutingDetail) and e.event.detail.trigger is not None for e in events)

    def view(self, order_id: str) -> OrderView:
        view = self.database.orders[order_id].view
        assert view is not None
        return view

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the clock go on until the condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.clock.advance(STEP_S)
                await asyncio.sleep(0.001)

    async def until_status(self, order_id: str, *statuses: Status) -> OrderView:
        wanted = statuses or tuple(ENDS)
        await self.until(lambda: self.database.orders[order_id].status in wanted)
        return self.view(order_id)

    async def until_watched(self, count: int) -> None:
        """Wait until the watchers watch so many orders together."""
        await self.until(lambda: sum(len(each.engine.watch) for each in self.watchers if each.tasks) == count)


def _left_to_watchers(log: OrderLog) -> None:
    """An order waits again: its watcher hears of it by the log."""


@asynccontextmanager
async def small_cluster(*, watchers: int = 2) -> AsyncIterator[SmallCluster]:
    """A running `SmallCluster`."""
    cluster = SmallCluster()
    cluster.start()
    for _ in range(watchers):
        cluster.watcher()
    processes = (cluster.api, cluster.worker, *cluster.watchers)
    try:
        yield cluster
        for process in (*processes, *cluster.watchers):
            for task in process.tasks:
                assert not task.done(), f"a part of a process ended: {task.exception()!r}"
    finally:
        await cluster.execution.stop()
        for process in (*processes, *cluster.watchers):
            await process.kill()
