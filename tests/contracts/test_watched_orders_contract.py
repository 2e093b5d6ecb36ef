"""The contract of the Journal port for orders that wait, and for those that belong to another, on both journals."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec.structs import replace

from bestex.domain.errors import AppendRefusedError, JournalError
from bestex.domain.events import Changes, RoutingDetail, StoredEvent, Trigger, WatchingDetail
from bestex.domain.lifecycle import Status
from bestex.domain.log_hash import GENESIS, stored_hash
from bestex.journal.writer import CommitUnknownError, MergedRows, Store, Verdict
from bestex.ports import Append, OrderFilter, OrderRow
from tests.support.journals import AnyJournal, InMemory, JournalDatabase, OnPostgres, holding
from tests.support.orders import DETAILS, HAPPY, DraftOrder, events_of, order_id

PENDING, ROUTING, BUILDING, SUBMITTED, CONFIRMED = HAPPY
WATCHING, CANCELLED, EXPIRED = Status.WATCHING, Status.CANCELLED, Status.EXPIRED

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(params=["memory", "postgres"])
def adapter(request: pytest.FixtureRequest) -> JournalDatabase:
    if request.param == "memory":
        return InMemory()
    return OnPostgres(request.getfixturevalue("database_url"))


@pytest.fixture
async def database(adapter: JournalDatabase) -> AsyncIterator[JournalDatabase]:
    yield adapter
    await adapter.close()


@pytest.fixture
async def journal(database: JournalDatabase) -> AnyJournal:
    return await database.journal()


async def watched(journal: AnyJournal, **fields: object) -> DraftOrder:
    """A new order that waits."""
    draft = DraftOrder(kind="limit", **fields)  # type: ignore[arg-type]
    await journal.append(draft.next(PENDING, WATCHING))
    return draft


async def placed(journal: AnyJournal, *statuses: Status) -> DraftOrder:
    draft = DraftOrder()
    await journal.append(draft.next(*(statuses or (PENDING,))))
    return draft


def exits_of(entry: DraftOrder) -> DraftOrder:
    """The order that an entry brings along."""
    return DraftOrder(kind="exits", parent_id=entry.id)


def bringing(append: Append, companion: Append) -> Append:
    return replace(append, companion=companion)


async def row_of(journal: AnyJournal, draft: DraftOrder) -> OrderRow:
    row = await journal.order(draft.id)
    assert row is not None
    return row


async def lease_of(journal: AnyJournal, draft: DraftOrder) -> tuple[str | None, int]:
    row = await row_of(journal, draft)
    return row.lease_owner, row.lease_epoch


async def resting_ids(journal: AnyJournal) -> list[str]:
    return [order.order_id for order in await journal.resting(None, 1_000)]


async def refused(*futures: "asyncio.Future[int]") -> None:
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [AppendRefusedError] * len(futures), outcomes


async def assert_stored(journal: AnyJournal, *drafts: DraftOrder) -> None:
    """The log holds exactly these orders' events, chained, and the projection their folds."""
    log = await journal.feed(0, 1_000_000)
    before = GENESIS
    for position, stored in enumerate(log, 1):
        assert stored.position == position
        before = stored_hash(before, stored)
        assert await journal.hash_at(position) == before
    for draft in drafts:
        assert events_of(await journal.events(draft.id)) == draft.events
        assert (await row_of(journal, draft)).view == draft.view
    assert len(log) == sum(len(draft.events) for draft in drafts)


# --- Resting -------------------------------------------------------------------------------------------------


async def test_an_order_that_waits_from_the_start_is_nobodys_under_no_epoch(journal: AnyJournal) -> None:
    draft = await watched(journal)

    assert await lease_of(journal, draft) == (None, 0)
    assert await resting_ids(journal) == [draft.id]
    assert await journal.count_resting() == 1
    await assert_stored(journal, draft)


async def test_what_triggers_need_of_a_watched_order_is_what_its_view_shows(journal: AnyJournal) -> None:
    draft = DraftOrder(kind="limit", parent_id=order_id())
    pending = replace(DETAILS[PENDING], kind="limit", limit_price="150", expires_at="2027-01-01T00:00:00Z")
    changed = WatchingDetail(changes=Changes(limit_price="160"))
    await journal.append(draft.add((PENDING, pending), (WATCHING, WatchingDetail(not_before="later"))))
    await journal.append(draft.add((WATCHING, changed)))

    [order] = await journal.resting(None, 10)
    view = draft.view
    assert (view.limit_price, view.not_before) == ("160", "later")
    for name in type(order).__struct_fields__:
        assert getattr(order, name) == (0 if name == "epoch" else getattr(view, name)), name


