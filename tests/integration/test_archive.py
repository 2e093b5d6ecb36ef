"""What is old leaves the database for files, and the log stays provable, whatever happens in between."""

import asyncio
import gzip
import json
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from bestex.archiving.archiver import ArchiveError
from bestex.audit.audit import Progress
from bestex.audit.export.read import ExportError
from bestex.domain.errors import DuplicateKeyError, JournalConfigurationError, JournalError, OrderArchivedError
from bestex.domain.lifecycle import Status
from bestex.domain.log_hash import PublishedHead
from bestex.domain.terms import Kind
from bestex.engine.order_log import absent
from bestex.journal.archive import connect_for_archive
from bestex.journal.published_head import why_behind
from tests.support.archives import Past, archived, planned, verified, verified_alone
from tests.support.journals import OnPostgres
from tests.support.orders import DraftOrder

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[OnPostgres]:
    database = OnPostgres(database_url)
    yield database
    await database.close()


@pytest.fixture
async def past(database: OnPostgres) -> Past:
    return Past(await database.journal())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def clean(dsn: str, folder: Path) -> None:
    """Nothing is found, in the database alone and together with its archives, nor in any of these alone."""
    for report in (await verified(dsn), await verified(dsn, folder)):
        assert report.clean, report.findings
    for path in folder.glob("*.gz"):
        alone = await verified_alone(path)
        assert alone.clean, (path, alone.findings)


async def count(database: OnPostgres, table: str) -> int:
    number: int = await (await database.life()).fetchval(f"select count(*) from bestex.{table}")
    return number


async def tamper(database: OnPostgres, statement: str) -> None:
    assert not (await (await database.life()).execute(statement)).endswith(" 0")


async def test_orders_that_are_final_leave_and_the_log_is_whole_with_and_without_the_archive(
    database: OnPostgres, past: Past, folder: Path
) -> None:
    await past.executed(5)
    before = await verified(database.dsn)
    [made] = (await archived(database.dsn, folder)).archives
    assert (made.orders, made.events, made.position, made.kept_events) == (5, 30, 30, 0)
    assert (await count(database, "events"), await count(database, "orders")) == (0, 0)
    assert (folder / made.file).stat().st_size == made.bytes_
    await past.executed(2)
    await clean(database.dsn, folder)
    together = await verified(database.dsn, folder)
    assert (together.events, together.orders) == (before.events + 12, before.orders + 2)


async def test_orders_that_are_open_watched_or_not_final_stay_with_all_their_events(
    database: OnPostgres, past: Past, folder: Path
) -> None:
    resting, open_order = past.order(Kind.LIMIT), past.order().route()
    landed = past.order().route().sign().land().confirm()
    ended = past.order().cancel()
    await past.write()
    await past.executed(3)
    [made] = (await archived(database.dsn, folder)).archives
    assert made.orders == 4
    for order, events in ((resting, 2), (open_order, 3), (landed, 5)):
        assert [each.event.seq for each in await past.journal.events(order.id)] == list(range(1, events + 1))
    assert await past.journal.order(ended.id) is None
    assert await past.journal.count_resting() == 1
    await clean(database.dsn, folder)


async def test_an_order_that_rested_over_an_archive_leaves_with_a_later_one_that_has_all_of_it(
    database: OnPostgres, past: Past, folder: Path
) -> None:
    resting = past.order(Kind.LIMIT)
    await past.write()
    await past.executed(2)
    await archived(database.dsn, folder)
    resting.fire().sign().land().confirm().note("finalized")
    await past.write()
    [made] = (await archived(database.dsn, folder)).archives
    assert (made.number, made.orders, made.events) == (2, 1, 7)
    with gzip.open(folder / made.file) as lines:
        positions = [line["position"] for line in map(json.loads, lines) if line["type"] == "log"]
    assert positions == [1, 2, *range(15, 20)]
    await clean(database.dsn, folder)


