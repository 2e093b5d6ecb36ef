"""The published head: what was published last is there after any end, and a journal that is behind it is told so."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bestex.bootstrap.inline import InlineProcess
from bestex.bootstrap.journal_process import JournalProcess
from bestex.config import Settings
from bestex.domain.errors import JournalConfigurationError
from bestex.domain.log_hash import PublishedHead
from bestex.domain.tokens import load_tokens
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.journal.published_head import HeadFile, free_head_file, head_path, read_head, why_behind
from bestex.ports import EngineMode, LogHead
from tests.support.clock import FakeClock

JOURNAL = "3f0e9b1c-0000-4000-8000-000000000001"
ROW = bytes(range(32))


@pytest.fixture(name="file")
def file_fixture(tmp_path: Path) -> HeadFile:
    file = HeadFile(head_path(tmp_path, JOURNAL), JOURNAL, FakeClock())
    file.open()
    return file


def test_what_was_published_last_is_read_back_without_closing(file: HeadFile) -> None:
    file.publish(123_456_789, ROW)
    file.publish(7, ROW[::-1])
    head = read_head(file.path)
    assert head is not None
    assert (head.journal_id, head.position, head.hash) == (JOURNAL, 7, ROW[::-1].hex())


def test_nothing_is_read_before_anything_was_published(file: HeadFile, tmp_path: Path) -> None:
    assert file.read() is None
    assert read_head(tmp_path / "none.json") is None


def test_an_opened_file_keeps_what_was_published_before(file: HeadFile) -> None:
    file.publish(7, ROW)
    file.close()
    again = HeadFile(file.path, JOURNAL, FakeClock())
    again.open()
    head = again.read()
    assert head is not None
    assert head.position == 7


def test_a_superseded_head_is_kept_beside_the_new_one(file: HeadFile) -> None:
    file.publish(48, ROW)
    aside = file.set_aside(1_795_000_000_000_000)
    file.open()
    file.publish(38, ROW)
    assert aside is not None
    old, new = read_head(aside), read_head(file.path)
    assert old is not None
    assert new is not None
    assert (old.position, new.position) == (48, 38)


def test_a_file_that_is_no_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    path.write_text("not a head")
    with pytest.raises(JournalConfigurationError, match=r"head\.json is no published head"):
        read_head(path)


def test_a_place_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = HeadFile(tmp_path / "file" / "head.json", JOURNAL, FakeClock())
    with pytest.raises(JournalConfigurationError, match="BESTEX_HEAD_FILE"):
        file.open()


def published(position: int, row: bytes = ROW, journal: str = JOURNAL) -> PublishedHead:
    return PublishedHead(journal, position, row.hex())


@pytest.mark.parametrize(
    ("head", "row", "told"),
    [
        (None, None, None),
        (published(0), None, None),
        (published(10), ROW, None),
        (published(20), ROW, None),
        (published(21), None, "it lacks 1"),
        (published(10), ROW[::-1], "is not the one that was published"),
        (published(10, journal="another"), ROW, "another journal"),
    ],
    ids=str,
)
def test_a_journal_is_behind_when_it_lacks_what_was_published(
    head: PublishedHead | None, row: bytes | None, told: str | None
) -> None:
    why = why_behind(head, LogHead(JOURNAL, 20, ROW), row)
    assert (why is None) if told is None else (why is not None and told in why)


@pytest.mark.parametrize("was_behind", [True, False])
async def test_a_reconciliation_supersedes_the_head_only_of_a_journal_that_was_behind(
    tmp_path: Path, *, was_behind: bool
) -> None:
    database = MemoryDatabase(JOURNAL)
    journal = MemoryJournal(database, "an engine", FakeClock())
    file = HeadFile(head_path(tmp_path, JOURNAL), JOURNAL, FakeClock())
    if was_behind:
        file.open()
        file.publish(48, ROW)
    settings = Settings(data_dir=tmp_path)  # type: ignore[call-arg] # the others have defaults
    process = InlineProcess(settings, load_tokens(), {})
    async with AsyncExitStack() as exits:
        assert (await process._publish_head(journal, exits) is not None) is was_behind  # type: ignore[arg-type]
        process._head_file.publish(7, ROW)  # the journal commits while its head is read
        await process._publish_anew(journal, exits)  # type: ignore[arg-type]
        head = file.read()
        assert head is not None
        assert head.position == (0 if was_behind else 7)
        assert len(list(file.path.parent.iterdir())) == (2 if was_behind else 1)


class Part(JournalProcess):
    mode = EngineMode.WORKER


async def test_once_one_of_many_has_reconciled_no_old_head_halts_those_that_start(tmp_path: Path) -> None:
    journal = MemoryJournal(MemoryDatabase(JOURNAL), "an engine", FakeClock())
    files = [free_head_file(tmp_path, JOURNAL, FakeClock()) for _ in range(2)]
    for file in files:
        file.open()
        file.publish(48, ROW)
    for file in files:
        file.close()
    settings = Settings(data_dir=tmp_path)  # type: ignore[call-arg] # the others have defaults
    first, second, later = (Part(settings, load_tokens()) for _ in range(3))
    async with AsyncExitStack() as exits:
        for behind in (first, second):
            assert await behind._publish_head(journal, exits) is not None  # type: ignore[arg-type]
        await first._publish_anew(journal, exits)  # type: ignore[arg-type]
        assert await later._publish_head(journal, exits) is None  # type: ignore[arg-type]
        await second._publish_anew(journal, exits)  # type: ignore[arg-type]
        assert len({each._head_file.path for each in (first, second, later)}) == 3
        assert all(each._head_file.is_open for each in (first, second, later))
    kept = [path for path in (tmp_path / "heads").iterdir() if "superseded" in path.name]
    assert sorted(path.stat().st_size > 0 for path in kept) == [True, True]


def test_processes_that_share_a_folder_publish_in_files_of_their_own_and_the_furthest_counts(tmp_path: Path) -> None:
    files = [free_head_file(tmp_path, JOURNAL, FakeClock()) for _ in range(3)]
    for file, position in zip(files, (7, 48, 3), strict=True):
        file.open()
        file.publish(position, ROW)
    assert len({file.path for file in files}) == 3
    head = HeadFile(head_path(tmp_path, JOURNAL), JOURNAL, FakeClock()).read()
    assert head is not None
    assert head.position == 48

    files[1].close()  # its process ended: the next one publishes there
    next_one = free_head_file(tmp_path, JOURNAL, FakeClock())
    assert next_one.path == files[1].path
    for file in (files[0], files[2], next_one):
        file.close()


def test_what_dead_processes_published_is_set_aside_and_what_is_empty_is_not(tmp_path: Path) -> None:
    dead, living, own = (free_head_file(tmp_path, JOURNAL, FakeClock()) for _ in range(3))
    for file in (dead, living):
        file.open()
        file.publish(48, ROW)
    dead.close()
    own.set_aside(1_000_000)
    assert own.read() is not None  # the living one's
    living.close()
    names = sorted(path.name for path in own.path.parent.iterdir() if "superseded" in path.name)
    assert names == [f"{JOURNAL}.1.json.superseded-1"]