async def test_an_executor_that_gives_an_order_back_to_its_trigger_gives_its_lease_back(journal: AnyJournal) -> None:
    draft = await placed(journal, PENDING, ROUTING)
    await journal.append(draft.next(WATCHING))

    assert await lease_of(journal, draft) == (None, 1)
    assert [order.epoch for order in await journal.resting(None, 10)] == [1]
    assert await journal.held(None, 10) == []


async def test_a_note_on_a_watched_order_leaves_it_watched(journal: AnyJournal) -> None:
    draft = await watched(journal)
    await journal.append(draft.add((WATCHING, WatchingDetail(changes=Changes(slippage_bps=7)))))

    assert await lease_of(journal, draft) == (None, 0)
    assert [(order.order_id, order.seq) for order in await journal.resting(None, 10)] == [(draft.id, 3)]


@pytest.mark.parametrize("end", [CANCELLED, EXPIRED, CONFIRMED, Status.FAILED])
async def test_an_order_that_ends_rests_no_more(journal: AnyJournal, end: Status) -> None:
    draft = await watched(journal)
    await journal.append(draft.next(end))

    assert await resting_ids(journal) == []
    assert await journal.count_resting() == 0
    await assert_stored(journal, draft)


async def test_watched_orders_come_page_by_page(journal: AnyJournal) -> None:
    drafts = [DraftOrder(kind="limit") for _ in range(7)]
    await asyncio.gather(*(journal.append(draft.next(PENDING, WATCHING)) for draft in drafts))
    await placed(journal)
    pages, after = [], None
    while page := await journal.resting(after, 3):
        pages.append([order.order_id for order in page])
        after = page[-1].order_id

    ids = [draft.id for draft in drafts]
    assert pages == [ids[:3], ids[3:6], ids[6:]]
    assert await journal.count_resting() == 7


async def test_watched_orders_are_not_claimed_held_or_counted_as_work(database: JournalDatabase) -> None:
    dead, living = await database.journal(), await database.journal()
    draft = await placed(dead, PENDING, ROUTING)
    await dead.append(draft.next(WATCHING))
    await watched(dead)
    work = await placed(dead)
    await database.bury(dead)

    assert await living.unsettled() == 1
    assert [lease.order_id for lease in await living.claim(100)] == [work.id]
    assert [order.order_id for order in await living.held(None, 100)] == [work.id]


# --- Firing --------------------------------------------------------------------------------------------------


async def test_who_fires_a_watched_order_holds_it_under_the_next_epoch(journal: AnyJournal) -> None:
    draft = await watched(journal)
    fires = draft.add((ROUTING, RoutingDetail(trigger=Trigger(kind="limit", price="1"))))
    assert (fires.takes_lease, fires.lease_epoch) == (True, 1)
    await journal.append(fires)
    assert await lease_of(journal, draft) == (journal.engine_id, 1)
    assert await resting_ids(journal) == []

    await journal.append(draft.next(WATCHING))
    await journal.append(draft.next(ROUTING))
    await journal.append(draft.next(BUILDING))
    assert await lease_of(journal, draft) == (journal.engine_id, 2)
    await assert_stored(journal, draft)


async def test_rows_queued_behind_the_one_that_fires_go_with_it(journal: AnyJournal) -> None:
    draft = await watched(journal)
    held = holding(journal)
    rows = [journal.append(draft.next(status)) for status in (ROUTING, BUILDING, SUBMITTED, CONFIRMED)]
    await asyncio.gather(*rows)

    assert [[len(rows.appends) for rows in commit] for commit in held.commits] == [[4]]
    assert await lease_of(journal, draft) == (journal.engine_id, 1)
    await assert_stored(journal, draft)


