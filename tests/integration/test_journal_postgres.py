"""The journal on PostgreSQL when the server, the network, the disk or another engine gets in its way."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from bestex.ambient import SystemClock
from bestex.domain.errors import (
    AppendRefusedError,
    DuplicateKeyError,
    EngineFencedError,
    JournalConfigurationError,
    JournalError,
    JournalUnavailableError,
)
from bestex.domain.events import ConfirmedDetail, FailedDetail, StoredEvent, encode_detail
from bestex.domain.lifecycle import FIRST, NEXT, Status
from bestex.domain.log_hash import GENESIS, row_bytes, row_hash
from bestex.domain.order_state import fold
from bestex.journal.connections import connect
from bestex.journal.embedded import settings as server_settings
from bestex.journal.engines import EngineAlreadyRunningError, Enrolment
from bestex.journal.migrations import migrate
from bestex.journal.postgres import ENGINE_TTL, PostgresJournal
from bestex.journal.queries import QUERIES, sql_text
from bestex.ports import EngineMode, OrderFilter
from tests.support.journals import OnPostgres, holding
from tests.support.orders import HAPPY, DraftOrder, events_of
from tests.support.postgres import PostgresServer, until
from tests.support.proxy import Cut, Proxy

PENDING, ROUTING, BUILDING, SUBMITTED, CONFIRMED = HAPPY
CANCELLED, WATCHING = Status.CANCELLED, Status.WATCHING

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[OnPostgres]:
    database = OnPostgres(database_url)
    yield database
    await database.close()


@pytest.fixture
async def journal(database: OnPostgres) -> PostgresJournal:
    return await database.journal()


@pytest.fixture
async def proxy(postgres_server: PostgresServer, database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_server.socket, database_url).running() as proxy:
        yield proxy


async def refused(*futures: "asyncio.Future[int]") -> None:
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [AppendRefusedError] * len(futures), outcomes


async def assert_log_is(journal: PostgresJournal, *drafts: DraftOrder) -> None:
    """The log holds each event of these orders exactly once, and nothing else."""
    log = await journal.feed(0, 1_000_000)
    assert [entry.position for entry in log] == list(range(1, len(log) + 1))
    assert await journal.head() == len(log) == sum(len(draft.events) for draft in drafts)
    for draft in drafts:
        assert events_of([entry for entry in log if entry.event.order_id == draft.id]) == draft.events
        row = await journal.order(draft.id)
        assert row is not None
        assert row.view == draft.view
    assert len(await journal.orders(OrderFilter(), 1_000, None)) == len(drafts)


def marker(draft: DraftOrder) -> bytes:
    """What the bytes of a commit with this order's rows hold, and no answer of the server does."""
    return draft.id.encode()


@contextlib.asynccontextmanager
async def head_locked(database: OnPostgres) -> AsyncIterator[None]:
    """No commit gets through."""
    connection = await connect(database.dsn, "a test's lock")
    async with connection.transaction():
        await connection.execute("select from bestex.log_head for update")
        yield
    await connection.close()


async def until_waiting_for_locks(database: OnPostgres, writers: int) -> None:
    life = await database.life()
    waiting = """select count(*) from pg_stat_activity
                  where datname = current_database() and application_name = 'bestex writer'
                    and wait_event_type = 'Lock'"""
    async with asyncio.timeout(10):
        while await life.fetchval(waiting) != writers:
            await asyncio.sleep(0.005)


# --- A commit whose answer is cut off ------------------------------------------------------------------------


@pytest.mark.parametrize("cut", list(Cut), ids=lambda cut: cut.name.lower())
async def test_a_new_order_whose_commit_was_cut_off_is_stored_once_and_answered(
    database: OnPostgres, proxy: Proxy, cut: Cut
) -> None:
    journal = await database.journal(through=proxy.dsn)
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    before, draft = DraftOrder(), DraftOrder(idempotency_key="k", client_order_id="c")
    await journal.append(before.next(PENDING))
    proxy.cut_next(cut, marker(draft))

    assert await journal.append(draft.next(PENDING)) == 2
    assert proxy.cuts == 1
    assert events_of(heard) == [*before.events, *draft.events]
    await assert_log_is(journal, before, draft)


