"""The contract of the Journal port, kept by the journal in memory and the one on PostgreSQL."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bestex.domain.errors import AppendRefusedError, DuplicateKeyError, EngineFencedError, JournalError
from bestex.domain.events import ConfirmedDetail, FailedDetail, StoredEvent
from bestex.domain.lifecycle import NEXT, Status
from bestex.domain.log_hash import GENESIS, stored_hash
from bestex.domain.order_state import fold
from bestex.ports import Append, HaltCause, OrderFilter, Reservation, Room
from tests.support.histories import History, histories
from tests.support.journals import AnyJournal, InMemory, JournalDatabase, OnPostgres, holding
from tests.support.orders import DETAILS, HAPPY, STORY, DraftOrder, events_of, order_id

PENDING, ROUTING, BUILDING, SUBMITTED, CONFIRMED = HAPPY
FAILED, CANCELLED = Status.FAILED, Status.CANCELLED
PATHS: dict[Status, tuple[Status, ...]] = {
    PENDING: (PENDING,),
    ROUTING: (PENDING, ROUTING),
    BUILDING: HAPPY[:3],
    SUBMITTED: HAPPY[:4],
    CONFIRMED: HAPPY,
    FAILED: (PENDING, FAILED),
    CANCELLED: (PENDING, CANCELLED),
}
"""A way to every status that has a detail."""

MANY = 200

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


async def placed(journal: AnyJournal, *statuses: Status, **fields: object) -> DraftOrder:
    """An order that stands where these statuses lead to."""
    draft = DraftOrder(**fields)  # type: ignore[arg-type]
    await journal.append(draft.next(*(statuses or (PENDING,))))
    return draft


async def refused(*futures: "asyncio.Future[int]") -> None:
    """Expect every one of these appends to be refused."""
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [AppendRefusedError] * len(futures), outcomes


async def whole_log(journal: AnyJournal) -> list[StoredEvent]:
    return await journal.feed(0, 1_000_000)


async def assert_stored(journal: AnyJournal, *drafts: DraftOrder) -> None:
    """The journal holds each of these orders exactly as its draft has it."""
    for draft in drafts:
        assert events_of(await journal.events(draft.id)) == draft.events
        row = await journal.order(draft.id)
        assert row is not None
        assert row.view == draft.view


# --- Append and read back ------------------------------------------------------------------------------------


async def test_an_order_comes_back_exactly_as_it_was_appended(journal: AnyJournal) -> None:
    draft = DraftOrder()
    positions = [await journal.append(draft.next(status)) for status in HAPPY]

    assert positions == [1, 2, 3, 4, 5]
    log = await journal.events(draft.id)
    assert events_of(log) == draft.events
    assert [entry.position for entry in log] == positions
    await assert_stored(journal, draft)


@pytest.mark.parametrize("status", list(PATHS))
async def test_an_event_of_every_status_keeps_its_detail(journal: AnyJournal, status: Status) -> None:
    draft = await placed(journal, *PATHS[status])

    assert (await journal.events(draft.id))[-1].event.detail == DETAILS[status]


async def test_sealed_bytes_come_back_to_the_byte(journal: AnyJournal) -> None:
    draft = await placed(journal, *PATHS[BUILDING])
    sealed = bytes(range(256)) * 5
    await journal.append(draft.add((SUBMITTED, DETAILS[SUBMITTED]), sealed=sealed))

    assert (await journal.events(draft.id))[-1].event.sealed == sealed


@pytest.mark.parametrize("at_us", [0, 1, 1_749_999_999_999_999, 1_750_000_000_000_001, 4_102_444_799_999_999])
async def test_times_keep_their_microseconds(journal: AnyJournal, at_us: int) -> None:
    append = DraftOrder().next(PENDING)
    await journal.append(
        msgspec.structs.replace(append, events=(msgspec.structs.replace(append.events[0], at_us=at_us),))
    )

    assert (await journal.events(append.order_id))[0].event.at_us == at_us


@pytest.mark.parametrize("text", ["Zürich → 東京 🪙", 'quo"te \\ back', "a\0b", "\u2028\u0007", ""])
async def test_any_text_comes_back_as_it_was(journal: AnyJournal, text: str) -> None:
    draft = await placed(journal)
    story = msgspec.structs.replace(STORY, message=text)
    await journal.append(draft.add((FAILED, FailedDetail("internal", text, (story,)))))

    await assert_stored(journal, draft)


async def test_events_resume_behind_any_seq(journal: AnyJournal) -> None:
    draft = await placed(journal, *HAPPY)

    for after in range(7):
        assert events_of(await journal.events(draft.id, after)) == draft.events[after:]


async def test_an_unknown_order_has_no_events_and_no_row(journal: AnyJournal) -> None:
    unknown = order_id()

    assert await journal.events(unknown) == []
    assert await journal.order(unknown) is None
    assert await journal.histories([unknown]) == {unknown: []}
    assert await journal.head() == 0
    assert await whole_log(journal) == []


async def test_histories_are_given_for_many_orders_at_once(journal: AnyJournal) -> None:
    drafts = [await placed(journal, *PATHS[status]) for status in PATHS]

    assert await journal.histories([draft.id for draft in drafts[1:]]) == {
        draft.id: draft.events for draft in drafts[1:]
    }


async def test_an_accepted_order_is_leased_to_the_engine_that_accepted_it(journal: AnyJournal) -> None:
    leased = await placed(journal)
    free = await placed(journal, epoch=None)

    row, free_row = await journal.order(leased.id), await journal.order(free.id)
    assert row is not None
    assert free_row is not None
    assert (row.lease_owner, row.lease_epoch) == (journal.engine_id, 1)
    assert free_row.lease_owner is None


# --- Compare and set -----------------------------------------------------------------------------------------


async def test_a_row_that_builds_on_an_old_seq_is_refused(journal: AnyJournal) -> None:
    draft = await placed(journal)
    late = draft.fork()
    await journal.append(draft.next(ROUTING))

    await refused(journal.append(late.next(ROUTING)))
    await assert_stored(journal, draft)


async def test_a_row_that_builds_on_a_seq_yet_to_come_is_refused(journal: AnyJournal) -> None:
    draft = await placed(journal)
    ahead = draft.fork()
    ahead.next(ROUTING)

    await refused(journal.append(ahead.next(BUILDING)))
    await assert_stored(journal, draft)


@pytest.mark.parametrize("base_seq", [1, 2, 4, 5])
async def test_a_row_that_builds_on_the_right_status_but_another_seq_is_refused(
    journal: AnyJournal, base_seq: int
) -> None:
    draft = await placed(journal, PENDING, ROUTING, ROUTING)
    append = draft.fork().next(ROUTING)
    event = msgspec.structs.replace(append.events[0], seq=base_seq + 1)
    view = msgspec.structs.replace(append.view, seq=base_seq + 1)

    await refused(journal.append(msgspec.structs.replace(append, base_seq=base_seq, events=(event,), view=view)))
    await assert_stored(journal, draft)


async def test_a_row_that_builds_on_the_wrong_status_is_refused(journal: AnyJournal) -> None:
    draft = await placed(journal)
    append = draft.fork().next(CANCELLED)

    await refused(journal.append(msgspec.structs.replace(append, base_status=ROUTING)))
    await assert_stored(journal, draft)


async def test_a_row_of_an_order_that_does_not_exist_is_refused(journal: AnyJournal) -> None:
    never_stored = DraftOrder()
    never_stored.next(PENDING)

    await refused(journal.append(never_stored.next(ROUTING)))
    assert await whole_log(journal) == []


async def test_an_order_that_exists_is_not_made_again(journal: AnyJournal) -> None:
    draft = await placed(journal)

    with pytest.raises(JournalError):
        await journal.append(DraftOrder(draft.id).next(PENDING))
    await assert_stored(journal, draft)


async def test_a_refused_row_takes_the_orders_rows_in_its_commit_with_it_and_no_others(journal: AnyJournal) -> None:
    draft, bystander = await placed(journal), await placed(journal)
    late = draft.fork()
    await journal.append(draft.next(ROUTING))
    held = holding(journal)

    rows = [journal.append(late.next(status)) for status in (ROUTING, BUILDING, SUBMITTED)]
    before, behind = DraftOrder(), DraftOrder()
    others = [
        journal.append(append) for append in (before.next(PENDING), bystander.next(ROUTING), behind.next(PENDING))
    ]
    await refused(*rows)
    await asyncio.gather(*others)

    assert len(held.commits) == 1, "they were to be in one commit"
    await assert_stored(journal, draft, bystander, before, behind)
    assert [entry.position for entry in await whole_log(journal)] == list(range(1, 7))


async def test_a_refused_row_takes_the_orders_rows_queued_behind_it_with_it(journal: AnyJournal) -> None:
    """Even if the row that won leads to the very seq and status that the queued rows build on."""
    draft = await placed(journal, epoch=None)
    late, bystander = draft.fork(), DraftOrder()
    await journal.append(draft.next(ROUTING))
    held = holding(journal)
    held.hold()
    first = journal.append(late.next(ROUTING))
    await held.arrived()
    behind = [journal.append(late.next(status)) for status in (BUILDING, SUBMITTED, CONFIRMED)]
    other = journal.append(bystander.next(PENDING))
    held.release()

    await refused(first, *behind)
    await other
    await assert_stored(journal, draft, bystander)


async def test_rows_in_flight_do_not_stand_on_another_writers_row(database: JournalDatabase) -> None:
    ours, theirs = await database.journal(), await database.journal()
    draft = await placed(ours)
    cancelled = draft.fork()
    held = holding(ours)
    held.hold()
    rows = [ours.append(draft.next(status)) for status in (ROUTING, BUILDING, SUBMITTED)]
    await held.arrived()
    await theirs.append(cancelled.next(CANCELLED))
    held.release()

    await refused(*rows)
    await assert_stored(ours, cancelled)


async def test_a_cancel_that_is_queued_first_wins_against_the_executors_rows(journal: AnyJournal) -> None:
    draft = await placed(journal)
    cancelled = draft.fork()
    won = journal.append(cancelled.next(CANCELLED))
    rows = [journal.append(draft.next(status)) for status in (ROUTING, BUILDING, SUBMITTED)]

    await won
    await refused(*rows)
    await assert_stored(journal, cancelled)


async def test_a_cancel_that_is_queued_behind_the_executors_row_is_refused(journal: AnyJournal) -> None:
    draft = await placed(journal)
    cancelled = draft.fork()
    won = journal.append(draft.next(ROUTING))
    lost = journal.append(cancelled.next(CANCELLED))

    await won
    await refused(lost)
    await assert_stored(journal, draft)


async def test_rows_take_effect_in_the_order_they_were_queued_in(journal: AnyJournal) -> None:
    """A row does not overtake another writer's that is queued before it, and falls with it."""
    draft = await placed(journal)
    cancelled = draft.fork()
    first = journal.append(draft.next(ROUTING))
    stands = draft.fork()
    lost = journal.append(cancelled.next(CANCELLED))
    behind = journal.append(draft.next(BUILDING))

    await first
    await refused(lost, behind)
    await assert_stored(journal, stands)