async def test_an_order_may_wait_and_fire_again_while_its_rows_queue(journal: AnyJournal) -> None:
    """Each firing takes the lease that the row before it gave back."""
    draft = await watched(journal)
    held = holding(journal)
    held.hold()
    rows = [journal.append(draft.next(status)) for status in (ROUTING, WATCHING, WATCHING, ROUTING, BUILDING)]
    held.release()
    await asyncio.gather(*rows)

    assert await lease_of(journal, draft) == (journal.engine_id, 2)
    await assert_stored(journal, draft)


@pytest.mark.parametrize("epoch", [0, 2, 5])
async def test_an_order_does_not_fire_under_another_than_the_next_epoch(journal: AnyJournal, epoch: int) -> None:
    draft = await watched(journal)
    append = draft.fork().next(ROUTING)

    await refused(journal.append(replace(append, takes_lease=True, lease_epoch=epoch)))
    assert await lease_of(journal, draft) == (None, 0)
    await assert_stored(journal, draft)


async def test_an_order_that_somebody_holds_does_not_fire(database: JournalDatabase) -> None:
    holder, other = await database.journal(), await database.journal()
    draft = await placed(holder, PENDING, ROUTING)
    append = draft.fork().next(ROUTING)

    for engine in (holder, other):
        await refused(engine.append(replace(append, takes_lease=True, lease_epoch=2)))
    await assert_stored(holder, draft)


async def test_a_row_that_takes_the_lease_does_not_slip_in_behind_the_holder_s(journal: AnyJournal) -> None:
    draft = await placed(journal, PENDING, ROUTING)
    row = journal.append(draft.next(ROUTING))
    takes = replace(draft.fork().next(ROUTING), takes_lease=True, lease_epoch=1)

    await refused(journal.append(takes))
    await row
    await assert_stored(journal, draft)


async def test_who_gave_a_lease_back_writes_no_more_under_it(journal: AnyJournal) -> None:
    """Neither in a later commit nor in the one that gives it back."""
    first, second = await placed(journal, PENDING, ROUTING), await placed(journal, PENDING, ROUTING)
    drafts = [first.fork(), second.fork()]
    await journal.append(replace(drafts[0].next(WATCHING), lease_epoch=1))
    late = replace(drafts[0].fork().next(ROUTING), lease_epoch=1)
    gives_back = journal.append(replace(drafts[1].next(WATCHING), lease_epoch=1))
    late_too = journal.append(replace(drafts[1].fork().next(ROUTING), lease_epoch=1))

    await gives_back
    await refused(journal.append(late), late_too)
    await assert_stored(journal, *drafts)


async def test_of_two_engines_that_fire_an_order_one_wins(database: JournalDatabase) -> None:
    engines = [await database.journal() for _ in range(2)]
    drafts = [await watched(engines[0]) for _ in range(40)]
    appends = [draft.fork().next(ROUTING) for draft in drafts]
    fires = [replace(append, takes_lease=True, lease_epoch=1) for append in appends]
    outcomes = await asyncio.gather(
        *(engine.append(fire) for fire in fires for engine in engines), return_exceptions=True
    )

    for draft, pair in zip(drafts, zip(outcomes[::2], outcomes[1::2], strict=True), strict=True):
        won = [isinstance(outcome, int) for outcome in pair]
        assert sorted(won) == [False, True], pair
        assert await lease_of(engines[0], draft) == (engines[won.index(True)].engine_id, 1)
        assert [stored.event.status for stored in await engines[0].events(draft.id)] == [PENDING, WATCHING, ROUTING]


@pytest.mark.parametrize("cancel_first", [True, False])
@pytest.mark.parametrize("same_engine", [True, False])
async def test_of_a_cancel_and_a_trigger_one_wins(
    database: JournalDatabase, cancel_first: bool, same_engine: bool
) -> None:
    first = await database.journal()
    second = first if same_engine else await database.journal()
    drafts = [await watched(first) for _ in range(20)]
    outcomes = []
    for draft in drafts:
        cancel, fire = draft.fork().next(CANCELLED), draft.fork().next(ROUTING)
        fire = replace(fire, takes_lease=True, lease_epoch=1)
        both = (
            [first.append(cancel), second.append(fire)] if cancel_first else [second.append(fire), first.append(cancel)]
        )
        outcomes.append(await asyncio.gather(*both, return_exceptions=True))

    for draft, (one, other) in zip(drafts, outcomes, strict=True):
        assert sorted([type(one).__name__, type(other).__name__]) == ["AppendRefusedError", "int"]
        status = (await row_of(first, draft)).view.status
        cancelled = isinstance(one, int) == cancel_first
        assert status == (CANCELLED if cancelled else ROUTING)
        assert len(await first.events(draft.id)) == 3


