"""Watchers over a real database: orders that one of them leaves are fired by the other, each once."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from bestex.ambient import SystemClock, SystemIds
from bestex.domain.events import RoutingDetail
from bestex.domain.lifecycle import Status
from bestex.domain.terms import Kind, Terms
from bestex.engine.entry import EntryEngine
from bestex.engine.intake import IntakeLimits, OrderRequest
from bestex.engine.watcher import WatcherEngine
from bestex.hub.follower import LogFollower
from bestex.hub.local import LocalHub
from bestex.journal.book_leases import PostgresBookLeases
from bestex.journal.trigger_store import PostgresTriggerStore
from bestex.ports import EngineMode
from bestex.venues.scripted import ScriptedMarketData, fixed_curve
from tests.support.journals import OnPostgres
from tests.support.small_engine import SOL_USDC, TOKENS, ScriptedWallet

PATIENCE_S = 20.0
POLL_S = 0.02

pytestmark = pytest.mark.timeout(60)


class StandingClock(SystemClock):
    """A clock that a test can have stand, for a process that does not notice how time passes."""

    def __init__(self) -> None:
        super().__init__()
        self._stands_at: float | None = None

    def stand(self) -> None:
        self._stands_at = super().monotonic()

    def monotonic(self) -> float:
        return super().monotonic() if self._stands_at is None else self._stands_at


class Watcher:
    """A watcher with its connections."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.market = ScriptedMarketData(self.clock)
        self.rung: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, database: OnPostgres) -> None:
        self.journal = await database.journal(EngineMode.WATCHER)
        self.store = PostgresTriggerStore(database.dsn)
        self.leases = PostgresBookLeases(database.dsn, self.journal.engine_id)
        self.engine = WatcherEngine(
            self.journal,
            self.store,
            self.leases,
            self.market,
            TOKENS,
            self.clock,
            lambda log: self.rung.append(log.order.id),
        )
        follower = LogFollower(self.journal, LocalHub(), self.clock)
        follower.listen(self.engine.committed)
        await follower.open()
        self._tasks = [asyncio.create_task(follower.run()), asyncio.create_task(self.engine.run())]

    def price(self, price: str) -> None:
        self.market.tick(SOL_USDC, fixed_curve(SOL_USDC, price))

    async def kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()
        self.leases.close()


class Cluster:
    """An api and two watchers over one database."""

    def __init__(self, database: OnPostgres) -> None:
        self.database = database
        self.watchers = [Watcher(), Watcher()]

    async def start(self) -> None:
        self.journal = await self.database.journal(EngineMode.API)
        self._store = PostgresTriggerStore(self.database.dsn)
        clock = SystemClock()
        market, ids, limits = ScriptedMarketData(clock), SystemIds(), IntakeLimits()
        self.entry = EntryEngine(
            self.journal, self._store, market, ScriptedWallet(), TOKENS, clock, ids, limits, lambda _: None
        )
        await self.entry.begin()
        for watcher in self.watchers:
            await watcher.start(self.database)

    async def close(self) -> None:
        for watcher in self.watchers:
            await watcher.kill()
        self._store.close()

    async def limit_sell(self, limit_price: str) -> str:
        sol, usdc = SOL_USDC.base, SOL_USDC.quote
        request = OrderRequest(Kind.LIMIT, sol, usdc, 10**9, 50, terms=Terms(limit_price=limit_price))
        return (await self.entry.intake.accept(request, "local", None)).order_id

    async def watched_by(self, orders: int) -> Watcher:
        """Who watches so many orders, as soon as one does."""
        await until(lambda: any(len(each.engine.watch) == orders for each in self.watchers))
        [owner] = [each for each in self.watchers if len(each.engine.watch) == orders]
        return owner

    async def fired(self, order_id: str) -> int:
        events = [stored.event.detail for stored in await self.journal.events(order_id)]
        return sum(isinstance(detail, RoutingDetail) and detail.trigger is not None for detail in events)


@pytest.fixture
async def cluster(database_url: str) -> AsyncIterator[Cluster]:
    database = OnPostgres(database_url)
    made = Cluster(database)
    await made.start()
    yield made
    await made.close()
    await database.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(POLL_S)


async def test_a_dead_watchers_orders_are_fired_by_the_other(cluster: Cluster) -> None:
    first, second = [await cluster.limit_sell(price) for price in ("100", "110")]
    dead = await cluster.watched_by(2)
    dead.price("105")
    await until(lambda: dead.rung == [first])
    row = await cluster.journal.order(first)
    assert row is not None
    assert (row.view.status, row.lease_owner, row.lease_epoch) == (Status.ROUTING, None, 1)

    await dead.kill()
    cluster.watchers.remove(dead)
    heir = await cluster.watched_by(1)
    heir.price("115")
    await until(lambda: heir.rung == [second])
    assert [await cluster.fired(each) for each in (first, second)] == [1, 1]


async def test_a_watcher_that_does_not_know_that_its_lease_ran_out_is_refused(cluster: Cluster) -> None:
    order_id = await cluster.limit_sell("100")
    stale = await cluster.watched_by(1)
    hung = asyncio.Event()
    stale.leases.renew = hung.wait  # type: ignore[method-assign, assignment]
    stale.clock.stand()
    [heir] = [each for each in cluster.watchers if each is not stale]
    await until(lambda: len(heir.engine.watch) == 1)

    refused = stale.journal.writer.commits
    stale.price("105")
    assert stale.engine.firing == 1
    await until(lambda: stale.journal.writer.commits > refused and stale.engine.firing == 0)
    assert (await cluster.fired(order_id), stale.rung) == (0, [])
    heir.price("105")
    await until(lambda: heir.rung == [order_id])
    assert await cluster.fired(order_id) == 1