async def test_an_order_goes_on_after_a_refusal_from_where_it_stands(journal: AnyJournal) -> None:
    draft = await placed(journal)
    late = draft.fork()
    await journal.append(draft.next(ROUTING))
    await refused(journal.append(late.next(CANCELLED)))

    again = draft.fork()
    await journal.append(again.next(CANCELLED))
    await assert_stored(journal, again)


# --- What may follow what ------------------------------------------------------------------------------------


async def test_the_store_refuses_every_transition_that_the_lifecycle_refuses(journal: AnyJournal) -> None:
    """The appends are made by hand: the domain would not make them."""
    cases = [(before, after) for before in PATHS for after in PATHS]
    drafts = [await placed(journal, *PATHS[before]) for before, _ in cases]
    appends = []
    for draft, (before, after) in zip(drafts, cases, strict=True):
        seq = draft.state.seq
        event = msgspec.structs.replace(draft.events[-1], seq=seq + 1, status=after, detail=DETAILS[after])
        view = msgspec.structs.replace(draft.view, seq=seq + 1, status=after.value)
        appends.append(journal.append(Append(draft.id, seq, before, draft.epoch, (event,), view)))
    outcomes = await asyncio.gather(*appends, return_exceptions=True)

    allowed = {case for case, outcome in zip(cases, outcomes, strict=True) if isinstance(outcome, int)}
    assert allowed == {(before, after) for before, after in cases if after in NEXT[before]}
    assert {type(outcome) for outcome in outcomes if not isinstance(outcome, int)} == {AppendRefusedError}
    for draft, case in zip(drafts, cases, strict=True):
        assert len(await journal.events(draft.id)) == draft.state.seq + (case in allowed)


