"""The contract of the BookLeases port, kept by the leases in memory and those on PostgreSQL."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import pytest
from msgspec.structs import replace

from bestex.domain.errors import AppendRefusedError
from bestex.domain.lifecycle import Status
from bestex.journal.book_leases import MemoryBookLeases, PostgresBookLeases
from bestex.ports import BookLease, BookLeases, BookStanding, EngineMode
from tests.support.clock import FakeClock
from tests.support.journals import AnyJournal, InMemory, JournalDatabase, OnPostgres
from tests.support.orders import DraftOrder

PENDING, WATCHING, ROUTING = Status.PENDING, Status.WATCHING, Status.ROUTING
KEYS = ["BONK/SOL", "SOL/USDC", "launches"]

pytestmark = pytest.mark.timeout(30)


class Watchers(Protocol):
    """Engines' leases on one database, beside journals on it."""

    @property
    def journals(self) -> JournalDatabase: ...

    def leases(self, engine_id: str | None = None) -> BookLeases:
        """Those of an engine: a new one, where none is named."""

    async def let_leases_run_out(self) -> None:
        """Have so much time pass that nobody who renewed before is an owner, or alive."""

    async def close(self) -> None: ...


class WatchersInMemory:
    def __init__(self) -> None:
        self.journals = InMemory()
        self._clock = FakeClock()

    def leases(self, engine_id: str | None = None) -> BookLeases:
        return MemoryBookLeases(self.journals.database, engine_id or str(uuid.uuid4()), self._clock)

    async def let_leases_run_out(self) -> None:
        await self._clock.advance(3.1)

    async def close(self) -> None:
        await self.journals.close()


class WatchersOnPostgres:
    def __init__(self, dsn: str) -> None:
        self.journals = OnPostgres(dsn)
        self._opened: list[PostgresBookLeases] = []

    def leases(self, engine_id: str | None = None) -> BookLeases:
        self._opened.append(PostgresBookLeases(self.journals.dsn, engine_id or str(uuid.uuid4())))
        return self._opened[-1]

    async def let_leases_run_out(self) -> None:
        life = await self.journals.life()
        await life.execute("update bestex.book_leases set until = until - interval '3.1 seconds'")

    async def close(self) -> None:
        for leases in self._opened:
            leases.close()
        await self.journals.close()