async def test_orders_that_belong_together_leave_together(database: OnPostgres, past: Past, folder: Path) -> None:
    entry = past.order().execute()
    exits = entry.exits()
    alone = past.order().execute()
    await past.write()
    [made] = (await archived(database.dsn, folder)).archives
    assert made.orders == 1  # the entry's exits rest
    assert await past.journal.order(alone.id) is None
    exits.cancel()
    await past.write()
    [made] = (await archived(database.dsn, folder)).archives
    assert (made.orders, made.kept_events) == (2, 0)
    assert await past.journal.order(entry.id) is None
    await clean(database.dsn, folder)


async def test_what_is_younger_than_the_horizon_stays_and_all_behind_it(
    database: OnPostgres, past: Past, folder: Path
) -> None:
    old = past.order().execute()
    last_us = past.day.appends[-1].events[-1].at_us
    younger = past.order(Kind.LIMIT).fire().give_back().fire().give_back()
    behind = past.order().execute()  # in time it is as old as the first
    await past.write()
    [made] = (await archived(database.dsn, folder, before_us=last_us + 1)).archives
    assert made.orders == 1
    assert await past.journal.order(old.id) is None
    rows = await (await database.life()).fetch("select at from bestex.events where position <= $1", made.position)
    assert all(row["at"].timestamp() * 1_000_000 <= last_us for row in rows)
    assert len(await past.journal.events(younger.id)) == 8
    assert len(await past.journal.events(behind.id)) == 6
    await clean(database.dsn, folder)


async def test_archives_follow_each_other_without_a_gap(database: OnPostgres, past: Past, folder: Path) -> None:
    resting = past.order(Kind.LIMIT)
    await past.write()
    for _ in range(3):
        await past.executed(3)
        await archived(database.dsn, folder, rows_max=10)
    resting.cancel()
    await past.write()
    await archived(database.dsn, folder)
    assert await count(database, "events") == 0
    assert (await archived(database.dsn, folder)).archives == []
    await clean(database.dsn, folder)
    report = await verified(database.dsn, folder)
    assert (report.events, report.orders) == (57, 10)


async def test_a_plan_says_what_would_leave_and_changes_nothing(database: OnPostgres, past: Past, folder: Path) -> None:
    past.order(Kind.LIMIT)
    await past.write()
    await past.executed(2)
    plan = await planned(database.dsn)
    assert (plan.after, plan.position) == (0, 14)
    assert msgspec.structs.astuple(plan.leaving) == (2, 12, 1, 2)
    assert await count(database, "events") == 14
    assert await count(database, "checkpoints") == 0


async def test_appends_go_on_while_an_archive_is_made(database: OnPostgres, past: Past, folder: Path) -> None:
    await past.executed(40)
    going = True

    async def trade() -> None:
        while going:
            await past.executed(2)

    trading = asyncio.create_task(trade())
    try:
        for _ in range(3):
            await archived(database.dsn, folder)
            report = await verified(database.dsn, folder)
            assert report.clean, report.findings
    finally:
        going = False
        await trading
    await clean(database.dsn, folder)
    assert (await verified(database.dsn, folder)).events == await past.journal.head()


STEPS = (
    "events written",
    "events checked",
    "archives named",
    "archives recorded",
    "orders removed",
    "archives finished",
)


def _killed(dsn: str, folder: Path, step: str, time: int) -> None:
    """Archive, and die with signal 9 before a step, the so manyth time that it is to be taken."""
    left = time

    def on_progress(progress: Progress) -> None:
        nonlocal left
        if progress.what == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(archived(dsn, folder, on_progress=on_progress))


def kill_at(dsn: str, folder: Path, step: str, time: int = 1) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(dsn, folder, step, time))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL, (step, process.exitcode)