@pytest.mark.parametrize("first", [ROUTING, SUBMITTED, CONFIRMED, CANCELLED])
async def test_an_order_begins_with_pending_only(journal: AnyJournal, first: Status) -> None:
    append = DraftOrder().next(PENDING)
    event = msgspec.structs.replace(append.events[0], status=first, detail=DETAILS[first])
    view = msgspec.structs.replace(append.view, status=first.value)

    await refused(journal.append(msgspec.structs.replace(append, events=(event,), view=view)))
    assert await journal.order(append.order_id) is None
    assert await whole_log(journal) == []


@pytest.mark.parametrize("first", [ROUTING, CONFIRMED])
async def test_a_new_order_cannot_claim_to_have_begun_already(journal: AnyJournal, first: Status) -> None:
    append = DraftOrder().next(PENDING)
    event = msgspec.structs.replace(append.events[0], status=first, detail=DETAILS[first])
    base = {ROUTING: PENDING, CONFIRMED: SUBMITTED}[first]
    view = msgspec.structs.replace(append.view, status=first.value)

    await refused(journal.append(msgspec.structs.replace(append, base_status=base, events=(event,), view=view)))
    assert await journal.order(append.order_id) is None


@pytest.mark.parametrize("seqs", [(3,), (1,), (2, 4), (2, 2), (3, 4)], ids=str)
async def test_events_that_do_not_count_on_by_one_are_refused(journal: AnyJournal, seqs: tuple[int, ...]) -> None:
    draft = await placed(journal)
    append = draft.fork().next(ROUTING, ROUTING)
    events = tuple(msgspec.structs.replace(event, seq=seq) for event, seq in zip(append.events, seqs, strict=False))
    view = msgspec.structs.replace(append.view, seq=seqs[-1])

    await refused(journal.append(msgspec.structs.replace(append, events=events, view=view)))
    await assert_stored(journal, draft)


async def test_a_legal_row_behind_an_illegal_one_is_refused_with_it(journal: AnyJournal) -> None:
    draft = await placed(journal, *PATHS[ROUTING])
    append = draft.fork().next(BUILDING, SUBMITTED, CONFIRMED)
    skipping = msgspec.structs.replace(append.events[1], status=CONFIRMED, detail=DETAILS[CONFIRMED])
    events = (append.events[0], skipping, append.events[2])

    await refused(journal.append(msgspec.structs.replace(append, events=events)))
    await assert_stored(journal, draft)


# --- Group commit and positions ------------------------------------------------------------------------------


async def test_what_queues_while_a_commit_runs_goes_into_the_next_one(journal: AnyJournal) -> None:
    held = holding(journal)
    held.hold()
    drafts = [DraftOrder() for _ in range(MANY)]
    first = journal.append(drafts[0].next(PENDING))
    await held.arrived()
    rest = [journal.append(draft.next(PENDING)) for draft in drafts[1:]]
    held.release()
    positions = await asyncio.gather(first, *rest)

    assert [len(commit) for commit in held.commits] == [1, MANY - 1]
    assert positions == list(range(1, MANY + 1))
    assert [entry.event.order_id for entry in await whole_log(journal)] == [draft.id for draft in drafts]