@pytest.mark.parametrize("cut", list(Cut), ids=lambda cut: cut.name.lower())
async def test_every_row_of_a_stream_is_stored_once_when_its_commits_are_cut_off(
    database: OnPostgres, proxy: Proxy, cut: Cut
) -> None:
    journal = await database.journal(through=proxy.dsn)
    heard: list[StoredEvent] = []
    journal.listen(heard.extend)
    drafts = [DraftOrder() for _ in range(20)]
    positions: list[int] = []

    async def carry_out(draft: DraftOrder) -> None:
        for status in HAPPY:
            position = await journal.append(draft.next(status))
            positions.append(position)

    for chosen in drafts[::4]:
        proxy.cut_next(cut, marker(chosen), skip=2)
        await asyncio.gather(*(carry_out(draft) for draft in drafts[drafts.index(chosen) :][:4]))

    assert proxy.cuts == 5
    assert sorted(positions) == list(range(1, 101))
    assert [entry.position for entry in heard] == list(range(1, 101))
    assert heard == await journal.feed(0, 1000)
    await assert_log_is(journal, *drafts)


@pytest.mark.parametrize("cut", list(Cut), ids=lambda cut: cut.name.lower())
async def test_a_new_order_that_may_be_stored_is_not_told_that_it_is_not(
    database: OnPostgres, proxy: Proxy, cut: Cut
) -> None:
    """Its commit was cut off and the server cannot be reached: nobody knows until it can."""
    journal = await database.journal(through=proxy.dsn)
    draft, refused_one = DraftOrder(), DraftOrder()
    proxy.refuses_after_cut = True
    proxy.cut_next(cut, marker(draft))
    row = journal.append(draft.next(PENDING))
    await until(lambda: not journal.available)

    assert not row.done()
    assert not journal.withdraw(row)
    with pytest.raises(JournalUnavailableError):
        await journal.append(refused_one.next(PENDING))
    proxy.refuses_after_cut = False
    assert await row == 1
    await assert_log_is(journal, draft)


async def test_a_commit_is_not_doubled_when_the_server_is_still_at_it(database: OnPostgres, proxy: Proxy) -> None:
    """The connection is cut, and the rows are sent again while the first call has yet to commit."""
    journal = await database.journal(through=proxy.dsn)
    draft = DraftOrder()
    await journal.append(draft.next(PENDING))
    proxy.cut_next(Cut.AFTER_QUERY, marker(draft))
    async with head_locked(database):
        row = journal.append(draft.next(ROUTING))
        await until_waiting_for_locks(database, 2)
        assert not row.done()

    assert await row == 2
    await assert_log_is(journal, draft)


async def test_a_refusal_whose_answer_was_cut_off_is_given_again_with_the_same_positions(
    database: OnPostgres, proxy: Proxy
) -> None:
    journal = await database.journal(through=proxy.dsn)
    holder, moved = DraftOrder(idempotency_key="k", request="buy"), DraftOrder()
    await asyncio.gather(journal.append(holder.next(PENDING)), journal.append(moved.next(PENDING)))
    late = moved.fork()
    await journal.append(moved.next(ROUTING))
    duplicate, stored = DraftOrder(idempotency_key="k", request="buy"), DraftOrder()
    proxy.cut_next(Cut.BEFORE_ANSWER, marker(stored))

    rows = [journal.append(draft.next(status)) for draft, status in ((duplicate, PENDING), (late, CANCELLED))]
    assert await journal.append(stored.next(PENDING)) == 4
    with pytest.raises(DuplicateKeyError) as taken:
        await rows[0]
    await refused(rows[1])
    assert (taken.value.order_id, taken.value.same_request) == (holder.id, True)
    assert proxy.cuts == 1
    await assert_log_is(journal, holder, moved, stored)


async def test_a_key_whose_holder_could_not_be_read_is_looked_up_again(database: OnPostgres, proxy: Proxy) -> None:
    journal = await database.journal(through=proxy.dsn)
    holder, other = DraftOrder(idempotency_key="a key of its own"), DraftOrder()
    await journal.append(holder.next(PENDING))
    duplicate = DraftOrder(idempotency_key="a key of its own")
    proxy.cut_next(Cut.BEFORE_ANSWER, b"a key of its own", skip=1)  # the append has it too

    rows = journal.append(duplicate.next(PENDING)), journal.append(other.next(PENDING))
    with pytest.raises(DuplicateKeyError) as taken:
        await rows[0]
    assert await rows[1] == 2
    assert taken.value.order_id == holder.id
    assert proxy.cuts == 1
    await assert_log_is(journal, holder, other)


async def test_rows_that_cannot_be_answered_cannot_be_withdrawn_either(database: OnPostgres, proxy: Proxy) -> None:
    journal = await database.journal(through=proxy.dsn)
    draft = DraftOrder()
    async with head_locked(database):
        row = journal.append(draft.next(PENDING))
        await until_waiting_for_locks(database, 1)
        assert not journal.withdraw(row)

    await row
    await assert_log_is(journal, draft)


# --- A server that is down, refuses, or has no room ----------------------------------------------------------