@pytest.mark.parametrize("step", [*STEPS, "orders removed again"])
async def test_an_archive_that_was_killed_goes_on_with_the_next_run(
    database: OnPostgres, past: Past, folder: Path, step: str
) -> None:
    past.order(Kind.LIMIT)
    await past.write()
    ids = await past.executed(4)
    name = step.removesuffix(" again")
    await asyncio.to_thread(kill_at, database.dsn, folder, name, 2 if step != name else 1)
    between = await verified(database.dsn)
    assert between.clean, between.findings
    if await count(database, "checkpoints"):
        between = await verified(database.dsn, folder)
        assert between.clean, between.findings
    else:
        assert await count(database, "events") == 26  # nothing is removed before there is a checkpoint
    assert all(path.name.startswith(".") for path in folder.iterdir()) == (STEPS.index(name) < 3)
    await past.executed(1)
    await archived(database.dsn, folder)
    await clean(database.dsn, folder)
    assert await count(database, "events") == 2
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert all([isinstance(await absent(past.journal, each), OrderArchivedError) for each in ids])


async def test_an_archived_orders_keys_stay_taken_until_they_are_forgotten(
    database: OnPostgres, past: Past, folder: Path
) -> None:
    first = past.keyed("key", "mine").cancel()
    await past.write()
    [accepted] = (await past.journal.events(first.id))[:1]
    await archived(database.dsn, folder)
    assert await count(database, "orders") == 0
    for again in (DraftOrder(idempotency_key="key"), DraftOrder(client_order_id="mine")):
        append = again.next(Status.PENDING)
        with pytest.raises(DuplicateKeyError) as taken:
            await past.journal.append(append)
        assert taken.value.order_id == first.id
        assert append.new is not None
        holder = await past.journal.holder(append.new)
        assert holder is not None
        assert holder.order_id == first.id
    kept = await past.journal.archived(first.id)
    assert kept is not None
    assert kept.accepted_us == accepted.event.at_us
    assert (await archived(database.dsn, folder, keys_kept_for=timedelta(days=1))).forgotten == 0
    assert (await archived(database.dsn, folder, keys_kept_for=timedelta(0))).forgotten == 1
    assert await past.journal.archived(first.id) is None
    past.keyed("key", "mine")
    await past.write()
    await clean(database.dsn, folder)