async def test_an_orders_queued_rows_are_merged_into_one_commit(journal: AnyJournal) -> None:
    held = holding(journal)
    held.hold()
    other = journal.append(DraftOrder().next(PENDING))
    await held.arrived()
    draft = DraftOrder()
    rows = [journal.append(draft.next(status)) for status in HAPPY]
    held.release()
    await other

    assert await asyncio.gather(*rows) == [2, 3, 4, 5, 6]
    assert [[len(rows.appends) for rows in commit] for commit in held.commits] == [[1], [5]]
    await assert_stored(journal, draft)


async def test_the_feed_resumes_at_any_position_with_any_limit(journal: AnyJournal) -> None:
    for _ in range(3):
        await placed(journal, *HAPPY)
    log = await whole_log(journal)

    assert [entry.position for entry in log] == list(range(1, 16))
    for after in range(17):
        for limit in (1, 4, 100):
            assert await journal.feed(after, limit) == log[after : after + limit]
    assert await journal.head() == 15


@pytest.mark.parametrize("watched", [0, 1, 2, 101])
async def test_a_stretch_of_the_log_gives_the_events_of_some_orders(journal: AnyJournal, watched: int) -> None:
    drafts = [await placed(journal, PENDING) for _ in range(3)]
    for draft in drafts:
        await journal.append(draft.next(*HAPPY[1:]))
    log = await whole_log(journal)
    order_ids = [draft.id for draft in drafts[1:]][:watched] + [order_id() for _ in range(watched - 2)]

    for after, to in ((0, 15), (0, 1), (1, 2), (3, 9), (14, 100), (15, 15)):
        expected = [each for each in log[after:to] if each.event.order_id in order_ids]
        assert await journal.feed_of(order_ids, after, to) == expected


async def test_a_reader_never_sees_a_position_appear_below_one_it_has_seen(database: JournalDatabase) -> None:
    """Several engines write at once, some of their rows refused, while two readers poll the feed."""
    journals = [await database.journal() for _ in range(3)]
    total = len(journals) * 40 * len(HAPPY)

    async def write(journal: AnyJournal) -> None:
        for _ in range(40):
            draft = DraftOrder()
            rows = [journal.append(draft.next(status)) for status in HAPPY]
            late = journal.append(msgspec.structs.replace(draft.fork().next(CONFIRMED), base_seq=3))
            await asyncio.gather(*rows, return_exceptions=True)
            await refused(late)

    async def read(journal: AnyJournal, limit: int) -> list[StoredEvent]:
        seen: list[StoredEvent] = []
        while len(seen) < total:
            page = await journal.feed(len(seen), limit)
            assert [entry.position for entry in page] == list(range(len(seen) + 1, len(seen) + len(page) + 1))
            seen += page
            await asyncio.sleep(0)
        return seen

    reading = [asyncio.create_task(read(journals[0], 1000)), asyncio.create_task(read(journals[1], 7))]
    await asyncio.gather(*(write(journal) for journal in journals))
    log = await whole_log(journals[2])

    assert await asyncio.gather(*reading) == [log, log]
    assert await journals[0].head() == len(log) == total


async def test_several_engines_rows_get_positions_without_a_gap(database: JournalDatabase) -> None:
    journals = [await database.journal() for _ in range(3)]
    drafts = [DraftOrder() for _ in range(60)]
    positions = await asyncio.gather(
        *(journals[n % 3].append(draft.next(*HAPPY[: n % 5 + 1])) for n, draft in enumerate(drafts))
    )
    log = await whole_log(journals[0])

    assert [entry.position for entry in log] == list(range(1, len(log) + 1))
    last = {entry.event.order_id: entry.position for entry in log}
    assert positions == [last[draft.id] for draft in drafts]
    await assert_stored(journals[1], *drafts)


# --- Listeners -----------------------------------------------------------------------------------------------


async def test_listeners_get_every_commits_events_in_position_order(journal: AnyJournal) -> None:
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    drafts = [DraftOrder() for _ in range(20)]
    rows = [journal.append(draft.next(status)) for status in HAPPY for draft in drafts]
    await refused(journal.append(msgspec.structs.replace(drafts[3].fork().next(CONFIRMED), base_seq=1)))
    await asyncio.gather(*rows)

    assert heard == await whole_log(journal)
    assert [entry.position for entry in heard] == list(range(1, 101))


async def test_listeners_are_told_before_those_who_wait_go_on(journal: AnyJournal) -> None:
    heard: list[Sequence[StoredEvent]] = []
    order: list[str] = []
    first, second = DraftOrder(), DraftOrder()

    def listener(events: Sequence[StoredEvent]) -> None:
        heard.append(events)
        order.append("listener")

    async def wait(appended: "asyncio.Future[int]") -> None:
        await appended
        order.append("waiter")

    journal.listen(listener)
    await asyncio.gather(wait(journal.append(first.next(PENDING))), wait(journal.append(second.next(PENDING))))
    assert order == ["listener", "waiter", "waiter"]
    assert [len(events) for events in heard] == [2]


async def test_nothing_is_told_of_rows_before_they_are_committed_or_when_they_are_refused(journal: AnyJournal) -> None:
    draft = await placed(journal)
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    held = holding(journal)
    held.hold()
    row = journal.append(draft.next(ROUTING))
    await held.arrived()
    for _ in range(20):
        await asyncio.sleep(0)
    assert heard == []

    held.release()
    await row
    await refused(journal.append(msgspec.structs.replace(draft.fork().next(BUILDING), base_seq=1)))
    assert events_of(heard) == draft.events[1:2]


