"""What an audit checks of a log whose beginning was archived: the rows that stayed, and the archives themselves."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from bestex.audit.chain import hash_at
from bestex.audit.evidence import Checkpoint, Counts, Evidence, LogRow
from bestex.audit.findings import Check, Findings, Kind
from bestex.domain.log_hash import GENESIS, row_hash


class KeptRows:
    """The rows up to a checkpoint that stayed, as their orders did: a chain of their own, over their hashes too."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        self.begin = checkpoint.position if checkpoint is not None else 0  # of the log behind them
        self.hash = checkpoint.hash if checkpoint is not None else GENESIS
        self.rows = 0

    def feed(self, rows: Sequence[LogRow]) -> Sequence[LogRow]:
        """Take those that are such; the others are given back."""
        if not self.begin or not rows or rows[0].position > self.begin:
            return rows
        kept = [row for row in rows if row.position <= self.begin]
        for row in kept:
            self.hash = row_hash(hash_at(self.hash, row.position, row), row.hash)
        self.rows += len(kept)
        return [row for row in rows if row.position > self.begin]


class ArchivedIds:
    """Which orders were archived. Memory: some 120 bytes of each."""

    def __init__(self, forgotten_to: str | None) -> None:
        self._ids: set[bytes] = set()
        self._forgotten_to = forgotten_to or ""

    def add(self, ids: Iterable[str]) -> None:
        self._ids.update(UUID(order_id).bytes for order_id in ids)

    def may_have(self, order_id: str) -> bool:
        """Whether it was archived, or may have been: of those forgotten only the last is known, and ids are by time."""
        return order_id <= self._forgotten_to or _bytes(order_id) in self._ids


def _bytes(order_id: str) -> bytes | None:
    try:
        return UUID(order_id).bytes
    except ValueError:  # of a memo that is none of ours
        return None


async def archived_ids(evidence: Evidence, counts: Counts) -> ArchivedIds:
    """Read which orders were archived."""
    checkpoint = evidence.checkpoint
    archived = ArchivedIds(checkpoint.forgotten_to if checkpoint is not None else None)
    if evidence.archived is not None:
        async for ids in evidence.archived():
            archived.add(ids)
            counts.archived += len(ids)
    return archived


def check_archives(findings: Findings, evidence: Evidence, kept: KeptRows) -> None:
    """Judge the archives and what stayed, once the log has been read."""
    for what in evidence.differing:
        findings.add(Kind.ARCHIVE_DIFFERS, what)
    if (checkpoint := evidence.checkpoint) is None:
        findings.checked[Check.CHECKPOINT] = evidence.archives
        if not evidence.archives:
            findings.skip(Check.CHECKPOINT, "nothing was archived")
        return
    findings.checked[Check.CHECKPOINT] = 1 + kept.rows
    if evidence.is_archive:
        return  # of the rows before its own it carries some
    if checkpoint.kept_hash is None:
        findings.skip(Check.CHECKPOINT, f"rows up to position {checkpoint.position} are being removed")
    elif (kept.rows, kept.hash) != (checkpoint.kept_rows, checkpoint.kept_hash):
        findings.add(
            Kind.KEPT_ROWS_DIFFER,
            f"the {kept.rows} rows up to position {checkpoint.position}, where the log was archived, are not the"
            f" {checkpoint.kept_rows} that stayed: --archives tells which",
            position=checkpoint.position,
        )
