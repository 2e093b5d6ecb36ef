"""The contract of the TriggerStore port, kept by the store in memory and the one on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from itertools import count
from random import Random

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bestex.domain.errors import JournalUnavailableError
from bestex.domain.launches import STANDARD_FILTERS, FilterVerdict, Launch, LaunchFilters
from bestex.domain.tokens import Token
from bestex.journal.connections import connect
from bestex.journal.trigger_store import MemoryTriggerStore, PostgresTriggerStore, TriggerTables
from bestex.ports import DeadMan, FilterSetVerdict, HighWater, LaunchRecord, TriggerStore

pytestmark = pytest.mark.timeout(30)

SOL = Token("SOL", "So11111111111111111111111111111111111111112", 9)


class Stores:
    """Engines' stores on one database; each call is another engine's."""

    def __init__(self, dsn: str | None) -> None:
        self._dsn = dsn  # None: in memory
        self._tables = TriggerTables()
        self._opened: list[PostgresTriggerStore] = []

    def __call__(self) -> TriggerStore:
        if self._dsn is None:
            return MemoryTriggerStore(self._tables)
        self._opened.append(PostgresTriggerStore(self._dsn))
        return self._opened[-1]

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture(params=["memory", "postgres"])
def stores(request: pytest.FixtureRequest) -> Stores:
    return Stores(None if request.param == "memory" else request.getfixturevalue("database_url"))


@pytest.fixture
async def new_store(stores: Stores) -> AsyncIterator[Stores]:
    yield stores
    stores.close()


@pytest.fixture
def store(new_store: Stores) -> TriggerStore:
    return new_store()


def sellers(at_us: int, price: str, pair: str = "SOL/USDC") -> HighWater:
    return HighWater(pair, True, at_us, price)


def buyers(at_us: int, price: str, pair: str = "SOL/USDC") -> HighWater:
    return HighWater(pair, False, at_us, price)


def record(seen_us: int, *, mint: str = "M1nt", pool: str = "p00l", bought_by: int = 0) -> LaunchRecord:
    launch = Launch(
        token=Token(mint, mint, 6),
        name="A “coin” → 🪙",
        ticker="COIN",
        venue="raydium",
        pool=pool,
        quote=SOL,
        liquidity=85_000_000_000,
        mint_authority_revoked=True,
        freeze_authority_revoked=False,
        lp_burnt_bps=10_000,
        lp_locked_bps=0,
        top_holders_bps=4_200,
        creator="cre8or",
        listed_us=seen_us - 400_000,
        slot=7,
        migrated_from="meteora",
    )
    checks = (FilterVerdict("minLiquidity", "20", "85", True), FilterVerdict("topHoldersMaxBps", "3000", "4200", False))
    wanted = LaunchFilters(min_liquidity="10", creators_denied=("a", "b"))
    verdicts = (FilterSetVerdict(STANDARD_FILTERS, 0, False, checks), FilterSetVerdict(wanted, 3, True, checks[:1]))
    return LaunchRecord(launch, seen_us, verdicts, bought_by, 10**9, 2**63)


# --- High waters ---------------------------------------------------------------------------------------------


async def test_a_store_is_empty_at_first(store: TriggerStore) -> None:
    assert await store.high_waters() == []
    assert await store.launches(10, None, None) == []
    assert await store.dead_men() == []


async def test_marks_outlive_the_engine_and_come_by_time(new_store: Stores) -> None:
    marks = [sellers(3, "150"), sellers(1, "152.000000000000000001"), buyers(2, "149"), sellers(2, "7", "JUP/SOL")]
    await new_store().keep_high_waters(marks)

    assert await new_store().high_waters() == [marks[1], marks[3], marks[2], marks[0]]


@pytest.mark.parametrize(("better", "worse", "make"), [("151", "149", sellers), ("149", "151", buyers)])
async def test_earlier_marks_that_are_no_better_are_forgotten(
    store: TriggerStore, better: str, worse: str, make: Callable[[int, str], HighWater]
) -> None:
    await store.keep_high_waters([make(1, better)])
    await store.keep_high_waters([make(2, worse)])
    assert await store.high_waters() == [make(1, better), make(2, worse)]
    await store.keep_high_waters([make(3, "150")])
    assert await store.high_waters() == [make(1, better), make(3, "150")]
    await store.keep_high_waters([make(4, better)])
    assert await store.high_waters() == [make(4, better)]


async def test_other_pairs_and_the_other_side_keep_their_marks(store: TriggerStore) -> None:
    others = [buyers(1, "100"), sellers(1, "100", "JUP/SOL")]
    await store.keep_high_waters([*others, sellers(1, "100")])
    await store.keep_high_waters([sellers(2, "200")])

    assert await store.high_waters() == [others[1], others[0], sellers(2, "200")]


async def test_a_mark_that_comes_behind_a_later_better_one_is_not_kept(store: TriggerStore) -> None:
    await store.keep_high_waters([sellers(5, "150")])
    await store.keep_high_waters([sellers(4, "149"), sellers(3, "151")])

    assert await store.high_waters() == [sellers(3, "151"), sellers(5, "150")]


async def test_prices_are_compared_as_numbers(store: TriggerStore) -> None:
    await store.keep_high_waters([sellers(1, "9.5")])
    await store.keep_high_waters([sellers(2, "10")])

    assert await store.high_waters() == [sellers(2, "10")]


async def test_no_marks_change_nothing(store: TriggerStore) -> None:
    await store.keep_high_waters([sellers(1, "1")])
    await store.keep_high_waters([])

    assert await store.high_waters() == [sellers(1, "1")]


MARKS = st.lists(
    st.builds(HighWater, st.sampled_from(["A/B", "C/D"]), st.booleans(), st.integers(0, 9), st.integers(1, 9).map(str)),
    max_size=6,
)
_fresh = count(1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(MARKS, max_size=4))
async def test_the_extreme_since_any_time_is_what_it_is_with_all_marks(
    store: TriggerStore, batches: list[list[HighWater]]
) -> None:
    """And no mark is kept that makes no difference."""
    example = next(_fresh)  # the store is the same for all examples
    named = [[replace(mark, pair=f"{mark.pair} {example}") for mark in batch] for batch in batches]
    for batch in named:
        await store.keep_high_waters(batch)
    kept = [mark for mark in await store.high_waters() if mark.pair.endswith(f" {example}")]

    given_marks = [mark for batch in named for mark in batch]
    for pair in {mark.pair for mark in given_marks}:
        for sells_base in (True, False):
            best = max if sells_base else min
            mine = [
                [mark for mark in marks if (mark.pair, mark.sells_base) == (pair, sells_base)]
                for marks in (given_marks, kept)
            ]
            for since in range(11):
                extremes = [
                    best((Decimal(mark.price) for mark in marks if mark.at_us >= since), default=None) for marks in mine
                ]
                assert extremes[0] == extremes[1], since
            prices = [Decimal(mark.price) for mark in mine[1]]
            assert prices == sorted(set(prices), reverse=sells_base)


# --- Launches ------------------------------------------------------------------------------------------------


async def test_a_launch_comes_back_as_it_was_kept(new_store: Stores) -> None:
    await new_store().keep_launch(record(1_000_000))

    assert await new_store().launches(10, None, None) == [record(1_000_000)]


async def test_what_was_thought_of_a_pool_is_replaced(store: TriggerStore) -> None:
    await store.keep_launch(record(5))
    await store.keep_launch(record(5, bought_by=3))
    await store.keep_launch(record(6, pool="another"))

    assert await store.launches(10, None, None) == [record(6, pool="another"), record(5, bought_by=3)]


async def test_launches_come_newest_first_page_by_page_and_by_mint(store: TriggerStore) -> None:
    records = [record(at, mint=f"mint {at % 2}", pool=f"pool {at}") for at in range(1, 8)]
    for each in Random(4).sample(records, 7):
        await store.keep_launch(each)
    newest_first = records[::-1]

    for mint in (None, "mint 0", "mint 1", "unknown"):
        expected = [each for each in newest_first if mint in (None, each.launch.token.mint)]
        pages, before = [], None
        while page := await store.launches(2, before, mint):
            pages += page
            before = page[-1].seen_us
        assert pages == expected


async def test_pools_seen_in_one_moment_are_on_one_page(store: TriggerStore) -> None:
    for pool, seen in (("a", 9), ("b", 5), ("c", 5), ("d", 5), ("e", 4)):
        await store.keep_launch(record(seen, pool=pool))

    first = await store.launches(2, None, None)
    assert [each.seen_us for each in first] == [9, 5, 5, 5]
    assert [each.seen_us for each in await store.launches(2, 5, None)] == [4]


# --- Dead-man switches ---------------------------------------------------------------------------------------


async def test_a_switch_outlives_its_engine_until_it_is_dropped(new_store: Stores) -> None:
    await new_store().set_dead_man(DeadMan("b", 10, True))
    await new_store().set_dead_man(DeadMan("a", 20, False))
    assert await new_store().dead_men() == [DeadMan("a", 20, False), DeadMan("b", 10, True)]
    await new_store().drop_dead_man("b")
    await new_store().drop_dead_man("nobody")
    assert await new_store().dead_men() == [DeadMan("a", 20, False)]


async def test_a_switch_that_was_renewed_meanwhile_is_not_dropped_as_the_one_it_was(store: TriggerStore) -> None:
    await store.set_dead_man(DeadMan("a", 10, True))
    await store.set_dead_man(DeadMan("a", 30, True))
    await store.drop_dead_man("a", 10)
    assert await store.dead_men() == [DeadMan("a", 30, True)]
    await store.drop_dead_man("a", 30)
    assert await store.dead_men() == []


async def test_a_renewed_switch_is_due_later(store: TriggerStore) -> None:
    await store.set_dead_man(DeadMan("a", 10, True))
    await store.set_dead_man(DeadMan("a", 30, False))

    assert await store.dead_men() == [DeadMan("a", 30, False)]


# --- On PostgreSQL -------------------------------------------------------------------------------------------


async def test_a_database_that_cannot_be_reached_is_said_to_be_unavailable() -> None:
    store = PostgresTriggerStore("postgresql://bestex@127.0.0.1:1/bestex")
    for call in (
        store.dead_men(),
        store.high_waters(),
        store.launches(1, None, None),
        store.set_dead_man(DeadMan("a", 1, True)),
        store.keep_launch(record(1)),
        store.keep_high_waters([sellers(1, "1")]),
    ):
        with pytest.raises(JournalUnavailableError):
            await call


async def test_a_store_goes_on_over_new_connections_when_its_old_ones_were_cut(database_url: str) -> None:
    store = PostgresTriggerStore(database_url)
    await store.set_dead_man(DeadMan("a", 1, True))
    life = await connect(database_url, "a test's own")
    await life.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'bestex triggers'"
    )
    async with asyncio.timeout(10):
        while True:
            with suppress(JournalUnavailableError):
                if await store.dead_men() == [DeadMan("a", 1, True)]:
                    break
    life.terminate()
    store.close()


async def test_what_it_keeps_waits_for_the_disk_whatever_the_database_says(database_url: str) -> None:
    life = await asyncpg.connect(database_url)
    name = await life.fetchval("select current_database()")
    await life.execute(f"alter database {name} set synchronous_commit = off")
    store = PostgresTriggerStore(database_url)
    async with store._pool.connection() as connection:
        assert await connection.fetchval("show synchronous_commit") == "on"
    life.terminate()
    store.close()