# --- Idempotency keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["idempotency_key", "client_order_id"])
async def test_a_key_that_is_taken_names_its_order_and_whether_the_request_is_the_same(
    journal: AnyJournal, key: str
) -> None:
    first = await placed(journal, request="buy", **{key: "k"})

    for request, same in (("buy", True), ("sell", False)):
        with pytest.raises(DuplicateKeyError) as taken:
            await placed(journal, request=request, **{key: "k"})
        assert (taken.value.order_id, taken.value.same_request) == (first.id, same)
    assert events_of(await whole_log(journal)) == first.events


@pytest.mark.parametrize("key", ["idempotency_key", "client_order_id"])
async def test_a_key_belongs_to_one_caller_and_one_scope(journal: AnyJournal, key: str) -> None:
    other_scope = {"idempotency_key": "client_order_id", "client_order_id": "idempotency_key"}[key]
    drafts = [
        await placed(journal, **{key: "k"}),
        await placed(journal, caller="another", **{key: "k"}),
        await placed(journal, **{other_scope: "k"}),
        await placed(journal, **{key: "K"}),
        await placed(journal),
        await placed(journal),
    ]

    await assert_stored(journal, *drafts)


@pytest.mark.parametrize("key", ["idempotency_key", "client_order_id"])
async def test_of_two_orders_with_one_key_in_one_commit_the_first_is_stored(journal: AnyJournal, key: str) -> None:
    held = holding(journal)
    drafts = [DraftOrder(request="buy", **{key: "k"}) for _ in range(3)]  # type: ignore[arg-type]
    bystander = DraftOrder()
    rows = [journal.append(draft.next(PENDING)) for draft in (*drafts, bystander)]
    outcomes = await asyncio.gather(*rows, return_exceptions=True)

    assert len(held.commits) == 1
    assert outcomes[0] == 1
    assert outcomes[3] == 2
    for outcome in outcomes[1:3]:
        assert isinstance(outcome, DuplicateKeyError)
        assert (outcome.order_id, outcome.same_request) == (drafts[0].id, True)
    await assert_stored(journal, drafts[0], bystander)


async def test_twenty_appends_racing_for_one_key_make_exactly_one_order(database: JournalDatabase) -> None:
    journals = [await database.journal() for _ in range(4)]
    drafts = [DraftOrder(request="buy", idempotency_key="k", client_order_id="c") for _ in range(20)]
    outcomes = await asyncio.gather(
        *(journals[n % 4].append(draft.next(PENDING)) for n, draft in enumerate(drafts)), return_exceptions=True
    )

    [winner] = [draft for draft, outcome in zip(drafts, outcomes, strict=True) if isinstance(outcome, int)]
    losers = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert all(isinstance(loser, DuplicateKeyError) for loser in losers), losers
    assert {(loser.order_id, loser.same_request) for loser in losers if isinstance(loser, DuplicateKeyError)} == {
        (winner.id, True)
    }
    assert events_of(await whole_log(journals[0])) == winner.events
    assert len(await journals[0].orders(OrderFilter(), 100, None)) == 1


# --- The hash chain ------------------------------------------------------------------------------------------


async def chained(journal: AnyJournal) -> bytes:
    """Expect every row's hash to follow from the row before; the last one."""
    before = GENESIS
    for stored in await whole_log(journal):
        before = stored_hash(before, stored)
        assert await journal.hash_at(stored.position) == before, stored
    return before


async def test_every_row_is_hashed_over_its_bytes_and_the_hash_before_it(database: JournalDatabase) -> None:
    first, second = await database.journal(), await database.journal()
    drafts = [await placed(each, *PATHS[SUBMITTED]) for each in (first, second, first)]
    sealed = bytes(range(256))
    await first.append(drafts[0].add((CONFIRMED, ConfirmedDetail(commitment="confirmed", note="Zürich → 東京 🪙\0"))))
    await second.append(DraftOrder().add((PENDING, DETAILS[PENDING]), sealed=sealed))

    head = await first.log_head()
    assert (head.position, head.hash) == (len(await whole_log(first)), await chained(first))
    assert await first.hash_at(head.position + 1) is None


async def test_every_commit_tells_its_head_before_its_waiters_go_on(journal: AnyJournal) -> None:
    heads: list[tuple[int, bytes]] = []
    journal.on_head(lambda position, row: heads.append((position, row)))
    await placed(journal)
    head = await journal.log_head()

    assert heads == [(head.position, head.hash)]
    await refused(journal.append(msgspec.structs.replace(DraftOrder().next(PENDING), new=None, base_seq=1)))
    assert len(heads) == 1, "a commit that stored nothing has no new head"


async def test_a_refused_order_leaves_no_gap_in_the_chain(database: JournalDatabase) -> None:
    journal = await database.journal()
    moved = await placed(journal)
    held = holding(journal)
    held.hold()
    await asyncio.sleep(0)
    good = [DraftOrder(), DraftOrder()]
    outcomes = [
        journal.append(good[0].next(PENDING)),
        journal.append(msgspec.structs.replace(moved.next(ROUTING), base_seq=7)),
        journal.append(good[1].next(PENDING)),
    ]
    held.release()
    done = await asyncio.gather(*outcomes, return_exceptions=True)

    assert [type(each) for each in done] == [int, AppendRefusedError, int]
    await chained(journal)


# --- The halt ------------------------------------------------------------------------------------------------