async def test_an_order_whose_engine_died_behind_its_trigger_is_claimed(database: JournalDatabase) -> None:
    dead, living = await database.journal(), await database.journal()
    draft = await watched(dead)
    await dead.append(draft.next(ROUTING))
    await database.bury(dead)

    assert [(lease.order_id, lease.epoch) for lease in await living.claim(10)] == [(draft.id, 2)]


async def test_an_append_takes_no_lease_without_naming_its_epoch(journal: AnyJournal) -> None:
    draft = await watched(journal)
    with pytest.raises(ValueError, match="epoch"):
        journal.append(replace(draft.next(ROUTING), lease_epoch=None))


# --- Companions ----------------------------------------------------------------------------------------------


async def test_a_companion_is_stored_in_its_carriers_commit(journal: AnyJournal) -> None:
    entry = await placed(journal, *HAPPY[:4])
    exits = exits_of(entry)
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    held = holding(journal)
    position = await journal.append(bringing(entry.next(CONFIRMED), exits.next(PENDING, WATCHING)))

    assert position == 5, "of the carrier's last row"
    assert len(held.commits) == 1
    assert events_of(heard) == [entry.events[-1], *exits.events]
    assert heard == (await journal.feed(4, 10))
    assert await lease_of(journal, exits) == (None, 0)
    assert await resting_ids(journal) == [exits.id]
    assert await journal.children(entry.id) == [exits.view]
    await assert_stored(journal, entry, exits)


async def test_a_companion_may_be_leased_to_the_engine_that_makes_it(journal: AnyJournal) -> None:
    parent = await watched(journal)
    child = DraftOrder(parent_id=parent.id)
    await journal.append(bringing(parent.next(WATCHING), child.next(PENDING)))

    assert await lease_of(journal, child) == (journal.engine_id, 1)
    await journal.append(child.next(ROUTING))
    await assert_stored(journal, parent, child)


async def test_a_refused_carriers_companion_is_not_stored(journal: AnyJournal) -> None:
    entry, bystander = await placed(journal, *HAPPY[:4]), DraftOrder()
    late = entry.fork()
    await journal.append(entry.next(SUBMITTED))
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    exits = exits_of(entry)
    held = holding(journal)
    lost = journal.append(bringing(late.next(CONFIRMED), exits.next(PENDING, WATCHING)))
    other = journal.append(bystander.next(PENDING))

    await refused(lost)
    assert await other == 6
    assert len(held.commits) == 1
    assert await journal.order(exits.id) is None
    assert events_of(heard) == bystander.events
    await assert_stored(journal, entry, bystander)


@pytest.mark.parametrize("carrying", [0, 1, 2])
async def test_an_orders_rows_of_one_commit_and_their_companion_stand_or_fall_together(
    journal: AnyJournal, carrying: int
) -> None:
    for stands in (True, False):
        entry = await placed(journal, *HAPPY[:3])
        behind = entry.fork()
        if not stands:
            await journal.append(entry.next(ROUTING))
        child = exits_of(entry)
        appends = [behind.next(status) for status in (SUBMITTED, CONFIRMED, CONFIRMED)]
        appends[carrying] = bringing(appends[carrying], child.next(PENDING, WATCHING))
        held = holding(journal)
        outcomes = await asyncio.gather(*(journal.append(append) for append in appends), return_exceptions=True)

        assert [len(rows.appends) for rows in held.commits[0]] == [3]
        assert {isinstance(outcome, int) for outcome in outcomes} == {stands}
        assert events_of(await journal.events(child.id)) == (child.events if stands else [])
        assert await journal.children(entry.id) == ([child.view] if stands else [])


async def test_a_companion_that_is_there_already_does_not_hinder_its_carrier(journal: AnyJournal) -> None:
    entry = await placed(journal, *HAPPY[:4])
    exits, bystander = exits_of(entry), DraftOrder()
    await journal.append(exits.next(PENDING, WATCHING))
    again = DraftOrder(exits.id, kind="exits", parent_id=entry.id)
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    confirmed = journal.append(bringing(entry.next(CONFIRMED), again.next(PENDING, WATCHING)))
    other = journal.append(bystander.next(PENDING))

    assert [await confirmed, await other] == [7, 8]
    assert events_of(heard) == [entry.events[-1], *bystander.events]
    await assert_stored(journal, entry, exits, bystander)