async def test_a_key_is_taken_at_every_moment_of_an_archive(database: OnPostgres, past: Past, folder: Path) -> None:
    for number in range(40):
        past.keyed(f"key {number}").cancel()
    await past.write()
    going = True

    async def try_keys() -> int:
        tried = 0
        while going:
            drafts = [DraftOrder(idempotency_key=f"key {number}") for number in range(40)]
            appends = [past.journal.append(draft.next(Status.PENDING)) for draft in drafts]
            outcomes = await asyncio.gather(*appends, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {DuplicateKeyError}, outcomes
            tried += 1
        return tried

    trying = asyncio.create_task(try_keys())
    [made] = (await archived(database.dsn, folder)).archives
    going = False
    assert await trying
    assert made.orders == 40


async def test_an_archived_order_cannot_be_made_again(database: OnPostgres, past: Past, folder: Path) -> None:
    order = past.order().cancel()
    await past.write()
    await archived(database.dsn, folder)
    with pytest.raises(JournalError, match="exists already"):
        await past.journal.append(DraftOrder(order.id).next(Status.PENDING))
    assert await count(database, "orders") == 0
    missing = await absent(past.journal, order.id)
    assert isinstance(missing, OrderArchivedError)
    assert missing.file in {path.name for path in folder.iterdir()}


async def test_a_journal_whose_published_head_was_archived_is_not_behind(
    database: OnPostgres, past: Past, folder: Path
) -> None:
    await past.executed(2)
    half = await past.journal.hash_at(6)
    end = await past.journal.log_head()
    assert half is not None
    await archived(database.dsn, folder)
    head = await past.journal.log_head()
    for position, published in ((6, half), (12, end.hash)):
        named = PublishedHead(head.journal_id, position, published.hex())
        assert why_behind(named, head, await past.journal.hash_at(position)) is None
    other = PublishedHead(head.journal_id, 12, half.hex())
    assert why_behind(other, head, await past.journal.hash_at(12)) is not None
    ahead = PublishedHead(head.journal_id, 13, half.hex())
    assert why_behind(ahead, head, await past.journal.hash_at(13)) is not None


TAMPERINGS = {
    "the row behind the archive": ("update bestex.events set attempt = 9 where position = 15", "row-changed", True),
    "a row that stayed": (
        "update bestex.events set sealed = sealed || '\\x00' where position = 1",
        "row-changed",
        True,
    ),
    "a hash that stayed": ("update bestex.events set hash = sha256('') where position = 2", "hash-changed", True),
    "a row that stayed, gone": ("delete from bestex.events where position = 2", "row-missing", True),
    "an order that stayed, gone": (
        "delete from bestex.events where order_id in (select order_id from bestex.events where position = 1)",
        "row-missing",
        True,
    ),
    "the checkpoint's hash": ("update bestex.checkpoints set hash = sha256('')", "row-changed", False),
    "the checkpoint, further on": ("update bestex.checkpoints set position = 15", "row-changed", False),
    "the file's digest": ("update bestex.checkpoints set digest = sha256('')", "archive-differs", True),
}


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_what_is_changed_after_an_archive_is_found(
    database: OnPostgres, past: Past, folder: Path, what: str
) -> None:
    statement, kind, by_archives = TAMPERINGS[what]
    past.order(Kind.LIMIT)
    await past.write()
    await past.executed(2)
    await archived(database.dsn, folder)
    await past.executed(1)
    await tamper(database, statement)
    alone = await verified(database.dsn)
    assert alone.clean == (what == "the file's digest")
    if not by_archives:
        return
    together = await verified(database.dsn, folder)
    assert kind in [finding.kind.value for finding in together.findings]


async def test_an_archive_that_was_changed_is_found_and_names_the_row(
    database: OnPostgres, past: Past, folder: Path
) -> None:
    await past.executed(2)
    await archived(database.dsn, folder)
    [path] = folder.iterdir()
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"attempt":1', b'"attempt":2')
    path.write_bytes(gzip.compress(b"".join(lines)))
    found = [(each.kind.value, each.position) for each in (await verified(database.dsn, folder)).findings]
    assert ("archive-differs", None) in found
    assert ("row-changed", 4) in found
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ExportError, match="cannot be read"):
        await verified(database.dsn, folder)
    path.unlink()
    with pytest.raises(ExportError, match="is not in"):
        await verified(database.dsn, folder)


async def test_a_log_that_does_not_verify_is_not_archived(database: OnPostgres, past: Past, folder: Path) -> None:
    await past.executed(2)
    await tamper(database, "update bestex.events set attempt = 9 where position = 4")
    with pytest.raises(ArchiveError, match="does not verify, and nothing was removed: event 5"):
        await archived(database.dsn, folder)
    assert await count(database, "events") == 12
    assert list(folder.iterdir()) == []


async def test_nothing_is_removed_while_the_file_is_not_there(database: OnPostgres, past: Past, folder: Path) -> None:
    await past.executed(2)
    await asyncio.to_thread(kill_at, database.dsn, folder, "orders removed")
    [path] = folder.iterdir()
    kept = path.read_bytes()
    path.write_bytes(kept[:-1])
    with pytest.raises(ArchiveError, match="bring it back first"):
        await archived(database.dsn, folder)
    assert await count(database, "events") == 12
    path.write_bytes(kept)
    [made] = (await archived(database.dsn, folder)).archives
    assert made.orders == 2


async def test_two_archives_at_once_are_refused(database: OnPostgres, folder: Path) -> None:
    connection = await connect_for_archive(database.dsn)
    try:
        with pytest.raises(JournalConfigurationError, match="another archive"):
            await archived(database.dsn, folder)
    finally:
        connection.terminate()