async def test_a_halt_outlives_its_engine_and_the_first_reason_stands(database: JournalDatabase) -> None:
    first, second = await database.journal(), await database.journal()
    assert await first.halted() is None
    await first.halt("a look at the wallet", HaltCause.OPERATOR)
    await second.halt("another", HaltCause.OPERATOR)

    halt = await second.halted()
    assert halt is not None
    assert (halt.reason, halt.cause) == ("a look at the wallet", HaltCause.OPERATOR)
    await second.resume()
    assert await first.halted() is None


async def test_a_journal_that_is_behind_goes_before_an_operators_halt_and_not_the_other_way(
    database: JournalDatabase,
) -> None:
    journal = await database.journal()
    await journal.halt("before the backup", HaltCause.OPERATOR)
    first = await journal.halted()
    await journal.halt("30 rows are missing", HaltCause.JOURNAL_BEHIND)
    await journal.halt("a look at the wallet", HaltCause.OPERATOR)
    await journal.halt("31 rows are missing", HaltCause.JOURNAL_BEHIND)

    halt = await journal.halted()
    assert first is not None
    assert halt is not None
    assert (halt.reason, halt.cause) == ("30 rows are missing", HaltCause.JOURNAL_BEHIND)
    assert halt.since_us > first.since_us


async def test_having_been_reconciled_goes_before_being_behind_until_the_journal_is_behind_again(
    journal: AnyJournal,
) -> None:
    for cause, stands in [
        (HaltCause.JOURNAL_BEHIND, HaltCause.JOURNAL_BEHIND),
        (HaltCause.RECONCILED, HaltCause.RECONCILED),
        (HaltCause.OPERATOR, HaltCause.RECONCILED),
        (HaltCause.JOURNAL_BEHIND, HaltCause.JOURNAL_BEHIND),
    ]:
        await journal.halt(f"because {cause}", cause)
        halt = await journal.halted()
        assert halt is not None
        assert (halt.cause, halt.reason) == (stands, f"because {stands}")


async def test_a_journal_that_is_found_behind_while_somebody_resumes_stays_halted(journal: AnyJournal) -> None:
    await journal.halt("a look at the wallet", HaltCause.OPERATOR)
    await journal.halt("30 rows are missing", HaltCause.JOURNAL_BEHIND)
    await journal.resume()
    halt = await journal.halted()
    assert halt is not None
    assert halt.cause is HaltCause.JOURNAL_BEHIND
    await journal.halt("look, then resume", HaltCause.RECONCILED)
    await journal.resume()
    assert await journal.halted() is None


async def test_unsettled_orders_are_counted(database: JournalDatabase) -> None:
    journal = await database.journal()
    await placed(journal)
    ended = await placed(journal, *PATHS[CONFIRMED])
    await placed(journal, *PATHS[FAILED])
    assert await journal.unsettled() == 2
    await journal.append(ended.add((CONFIRMED, ConfirmedDetail(commitment="finalized"))))
    assert await journal.unsettled() == 1


# --- Leases and fencing --------------------------------------------------------------------------------------


async def test_only_unsettled_orders_of_dead_engines_are_claimed_each_under_a_raised_epoch(
    database: JournalDatabase,
) -> None:
    dead, living, claimer = [await database.journal() for _ in range(3)]
    lost = [await placed(dead, *PATHS[status]) for status in (PENDING, ROUTING, BUILDING, SUBMITTED, CONFIRMED)]
    for status in (FAILED, CANCELLED):
        await placed(dead, *PATHS[status])
    for note in (ConfirmedDetail(commitment="finalized"), ConfirmedDetail(commitment="lost", gone=True)):
        draft = await placed(dead, *PATHS[CONFIRMED])
        await dead.append(draft.add((CONFIRMED, note)))
    await placed(living)
    own = await placed(claimer)
    nobodys = await placed(living, epoch=None)
    await database.bury(dead)

    leases = await claimer.claim(100)
    assert [lease.order_id for lease in leases] == [draft.id for draft in [*lost, nobodys]]
    for lease in leases:
        row = await claimer.order(lease.order_id)
        assert row is not None
        assert (row.lease_owner, row.lease_epoch) == (claimer.engine_id, lease.epoch)
    assert [lease.epoch for lease in leases] == [2, 2, 2, 2, 2, 1]
    own_row = await claimer.order(own.id)
    assert own_row is not None
    assert own_row.lease_epoch == 1
    assert await claimer.claim(100) == []


async def test_a_claim_takes_no_more_than_its_limit_and_the_oldest_first(database: JournalDatabase) -> None:
    dead, claimer = await database.journal(), await database.journal()
    drafts = [await placed(dead) for _ in range(7)]
    await database.bury(dead)

    claimed = [[lease.order_id for lease in await claimer.claim(3)] for _ in range(4)]
    ids = [draft.id for draft in drafts]
    assert claimed == [ids[:3], ids[3:6], ids[6:], []]


async def test_two_claimers_never_get_the_same_order(database: JournalDatabase) -> None:
    dead = await database.journal()
    claimers = [await database.journal() for _ in range(4)]
    drafts = [DraftOrder() for _ in range(MANY)]
    await asyncio.gather(*(dead.append(draft.next(PENDING)) for draft in drafts))
    await database.bury(dead)

    async def claim_all(claimer: AnyJournal) -> list[str]:
        claimed: list[str] = []
        while leases := await claimer.claim(9):
            claimed += [lease.order_id for lease in leases]
        return claimed

    claimed = await asyncio.gather(*(claim_all(claimer) for claimer in claimers))
    left = await claim_all(claimers[0])  # rows that each found locked by the other
    counted = Counter(claimed_id for ids in (*claimed, left) for claimed_id in ids)
    assert counted == Counter({draft.id: 1 for draft in drafts})


