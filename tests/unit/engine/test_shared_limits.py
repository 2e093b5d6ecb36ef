"""Bounds over several apis: whatever comes between a look, its answer, an order and its commit, none is exceeded."""

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bestex.domain.errors import JournalUnavailableError
from bestex.domain.lifecycle import Status
from bestex.domain.terms import Kind, Terms
from bestex.engine.intake import Accepted, IntakeLimits, OrderRequest
from bestex.engine.shared_limits import USABLE_S, WATCHED_ROOM_MIN
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.journal.writer import MergedRows, Store, Verdict
from bestex.ports import EngineMode, Reservation, Room
from tests.support.apis import Api
from tests.support.clock import FakeClock
from tests.support.small_engine import TOKENS

MARKET = OrderRequest(Kind.MARKET, TOKENS.get("SOL"), TOKENS.get("USDC"), 1_500_000_000, 50)
RESTS = replace(MARKET, kind=Kind.LIMIT, terms=Terms(limit_price="200"))
LIMITS = IntakeLimits(waiting=5, open=8, watched=4)

pytestmark = pytest.mark.timeout(60)


class Waits:
    """What waits until a test lets it go on, oldest first."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.holds = True

    async def here(self) -> None:
        if self.holds:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            await future

    def let_go(self, which: int) -> None:
        if self.waiting:
            self.waiting.rotate(-(which % len(self.waiting)))
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(None)


class SlowStore:
    """Commits that wait before they are made, and again before they are answered."""

    def __init__(self, store: Store, waits: Waits) -> None:
        self._store = store
        self._waits = waits

    async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
        await self._waits.here()
        verdict = await self._store.commit(number, rows)
        await self._waits.here()
        return verdict


class SlowJournal(MemoryJournal):
    """Reservations that wait before they are made, and again before they are answered."""

    def __init__(self, database: MemoryDatabase, clock: FakeClock, waits: Waits) -> None:
        super().__init__(database, str(uuid.uuid4()), clock, EngineMode.API)
        self.writer._store = SlowStore(self.writer._store, waits)
        self._waits = waits
        self.away = False
        self.asked: list[int | None] = []  # how much room for watched orders

    async def reserve_room(self, bounds: Room, watched_max: int | None, held: Room) -> Reservation:
        if self.away:
            raise JournalUnavailableError("away")
        self.asked.append(watched_max)
        await self._waits.here()
        room = await super().reserve_room(bounds, watched_max, held)
        await self._waits.here()
        return room


class Apis:
    """Some apis on one database in memory, and time that stands still."""

    def __init__(self, count: int, limits: IntakeLimits = LIMITS) -> None:
        self.clock = FakeClock()
        self.waits = Waits()
        self.database = MemoryDatabase()
        self.journals = [SlowJournal(self.database, self.clock, self.waits) for _ in range(count)]
        self.each = [Api(journal, self.clock, limits) for journal in self.journals]
        self._writers = [asyncio.create_task(journal.run()) for journal in self.journals]
        self.posts: list[asyncio.Task[object]] = []
        self.looks: dict[int, asyncio.Task[None]] = {}

    async def __aenter__(self) -> "Apis":
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._writers, *self.posts, *self.looks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def post(self, which: int, request: OrderRequest) -> None:
        self.posts.append(asyncio.create_task(self.each[which].post(request)))

    def look(self, which: int) -> None:
        if which not in self.looks or self.looks[which].done():
            self.looks[which] = asyncio.create_task(self.each[which].limits.look())

    def there_are(self) -> Room:
        orders = self.database.orders.values()
        return Room(
            sum(order.is_due and order.owner is None for order in orders),
            sum(order.is_due for order in orders),
            sum(order.resting for order in orders),
        )

    def execute_one(self, *, ends: bool) -> None:
        for order in self.database.orders.values():
            if order.is_due and (ends or order.owner is None):
                order.owner = "a worker"
                order.settled = ends
                return

    def stop_watching_one(self) -> None:
        for order in self.database.orders.values():
            if order.resting:
                order.resting, order.settled, order.status = False, True, Status.CANCELLED
                return


Moves = list[tuple[str, int, int]]
MOVES: st.SearchStrategy[Moves] = st.lists(
    st.tuples(
        st.sampled_from(
            ["post"] * 4 + ["rest"] * 2 + ["look"] * 3 + ["go on"] * 6 + ["execute", "end", "stop", "time"]
        ),
        st.integers(0, 5),
        st.integers(0, 3),  # turns of the event loop behind it
    ),
    min_size=20,
    max_size=150,
)


@settings(max_examples=300, deadline=None)
@given(MOVES, st.integers(1, 3))
async def test_no_bound_is_ever_exceeded(moves: Moves, count: int) -> None:
    async with Apis(count) as apis:
        for move, number, turns in moves:
            which = number % count
            match move:
                case "post" | "rest":
                    apis.post(which, MARKET if move == "post" else RESTS)
                case "look":
                    apis.look(which)
                case "go on":
                    apis.waits.let_go(number)
                case "execute" | "end":
                    apis.execute_one(ends=move == "end")
                case "stop":
                    apis.stop_watching_one()
                case _:
                    await apis.clock.advance(0.2)
            for _ in range(turns):
                await asyncio.sleep(0)
            there_are = apis.there_are()
            assert there_are.waiting <= LIMITS.waiting
            assert there_are.open <= LIMITS.open
            assert there_are.watched <= LIMITS.watched


async def test_orders_stored_between_a_look_and_its_answer_count_against_it() -> None:
    async with Apis(1) as apis:
        [api] = apis.each
        apis.waits.holds = False
        await api.limits.look()
        apis.waits.holds = True
        apis.look(0)
        await apis.clock.settle()
        apis.waits.let_go(0)
        await apis.clock.settle()
        answer = apis.waits.waiting.popleft()  # everything has been counted
        apis.waits.holds = False
        for _ in range(3):
            assert await api.post(MARKET) is not None
        answer.set_result(None)
        await apis.clock.settle()
        for _ in range(10):
            await api.post(MARKET)

        assert apis.there_are().waiting == LIMITS.waiting


async def test_what_a_look_takes_away_is_nobody_elses_until_the_next() -> None:
    async with Apis(2) as apis:
        one, other = apis.each
        apis.waits.holds = False
        await one.limits.look()  # it has room for all
        await other.limits.look()
        apis.waits.holds = True
        apis.look(0)
        await apis.clock.settle()
        apis.waits.let_go(0)  # it has room for a half, and does not know it
        await apis.clock.settle()
        answer = apis.waits.waiting.popleft()
        apis.waits.holds = False
        await other.limits.look()
        for api in (one, other) * 10:
            await api.post(MARKET)
        answer.set_result(None)

        assert apis.there_are().waiting == LIMITS.waiting


async def test_the_bounds_are_used_to_the_last_order_by_whoever_gets_it() -> None:
    async with Apis(3) as apis:
        apis.waits.holds = False
        for request in (RESTS, MARKET):
            for which in [*range(3)] * 8:
                apis.look(which)
                await apis.clock.settle()
                apis.post(which, request)
                await apis.clock.settle()

        assert apis.there_are() == Room(5, 5, 4)
        for _ in range(3):
            apis.execute_one(ends=False)
        for which in [*range(3)] * 8:
            apis.look(which)
            await apis.clock.settle()
            apis.post(which, MARKET)
            await apis.clock.settle()
        assert apis.there_are() == Room(5, 8, 4)


async def test_no_bound_is_exceeded_by_an_order_that_comes_as_another_is_answered() -> None:
    async with Apis(1) as apis:
        [api] = apis.each
        apis.waits.holds = False
        await api.limits.look()

        def answered(_: Accepted | Exception) -> None:
            api.intake.enter(MARKET, "local", None, lambda _: None)

        for _ in range(LIMITS.waiting):
            api.intake.enter(MARKET, "local", None, answered)
        await apis.clock.settle()
        assert apis.there_are().waiting == LIMITS.waiting


async def test_nothing_is_accepted_before_room_is_reserved_and_none_on_a_reservation_that_is_old() -> None:
    async with Apis(1) as apis:
        [api] = apis.each
        apis.waits.holds = False
        assert await api.post(MARKET) is None
        await api.limits.look()
        assert await api.post(MARKET) is not None
        apis.journals[0].away = True
        with pytest.raises(JournalUnavailableError):
            await api.limits.look()
        assert await api.post(MARKET) is not None
        await apis.clock.advance(USABLE_S)
        assert await api.post(MARKET) is None


async def test_room_is_reserved_by_itself_while_the_journal_can_be_read() -> None:
    async with Apis(1) as apis:
        [api], [journal] = apis.each, apis.journals
        apis.waits.holds = False
        running = asyncio.create_task(api.limits.run())
        apis.posts.append(running)
        await apis.clock.advance(0.1)
        for _ in range(LIMITS.waiting):
            assert await api.post(MARKET) is not None
        assert await api.post(MARKET) is None
        apis.execute_one(ends=False)
        await apis.clock.advance(1)
        assert await api.post(MARKET) is not None

        apis.execute_one(ends=False)
        journal.away = True
        await apis.clock.advance(10)
        assert await api.post(MARKET) is None
        journal.away = False
        await apis.clock.advance(2)
        assert await api.post(MARKET) is not None


async def test_an_api_that_is_gone_gives_its_room_back() -> None:
    async with Apis(2) as apis:
        apis.waits.holds = False
        one, other = apis.each
        await one.limits.look()
        await other.limits.look()
        assert await other.post(MARKET) is None  # the first had reserved everything
        await apis.clock.advance(6)
        await other.limits.look()
        for _ in range(LIMITS.waiting):
            assert await other.post(MARKET) is not None


async def test_watched_orders_are_counted_again_when_half_of_the_reserved_room_is_used() -> None:
    async with Apis(1, replace(LIMITS, watched=10 * WATCHED_ROOM_MIN)) as apis:
        apis.waits.holds = False
        [api], [journal] = apis.each, apis.journals
        for _ in range(WATCHED_ROOM_MIN // 20 + 2):
            await api.limits.look()
            for _ in range(10):
                assert await api.post(RESTS) is not None

        counted = [number for number, watched_max in enumerate(journal.asked) if watched_max is not None]
        assert counted == [0, WATCHED_ROOM_MIN // 20 + 1]