async def test_a_restart_in_the_middle_of_a_stream_loses_and_doubles_nothing(
    postgres_server: PostgresServer, database: OnPostgres, journal: PostgresJournal
) -> None:
    drafts = [DraftOrder() for _ in range(30)]
    await asyncio.gather(*(journal.append(draft.next(PENDING)) for draft in drafts))
    halfway = asyncio.Event()

    async def carry_out(draft: DraftOrder) -> None:
        for status in HAPPY[1:]:
            await journal.append(draft.next(status))
            if draft is drafts[0] and status is BUILDING:
                halfway.set()

    stream = asyncio.gather(*(carry_out(draft) for draft in drafts))
    await halfway.wait()
    await postgres_server.stop()
    await postgres_server.start()
    await stream

    await assert_log_is(journal, *drafts)


async def test_while_the_server_is_down_running_orders_wait_and_new_ones_are_refused_at_once(
    postgres_server: PostgresServer, database: OnPostgres, journal: PostgresJournal
) -> None:
    running = DraftOrder()
    await journal.append(running.next(PENDING))
    await postgres_server.stop()
    try:
        waiting = journal.append(running.next(ROUTING))
        began = time.monotonic()
        for number in range(20):
            with pytest.raises(JournalUnavailableError):
                await journal.append(DraftOrder(idempotency_key=str(number)).next(PENDING))
        with pytest.raises(JournalUnavailableError):
            await journal.events(running.id)
        assert time.monotonic() - began < 2
        assert not journal.available
        behind = journal.append(running.next(BUILDING))
        assert not waiting.done()
    finally:
        await postgres_server.start()

    assert list(await asyncio.gather(waiting, behind)) == [2, 3]
    assert journal.available
    new = DraftOrder(idempotency_key="0")
    await journal.append(new.next(PENDING))
    await assert_log_is(journal, running, new)


async def test_new_orders_are_the_probe_when_nothing_else_waits_for_the_server(
    postgres_server: PostgresServer, database: OnPostgres, journal: PostgresJournal
) -> None:
    await postgres_server.stop()
    try:
        for _ in range(3):
            with pytest.raises(JournalUnavailableError):
                await journal.append(DraftOrder().next(PENDING))
        await journal.drain()
    finally:
        await postgres_server.start()

    new = DraftOrder()
    await journal.append(new.next(PENDING))
    await assert_log_is(journal, new)


async def test_a_database_that_refuses_connections_stores_nothing_and_says_so(
    postgres_server: PostgresServer, database: OnPostgres, journal: PostgresJournal
) -> None:
    name = database.dsn.partition("?")[0].rpartition("/")[2]
    running = DraftOrder()
    await journal.append(running.next(PENDING))
    await postgres_server.execute(
        f"alter database {name} allow_connections false",
        f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}'",
    )
    try:
        # The rows meet the cut connection first: whether they were stored is unknown until the next one.
        waiting = journal.append(running.next(ROUTING))
        await until(lambda: not journal.available)
        with pytest.raises(JournalUnavailableError):
            await journal.append(DraftOrder().next(PENDING))
        with pytest.raises(JournalUnavailableError):
            await journal.head()
        assert not waiting.done()
    finally:
        await postgres_server.execute(f"alter database {name} allow_connections true")

    await waiting
    await assert_log_is(journal, running)


async def have_no_room(database: OnPostgres, sqlstate: str) -> None:
    """Let every insert of events fail as it does on a full disk."""
    await (await database.life()).execute(
        f"""create function no_room() returns trigger language plpgsql as
            $$ begin raise exception 'could not extend file: No space left on device'
               using errcode = '{sqlstate}'; end $$;
            create trigger no_room before insert on bestex.events execute function no_room()"""
    )


@pytest.mark.parametrize("sqlstate", ["53100", "53200", "58030", "57014", "40P01", "25006"])
async def test_what_the_disk_has_no_room_for_is_not_stored_and_the_waiters_are_told(
    database: OnPostgres, journal: PostgresJournal, sqlstate: str
) -> None:
    running = DraftOrder()
    await journal.append(running.next(PENDING))
    await have_no_room(database, sqlstate)

    new = journal.append(DraftOrder().next(PENDING))
    waiting = journal.append(running.next(ROUTING))
    with pytest.raises(JournalUnavailableError, match="nothing was stored"):
        await new
    assert not journal.available
    assert not waiting.done()
    assert await journal.head() == 1
    await (await database.life()).execute("drop trigger no_room on bestex.events")
    assert await waiting == 2
    await assert_log_is(journal, running)


# --- Rows that the database rejects --------------------------------------------------------------------------