async def test_only_the_lease_holders_rows_under_its_epoch_are_taken(database: JournalDatabase) -> None:
    dead, holder, stranger = [await database.journal() for _ in range(3)]
    draft = await placed(dead)
    await database.bury(dead)
    [lease] = await holder.claim(10)
    assert lease.epoch == 2

    append = draft.fork().next(ROUTING)
    await refused(holder.append(msgspec.structs.replace(append, lease_epoch=1)))
    await refused(stranger.append(msgspec.structs.replace(append, lease_epoch=2)))
    await refused(holder.append(msgspec.structs.replace(append, lease_epoch=3)))
    await holder.append(msgspec.structs.replace(append, lease_epoch=2))
    assert len(await holder.events(draft.id)) == 2


async def test_a_row_under_a_wrong_epoch_does_not_slip_in_behind_one_of_nobodys_executor(journal: AnyJournal) -> None:
    draft = await placed(journal, *PATHS[SUBMITTED])
    noted = draft.fork()
    note = journal.append(noted.next(SUBMITTED))
    slipping_in = msgspec.structs.replace(noted.fork().next(CONFIRMED), lease_epoch=7)

    await refused(journal.append(slipping_in))
    await note
    await assert_stored(journal, noted)


async def test_anyone_may_add_a_row_as_nobodys_executor(database: JournalDatabase) -> None:
    owner, other = await database.journal(), await database.journal()
    draft = await placed(owner)
    cancelled = draft.fork()
    await other.append(cancelled.next(CANCELLED))

    await assert_stored(owner, cancelled)
    row = await owner.order(draft.id)
    assert row is not None
    assert row.lease_owner == owner.engine_id


async def test_a_fenced_engine_writes_no_more(database: JournalDatabase) -> None:
    fenced, other = await database.journal(), await database.journal()
    draft = await placed(fenced)
    await database.bury(fenced)
    held = holding(fenced)
    held.hold()
    in_flight = fenced.append(draft.next(ROUTING))
    await held.arrived()
    queued = fenced.append(DraftOrder().next(PENDING))
    held.release()

    outcomes = await asyncio.gather(in_flight, queued, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EngineFencedError] * 2
    with pytest.raises(EngineFencedError):
        await fenced.append(DraftOrder().next(PENDING))
    await fenced.drain()
    assert len(await whole_log(other)) == 1


async def test_a_fenced_engines_writer_ends(database: JournalDatabase) -> None:
    fenced = await database.journal()
    await database.bury(fenced)
    fenced.append(DraftOrder().next(PENDING))

    with pytest.raises(EngineFencedError):
        await database.writers.of(fenced)


# --- Withdrawing ---------------------------------------------------------------------------------------------


async def test_queued_rows_can_be_withdrawn_and_are_never_stored(journal: AnyJournal) -> None:
    held = holding(journal)
    held.hold()
    first, withdrawn, kept = DraftOrder(), DraftOrder(), DraftOrder()
    row = journal.append(first.next(PENDING))
    await held.arrived()
    taken_back = journal.append(withdrawn.next(PENDING))
    last = journal.append(kept.next(PENDING))
    assert journal.withdraw(taken_back)
    held.release()
    await asyncio.gather(row, last)
    await journal.drain()

    assert taken_back.cancelled()
    assert await journal.order(withdrawn.id) is None
    await assert_stored(journal, first, kept)


async def test_rows_under_way_or_stored_cannot_be_withdrawn(journal: AnyJournal) -> None:
    held = holding(journal)
    held.hold()
    draft = DraftOrder()
    row = journal.append(draft.next(PENDING))
    await held.arrived()
    assert not journal.withdraw(row)
    held.release()
    await row

    assert not journal.withdraw(row)
    await assert_stored(journal, draft)


async def test_rows_behind_withdrawn_ones_are_refused(journal: AnyJournal) -> None:
    draft = await placed(journal)
    held = holding(journal)
    held.hold()
    other = journal.append(DraftOrder().next(PENDING))
    await held.arrived()
    stands = DraftOrder(draft.id)
    stands.next(PENDING)
    withdrawn = journal.append(draft.next(ROUTING))
    behind = [journal.append(draft.next(status)) for status in (BUILDING, SUBMITTED)]
    assert journal.withdraw(withdrawn)
    held.release()
    await other

    await refused(*behind)
    await assert_stored(journal, stands)


# --- The projection ------------------------------------------------------------------------------------------


async def test_orders_come_newest_first_and_page_by_page(journal: AnyJournal) -> None:
    views = [(await placed(journal)).view for _ in range(7)]
    newest_first = views[::-1]

    assert await journal.orders(OrderFilter(), 100, None) == newest_first
    pages, before = [], None
    while page := await journal.orders(OrderFilter(), 3, before):
        pages.append(page)
        before = page[-1].order_id
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [view for page in pages for view in page] == newest_first


