"""What an audit reads: the rows of the journal and of the chain's ledger as they are stored, and where they come from.

Nothing here is decoded: a row that was tampered with must reach the audit as it stands.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not what they should be."""


class JournalHead(msgspec.Struct, frozen=True):
    """The end of the log as the journal itself has it."""

    journal_id: str  # which log
    position: int  # of its last row; 0 when empty
    hash: bytes  # of that row, 32 bytes


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the last archive of the log ends: rows up to there may be missing, the chain goes on behind it."""

    number: int  # of the archive: 1, 2, 3 ...
    position: int  # of the last row that it has
    hash: bytes  # of that row
    at_us: int  # that row's time, Unix microseconds
    file: str  # the archive's name
    size: int  # of the file, in bytes
    digest: bytes  # the file's SHA-256
    kept_rows: int | None = None  # rows up to the position that stay; None: some are being removed
    kept_hash: bytes | None = None  # over all of them
    forgotten_to: str | None = None  # archived orders up to this id are forgotten


class LogRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the log."""

    position: int
    order_id: str  # a UUID in lower case with hyphens
    seq: int
    status: str
    attempt: int
    at_us: int  # Unix microseconds
    detail: bytes  # JSON, to the byte as it is stored
    sealed: bytes  # empty: none
    hash: bytes


class OrderImage(msgspec.Struct, frozen=True, gc=False):
    """An order's row of the projection."""

    order_id: str
    kind: str
    pair: str
    client_order_id: str | None
    status: str
    seq: int
    attempt: int
    unfilled: str | None  # the status it ended with, when it did not execute
    settled: bool  # nothing is left to do for it
    view: bytes  # JSON; empty: none stands there, as it is while the order neither rests nor is settled
    resting: bool = False  # it is watched, and nobody executes it; an export made before there were such has none
    parent_id: str | None = None  # the order that it belongs to


class LedgerTransaction(msgspec.Struct, frozen=True, gc=False):
    """A transaction that landed, also one that failed."""

    signature: str  # base58
    slot: int
    order_id: str  # the memo
    attempt: int  # the memo
    venue: str
    mint_in: str
    mint_out: str
    amount_in: int  # base units that left the wallet
    amount_out: int  # base units that the wallet received
    network_fee: int  # lamports
    error: str | None  # None: the swap happened


class LedgerAdjustment(msgspec.Struct, frozen=True, gc=False):
    """A change of a balance that no transaction made."""

    number: int  # 1, 2, 3 ...
    mint: str
    units: int  # base units added; negative: taken
    reason: str


class LedgerBalance(msgspec.Struct, frozen=True, gc=False):
    """What the wallet holds of a mint."""

    mint: str
    units: int  # base units


class Counts(msgspec.Struct):
    """How many records of each kind."""

    log: int = 0
    transactions: int = 0
    adjustments: int = 0
    balances: int = 0
    orders: int = 0
    archived: int = 0


class LedgerEvidence(Protocol):
    """The chain's ledger, in batches. Each is read at most once, in the order given here."""

    def transactions(self) -> AsyncIterator[Sequence[LedgerTransaction]]:
        """In any order."""

    def adjustments(self) -> AsyncIterator[Sequence[LedgerAdjustment]]: ...

    def balances(self) -> AsyncIterator[Sequence[LedgerBalance]]: ...


class JournalEvidence(Protocol):
    """The journal, in batches. Each is read at most once: the log before the orders."""

    async def head(self) -> JournalHead: ...

    def log(self) -> AsyncIterator[Sequence[LogRow]]:
        """By position, or in the order in which an export has them."""

    def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        """In any order."""


class Evidence(msgspec.Struct, frozen=True):
    """All that an audit judges, as it was at one moment.

    It is read in the order head, archived, log, ledger, orders.
    """

    journal: JournalEvidence
    ledger: LedgerEvidence | None = None  # None: there is no ledger here, as on a real chain
    stated: Callable[[], Counts] | None = None  # what an export says it holds, asked when all was read
    checkpoint: Checkpoint | None = None  # the log begins behind it; None: it is all here
    archived: Callable[[], AsyncIterator[Sequence[str]]] | None = None  # ids of orders that were archived; None: none
    is_archive: bool = False  # the log up to a position: orders go on behind it, and only those that left have a row
    archives: int = 0  # so many stand before the log itself, and it is read from the first of them on
    differing: tuple[str, ...] = ()  # archives that are not the file that was recorded: what is wrong with each