BAD_ORDERS = {
    "a NUL in a column": {"client_order_id": "a\0b"},
    "half a surrogate pair": {"client_order_id": "\ud800"},
    "an id that is none": {"id": "not-a-uuid"},
}


@pytest.mark.parametrize("fields", BAD_ORDERS.values(), ids=BAD_ORDERS)
async def test_one_bad_row_does_not_stop_the_others(journal: PostgresJournal, fields: dict[str, str]) -> None:
    held = holding(journal)
    good = [DraftOrder() for _ in range(9)]
    bad = DraftOrder(**fields)  # type: ignore[arg-type]
    drafts = [*good[:6], bad, *good[6:]]
    rows = [journal.append(draft.next(PENDING)) for draft in drafts]
    outcomes = await asyncio.gather(*rows, return_exceptions=True)

    assert isinstance(outcomes.pop(6), JournalError)
    assert sorted(position for position in outcomes if isinstance(position, int)) == list(range(1, 10))
    assert len(held.commits[0]) == 10
    await assert_log_is(journal, *good)


async def test_a_bad_row_takes_its_orders_queued_rows_with_it(journal: PostgresJournal) -> None:
    draft, other = DraftOrder(), DraftOrder()
    await journal.append(draft.next(PENDING))
    stands = DraftOrder(draft.id)
    stands.next(PENDING)
    held = holding(journal)
    held.hold()
    detail = FailedDetail("internal", "half a surrogate pair: \ud800", ())
    bad = journal.append(draft.fork().add((Status.FAILED, detail)))
    await held.arrived()
    behind = journal.append(draft.next(ROUTING))
    good = journal.append(other.next(PENDING))
    held.release()

    with pytest.raises(JournalError):
        await bad
    await refused(behind)
    await good
    await assert_log_is(journal, stands, other)


async def test_rows_of_a_commit_that_is_being_divided_cannot_be_withdrawn(journal: PostgresJournal) -> None:
    """Whoever is told that his order was taken back must not find it executed."""
    held = holding(journal)
    bad, first, second = DraftOrder(client_order_id="a\0b"), DraftOrder(), DraftOrder()
    held.hold()
    rows = [journal.append(draft.next(PENDING)) for draft in (bad, first, second)]
    await held.arrived()
    await held.let_one_pass()
    assert not rows[2].done()
    assert not journal.withdraw(rows[2])
    held.release()

    assert sorted(await asyncio.gather(*rows[1:])) == [1, 2]
    await assert_log_is(journal, first, second)


async def test_everyone_waiting_is_told_when_the_engine_is_fenced_while_a_commit_is_divided(
    database: OnPostgres, journal: PostgresJournal
) -> None:
    drafts = [DraftOrder(client_order_id="a\0b"), *(DraftOrder() for _ in range(3))]
    held = holding(journal)
    held.hold()
    rows = [journal.append(draft.next(PENDING)) for draft in drafts]
    await held.arrived()
    await held.let_one_pass()
    await database.bury(journal)
    held.release()

    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*rows, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [JournalError, *[EngineFencedError] * 3]


# --- Migrations and the server's settings --------------------------------------------------------------------


async def test_five_engines_may_migrate_at_once(empty_database_url: str) -> None:
    await asyncio.gather(*(migrate(empty_database_url) for _ in range(5)))

    database = OnPostgres(empty_database_url)
    draft = DraftOrder()
    await (await database.journal()).append(draft.next(*HAPPY))
    await database.close()


async def test_migrating_again_changes_nothing(database: OnPostgres, journal: PostgresJournal) -> None:
    draft = DraftOrder()
    await journal.append(draft.next(*HAPPY))
    schema = """select table_name, column_name, data_type from information_schema.columns
                 where table_schema = 'bestex' order by 1, 2"""
    life = await database.life()
    before = [await life.fetch(schema), await life.fetch("select * from bestex.migrations")]
    await migrate(database.dsn)

    assert [await life.fetch(schema), await life.fetch("select * from bestex.migrations")] == before
    await assert_log_is(journal, draft)