async def test_an_illegal_companion_takes_its_carrier_with_it(journal: AnyJournal) -> None:
    entry, other = await placed(journal, *HAPPY[:4]), DraftOrder()
    stands = entry.fork()
    companion = exits_of(entry).next(PENDING, WATCHING)
    illegal = replace(companion, events=(companion.events[0], replace(companion.events[1], status=CONFIRMED)))

    lost = journal.append(bringing(entry.next(CONFIRMED), illegal))
    good = journal.append(other.next(PENDING))
    await refused(lost)
    await good
    await assert_stored(journal, stands, other)


async def test_rows_on_a_companion_wait_until_it_is_stored(journal: AnyJournal) -> None:
    parent = await watched(journal)
    child = DraftOrder(parent_id=parent.id)
    rows = [journal.append(bringing(parent.next(WATCHING), child.next(PENDING)))]
    rows += [journal.append(child.next(status)) for status in (ROUTING, BUILDING)]

    assert await asyncio.gather(*rows) == [3, 5, 6]
    await assert_stored(journal, parent, child)


async def test_rows_on_a_companion_that_is_not_stored_are_refused(journal: AnyJournal) -> None:
    """Even if the order that is there stands where they build on."""
    parent = await watched(journal)
    before = DraftOrder(parent_id=parent.id)
    await journal.append(before.next(PENDING))
    child = DraftOrder(before.id, parent_id=parent.id)
    carries = journal.append(bringing(parent.next(WATCHING), child.next(PENDING)))
    behind = [journal.append(child.next(status)) for status in (ROUTING, BUILDING)]

    await carries
    await refused(*behind)
    await assert_stored(journal, parent, before)


async def test_one_companion_of_two_carriers_in_a_row_is_stored_once(journal: AnyJournal) -> None:
    first, second = await watched(journal), await watched(journal)
    child = DraftOrder(parent_id=first.id)
    companion = child.next(PENDING, WATCHING)
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    rows = [journal.append(bringing(each.next(WATCHING), companion)) for each in (first, second)]

    await asyncio.gather(*rows)
    assert heard == await journal.feed(4, 100)
    await assert_stored(journal, first, second, child)