@pytest.mark.parametrize("status", [None, *PATHS])
@pytest.mark.parametrize("pair", [None, "SOL/USDC", "JUP/SOL"])
async def test_orders_are_found_by_status_and_pair(
    journal: AnyJournal, status: Status | None, pair: str | None
) -> None:
    drafts = [DraftOrder(pair=each) for _ in PATHS for each in ("SOL/USDC", "JUP/SOL", "SOL/USDC")]
    paths = [path for path in PATHS.values() for _ in range(3)]
    await asyncio.gather(*(journal.append(draft.next(*path)) for draft, path in zip(drafts, paths, strict=True)))
    expected = [
        draft.view
        for draft in reversed(drafts)
        if (status is None or draft.state.status is status) and (pair is None or draft.view.pair == pair)
    ]

    where = OrderFilter(status, pair, "market")
    assert expected
    assert await journal.orders(where, 100, None) == expected
    assert await journal.orders(where, 1, None) == expected[:1]
    assert await journal.orders(where, 100, expected[0].order_id) == expected[1:]
    assert await journal.orders(OrderFilter(status, pair, "sniper"), 100, None) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(histories(), min_size=1, max_size=4), awaited=st.booleans())
async def test_the_projection_equals_the_fold_of_the_log_for_every_legal_history(
    journal: AnyJournal, orders: list[History], awaited: bool
) -> None:
    drafts = [DraftOrder(str(uuid.uuid4())) for _ in orders]
    rows = []
    for step in range(max(map(len, orders))):
        for draft, appends in zip(drafts, orders, strict=True):
            if step < len(appends):
                steps = appends[step]
                rows.append(journal.append(draft.add(*steps.events, sealed=steps.sealed)))
                if awaited:
                    await rows[-1]
    await asyncio.gather(*rows)

    newest_first = {view.order_id: view for view in await journal.orders(OrderFilter(), 1_000_000, None)}
    for draft in drafts:
        events = events_of(await journal.events(draft.id))
        row = await journal.order(draft.id)
        assert events == draft.events
        assert row is not None
        assert row.view == fold(events).view() == newest_first[draft.id]


# --- Room for orders that are to come ------------------------------------------------------------------------

BOUNDS = Room(waiting=10, open=21, watched=7)
NOTHING = Room(0, 0, 0)


async def test_one_engine_may_reserve_all_that_is_left(journal: AnyJournal) -> None:
    assert await journal.reserve_room(BOUNDS, 5, NOTHING) == Reservation(Room(10, 10, 5), 0, 0, 0)
    for _ in range(3):
        await placed(journal, PENDING, epoch=None)
    await placed(journal, PENDING, ROUTING)
    await placed(journal, *HAPPY)
    await placed(journal, PENDING, CANCELLED)
    await placed(journal, PENDING, Status.WATCHING)

    assert await journal.reserve_room(BOUNDS, 100, NOTHING) == Reservation(Room(10 - 3, 10 - 3, 7 - 1), 3, 4, 1)


async def test_engines_share_what_is_left_and_never_reserve_more(database: JournalDatabase) -> None:
    journals = [await database.journal() for _ in range(3)]
    rooms = [(await journal.reserve_room(BOUNDS, 100, NOTHING)).room for journal in journals]
    assert rooms == [Room(10, 10, 7), NOTHING, NOTHING]  # one had it all to itself before the others came

    rooms = [(await journal.reserve_room(BOUNDS, 100, NOTHING)).room for journal in journals]
    assert rooms == [Room(4, 4, 3), Room(4, 4, 3), Room(2, 2, 1)]
    await database.bury(journals[0])
    rooms = [(await journal.reserve_room(BOUNDS, 100, NOTHING)).room for journal in journals]
    assert rooms == [NOTHING, Room(5, 5, 4), Room(5, 5, 3)]


async def test_room_for_watched_orders_that_is_not_asked_for_stays_reserved(database: JournalDatabase) -> None:
    one, other = await database.journal(), await database.journal()
    assert (await one.reserve_room(BOUNDS, 4, NOTHING)).room == Room(10, 10, 4)
    await placed(one, PENDING, Status.WATCHING)
    kept = await one.reserve_room(BOUNDS, None, NOTHING)
    assert (kept.room.watched, kept.watched) == (4, None)
    assert (await other.reserve_room(BOUNDS, 100, NOTHING)).room.watched == 7 - 1 - 4


async def test_no_room_is_left_when_there_are_more_orders_than_may_be(journal: AnyJournal) -> None:
    for _ in range(3):
        await placed(journal, PENDING, epoch=None)

    assert await journal.reserve_room(Room(2, 2, 2), 100, NOTHING) == Reservation(Room(0, 0, 2), 2, 2, 0)


async def test_what_an_engine_may_still_use_stays_reserved_though_it_gets_less(database: JournalDatabase) -> None:
    one, other = await database.journal(), await database.journal()
    assert (await one.reserve_room(BOUNDS, 100, NOTHING)).room == Room(10, 10, 7)
    await other.reserve_room(BOUNDS, 100, NOTHING)
    assert (await one.reserve_room(BOUNDS, 100, Room(9, 20, 6))).room == Room(5, 5, 4)
    assert (await other.reserve_room(BOUNDS, 100, NOTHING)).room == Room(1, 1, 7 - 6)
    assert (await one.reserve_room(BOUNDS, 100, Room(5, 5, 4))).room == Room(5, 5, 4)
    assert (await other.reserve_room(BOUNDS, 100, NOTHING)).room == Room(5, 5, 3)


async def test_an_order_that_may_be_open_and_may_not_wait_has_no_room(journal: AnyJournal) -> None:
    for _ in range(4):
        await placed(journal, PENDING, ROUTING)

    assert (await journal.reserve_room(Room(100, 6, 7), 7, NOTHING)).room == Room(2, 2, 7)
    assert (await journal.reserve_room(Room(100, 4, 7), 7, NOTHING)).room == Room(0, 0, 7)
