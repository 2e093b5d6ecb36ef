"""An export: journal and ledger as JSON Lines, written and read again. `docs/how-to/verify-and-export.md` is its
reference.

The lines, each an object with a `type`: one `header`; every `log` row by position; every `transaction`, `adjustment`
and `balance`, where there is a ledger; every `order`; one `end` that counts them, so that a cut file is noticed.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from bestex.audit.audit import Progress, ProgressListener
from bestex.audit.evidence import (
    UNREADABLE,
    Counts,
    Evidence,
    JournalHead,
    LedgerAdjustment,
    LedgerBalance,
    LedgerTransaction,
    LogRow,
    OrderImage,
)

FORMAT: Final = 1
"""The version of the format that this release writes and reads."""

BATCH_LINES: Final = 1_000


class ExportError(Exception):
    """The file is no whole export; the message names the line."""


class _Line(msgspec.Struct, frozen=True, rename="camel", tag_field="type", gc=False):
    """Any line."""


class _Header(_Line, frozen=True, tag="header"):
    format: int
    journal_id: str
    head_position: int
    head_hash: str  # hexadecimal
    exported_at: str  # RFC 3339
    ledger: bool  # whether the lines of a ledger follow


class _Log(_Line, frozen=True, tag="log"):
    position: int
    order_id: str
    seq: int
    status: str
    attempt: int
    at_us: int
    detail: str  # the stored bytes, as text
    sealed: bytes  # base64
    hash: str  # hexadecimal


class _Transaction(_Line, frozen=True, tag="transaction"):
    signature: str
    slot: int
    order_id: str
    attempt: int
    venue: str
    mint_in: str
    mint_out: str
    amount_in: str  # base units; text, because JSON readers lose digits of large numbers
    amount_out: str
    network_fee: str  # lamports
    error: str | None


class _Adjustment(_Line, frozen=True, tag="adjustment"):
    number: int
    mint: str
    units: str
    reason: str


class _Balance(_Line, frozen=True, tag="balance"):
    mint: str
    units: str


class _Order(_Line, frozen=True, tag="order"):
    order_id: str
    kind: str
    pair: str
    client_order_id: str | None
    status: str
    seq: int
    attempt: int
    unfilled: str | None
    settled: bool
    view: str  # the stored bytes, as text


class _End(_Line, frozen=True, tag="end"):
    log: int
    transactions: int
    adjustments: int
    balances: int
    orders: int


_AnyLine = _Header | _Log | _Transaction | _Adjustment | _Balance | _Order | _End
_SECTIONS: Final = (_Header, _Log, _Transaction, _Adjustment, _Balance, _Order, _End)
_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[_AnyLine]] = msgspec.json.Decoder(_AnyLine)
L = TypeVar("L", bound=_Line)
R = TypeVar("R")


# --- Writing -------------------------------------------------------------------------------------------------


async def write_export(
    evidence: Evidence,
    write: Callable[[bytes], object],
    exported_at: str,
    on_progress: ProgressListener = lambda _: None,
) -> Counts:
    """Write all of `evidence`, some lines at a time; `exported_at` is RFC 3339. How many lines of each kind."""
    head = await evidence.journal.head()
    counts = Counts()
    ledger = evidence.ledger
    write(
        _lines(
            [_Header(FORMAT, head.journal_id, head.position, head.hash.hex(), exported_at, ledger=ledger is not None)]
        )
    )
    async for rows in evidence.journal.log():
        write(_lines(map(_log_line, rows)))
        counts.log += len(rows)
        on_progress(Progress("events", counts.log, head.position))
    if ledger is not None:
        async for transactions in ledger.transactions():
            write(_lines(map(_transaction_line, transactions)))
            counts.transactions += len(transactions)
            on_progress(Progress("transactions", counts.transactions, None))
        async for adjustments in ledger.adjustments():
            write(_lines(_Adjustment(each.number, each.mint, str(each.units), each.reason) for each in adjustments))
            counts.adjustments += len(adjustments)
        async for balances in ledger.balances():
            write(_lines(_Balance(each.mint, str(each.units)) for each in balances))
            counts.balances += len(balances)
    async for images in evidence.journal.orders():
        write(_lines(map(_order_line, images)))
        counts.orders += len(images)
        on_progress(Progress("orders", counts.orders, None))
    write(_lines([_End(**msgspec.structs.asdict(counts))]))
    return counts


def _lines(lines: Iterable[_Line]) -> bytes:
    return _encoder.encode_lines(lines)


def _log_line(row: LogRow) -> _Log:
    return _Log(
        row.position,
        row.order_id,
        row.seq,
        row.status,
        row.attempt,
        row.at_us,
        row.detail.decode(),
        row.sealed,
        row.hash.hex(),
    )


def _transaction_line(transaction: LedgerTransaction) -> _Transaction:
    return _Transaction(
        transaction.signature,
        transaction.slot,
        transaction.order_id,
        transaction.attempt,
        transaction.venue,
        transaction.mint_in,
        transaction.mint_out,
        str(transaction.amount_in),
        str(transaction.amount_out),
        str(transaction.network_fee),
        transaction.error,
    )


def _order_line(image: OrderImage) -> _Order:
    return _Order(
        image.order_id,
        image.kind,
        image.pair,
        image.client_order_id,
        image.status,
        image.seq,
        image.attempt,
        image.unfilled,
        image.settled,
        image.view.decode(),
    )


# --- Reading -------------------------------------------------------------------------------------------------


def read_export(lines: Iterable[bytes]) -> Evidence:
    """The evidence in an export's lines, read as the audit goes on. Raises `ExportError`, also while it is read."""
    reader = _Reader(lines)
    header = reader.header()
    return Evidence(
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
        self._next: _AnyLine | None = None  # read, and not taken yet

    def header(self) -> _Header:
        first = self._peek()
        if not isinstance(first, _Header):
            raise ExportError("line 1 is not the header of an export")
        if first.format != FORMAT:
            raise ExportError(f"line 1: the export's format is {first.format}; this release reads {FORMAT}")
        self._next = None
        return first

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
        if not isinstance(end, _End):
            raise ExportError(f"line {self._number} is {_article(end)}, which has no place there")
        extra = next(self._lines, b"")
        if extra.strip():
            raise ExportError(f"line {self._number + 1} stands behind the export's end")
        return Counts(end.log, end.transactions, end.adjustments, end.balances, end.orders)

    def _peek(self) -> _AnyLine:
        if self._next is None:
            self._next = self._read()
        return self._next

    def _read(self) -> _AnyLine:
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
        section = _SECTIONS.index(type(line))
        if section < self._section:
            raise ExportError(f"line {self._number} is {_article(line)}, which has no place there")
        self._section = section
        return line


class _ExportedJournal:
    """`JournalEvidence` of an export."""

    def __init__(self, header: _Header, reader: _Reader) -> None:
        self._header = header
        self._reader = reader

    async def head(self) -> JournalHead:
        header = self._header
        try:
            return JournalHead(header.journal_id, header.head_position, bytes.fromhex(header.head_hash))
        except ValueError as error:
            raise ExportError(f"line 1: headHash is no hash: {error}") from error

    def log(self) -> AsyncIterator[Sequence[LogRow]]:
        return _Batches(self._reader.section(_Log, _log_row))

    def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        return _Batches(self._reader.section(_Order, _order_image))


class _ExportedLedger:
    """`LedgerEvidence` of an export."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def transactions(self) -> AsyncIterator[Sequence[LedgerTransaction]]:
        return _Batches(self._reader.section(_Transaction, _ledger_transaction))

    def adjustments(self) -> AsyncIterator[Sequence[LedgerAdjustment]]:
        return _Batches(
            self._reader.section(
                _Adjustment, lambda line: LedgerAdjustment(line.number, line.mint, int(line.units), line.reason)
            )
        )

    def balances(self) -> AsyncIterator[Sequence[LedgerBalance]]:
        return _Batches(self._reader.section(_Balance, lambda line: LedgerBalance(line.mint, int(line.units))))


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


def _log_row(line: _Log) -> LogRow:
    return LogRow(
        line.position,
        line.order_id,
        line.seq,
        line.status,
        line.attempt,
        line.at_us,
        line.detail.encode(),
        line.sealed,
        bytes.fromhex(line.hash),
    )


def _ledger_transaction(line: _Transaction) -> LedgerTransaction:
    return LedgerTransaction(
        line.signature,
        line.slot,
        line.order_id,
        line.attempt,
        line.venue,
        line.mint_in,
        line.mint_out,
        int(line.amount_in),
        int(line.amount_out),
        int(line.network_fee),
        line.error,
    )


def _order_image(line: _Order) -> OrderImage:
    return OrderImage(
        line.order_id,
        line.kind,
        line.pair,
        line.client_order_id,
        line.status,
        line.seq,
        line.attempt,
        line.unfilled,
        line.settled,
        line.view.encode(),
    )


def _article(line: _Line) -> str:
    name = type(line).__struct_config__.tag
    return f"{'an' if str(name)[0] in 'aeo' else 'a'} {name} line"