async def test_many_carriers_and_companions_are_one_commit_however_full_it_is(
    journal: AnyJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit's limit comes behind a companion, never before it."""
    entries = [await placed(journal, *HAPPY[:4]) for _ in range(6)]
    children = [exits_of(entry) for entry in entries]
    monkeypatch.setattr("bestex.journal.writer.MAX_COMMIT_EVENTS", 4)
    held = holding(journal)
    await asyncio.gather(
        *(
            journal.append(bringing(entry.next(CONFIRMED), child.next(PENDING, WATCHING)))
            for entry, child in zip(entries, children, strict=True)
        )
    )

    assert [len(commit) for commit in held.commits] == [2, 2, 2]
    await assert_stored(journal, *entries, *children)


async def test_a_withdrawn_carrier_takes_its_companion_back(journal: AnyJournal) -> None:
    entry = await placed(journal, *HAPPY[:4])
    stands = entry.fork()
    held = holding(journal)
    held.hold()
    bystander = DraftOrder()
    first = journal.append(bystander.next(PENDING))
    await held.arrived()
    carries = journal.append(bringing(entry.next(CONFIRMED), exits_of(entry).next(PENDING, WATCHING)))
    assert journal.withdraw(carries)
    held.release()
    await first
    await journal.drain()

    await assert_stored(journal, stands, bystander)


class LosingAnswers:
    """A store whose answers are lost, some before anything is stored and some behind it."""

    def __init__(self, store: Store, losses: Sequence[bool]) -> None:
        self._store = store
        self._losses = list(losses)  # for each of the first calls: whether the commit is made

    async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
        if not self._losses:
            return await self._store.commit(number, rows)
        if self._losses.pop(0):
            await self._store.commit(number, rows)
        raise CommitUnknownError("a test's")


@pytest.mark.parametrize("losses", [[False], [True], [False, True], [True, True, False]], ids=str)
@pytest.mark.parametrize("fate", ["stored", "refused", "there already"])
async def test_a_companion_goes_out_again_with_a_commit_whose_answer_was_lost(
    journal: AnyJournal, losses: list[bool], fate: str
) -> None:
    entry = await placed(journal, *HAPPY[:4])
    exits, bystander = exits_of(entry), DraftOrder()
    if fate == "there already":
        await journal.append(exits.next(PENDING, WATCHING))
    stored, writes = [entry, exits, bystander], entry
    if fate == "refused":
        stored, writes = [entry, bystander], entry.fork()
        await journal.append(entry.next(SUBMITTED))
    companion = DraftOrder(exits.id, kind="exits", parent_id=entry.id)
    if fate == "stored":
        stored[1] = companion
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    before = await journal.head()
    journal.writer._store = LosingAnswers(journal.writer._store, losses)
    carries = journal.append(bringing(writes.next(CONFIRMED), companion.next(PENDING, WATCHING)))
    other = journal.append(bystander.next(PENDING))

    outcome, _ = await asyncio.gather(carries, other, return_exceptions=True)
    assert isinstance(outcome, int) == (fate != "refused")
    assert heard == await journal.feed(before, 100)
    await assert_stored(journal, *stored)


async def test_a_bad_row_elsewhere_does_not_part_a_carrier_from_its_companion(database: JournalDatabase) -> None:
    if not isinstance(database, OnPostgres):
        pytest.skip("memory rejects no row for what it holds")
    journal = await database.journal()
    entries = [await placed(journal, *HAPPY[:4]) for _ in range(3)]
    children = [exits_of(entry) for entry in entries]
    bad = DraftOrder(client_order_id="a\0b")
    rows = [
        journal.append(bringing(entry.next(CONFIRMED), child.next(PENDING, WATCHING)))
        for entry, child in zip(entries, children, strict=True)
    ]
    with pytest.raises(JournalError):
        await journal.append(bad.next(PENDING))
    await asyncio.gather(*rows)

    await assert_stored(journal, *entries, *children)


async def test_a_companion_that_the_database_rejects_takes_its_carrier_with_it(database: JournalDatabase) -> None:
    if not isinstance(database, OnPostgres):
        pytest.skip("memory rejects no row for what it holds")
    journal = await database.journal()
    entry, other = await placed(journal, *HAPPY[:4]), DraftOrder()
    stands = entry.fork()
    bad = DraftOrder(client_order_id="a\0b", parent_id=entry.id)
    lost = journal.append(bringing(entry.next(CONFIRMED), bad.next(PENDING)))
    await journal.append(other.next(PENDING))

    with pytest.raises(JournalError, match="rejects"):
        await lost
    await assert_stored(journal, stands, other)


async def test_only_a_new_order_is_a_companion_and_only_one_that_exists_carries_it(journal: AnyJournal) -> None:
    entry = await placed(journal)
    row, child, another = entry.next(ROUTING), exits_of(entry), exits_of(entry)
    first = child.next(PENDING)
    for wrong in (
        bringing(DraftOrder().next(PENDING), first),
        bringing(row, child.next(WATCHING)),
        bringing(row, bringing(another.next(PENDING), first)),
    ):
        with pytest.raises(ValueError, match="companion"):
            journal.append(wrong)
    assert await journal.head() == 1


# --- Children, and the projection ----------------------------------------------------------------------------


async def test_an_orders_children_come_oldest_first(journal: AnyJournal) -> None:
    parent, other = await watched(journal), await watched(journal)
    children = [DraftOrder(parent_id=each.id) for each in (parent, parent, other, parent)]
    for child in children:
        await journal.append(child.next(PENDING))

    assert await journal.children(parent.id) == [children[n].view for n in (0, 1, 3)]
    assert await journal.children(other.id) == [children[2].view]
    assert await journal.children(children[0].id) == []


@pytest.mark.parametrize("status", [None, PENDING, WATCHING, ROUTING, CONFIRMED, CANCELLED])
async def test_orders_are_found_by_parent_with_every_other_filter(journal: AnyJournal, status: Status | None) -> None:
    parent = await watched(journal)
    paths = [(PENDING,), (PENDING, WATCHING), (PENDING, ROUTING), HAPPY, (PENDING, CANCELLED)]
    drafts = [
        DraftOrder(pair=pair, kind=kind, parent_id=parent_id)
        for _ in paths
        for pair, kind, parent_id in [
            ("SOL/USDC", "market", parent.id),
            ("JUP/SOL", "limit", parent.id),
            ("SOL/USDC", "market", None),
            ("SOL/USDC", "market", parent.id),
        ]
    ]
    each = [path for path in paths for _ in range(4)]
    await asyncio.gather(*(journal.append(draft.next(*path)) for draft, path in zip(drafts, each, strict=True)))

    for pair, kind in [(None, None), ("SOL/USDC", None), (None, "limit"), ("JUP/SOL", "market")]:
        where = OrderFilter(status, pair, kind, parent.id)
        expected = [
            draft.view
            for draft in reversed(drafts)
            if draft.view.parent_id == parent.id
            and (status is None or draft.state.status is status)
            and (pair is None or draft.view.pair == pair)
            and (kind is None or draft.view.kind == kind)
        ]
        assert bool(expected) == ((pair, kind) != ("JUP/SOL", "market"))
        assert await journal.orders(where, 100, None) == expected
        assert await journal.orders(where, 2, None) == expected[:2]
        if expected:
            assert await journal.orders(where, 100, expected[0].order_id) == expected[1:]


async def test_watched_orders_are_found_by_their_status_newest_first(journal: AnyJournal) -> None:
    drafts = [await watched(journal) for _ in range(3)]
    await placed(journal)

    assert await journal.orders(OrderFilter(WATCHING), 10, None) == [draft.view for draft in reversed(drafts)]
    assert await journal.orders(OrderFilter(WATCHING, kind="stop"), 10, None) == []


async def test_a_sniper_is_found_by_the_pair_that_it_found(journal: AnyJournal) -> None:
    draft = DraftOrder(kind="sniper", pair="*/SOL")
    await journal.append(draft.next(PENDING, WATCHING))
    trigger = Trigger(kind="launch", mint="M1nt", decimals=6, pair="M1nt/SOL")
    await journal.append(draft.add((ROUTING, RoutingDetail(trigger=trigger))))
    await journal.append(draft.next(BUILDING))

    assert draft.view.pair == "M1nt/SOL"
    assert await journal.orders(OrderFilter(pair="M1nt/SOL"), 10, None) == [draft.view]
    assert await journal.orders(OrderFilter(pair="*/SOL"), 10, None) == []


# --- By pair -------------------------------------------------------------------------------------------------


async def test_the_pairs_in_which_orders_wait_are_known_by_name(journal: AnyJournal) -> None:
    assert await journal.resting_pairs() == []
    for pair in ("SOL/USDC", "BONK/SOL", "SOL/USDC", "JUP/USDC"):
        await watched(journal, pair=pair)
    left = await watched(journal, pair="SOL/USDT")
    await journal.append(left.next(CANCELLED))
    await journal.append(DraftOrder(pair="BONK/USDC").next(PENDING))
    assert await journal.resting_pairs() == ["BONK/SOL", "JUP/USDC", "SOL/USDC"]


async def test_a_pairs_watched_orders_come_page_by_page_as_all_of_them_do(journal: AnyJournal) -> None:
    wanted = []
    for pair in ("SOL/USDC", "BONK/SOL") * 3:
        draft = await watched(journal, pair=pair)
        wanted += [draft.id] if pair == "SOL/USDC" else []
    found = []
    after: str | None = None
    while page := await journal.resting_of("SOL/USDC", after, 2):
        assert len(page) <= 2
        found += page
        after = page[-1].order_id
    assert [order.order_id for order in found] == wanted
    assert found == [order for order in await journal.resting(None, 10) if order.order_id in wanted]
    assert await journal.resting_of("JUP/USDC", None, 2) == []


async def test_watched_orders_are_read_by_their_ids_with_their_last_epoch(journal: AnyJournal) -> None:
    first, again, fired, other = [await watched(journal) for _ in range(4)]
    for draft in (again, fired):
        await journal.append(draft.next(ROUTING))
    await journal.append(again.next(WATCHING))
    wanted = [again.id, fired.id, first.id, order_id()]
    found = await journal.resting_these(wanted)
    assert [(order.order_id, order.seq, order.epoch) for order in found] == [(first.id, 2, 0), (again.id, 4, 1)]
    assert other.id not in wanted
