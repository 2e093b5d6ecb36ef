"""A log whose beginning was archived, made of a trading day in memory as the journal would have left it."""

from collections.abc import AsyncIterator, Sequence

from bestex.audit.archives import KeptRows
from bestex.audit.audit import audit
from bestex.audit.evidence import Checkpoint, Evidence, JournalHead, LogRow, OrderImage
from bestex.audit.export.read import read_export
from bestex.audit.export.write import write_export
from bestex.audit.findings import Report
from bestex.audit.joined import joined
from bestex.domain.log_hash import PublishedHead
from tests.support.trading_day import Records


class Part:
    """`JournalEvidence` of some rows and orders."""

    def __init__(self, head: JournalHead, rows: Sequence[LogRow], images: Sequence[OrderImage]) -> None:
        self.last = head
        self.rows = list(rows)
        self.images = list(images)

    async def head(self) -> JournalHead:
        return self.last

    async def log(self) -> AsyncIterator[Sequence[LogRow]]:
        for start in range(0, len(self.rows), 5):  # batches end anywhere
            yield self.rows[start : start + 5]

    async def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        yield self.images


class CutLog:
    """What is left of a log, and its archives."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.here = Part(records.last, records.rows, records.images)
        self.files: list[list[bytes]] = []  # the lines of each archive
        self.checkpoint: Checkpoint | None = None
        self.left: list[str] = []

    async def archive(self, position: int) -> None:
        """Archive up to a position: orders leave that are settled and have no event behind it."""
        before, here = self.checkpoint, self.here
        begin = before.position if before is not None else 0
        last = {row.order_id: row.position for row in here.rows}
        leaving = {each.order_id for each in here.images if each.settled and last[each.order_id] <= position}
        told = leaving | {row.order_id for row in here.rows if begin < row.position <= position}
        head = JournalHead(here.last.journal_id, position, self.records.rows[position - 1].hash)
        rows = [row for row in here.rows if row.position <= position and row.order_id in told]
        part = Part(head, rows, [each for each in here.images if each.order_id in leaving])
        lines = bytearray()
        await write_export(Evidence(part, checkpoint=before, is_archive=True), lines.extend, "2026-11-25T00:00:00Z")
        self.files.append(bytes(lines).splitlines(keepends=True))

        here.rows = [row for row in here.rows if row.order_id not in leaving]
        here.images = [each for each in here.images if each.order_id not in leaving]
        self.left += leaving
        number = len(self.files)
        checkpoint = Checkpoint(number, position, head.hash, 0, f"file {number}", len(lines), bytes(32))
        kept = KeptRows(checkpoint)
        kept.feed(here.rows)
        self.checkpoint = Checkpoint(
            number, position, head.hash, 0, f"file {number}", len(lines), bytes(32), kept.rows, kept.hash
        )

    def row(self, position: int) -> int:
        """Where a row stands among those that are left."""
        return [row.position for row in self.here.rows].index(position)

    def evidence(self) -> Evidence:
        async def archived() -> AsyncIterator[Sequence[str]]:
            yield self.left

        return Evidence(self.here, self.records, checkpoint=self.checkpoint, archived=archived)

    async def audit(self, published: PublishedHead | None = None) -> Report:
        return await audit(self.evidence(), published)

    async def audit_joined(self, published: PublishedHead | None = None) -> Report:
        return await audit(joined(self.evidence(), [_Opened(lines) for lines in self.files]), published)

    async def audit_file(self, number: int) -> Report:
        return await audit(read_export(self.files[number - 1]))

    async def audit_export(self) -> Report:
        """Of what is left, written to a file and read again."""
        lines = bytearray()
        await write_export(self.evidence(), lines.extend, "2026-11-25T00:00:00Z")
        return await audit(read_export(bytes(lines).splitlines(keepends=True)))


class _Opened:
    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def __call__(self, without_log: bool) -> Evidence:
        return read_export(line for line in self._lines if not (without_log and line.startswith(b'{"type":"log"')))
