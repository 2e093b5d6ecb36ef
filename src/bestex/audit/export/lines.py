"""The lines of an export, each an object with a `type`, and what they are made from."""

from typing import Final

import msgspec

from bestex.audit.evidence import Checkpoint, LedgerAdjustment, LedgerBalance, LedgerTransaction, LogRow, OrderImage

FORMAT: Final = 2
"""The version of the format that this release writes."""

READABLE: Final = (1, 2)
"""Those that it reads. In the first nothing was archived."""


class Line(msgspec.Struct, frozen=True, rename="camel", tag_field="type", gc=False):
    """Any line."""


class Header(Line, frozen=True, tag="header"):
    format: int
    journal_id: str
    head_position: int
    head_hash: str  # hexadecimal
    exported_at: str  # RFC 3339
    ledger: bool  # whether the lines of a ledger follow
    archive: bool = False  # the log up to headPosition, and the rows of those orders alone that left with it


class CheckpointLine(Line, frozen=True, tag="checkpoint"):
    """The archive before: the log goes on behind its position; of the rows up to there some are here."""

    number: int
    position: int
    hash: str  # hexadecimal
    at_us: int
    file: str
    size: int
    digest: str  # hexadecimal
    kept_rows: int | None
    kept_hash: str | None
    forgotten_to: str | None


class ArchivedLine(Line, frozen=True, tag="archived"):
    order_id: str


class LogLine(Line, frozen=True, tag="log"):
    position: int
    order_id: str
    seq: int
    status: str
    attempt: int
    at_us: int
    detail: str  # the stored bytes, as text
    sealed: bytes  # base64
    hash: str  # hexadecimal


class TransactionLine(Line, frozen=True, tag="transaction"):
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


class AdjustmentLine(Line, frozen=True, tag="adjustment"):
    number: int
    mint: str
    units: str
    reason: str


class BalanceLine(Line, frozen=True, tag="balance"):
    mint: str
    units: str


class OrderLine(Line, frozen=True, tag="order"):
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
    resting: bool = False  # an export of an earlier release has neither of these
    parent_id: str | None = None


class End(Line, frozen=True, tag="end"):
    log: int
    transactions: int
    adjustments: int
    balances: int
    orders: int
    archived: int = 0


AnyLine = (
    Header | CheckpointLine | ArchivedLine | LogLine | TransactionLine | AdjustmentLine | BalanceLine | OrderLine | End
)
SECTIONS: Final = (
    Header,
    CheckpointLine,
    ArchivedLine,
    LogLine,
    TransactionLine,
    AdjustmentLine,
    BalanceLine,
    OrderLine,
    End,
)
"""The order in which the kinds of lines stand."""


def checkpoint_line(checkpoint: Checkpoint) -> CheckpointLine:
    return CheckpointLine(
        checkpoint.number,
        checkpoint.position,
        checkpoint.hash.hex(),
        checkpoint.at_us,
        checkpoint.file,
        checkpoint.size,
        checkpoint.digest.hex(),
        checkpoint.kept_rows,
        checkpoint.kept_hash.hex() if checkpoint.kept_hash is not None else None,
        checkpoint.forgotten_to,
    )


def checkpoint_of(line: CheckpointLine) -> Checkpoint:
    return Checkpoint(
        line.number,
        line.position,
        bytes.fromhex(line.hash),
        line.at_us,
        line.file,
        line.size,
        bytes.fromhex(line.digest),
        line.kept_rows,
        bytes.fromhex(line.kept_hash) if line.kept_hash is not None else None,
        line.forgotten_to,
    )


def log_line(row: LogRow) -> LogLine:
    return LogLine(
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


def transaction_line(transaction: LedgerTransaction) -> TransactionLine:
    return TransactionLine(
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


def order_line(image: OrderImage) -> OrderLine:
    return OrderLine(
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
        image.resting,
        image.parent_id,
    )


def adjustment_line(adjustment: LedgerAdjustment) -> AdjustmentLine:
    return AdjustmentLine(adjustment.number, adjustment.mint, str(adjustment.units), adjustment.reason)


def balance_line(balance: LedgerBalance) -> BalanceLine:
    return BalanceLine(balance.mint, str(balance.units))


def log_row(line: LogLine) -> LogRow:
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


def ledger_transaction(line: TransactionLine) -> LedgerTransaction:
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


def order_image(line: OrderLine) -> OrderImage:
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
        line.resting,
        line.parent_id,
    )


def ledger_adjustment(line: AdjustmentLine) -> LedgerAdjustment:
    return LedgerAdjustment(line.number, line.mint, int(line.units), line.reason)


def ledger_balance(line: BalanceLine) -> LedgerBalance:
    return LedgerBalance(line.mint, int(line.units))
