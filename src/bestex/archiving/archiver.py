"""The archive, step by step. It may be killed between any two: the next run goes on where this one was.

1. The log behind the last checkpoint, up to a position, is written to a file beside its name, synced, and read back as
   `bestex verify` would. Then it gets its name. A file under its name is whole.
2. The checkpoint is recorded: position, hash, the file's name and digest.
3. The orders that leave are listed with their keys, and then removed, each with all its events, some at a time.
4. What has stayed is written down. A checkpoint without that is taken up again at 3.

A file that has no checkpoint yet, because the run ended in between, is checked and recorded instead of written anew.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from bestex.archiving.files import (
    archive_name,
    archives_from,
    digest_of,
    read_archive,
    remove_unfinished,
    sync_file,
    whole_archive,
)
from bestex.audit.audit import Progress, ProgressListener, audit
from bestex.audit.evidence import Checkpoint
from bestex.audit.export.write import write_export
from bestex.domain.events import timestamp_text
from bestex.journal.archive import Leaving, PostgresArchive
from bestex.ports import Clock

ARCHIVE_ROWS_MAX: Final = 500_000
"""Rows of the log behind the archive before that one archive has; writing and checking so many takes some 500 MB."""

BUSY_SHARE: Final = 0.5
"""Of the time in which orders are removed, how much the database works on it: the rest is for those who trade."""


class ArchiveError(Exception):
    """Nothing more can be archived; the message says why. What was archived before stays so."""


class Archived(msgspec.Struct, frozen=True, rename="camel"):
    """An archive that was made, and what left with it."""

    number: int
    file: str
    bytes_: int = msgspec.field(name="bytes")
    position: int
    last_row_at: str  # RFC 3339
    orders: int
    events: int
    kept_events: int  # of orders that stay, up to the position


class Outcome(msgspec.Struct, frozen=True, rename="camel"):
    """What a run did."""

    archives: list[Archived]
    forgotten: int  # orders whose keys were forgotten


class Plan(msgspec.Struct, frozen=True, rename="camel"):
    """What a run would do."""

    after: int  # the position up to which the log is archived already
    position: int  # up to which it would be
    leaving: Leaving


class Archiver:
    """One database, one folder."""

    def __init__(
        self,
        store: PostgresArchive,
        folder: Path,
        clock: Clock,
        on_progress: ProgressListener,
        rows_max: int = ARCHIVE_ROWS_MAX,
    ) -> None:
        """`on_progress` is told of each step before it is taken."""
        self._store = store
        self._folder = folder
        self._clock = clock
        self._on_progress = on_progress
        self._rows_max = rows_max

    async def plan(self, before_us: int) -> Plan:
        """What `run` would archive, at most."""
        last = await self._store.last()
        after = last.position if last is not None else 0
        to = await self._store.end_of(after, await self._store.head(), before_us)
        return Plan(after, to, await self._store.leaving(to))

    async def run(self, before_us: int, keys_kept_for: timedelta | None = None) -> Outcome:
        """Archive all that is older than a time, Unix microseconds, in as many archives as that takes.

        With `keys_kept_for`, forget the orders of archives that are older. Raises `ArchiveError`, `ExportError`,
        `OSError`, and what the database raises.
        """
        archives = []
        head = await self._store.head()  # what is appended meanwhile is another run's
        last = await self._store.last()
        if last is not None and last.kept_hash is None:
            archives.append(await self._remove(last))
        while (checkpoint := await self._next(head, before_us)) is not None:
            archives.append(await self._remove(checkpoint))
        forgotten = await self._store.forget(keys_kept_for) if keys_kept_for is not None else 0
        return Outcome(archives, forgotten)

    async def _next(self, head: int, before_us: int) -> Checkpoint | None:
        """Have the next file, up to `head` at most, and record it. None: there is nothing more."""
        before = await self._store.last()
        after = before.position if before is not None else 0
        to = await self._store.end_of(after, min(head, after + self._rows_max), before_us)
        journal_id = await self._store.journal_id()
        found = archives_from(self._folder, journal_id, after + 1)
        remove_unfinished(self._folder, journal_id)
        if found:
            path = found[0]
            checkpoint = await self._found(path, before, to)
        elif to > after:
            path = self._folder / archive_name(journal_id, after + 1, to)
            checkpoint = await self._written(path, before, to)
        else:
            return None
        self._on_progress(Progress("archives recorded", 0, 1))
        await self._store.record(checkpoint)
        return checkpoint

    async def _found(self, path: Path, before: Checkpoint | None, to: int) -> Checkpoint:
        """A file that an earlier run has left without a checkpoint."""
        position = (await read_archive(path).journal.head()).position
        if position > to:
            raise ArchiveError(
                f"{path} goes to position {position}, and what is old enough ends at {to}: move the file away, or"
                " archive up to a later time"
            )
        head = await self._store.head_at(position)
        evidence = read_archive(path)
        theirs = await evidence.journal.head()
        if (theirs, _identity(evidence.checkpoint)) != (head, _identity(before)):
            raise ArchiveError(f"{path} is not of this log: move it away")
        await self._check(path)
        sync_file(path)
        return self._checkpoint(path, before, position, head.hash, await self._store.at_us(position))

    async def _written(self, path: Path, before: Checkpoint | None, to: int) -> Checkpoint:
        now = timestamp_text(self._clock.now_us())
        async with self._store.stretch(before, to) as evidence:
            head = await evidence.journal.head()
            self._on_progress(Progress("events written", 0, to))
            with whole_archive(path) as file:
                await write_export(evidence, file.write, now, self._as("written"))
                file.close()
                self._on_progress(Progress("events checked", 0, to))
                await self._check(file.path)
                self._on_progress(Progress("archives named", 0, 1))
        return self._checkpoint(path, before, to, head.hash, await self._store.at_us(to))

    async def _check(self, path: Path) -> None:
        """Read a file as `bestex verify` does; `ArchiveError` when it is not as it should be."""
        report = await audit(read_archive(path), None, self._as("checked"))
        if not report.clean:
            raise ArchiveError(
                f"this log does not verify, and nothing was removed: {report.findings[0].message}. Run `bestex verify`."
            )

    def _checkpoint(
        self, path: Path, before: Checkpoint | None, position: int, row_hash: bytes, at_us: int
    ) -> Checkpoint:
        number = before.number + 1 if before is not None else 1
        return Checkpoint(number, position, row_hash, at_us, path.name, path.stat().st_size, digest_of(path))

    async def _remove(self, checkpoint: Checkpoint) -> Archived:
        path = self._folder / checkpoint.file
        if not path.is_file() or digest_of(path) != checkpoint.digest:
            raise ArchiveError(
                f"archive {checkpoint.number} is to be removed from the database, but {path} is not there or not the"
                " file that was recorded: bring it back first"
            )
        of = (await self._store.leaving(checkpoint.position)).orders
        done = 0
        self._on_progress(Progress("orders removed", done, of))
        began = self._clock.monotonic()
        async for removed in self._store.remove(checkpoint):
            done += removed.orders
            self._on_progress(Progress("orders removed", done, of))
            await self._clock.sleep((self._clock.monotonic() - began) * (1 / BUSY_SHARE - 1))
            began = self._clock.monotonic()
        self._on_progress(Progress("archives finished", 0, 1))
        kept = await self._store.finish(checkpoint)
        left = await self._store.removed(checkpoint.number)
        return Archived(
            number=checkpoint.number,
            file=checkpoint.file,
            bytes_=checkpoint.size,
            position=checkpoint.position,
            last_row_at=timestamp_text(checkpoint.at_us),
            orders=left.orders,
            events=left.events,
            kept_events=kept,
        )

    def _as(self, done: str) -> Callable[[Progress], None]:
        return lambda progress: self._on_progress(Progress(f"{progress.what} {done}", progress.done, progress.of))


def _identity(checkpoint: Checkpoint | None) -> tuple[int, int, bytes, bytes] | None:
    if checkpoint is None:
        return None
    return checkpoint.number, checkpoint.position, checkpoint.hash, checkpoint.digest