@pytest.fixture(params=["memory", "postgres"])
def dsn(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("database_url") if request.param == "postgres" else None


@pytest.fixture
async def watchers(dsn: str | None) -> AsyncIterator[Watchers]:
    made = WatchersInMemory() if dsn is None else WatchersOnPostgres(dsn)
    yield made
    await made.close()


def keys_of(leases: Sequence[BookLease]) -> list[str]:
    return [lease.key for lease in leases]


async def test_nobody_owns_anything_at_first(watchers: Watchers) -> None:
    assert await watchers.leases().renew() == BookStanding((), 1)


async def test_what_is_nobodys_is_claimed_up_to_a_limit_and_by_one_only(watchers: Watchers) -> None:
    one, other = watchers.leases(), watchers.leases()
    first = await one.claim(KEYS, 2)
    assert len(first) == 2
    assert {lease.epoch for lease in first} == {1}
    second = await other.claim(KEYS, 5)
    assert sorted(keys_of([*first, *second])) == KEYS
    assert await one.claim(KEYS, 5) == []
    assert (await one.renew()).mine == tuple(first)
    assert (await other.renew()).mine == tuple(second)


async def test_only_the_books_that_are_named_are_claimed(watchers: Watchers) -> None:
    one, other = watchers.leases(), watchers.leases()
    await one.let_go(keys_of(await one.claim(KEYS, 3)))
    assert keys_of(await other.claim(["SOL/USDC", "JUP/USDC"], 3)) == ["JUP/USDC", "SOL/USDC"]


async def test_many_that_claim_at_once_share_without_overlap(watchers: Watchers) -> None:
    keys = [f"T{number:02}/USDC" for number in range(40)]
    engines = [watchers.leases() for _ in range(4)]
    claimed = await asyncio.gather(*(each.claim(keys, 15) for each in engines))
    again = await asyncio.gather(*(each.claim(keys, 15) for each in engines))
    found = [lease.key for leases in (*claimed, *again) for lease in leases]
    assert sorted(found) == keys


async def test_a_lease_that_ran_out_is_taken_over_under_another_epoch(watchers: Watchers) -> None:
    dead, heir = watchers.leases(), watchers.leases()
    await dead.renew()
    await dead.claim(KEYS, 3)
    assert await heir.claim(KEYS, 3) == []
    await watchers.let_leases_run_out()
    assert await heir.renew() == BookStanding((), 1)
    assert await heir.claim(KEYS, 3) == [BookLease(key, 2) for key in KEYS]
    assert await dead.renew() == BookStanding((), 2)


async def test_a_renewed_lease_lasts(watchers: Watchers) -> None:
    owner, other = watchers.leases(), watchers.leases()
    await owner.claim(KEYS, 3)
    await watchers.let_leases_run_out()
    assert keys_of((await owner.renew()).mine) == KEYS
    assert await other.claim(KEYS, 3) == []


async def test_watchers_that_own_nothing_are_counted_as_long_as_they_live(watchers: Watchers) -> None:
    one, other = watchers.leases(), watchers.leases()
    await one.renew()
    assert (await other.renew()).watchers == 2
    await watchers.let_leases_run_out()
    assert (await other.renew()).watchers == 1
    assert (await one.renew()).watchers == 2
    await one.leave()
    assert (await other.renew()).watchers == 1


async def test_what_is_let_go_of_can_be_claimed_at_once(watchers: Watchers) -> None:
    one, other = watchers.leases(), watchers.leases()
    await one.claim(KEYS, 3)
    await other.let_go(KEYS)  # they are not its own
    assert keys_of((await one.renew()).mine) == KEYS
    await one.let_go(["launches"])
    assert keys_of((await one.renew()).mine) == KEYS[:2]
    assert await other.claim(KEYS, 3) == [BookLease("launches", 2)]


async def test_who_leaves_leaves_everything(watchers: Watchers) -> None:
    one, other = watchers.leases(), watchers.leases()
    await one.renew()
    await one.claim(KEYS, 3)
    await one.leave()
    assert await other.claim(KEYS, 3) == [BookLease(key, 2) for key in KEYS]


async def test_a_book_is_dropped_only_while_nothing_rests_in_it(watchers: Watchers) -> None:
    journal = await watchers.journals.journal()
    owner, other = watchers.leases(), watchers.leases()
    await owner.claim(KEYS, 3)
    await journal.append(DraftOrder(kind="limit", pair="SOL/USDC").next(PENDING, WATCHING))
    await other.drop(["BONK/SOL"])  # it is not its own
    await owner.drop(["BONK/SOL", "SOL/USDC"])
    assert keys_of((await owner.renew()).mine) == ["SOL/USDC", "launches"]
    assert keys_of(await other.claim(KEYS, 3)) == ["BONK/SOL"]


async def test_what_is_fired_under_a_lease_that_is_anothers_by_now_is_refused(watchers: Watchers) -> None:
    stopped, heir = [await watchers.journals.journal(EngineMode.WATCHER) for _ in range(2)]
    draft = DraftOrder(kind="limit")
    await stopped.append(draft.next(PENDING, WATCHING))
    [stale] = await watchers.leases(stopped.engine_id).claim(["SOL/USDC"], 1)
    await watchers.let_leases_run_out()
    [lease] = await watchers.leases(heir.engine_id).claim(["SOL/USDC"], 1)
    late = DraftOrder(draft.id, kind="limit")
    late.next(PENDING, WATCHING)
    with pytest.raises(AppendRefusedError):
        await fire(stopped, late, stale)
    await fire(heir, draft, lease)
    row = await heir.order(draft.id)
    assert row is not None
    assert (row.view.status, row.lease_owner) == (ROUTING, None)


async def fire(journal: AnyJournal, draft: DraftOrder, fence: BookLease) -> None:
    await journal.append(replace(draft.next(ROUTING), fence=fence))


async def test_the_books_of_watchers_that_are_gone_are_forgotten_once_nothing_rests_in_them(database_url: str) -> None:
    watchers = WatchersOnPostgres(database_url)
    try:
        assert len(await watchers.leases().claim(KEYS, 10)) == 3
        order = DraftOrder()
        await (await watchers.journals.journal(EngineMode.API)).append(order.next(PENDING, WATCHING))
        life = await watchers.journals.life()
        await life.execute("update bestex.book_leases set until = until - interval '2 minutes'")
        await watchers.leases().claim(["WIF/SOL"], 1)
        left = await life.fetch("select key from bestex.book_leases order by key")
        assert [row["key"] for row in left] == ["SOL/USDC", "WIF/SOL", "launches"]
    finally:
        await watchers.close()
