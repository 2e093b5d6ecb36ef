"""The contract of the Journal port where several processes share it: claims, hand-backs, pauses, fences, the dead."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec.structs import replace

from bestex.domain.lifecycle import Status
from bestex.ports import BookLease, ClaimedOrder, EngineMode, Lease
from tests.contracts.test_journal_contract import refused
from tests.support.journals import AnyJournal, InMemory, JournalDatabase, OnPostgres
from tests.support.orders import DETAILS, HAPPY, DraftOrder

PENDING, ROUTING, BUILDING, SUBMITTED, CONFIRMED = HAPPY
API, WORKER, WATCHER = EngineMode.API, EngineMode.WORKER, EngineMode.WATCHER
LATER_US = 3_600_000_000

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(params=["memory", "postgres"])
def adapter(request: pytest.FixtureRequest) -> JournalDatabase:
    return InMemory() if request.param == "memory" else OnPostgres(request.getfixturevalue("database_url"))


@pytest.fixture
async def database(adapter: JournalDatabase) -> AsyncIterator[JournalDatabase]:
    yield adapter
    await adapter.close()


@pytest.fixture
async def api(database: JournalDatabase) -> AnyJournal:
    return await database.journal(API)


@pytest.fixture
async def worker(database: JournalDatabase) -> AnyJournal:
    return await database.journal(WORKER)


async def accepted(journal: AnyJournal, *statuses: Status, **fields: object) -> DraftOrder:
    draft = DraftOrder(**fields)  # type: ignore[arg-type]
    await journal.append(draft.next(*(statuses or (PENDING,))))
    return draft


def ids(claimed: Sequence[ClaimedOrder]) -> list[str]:
    return [each.lease.order_id for each in claimed]


async def holder(journal: AnyJournal, order_id: str) -> str | None:
    row = await journal.order(order_id)
    assert row is not None
    return row.lease_owner


def now_us() -> int:
    return time.time_ns() // 1_000


# --- Who holds what


@pytest.mark.parametrize(("mode", "holds"), [(API, False), (WATCHER, False), (WORKER, True), (EngineMode.INLINE, True)])
async def test_only_who_executes_holds_what_it_accepts(
    database: JournalDatabase, mode: EngineMode, holds: bool
) -> None:
    journal = await database.journal(mode)
    order = await accepted(journal)

    assert await holder(journal, order.id) == (journal.engine_id if holds else None)


async def test_a_claim_brings_the_orders_histories_and_a_raised_epoch(api: AnyJournal, worker: AnyJournal) -> None:
    one, two = await accepted(api), await accepted(api)
    claimed = await worker.claim_waiting(10)

    assert ids(claimed) == [one.id, two.id]
    assert [list(each.events) for each in claimed] == [one.events, two.events]
    assert [each.lease.epoch for each in claimed] == [2, 2]
    assert await worker.claim_waiting(10) == []
    one.epoch = 2
    await worker.append(one.next(ROUTING))


async def test_the_most_urgent_are_claimed_first_and_of_those_the_oldest(api: AnyJournal, worker: AnyJournal) -> None:
    kinds = ["twap", "market", "limit", "takeProfit", "exits", "trailingStop", "stop", "sniper"]
    orders = {kind: await accepted(api, kind=kind) for kind in kinds}
    slice_of = await accepted(api, parent_id=orders["twap"].id)
    late = await accepted(api, kind="limit")

    assert ids(await worker.claim_waiting(4)) == [
        orders[kind].id for kind in ("sniper", "exits", "trailingStop", "stop")
    ]
    assert ids(await worker.claim_waiting(3)) == [orders["takeProfit"].id, orders["limit"].id, late.id]
    assert ids(await worker.claim_waiting(10)) == [orders["twap"].id, orders["market"].id, slice_of.id]


async def test_of_named_orders_those_are_claimed_that_nobody_holds(
    database: JournalDatabase, api: AnyJournal, worker: AnyJournal
) -> None:
    held, free, ended = await accepted(api), await accepted(api), await accepted(api, PENDING, Status.FAILED)
    other = await database.journal(WORKER)
    assert ids(await other.claim_these([held.id])) == [held.id]
    unknown = DraftOrder().id

    assert ids(await worker.claim_these([held.id, free.id, ended.id, unknown])) == [free.id]
    assert ids(await worker.claim_these([])) == []


async def test_what_rests_or_has_ended_is_not_claimed(api: AnyJournal, worker: AnyJournal) -> None:
    resting = await accepted(api, PENDING, Status.WATCHING)
    await accepted(api, PENDING, Status.CANCELLED)

    assert await worker.claim_waiting(10) == []
    assert await worker.claim_these([resting.id]) == []


async def test_many_workers_that_claim_at_once_never_get_the_same_order(
    database: JournalDatabase, api: AnyJournal
) -> None:
    orders = [DraftOrder() for _ in range(60)]
    await asyncio.gather(*(api.append(order.next(PENDING)) for order in orders))
    workers = [await database.journal(WORKER) for _ in range(4)]
    rounds = await asyncio.gather(*(worker.claim_waiting(7) for _ in range(3) for worker in workers))
    rest = await workers[0].claim_waiting(60)

    claimed = [order_id for each in (*rounds, rest) for order_id in ids(each)]
    assert sorted(claimed) == sorted(order.id for order in orders)


async def test_an_engine_that_gives_no_signs_of_life_claims_nothing(
    database: JournalDatabase, api: AnyJournal, worker: AnyJournal
) -> None:
    order = await accepted(api)
    await database.silence(worker)
    assert await worker.claim_waiting(10) == []
    assert await worker.claim_these([order.id]) == []

    await database.give_sign_of_life(worker)
    assert ids(await worker.claim_waiting(10)) == [order.id]


# --- Handing back


async def test_a_lease_handed_back_is_claimed_by_another_and_its_old_epoch_writes_no_more(
    database: JournalDatabase, api: AnyJournal, worker: AnyJournal
) -> None:
    order = await accepted(api)
    [claimed] = await worker.claim_waiting(1)
    await worker.hand_back([claimed.lease])
    order.epoch = claimed.lease.epoch
    await refused(worker.append(DraftOrder.of(order).next(ROUTING)))

    other = await database.journal(WORKER)
    assert [each.lease for each in await other.claim_waiting(1)] == [Lease(order.id, claimed.lease.epoch + 1)]


async def test_only_the_holder_hands_a_lease_back_and_only_of_its_epoch(
    database: JournalDatabase, api: AnyJournal, worker: AnyJournal
) -> None:
    order = await accepted(api)
    [claimed] = await worker.claim_waiting(1)
    other = await database.journal(WORKER)
    await other.hand_back([claimed.lease])
    await worker.hand_back([Lease(order.id, claimed.lease.epoch - 1)])

    assert await holder(api, order.id) == worker.engine_id


async def test_everything_that_an_engine_holds_is_handed_back_some_at_a_time(
    database: JournalDatabase, api: AnyJournal, worker: AnyJournal
) -> None:
    orders = [await accepted(api) for _ in range(5)]
    other = await database.journal(WORKER)
    assert ids(await other.claim_waiting(1)) == [orders[0].id]
    assert len(await worker.claim_waiting(10)) == 4

    pages = [await worker.hand_back_held(3) for _ in range(3)]
    assert [len(page) for page in pages] == [3, 1, 0]
    assert {(each.order_id, each.kind, each.pair, each.priority) for page in pages for each in page} == {
        (order.id, "market", "SOL/USDC", 5) for order in orders[1:]
    }
    assert await holder(api, orders[0].id) == other.engine_id
    assert ids(await other.claim_waiting(10)) == [order.id for order in orders[1:]]


async def test_what_was_signed_is_the_most_urgent_once_it_is_handed_back(api: AnyJournal, worker: AnyJournal) -> None:
    await accepted(api, kind="sniper")
    signed = await accepted(api)
    await worker.claim_these([signed.id])
    signed.epoch = 2
    await worker.append(signed.next(ROUTING, BUILDING, SUBMITTED))
    [handed_back] = await worker.hand_back_held(10)
    assert (handed_back.order_id, handed_back.priority) == (signed.id, 0)

    assert ids(await worker.claim_waiting(1, signed_only=True)) == [signed.id]
    assert await worker.claim_waiting(1, signed_only=True) == []


# --- Pauses


async def test_an_order_in_its_pause_is_nobodys_and_is_not_claimed_before_it_is_over(
    api: AnyJournal, worker: AnyJournal
) -> None:
    paused, over = await accepted(api), await accepted(api)
    await worker.claim_waiting(2)
    for order, pause_us in ((paused, LATER_US), (over, -1)):
        order.epoch = 2
        await worker.append(replace(order.next(ROUTING), run_after_us=now_us() + pause_us))
        assert await holder(api, order.id) is None

    assert ids(await worker.claim_waiting(10)) == [over.id]
    assert await worker.claim_these([paused.id]) == []
    await refused(worker.append(paused.next(BUILDING)))  # it has let go of it


async def test_an_order_may_be_cancelled_in_its_pause(api: AnyJournal, worker: AnyJournal) -> None:
    order = await accepted(api)
    await worker.claim_waiting(1)
    order.epoch = 2
    await worker.append(replace(order.next(ROUTING), run_after_us=now_us() - 1))
    await api.append(order.fork().add((Status.CANCELLED, DETAILS[Status.CANCELLED])))

    assert await worker.claim_waiting(1) == []


# --- The dead


async def test_the_orders_of_the_dead_are_freed_and_their_epochs_write_no_more(
    database: JournalDatabase, api: AnyJournal, worker: AnyJournal
) -> None:
    orders = [await accepted(api) for _ in range(3)]
    await worker.claim_waiting(3)
    other = await database.journal(WORKER)
    assert await other.silent_engines() == {}
    assert await other.free_orders_of_the_dead(None, 10) == []
    await database.silence(worker)
    assert list(await other.silent_engines()) == [worker.engine_id]

    page = await other.free_orders_of_the_dead(None, 2)
    assert [each.order_id for each in page] == [order.id for order in orders[:2]]
    assert [each.order_id for each in await other.free_orders_of_the_dead(page[-1].order_id, 2)] == [orders[2].id]
    await database.give_sign_of_life(worker)
    orders[0].epoch = 2
    await refused(worker.append(DraftOrder.of(orders[0]).next(ROUTING)))
    assert [each.lease for each in await worker.claim_waiting(1)] == [Lease(orders[0].id, 4)]


async def test_the_orders_of_an_engine_whose_row_is_gone_are_freed_too(
    database: JournalDatabase, api: AnyJournal, worker: AnyJournal
) -> None:
    order = await accepted(api)
    await worker.claim_waiting(1)
    await database.bury(worker)
    other = await database.journal(WORKER)

    assert [each.order_id for each in await other.free_orders_of_the_dead(None, 10)] == [order.id]
    assert await holder(api, order.id) is None


# --- Fences


async def test_rows_behind_a_fence_are_stored_only_by_the_books_owner_under_its_epoch(
    database: JournalDatabase, api: AnyJournal
) -> None:
    resting = await accepted(api, PENDING, Status.WATCHING)
    watcher, other = await database.journal(WATCHER), await database.journal(WATCHER)
    book = BookLease("SOL/USDC", 3)
    await database.own_book(watcher, book)

    for journal, fence in ((other, book), (watcher, BookLease(book.key, 2)), (watcher, BookLease("another", 3))):
        append = replace(DraftOrder.of(resting).next(ROUTING), fence=fence)
        await refused(journal.append(append))
    await watcher.append(replace(DraftOrder.of(resting).next(ROUTING), fence=book))
    assert await holder(api, resting.id) is None  # who fires does not execute


async def test_a_fired_order_waits_for_a_worker(database: JournalDatabase, api: AnyJournal, worker: AnyJournal) -> None:
    resting = await accepted(api, PENDING, Status.WATCHING, kind="stop")
    watcher = await database.journal(WATCHER)
    await watcher.append(resting.next(ROUTING))

    [claimed] = await worker.claim_waiting(1)
    assert claimed.lease == Lease(resting.id, 2)
    assert [event.status for event in claimed.events] == [PENDING, Status.WATCHING, ROUTING]