async def older_journal(dsn: str, orders: int) -> list[DraftOrder]:
    """A database as the first release left it, with some orders, executed and not."""
    drafts = [DraftOrder(epoch=2) for _ in range(orders)]  # under the lease that the next engine claims
    for number, draft in enumerate(drafts):
        draft.next(*(HAPPY if number % 2 else HAPPY[:4]))
    connection = await connect(dsn, "an older release")
    await connection.execute(sql_text("0001_journal.sql"))
    await connection.execute(
        "create table bestex.migrations (version integer primary key, name text, applied_at timestamptz default now())"
    )
    await connection.execute("insert into bestex.migrations values (1, '0001_journal.sql')")
    position, rows = 0, []
    for draft in drafts:
        for event in draft.events:
            position += 1
            at = datetime.fromtimestamp(event.at_us // 1_000_000, UTC) + timedelta(microseconds=event.at_us % 1_000_000)
            detail = encode_detail(event.detail).decode()
            rows.append((position, draft.id, event.seq, event.status, event.attempt, at, detail, event.sealed or None))
    await connection.copy_records_to_table("events", schema_name="bestex", records=rows)
    await connection.executemany(
        """insert into bestex.orders
           (id, kind, pair, caller, request_hash, status, seq, attempt, ended, lease_epoch, view)
           values ($1, 'market', 'SOL/USDC', 'local', '', $2, $3, 1, $4, 1, $5)""",
        [
            (draft.id, last.status, last.seq, last.status if last.status is CONFIRMED else None, view_text(draft))
            for draft in drafts
            for last in draft.events[-1:]
        ],
    )
    await connection.execute("update bestex.log_head set position = $1", position)
    await connection.close()
    return drafts


def view_text(draft: DraftOrder) -> str:
    return msgspec.json.encode(fold(draft.events).view()).decode()


async def test_an_older_journal_is_chained_and_its_executed_orders_wait_for_finality(empty_database_url: str) -> None:
    drafts = await older_journal(empty_database_url, 7)
    await migrate(empty_database_url)
    database = OnPostgres(empty_database_url)
    journal = await database.journal()
    assert {lease.order_id for lease in await journal.claim(100)} == {draft.id for draft in drafts}
    await journal.append(drafts[1].add((CONFIRMED, ConfirmedDetail(commitment="finalized"))))
    await journal.append(DraftOrder().next(*HAPPY))

    before = GENESIS
    for row in await (await database.life()).fetch(QUERIES["audit_log"]):
        before = row_hash(before, row_bytes(*tuple(row)[:8]))
        assert before == row["hash"]
    assert (await journal.log_head()).hash == before
    assert await journal.unsettled() == len(drafts)
    await database.close()


async def test_a_long_journal_is_migrated_however_long_it_takes(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await older_journal(empty_database_url, 2_000)
    monkeypatch.setattr("bestex.journal.connections.COMMIT_TIMEOUT_S", 0.05)
    await migrate(empty_database_url)


async def test_a_database_of_a_later_release_is_refused(database: OnPostgres) -> None:
    life = await database.life()
    await life.execute("insert into bestex.migrations (version, name) values (9999, 'of a later release')")

    with pytest.raises(JournalConfigurationError, match="9999"):
        await migrate(database.dsn)


async def test_the_databases_guard_equals_the_lifecycle_table(database: OnPostgres) -> None:
    rows = await (await database.life()).fetch("select before, after from bestex.lifecycle")

    expected = {(before.value, after.value) for before, followers in NEXT.items() for after in followers}
    assert {tuple(row) for row in rows} == expected | {("", FIRST.value)}


async def test_a_changed_lifecycle_reaches_the_databases_guard_at_the_next_start(database: OnPostgres) -> None:
    life = await database.life()
    await life.execute("insert into bestex.lifecycle values ('failed', 'routing')")
    await migrate(database.dsn)

    assert await life.fetchval("select count(*) from bestex.lifecycle where before = 'failed'") == 0


@pytest.mark.parametrize("scope", ["database", "role"])
async def test_a_database_that_does_not_wait_for_the_disk_is_refused(
    postgres_server: PostgresServer, database_url: str, scope: str
) -> None:
    name = {"database": database_url.partition("?")[0].rpartition("/")[2], "role": "bestex"}[scope]
    await postgres_server.execute(f"alter {scope} {name} set synchronous_commit = off")
    try:
        with pytest.raises(JournalConfigurationError, match="synchronous_commit"):
            await migrate(database_url)
    finally:
        await postgres_server.execute(f"alter {scope} {name} reset synchronous_commit")
    await migrate(database_url)


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit"])
async def test_a_server_that_does_not_write_to_the_disk_is_refused(
    postgres_server: PostgresServer, database_url: str, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    await postgres_server.stop()
    monkeypatch.setitem(server_settings._SETTINGS, setting, "off")
    await postgres_server.start()
    try:
        with pytest.raises(JournalConfigurationError, match=f"{setting} = off"):
            await migrate(database_url)
    finally:
        await postgres_server.stop()
        monkeypatch.undo()
        await postgres_server.start()


async def test_the_writers_commits_wait_for_the_disk_whatever_the_database_says(
    postgres_server: PostgresServer, database_url: str
) -> None:
    name = database_url.partition("?")[0].rpartition("/")[2]
    await postgres_server.execute(f"alter database {name} set synchronous_commit = off")
    database = OnPostgres(database_url)
    life = await database.life()

    assert await life.fetchval("show synchronous_commit") == "on"
    await database.close()


async def test_what_the_server_breaks_off_for_a_deadlock_may_be_asked_again(database: OnPostgres) -> None:
    api, worker = await database.journal(EngineMode.API), await database.journal(EngineMode.WORKER)
    orders = [DraftOrder(), DraftOrder()]
    for order in orders:
        await api.append(order.next(PENDING))
    first, second = [claimed.lease for claimed in await worker.claim_waiting(2)]
    other = await connect(database.dsn, "a test's other process", deadlock_timeout="1min")
    try:
        lock = "select from bestex.orders where id = $1 for update"
        async with other.transaction():
            await other.fetch(lock, second.order_id)
            handing_back = asyncio.create_task(worker.hand_back([first, second]))
            life = await database.life()
            while not await life.fetchval("select exists (select from pg_locks where not granted)"):
                await asyncio.sleep(0.01)
            await other.fetch(lock, first.order_id)
            with pytest.raises(JournalUnavailableError, match="deadlock"):
                await handing_back
    finally:
        await other.close()
    await worker.hand_back([first, second])
    assert len(await worker.claim_waiting(2)) == 2


# --- Which engine lives on the database ----------------------------------------------------------------------


async def goes_on() -> None:
    """What a server is met with that has lost nothing."""


class Engines:
    """Enrolments on one database, and their signs of life."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._enrolments: list[Enrolment] = []
        self._keeping: list[asyncio.Task[None]] = []

    def new(self, about: str = "host 1, process 1") -> tuple[str, Enrolment]:
        engine_id = str(uuid.uuid4())
        enrolment = Enrolment(self.dsn, engine_id, about, SystemClock())
        self._enrolments.append(enrolment)
        return engine_id, enrolment

    def keep(self, enrolment: Enrolment) -> "asyncio.Task[None]":
        self._keeping.append(asyncio.create_task(enrolment.keep(goes_on)))
        return self._keeping[-1]

    async def close(self) -> None:
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        for enrolment in self._enrolments:
            enrolment._drop()


@pytest.fixture
async def engines(database_url: str) -> AsyncIterator[Engines]:
    engines = Engines(database_url)
    yield engines
    await engines.close()


async def living(database: OnPostgres) -> list[str]:
    rows = await (await database.life()).fetch("select id from bestex.engines")
    return [str(row["id"]) for row in rows]


async def last_seen_s_ago(database: OnPostgres, seconds: float) -> None:
    """Have all engines been silent for this long."""
    await (await database.life()).execute(
        "update bestex.engines set seen_at = clock_timestamp() - $1 * interval '1 second'", seconds
    )


async def test_a_second_engine_is_refused_while_the_first_gives_signs_of_life(
    database: OnPostgres, engines: Engines
) -> None:
    first_id, first = engines.new("host 7, process 42")
    await first.enrol()
    engines.keep(first)
    _, second = engines.new()

    began = time.monotonic()
    with pytest.raises(EngineAlreadyRunningError, match=r"host 7, process 42.*BESTEX_DATA_DIR or DATABASE_URL"):
        await second.enrol()
    assert time.monotonic() - began < 2.5
    assert await living(database) == [first_id]


async def test_a_refused_engine_leaves_no_connection_behind(database: OnPostgres, engines: Engines) -> None:
    _, first = engines.new()
    await first.enrol()
    engines.keep(first)
    _, second = engines.new()
    with pytest.raises(EngineAlreadyRunningError):
        await second.enrol()

    query = "select count(*) from pg_stat_activity where datname = current_database() and application_name = $1"
    life = await database.life()
    async with asyncio.timeout(5):
        while await life.fetchval(query, "bestex life") > 1:
            await asyncio.sleep(0.01)


async def test_a_killed_engines_place_is_taken_at_once(database: OnPostgres, engines: Engines) -> None:
    _, first = engines.new()
    await first.enrol()
    await (await database.life()).execute(
        """select pg_terminate_backend(backend_pid, 5000) from bestex.engines""",
    )
    second_id, second = engines.new()

    began = time.monotonic()
    await second.enrol()
    assert time.monotonic() - began < 1
    assert await living(database) == [second_id]


async def test_a_silent_engines_place_is_taken_when_its_time_has_run_out(
    database: OnPostgres, engines: Engines
) -> None:
    """It is connected and stopped, as in a suspended process."""
    _, first = engines.new()
    await first.enrol()
    await last_seen_s_ago(database, 4)
    second_id, second = engines.new()

    began = time.monotonic()
    await second.enrol()
    assert 0.5 < time.monotonic() - began < 6
    assert await living(database) == [second_id]


async def test_a_connection_lost_to_a_restart_of_the_server_is_no_sign_of_death(
    postgres_server: PostgresServer, database: OnPostgres, engines: Engines
) -> None:
    first_id, first = engines.new()
    await first.enrol()
    await postgres_server.stop()
    await postgres_server.start()
    await last_seen_s_ago(database, 0)
    [row] = await (await database.life()).fetch(QUERIES["engines"], ENGINE_TTL)
    assert (row["silent"], row["disconnected"]) == (False, False)
    keeping = engines.keep(first)
    _, second = engines.new()
    with pytest.raises(EngineAlreadyRunningError):
        await second.enrol()
    assert not keeping.done()
    assert await living(database) == [first_id]


async def test_an_engine_goes_on_giving_signs_of_life_over_a_new_connection(
    database: OnPostgres, engines: Engines
) -> None:
    engine_id, enrolment = engines.new()
    await enrolment.enrol()
    life = await database.life()
    await life.execute("select pg_terminate_backend(backend_pid, 5000) from bestex.engines")
    await last_seen_s_ago(database, 3)
    engines.keep(enrolment)

    alive = "select seen_at > clock_timestamp() - interval '2 seconds' from bestex.engines where id = $1"
    async with asyncio.timeout(5):
        while not await life.fetchval(alive, engine_id):
            await asyncio.sleep(0.02)


async def test_of_two_engines_that_start_at_once_one_takes_the_dead_ones_place(
    database: OnPostgres, engines: Engines
) -> None:
    _, dead = engines.new()
    await dead.enrol()
    await last_seen_s_ago(database, 60)
    contenders = [engines.new() for _ in range(2)]

    async def start(enrolment: Enrolment) -> None:
        await enrolment.enrol()
        engines.keep(enrolment)

    outcomes = await asyncio.gather(*(start(enrolment) for _, enrolment in contenders), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(EngineAlreadyRunningError) == 1
    winner = next(engine_id for (engine_id, _), outcome in zip(contenders, outcomes, strict=True) if outcome is None)
    assert await living(database) == [winner]


async def test_an_engine_that_leaves_gives_its_place_up_at_once(database: OnPostgres, engines: Engines) -> None:
    _, first = engines.new()
    await first.enrol()
    await first.leave()
    second_id, second = engines.new()
    await second.enrol()

    assert await living(database) == [second_id]


async def test_an_engine_whose_place_was_taken_stops_and_can_append_no_more(
    database: OnPostgres, engines: Engines
) -> None:
    first_id, first = engines.new()
    await first.enrol()
    journal = PostgresJournal(database.dsn, first_id, SystemClock())
    database.writers.start(journal)
    draft = DraftOrder()
    await journal.append(draft.next(PENDING))
    await last_seen_s_ago(database, 60)
    second_id, second = engines.new()
    await second.enrol()

    with pytest.raises(EngineFencedError):
        await journal.append(draft.fork().next(ROUTING))
    with pytest.raises(EngineFencedError):
        await first.keep(goes_on)
    successor = PostgresJournal(database.dsn, second_id, SystemClock())
    database.writers.start(successor)
    [lease] = await successor.claim(10)
    await successor.append(msgspec.structs.replace(draft.next(ROUTING), lease_epoch=lease.epoch))
    await assert_log_is(successor, draft)
    await journal.close()
    await successor.close()


async def test_the_leases_of_an_engine_last_as_long_as_its_signs_of_life(database: OnPostgres) -> None:
    silent, claimer = await database.journal(), await database.journal()
    draft = DraftOrder()
    await silent.append(draft.next(PENDING))
    assert await claimer.claim(10) == []
    await (await database.life()).execute(
        "update bestex.engines set seen_at = clock_timestamp() - interval '6 seconds' where id = $1", silent.engine_id
    )

    [lease] = await claimer.claim(10)
    assert (lease.order_id, lease.epoch) == (draft.id, 2)
    await refused(silent.append(draft.next(ROUTING)), silent.append(draft.next(BUILDING)))
    assert len(await claimer.events(draft.id)) == 1


# --- The projection's views ---


async def test_a_row_has_a_view_while_its_order_rests_and_once_it_is_settled(
    database: OnPostgres, journal: PostgresJournal
) -> None:
    resting, executing, failed = DraftOrder(kind="limit"), DraftOrder(), DraftOrder()
    await journal.append(resting.next(PENDING, WATCHING))
    await journal.append(executing.next(PENDING, ROUTING))
    await journal.append(failed.next(PENDING, Status.FAILED))

    rows = await (await database.life()).fetch("select id, view from bestex.orders")
    assert {str(row["id"]): row["view"] for row in rows} == {
        resting.id: view_text(resting),
        executing.id: None,
        failed.id: view_text(failed),
    }
    await journal.append(resting.next(ROUTING))  # it fires, and its view changes with every event
    assert await (await database.life()).fetchval("select count(*) from bestex.orders where view is null") == 2
    await assert_log_is(journal, resting, executing, failed)


# --- Large tables --------------------------------------------------------------------------------------------

ROWS = 100_000


async def fill(database: OnPostgres, like: DraftOrder) -> None:
    """Add ended orders of two events each, older than all others."""
    old_id = "('01800000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid"
    life = await database.life()
    await life.execute(
        f"""insert into bestex.orders (id, kind, pair, caller, idempotency_key, client_order_id, request_hash,
                                       status, seq, attempt, unfilled, settled, lease_epoch, view)
            select {old_id}, kind, pair, caller, 'key ' || n, 'client ' || n, request_hash, status, 2, 1, unfilled,
                   true, 1, $3
              from generate_series(1, $2) n, bestex.orders where id = $1""",
        like.id,
        ROWS,
        view_text(like),
    )
    await life.execute(
        f"""insert into bestex.events
            select position + n * 2 + seq - 2, {old_id}, seq, 'routing', 1, clock_timestamp(), '{{}}', null, ''
              from bestex.log_head, generate_series(1, $1) n, generate_series(1, 2) seq""",
        ROWS,
    )
    await life.execute("update bestex.log_head set position = position + $1 * 2", ROWS)


async def work(journal: PostgresJournal, taken: DraftOrder) -> None:
    """Everything that the engine asks of the journal."""
    keys = [(str(uuid.uuid4()), str(uuid.uuid4())) for _ in range(8)]
    drafts = [DraftOrder(idempotency_key=key, client_order_id=client) for key, client in keys]
    for status in HAPPY:
        await asyncio.gather(*(journal.append(draft.next(status)) for draft in drafts))
    with pytest.raises(DuplicateKeyError):
        await journal.append(DraftOrder(idempotency_key="key 0", client_order_id="client 0").next(PENDING))
    late = msgspec.structs.replace(drafts[0].fork().next(CONFIRMED), base_seq=4)
    await refused(journal.append(taken.fork().next(CONFIRMED)), journal.append(late))
    await journal.events(taken.id)
    await journal.histories([draft.id for draft in drafts])
    await journal.feed(await journal.head() - 10, 100)
    await journal.order(taken.id)
    await journal.claim(100)
    parent = DraftOrder(kind="limit")
    await journal.append(parent.next(PENDING, WATCHING))
    companion = DraftOrder(parent_id=parent.id).next(PENDING)
    await journal.append(msgspec.structs.replace(parent.next(WATCHING), companion=companion))
    await journal.append(parent.next(ROUTING))
    await journal.resting(None, 100)
    await journal.resting(taken.id, 100)
    await journal.leases_of_resting([taken.id, parent.id])
    await journal.count_resting()
    await journal.unsettled()
    await journal.children(parent.id)
    await journal.orders(OrderFilter(parent_id=parent.id), 50, None)
    for status_filter in (None, CONFIRMED, Status.FAILED, PENDING, WATCHING):
        for pair in (None, "SOL/USDC"):
            for before in (None, drafts[0].id):
                await journal.orders(OrderFilter(status_filter, pair), 50, before)


async def test_no_statement_reads_a_whole_large_table(database: OnPostgres, journal: PostgresJournal) -> None:
    """Not even with the plans that its connections keep from when the tables were small."""
    taken = DraftOrder(idempotency_key="key 0", client_order_id="client 0")
    await journal.append(taken.next(*HAPPY[:4]))
    await journal.append(taken.fork().next(CONFIRMED))
    for _ in range(6):  # PostgreSQL keeps a plan from the sixth time on
        await work(journal, taken)
    await fill(database, taken)
    for _ in range(2):
        await work(journal, taken)
    await journal.close()

    life = await database.life()
    async with asyncio.timeout(10):  # connections count what they did when they end
        while await life.fetchval("select count(*) from pg_stat_activity where application_name = 'bestex reader'"):
            await asyncio.sleep(0.01)
    read = await life.fetch("select relname, seq_tup_read from pg_stat_user_tables where schemaname = 'bestex'")
    assert {row["relname"]: row["seq_tup_read"] for row in read if row["seq_tup_read"] >= ROWS} == {}
