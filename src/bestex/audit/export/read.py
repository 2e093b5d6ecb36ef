"""Read an export as evidence. A file that is not whole says where it is not."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from bestex.audit.evidence import (
    UNREADABLE,
    Checkpoint,
    Counts,
    Evidence,
    JournalHead,
    LedgerAdjustment,
    LedgerBalance,
    LedgerTransaction,
    LogRow,
    OrderImage,
)
from bestex.audit.export.lines import (
    READABLE,
    SECTIONS,
    AdjustmentLine,
    AnyLine,
    ArchivedLine,
    BalanceLine,
    CheckpointLine,
    End,
    Header,
    Line,
    LogLine,
    OrderLine,
    TransactionLine,
    checkpoint_of,
    ledger_adjustment,
    ledger_balance,
    ledger_transaction,
    log_row,
    order_image,
)

BATCH_LINES: Final = 1_000

_decoder: Final[msgspec.json.Decoder[AnyLine]] = msgspec.json.Decoder(AnyLine)
L = TypeVar("L", bound=Line)
R = TypeVar("R")


class ExportError(Exception):
    """The file is no whole export; the message names the line."""


def read_export(lines: Iterable[bytes]) -> Evidence:
    """The evidence in an export's lines, read as the audit goes on. Raises `ExportError`, also while it is read."""
    reader = _Reader(lines)
    header = reader.header()
    checkpoint = reader.checkpoint()
    return Evidence(
        checkpoint=checkpoint,
        archived=lambda: _Batches(reader.section(ArchivedLine, _order_id)),
        is_archive=header.archive,
        journal=_ExportedJournal(header, reader),
        ledger=_ExportedLedger(reader) if header.ledger else None,
        stated=reader.end,
    )


class _Reader:
    """The lines in their order: once a section's next one has begun, none of its lines may come."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._number = 0
        self._section = 0
        self._next: AnyLine | None = None  # read, and not taken yet

    def header(self) -> Header:
        first = self._peek()
        if not isinstance(first, Header):
            raise ExportError("line 1 is not the header of an export")
        if first.format not in READABLE:
            raise ExportError(f"line 1: the export's format is {first.format}; this release reads {READABLE[-1]}")
        self._next = None
        return first

    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint behind the header, where there is one."""
        for [checkpoint] in self.section(CheckpointLine, checkpoint_of):
            return checkpoint
        return None

    def section(self, kind: type[L], convert: Callable[[L], R]) -> Iterator[list[R]]:
        """The lines of one kind that stand next, in batches."""
        batch: list[R] = []
        while isinstance(line := self._peek(), kind):
            self._next = None
            try:
                batch.append(convert(line))
            except ValueError as error:
                raise ExportError(f"line {self._number}: {error}") from error
            if len(batch) >= BATCH_LINES:
                yield batch
                batch = []
        if batch:
            yield batch

    def end(self) -> Counts:
        end = self._peek()
        if not isinstance(end, End):
            raise ExportError(f"line {self._number} is {_article(end)}, which has no place there")
        extra = next(self._lines, b"")
        if extra.strip():
            raise ExportError(f"line {self._number + 1} stands behind the export's end")
        return Counts(end.log, end.transactions, end.adjustments, end.balances, end.orders, end.archived)

    def _peek(self) -> AnyLine:
        if self._next is None:
            self._next = self._read()
        return self._next

    def _read(self) -> AnyLine:
        raw = next(self._lines, None)
        if raw is None:
            if self._number == 0:
                raise ExportError("the file is empty: it is no export")
            raise ExportError(f"the file was cut: it has no end behind line {self._number}")
        self._number += 1
        try:
            line = _decoder.decode(raw)
        except UNREADABLE as error:
            cut = "" if raw.endswith(b"\n") else "; the file was cut, or is no export"
            raise ExportError(f"line {self._number} cannot be read: {error}{cut}") from error
        section = SECTIONS.index(type(line))
        if section < self._section:
            raise ExportError(f"line {self._number} is {_article(line)}, which has no place there")
        self._section = section
        return line


class _ExportedJournal:
    """`JournalEvidence` of an export."""

    def __init__(self, header: Header, reader: _Reader) -> None:
        self._header = header
        self._reader = reader

    async def head(self) -> JournalHead:
        header = self._header
        try:
            return JournalHead(header.journal_id, header.head_position, bytes.fromhex(header.head_hash))
        except ValueError as error:
            raise ExportError(f"line 1: headHash is no hash: {error}") from error

    def log(self) -> AsyncIterator[Sequence[LogRow]]:
        return _Batches(self._reader.section(LogLine, log_row))

    def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        return _Batches(self._reader.section(OrderLine, order_image))


class _ExportedLedger:
    """`LedgerEvidence` of an export."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def transactions(self) -> AsyncIterator[Sequence[LedgerTransaction]]:
        return _Batches(self._reader.section(TransactionLine, ledger_transaction))

    def adjustments(self) -> AsyncIterator[Sequence[LedgerAdjustment]]:
        return _Batches(self._reader.section(AdjustmentLine, ledger_adjustment))

    def balances(self) -> AsyncIterator[Sequence[LedgerBalance]]:
        return _Batches(self._reader.section(BalanceLine, ledger_balance))


class _Batches(Generic[R]):
    """An iterator of batches that can be waited for."""

    def __init__(self, batches: Iterator[list[R]]) -> None:
        self._batches = batches

    def __aiter__(self) -> "_Batches[R]":
        return self

    async def __anext__(self) -> Sequence[R]:
        for batch in self._batches:
            return batch
        raise StopAsyncIteration


def _order_id(line: ArchivedLine) -> str:
    return line.order_id


def _article(line: Line) -> str:
    name = type(line).__struct_config__.tag
    return f"{'an' if str(name)[0] in 'aeo' else 'a'} {name} line"
