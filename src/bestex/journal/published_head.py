"""The published head: the end of the log, kept outside the database, so that a journal older than the world shows.

A file of one line, rewritten in place after every commit and before anybody learns of it: so nothing that was sent
stands behind the published head. It outlives the engine and the database; against the machine's own death it is
synced once a second. Processes that share a database publish side by side, each in a file of its own: the furthest
head of them all counts.
"""

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from bestex.domain.errors import JournalConfigurationError
from bestex.domain.events import timestamp_text
from bestex.domain.log_hash import PublishedHead
from bestex.ports import Clock, LogHead

SYNC_EVERY_S: Final = 1.0
MAX_PROCESSES: Final = 1_000
"""That may publish heads of one journal in one folder."""
_LINE_BYTES: Final = 256
"""One length for all, so that a line never keeps the end of a longer one; within a disk's sector."""

_log = structlog.get_logger(__name__)


class HeadFile:
    """The file of one journal's head."""

    def __init__(self, path: Path, journal_id: str, clock: Clock, locked: int | None = None) -> None:
        """`locked`: the file, open and locked, where other processes publish beside this one: see `free_head_file`.

        An inline engine needs no lock. It would outlast the engine's place on the database: a stopped one has lost
        that and still holds on to its files.
        """
        self.path = path
        self._locked = locked
        self._journal_id = journal_id
        self._clock = clock
        self._file: int | None = None
        self._unsynced = False
        self._failing = False

    @property
    def is_open(self) -> bool:
        """Whether heads are published."""
        return self._file is not None

    def read(self) -> PublishedHead | None:
        """What was published furthest, by any process beside this one; None when nothing was.

        `JournalConfigurationError` when it makes no sense.
        """
        return furthest_head(self.path)

    def open(self) -> None:
        """From here on, publish. `JournalConfigurationError` when the file cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._locked if self._locked is not None else _opened(self.path)
        except OSError as error:
            raise JournalConfigurationError(
                f"the log's head cannot be published in {self.path}: {error}. Name another file in BESTEX_HEAD_FILE."
            ) from error

    def publish(self, position: int, row_hash: bytes) -> None:
        """Write the head down; a listener of the journal. What keeps it from being written is logged."""
        if self._file is None:
            return
        line = (
            f'{{"journalId":"{self._journal_id}","position":{position},"hash":"{row_hash.hex()}",'
            f'"publishedAt":"{timestamp_text(self._clock.now_us())}"}}'
        )
        try:
            os.pwrite(self._file, line.ljust(_LINE_BYTES - 1).encode() + b"\n", 0)
        except OSError as error:
            if not self._failing:
                _log.error("head.not_published", file=str(self.path), error=str(error))
            self._failing = True
        else:
            self._failing = False
            self._unsynced = True

    def set_aside(self, now_us: int) -> Path | None:
        """Keep what was published under other names, before another history is; this file's new name.

        Those of living processes stay: they publish the new history already. This one publishes in a new file then.
        """
        self.close()
        own: Path | None = None
        for path in {self.path, *self.path.parent.glob(f"{self._journal_id}*.json")}:
            try:
                file = _locked(path) if path.exists() else None
            except BlockingIOError:
                continue
            if file is None:
                continue
            if os.fstat(file).st_size:  # else nothing was published there, or another has set it aside just now
                aside = path.with_name(f"{path.name}.superseded-{now_us // 1_000_000}")
                path.replace(aside)
                own = aside if path == self.path else own
            os.close(file)
        return own

    async def run(self) -> None:
        """Sync regularly, until cancelled."""
        while True:
            await self._clock.sleep(SYNC_EVERY_S)
            if self._unsynced and self._file is not None:
                self._unsynced = False
                try:
                    await asyncio.to_thread(os.fsync, self._file)
                except OSError as error:
                    _log.error("head.not_synced", file=str(self.path), error=str(error))

    def close(self) -> None:
        for file in {each for each in (self._file, self._locked) if each is not None}:
            os.close(file)
        self._file = self._locked = None


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _locked(path: Path) -> int:
    """The file, open and this process's own until it closes it; `BlockingIOError` when it is another's."""
    file = _opened(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def head_path(data_dir: Path, journal_id: str) -> Path:
    """Where a journal's head is published when nothing else is said."""
    return data_dir / "heads" / f"{journal_id}.json"


def free_head_file(data_dir: Path, journal_id: str, clock: Clock) -> HeadFile:
    """A file for one of several processes that share a data folder, locked: the first that is nobody's.

    `JournalConfigurationError` when there is none, or it cannot be made.
    """
    first = head_path(data_dir, journal_id)
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, MAX_PROCESSES + 1):
            path = first.with_name(f"{journal_id}.{number}.json")
            with suppress(BlockingIOError):
                return HeadFile(path, journal_id, clock, _locked(path))
    except OSError as error:
        raise JournalConfigurationError(f"the log's head cannot be published in {first.parent}: {error}") from error
    raise JournalConfigurationError(f"{MAX_PROCESSES} processes publish heads in {first.parent} already")


def furthest_head(path: Path) -> PublishedHead | None:
    """What was published furthest in a file and in those beside it of the same journal; None when nothing was."""
    heads = [head for each in head_files(path) if (head := read_head(each)) is not None]
    return max(heads, key=lambda head: head.position, default=None)


def head_files(path: Path) -> list[Path]:
    """A file and those beside it of the same journal, in which anything was published."""
    journal_id = path.name.partition(".")[0]
    files = {path, *path.parent.glob(f"{journal_id}.json"), *path.parent.glob(f"{journal_id}.*.json")}
    return [each for each in sorted(files) if each.exists() and each.stat().st_size > 0]


def read_head(path: Path) -> PublishedHead | None:
    """The head in a file; None when there is no file. `JournalConfigurationError` when it makes no sense."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalConfigurationError(f"the published head {path} cannot be read: {error}") from error
    if not text:  # opened, and nothing published yet
        return None
    try:
        return msgspec.json.decode(text, type=PublishedHead)
    except msgspec.MsgspecError as error:
        raise JournalConfigurationError(f"the file {path} is no published head: {error}") from error


def why_behind(published: PublishedHead | None, head: LogHead, row_hash: bytes | None) -> str | None:
    """What is wrong with a journal by its published head; None when it has all that was published.

    `row_hash` is the journal's own at the published position.
    """
    if published is None or published.position == 0:
        return None
    if published.journal_id != head.journal_id:
        return f"the published head is of another journal, {published.journal_id}"
    if head.position < published.position:
        lacks = published.position - head.position
        return f"the journal ends at row {head.position}, and row {published.position} was published: it lacks {lacks}"
    if row_hash is None and published.position < head.archived_to:
        return None  # long behind, and archived since: the archive has that row
    if row_hash is None or row_hash.hex() != published.hash:
        return f"the journal's row {published.position} is not the one that was published: its history is another"
    return None
