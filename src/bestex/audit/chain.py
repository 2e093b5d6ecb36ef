"""The hash chain, walked row by row: which rows were changed, removed, inserted or cut off since they were written.

A row that does not fit is judged by the rows behind it, which still carry the hashes that they were written with:

- the next one fits behind this row's stored hash: this row's content was changed;
- it fits behind the hash that this row should have: only the stored hash was changed;
- positions are missing before this row: rows were removed; what follows cannot be checked against them, and its
  stored hash is taken as it is;
- a later one fits in this row's place: the rows before that one were inserted, whether or not those behind them
  were renumbered;
- the next one fits at a higher position: rows were removed and the later ones renumbered.

So one tampering is one finding, and the walk goes on behind it. A rewritten row with a new hash looks like a change of
the row behind it, and the finding says so. Who rewrites the whole rest of the log is found by the published head only.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from bestex.audit.evidence import Checkpoint, JournalHead, LogRow
from bestex.audit.findings import Check, Findings, Kind
from bestex.domain.log_hash import GENESIS, PublishedHead, row_bytes, row_hash

LOOKAHEAD: Final = 32
"""Rows behind one that does not fit by which it is judged: the most inserted side by side that are told apart."""

REMOVED_MAX: Final = 1_000
"""The most rows removed side by side, with the later ones renumbered, that are recognised."""


class ChainCheck:
    """Walks the log once. Give it all rows in order, then `finish`."""

    def __init__(
        self,
        findings: Findings,
        head: JournalHead,
        published: PublishedHead | None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """With `checkpoint` the chain begins behind it; no row up to there is to be fed."""
        self._findings = findings
        self._head = head
        self._published = published if published is not None and published.journal_id == head.journal_id else None
        self._published_hash = GENESIS if self._published is not None and self._published.position == 0 else None
        self._hash = checkpoint.hash if checkpoint is not None else GENESIS  # of the last row taken
        self._begin = checkpoint.position if checkpoint is not None else 0
        self._written = self._begin  # the position that the last row taken was written with
        self._shift = 0  # how much higher it stands now: rows were inserted or removed and it was renumbered
        if self._published is not None and 0 < self._published.position <= self._begin:
            self._judge_archived_head(self._published)
        self._pending: deque[LogRow] = deque()  # behind a row that does not fit, until it can be judged
        self.rows = 0

    def _judge_archived_head(self, published: PublishedHead) -> None:
        if published.position == self._begin:
            self._published_hash = self._hash
            return
        self._findings.skip(
            Check.PUBLISHED_HEAD, f"it is at position {published.position}, which was archived: --archives reads that"
        )
        self._published = None

    def feed(self, rows: Sequence[LogRow]) -> None:
        self.rows += len(rows)
        for row in rows:
            if self._pending:
                self._pending.append(row)
                if len(self._pending) > LOOKAHEAD:
                    self._judge_pending(last=False)
            elif self._fits(row):
                self._take(row.hash, self._written + 1)
            else:
                self._pending.append(row)

    def finish(self) -> None:
        """Judge what is left, and hold the end against the heads."""
        self._judge_pending(last=True)
        self._findings.checked[Check.HASH_CHAIN] = self._findings.checked[Check.POSITIONS] = self.rows
        self._check_head()
        if self._published is not None:
            self._check_published(self._published)

    def _fits(self, row: LogRow) -> bool:
        position = self._written + 1
        return row.position == position + self._shift and hash_at(self._hash, position, row) == row.hash

    def _take(self, stored_hash: bytes, written: int) -> None:
        self._hash = stored_hash
        self._written = written
        if self._published is not None and written == self._published.position:
            self._published_hash = stored_hash

    def _judge_pending(self, *, last: bool) -> None:
        pending = self._pending
        while pending:
            if self._fits(pending[0]):
                self._take(pending.popleft().hash, self._written + 1)
            elif last or len(pending) > LOOKAHEAD:
                self._judge(pending)
            else:
                return

    def _judge(self, pending: deque[LogRow]) -> None:
        """Say what is wrong with the first of the rows, and take those that this explains."""
        if (
            self._is_renumbered(pending)
            or self._is_changed(pending)
            or self._is_behind_missing(pending)
            or self._is_inserted(pending)
            or self._is_behind_removed(pending)
        ):
            return
        row = pending.popleft()
        before = f", or the row before it was rewritten together with its hash ({row.position - 1})"
        self._changed(row, before if row.position > self._begin + 1 else "")
        self._take(row.hash, self._written + 1)

    def _is_renumbered(self, pending: deque[LogRow]) -> bool:
        row, position = pending[0], self._written + 1
        if row.position == position + self._shift or hash_at(self._hash, position, row) != row.hash:
            return False
        self._findings.add(
            Kind.ROW_CHANGED,
            f"the row at position {row.position} was written as position {position}: its number was changed",
            position=row.position,
        )
        if len(pending) > 1 and pending[1].position == row.position + 1:
            self._shift = row.position - position  # and so were those behind it
        pending.popleft()
        self._take(row.hash, position)
        return True

    def _is_changed(self, pending: deque[LogRow]) -> bool:
        row, position = pending[0], self._written + 1
        if row.position != position + self._shift:
            return False
        should_be = hash_at(self._hash, position, row)
        if len(pending) > 1:
            row_changed = hash_at(row.hash, position + 1, pending[1]) == pending[1].hash
            hash_changed = hash_at(should_be, position + 1, pending[1]) == pending[1].hash
        else:
            at_head = position == self._head.position
            row_changed, hash_changed = (at_head and self._head.hash == each for each in (row.hash, should_be))
        if row_changed:
            self._changed(row)
        elif hash_changed:
            self._findings.add(
                Kind.HASH_CHANGED,
                f"the hash stored with the row at position {row.position} was changed; the row itself was not",
                position=row.position,
                order_id=row.order_id,
            )
        else:
            return False
        pending.popleft()
        self._take(row.hash if row_changed else should_be, position)
        return True

    def _is_inserted(self, pending: deque[LogRow]) -> bool:
        position = self._written + 1
        if self._written == self._head.position and self._hash == self._head.hash:
            self._inserted(pending)  # the log has ended
            pending.clear()
            return True
        for count, row in enumerate(islice(pending, 1, None), start=1):
            if hash_at(self._hash, position, row) == row.hash:
                self._inserted(islice(pending, count))
                for _ in range(count):
                    pending.popleft()
                self._shift = row.position - position
                return True
        return False

    def _is_behind_missing(self, pending: deque[LogRow]) -> bool:
        row, first = pending[0], self._written + 1 + self._shift
        follows = len(pending) == 1 or pending[1].position > row.position
        if row.position <= first or not follows or row.position - self._shift > self._head.position:
            return False
        self._findings.add(
            Kind.ROW_MISSING,
            f"{_positions(first, row.position - 1)} missing from the log: removed. The row behind, at position"
            f" {row.position}, cannot be checked against what is gone",
            position=first,
        )
        pending.popleft()
        self._take(row.hash, row.position - self._shift)
        return True

    def _is_behind_removed(self, pending: deque[LogRow]) -> bool:
        row, position = pending[0], self._written + 1
        if row.position != position + self._shift:
            return False
        removed = 0
        if len(pending) > 1:
            behind = pending[1]
            fits = (k for k in range(1, REMOVED_MAX + 1) if hash_at(row.hash, position + 1 + k, behind) == behind.hash)
            removed = next(fits, 0)
        elif row.hash == self._head.hash:
            removed = max(0, self._head.position - position)
        if not removed:
            return False
        rows = "a row was" if removed == 1 else f"{removed} rows were"
        self._findings.add(
            Kind.ROW_REMOVED,
            f"{rows} removed before the row that stands at position {row.position}, and the later ones renumbered."
            " That row cannot be checked against what is gone",
            position=row.position,
        )
        self._shift -= removed
        pending.popleft()
        self._take(row.hash, position + removed)
        return True

    def _changed(self, row: LogRow, otherwise: str = "") -> None:
        self._findings.add(
            Kind.ROW_CHANGED,
            f"the row at position {row.position} was changed after it was written: its hash is over other"
            f" bytes{otherwise}",
            position=row.position,
            order_id=row.order_id,
        )

    def _inserted(self, rows: Iterable[LogRow]) -> None:
        for row in rows:
            self._findings.add(
                Kind.ROW_INSERTED,
                f"the row at position {row.position} was inserted: the chain of hashes leads past it",
                position=row.position,
                order_id=row.order_id,
            )

    def _check_head(self) -> None:
        findings, head = self._findings, self._head
        findings.checked[Check.HEAD] = 1
        stands = self._written + self._shift
        if max(stands, self._written) < head.position:
            findings.add(
                Kind.TAIL_CUT,
                f"the log ends at position {stands}, but its head is {head.position}:"
                f" {_positions(self._written + 1, head.position)} cut off",
                position=self._written + 1,
            )
        elif min(stands, self._written) > head.position:
            findings.add(
                Kind.BEYOND_HEAD,
                f"the log goes on to position {stands}, but its head is {head.position}: rows were inserted behind"
                " it, or the head was set back",
                position=head.position + 1,
            )
        elif self._hash != head.hash:
            findings.add(
                Kind.HEAD_DIFFERS,
                f"the log's last row has hash {self._hash.hex()}, its head has {head.hash.hex()}",
                position=head.position,
            )

    def _check_published(self, published: PublishedHead) -> None:
        findings = self._findings
        findings.checked[Check.PUBLISHED_HEAD] = 1
        at = f" at {published.published_at}" if published.published_at else ""
        if self._written < published.position:
            findings.add(
                Kind.BEHIND_PUBLISHED,
                f"position {published.position} was published{at}, but the log ends at {self._written}:"
                f" {_positions(self._written + 1, published.position)} cut off",
                position=self._written + 1,
            )
        elif self._published_hash is None:
            findings.add(
                Kind.REWRITTEN,
                f"position {published.position} was published{at} and is missing from the log",
                position=published.position,
            )
        elif self._published_hash.hex() != published.hash:
            findings.add(
                Kind.REWRITTEN,
                f"position {published.position} was published{at} with hash {published.hash}, and has"
                f" {self._published_hash.hex()} now: the log was rewritten",
                position=published.position,
            )


def hash_at(before: bytes, position: int, row: LogRow) -> bytes:
    """The hash that `row` has when it is written at `position` behind `before`."""
    return row_hash(
        before,
        row_bytes(position, row.order_id, row.seq, row.status, row.attempt, row.at_us, row.detail, row.sealed),
    )


def _positions(first: int, last: int) -> str:
    return f"position {first} is" if first == last else f"positions {first} to {last} are"
