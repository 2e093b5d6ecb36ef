"""The simulated chain's ledger: what landed, and what the wallet and the pools hold because of it.

The chain executes in memory and writes here in batches; it shows a transaction only once its row is here. So a killed
engine loses at most what nobody was shown. `MemoryLedger` forgets with its process; `PostgresLedger` does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from bestex.venues.simulated.listing import Listing

LISTINGS_KEPT: Final = 10_000
"""Listings that are read back when a ledger is opened: those of open pools, and the newest of the others."""


class LedgerUnavailableError(Exception):
    """The ledger did not answer: the batch may be stored or not. Committing it again settles that."""


class LedgerFencedError(Exception):
    """Another process has opened this ledger since: this one may write no more."""


class LandedTransaction(msgspec.Struct, frozen=True, gc=False):
    """A transaction in a block, and all it did."""

    signature: str  # base58
    slot: int
    landed_us: int  # Unix microseconds
    order_id: str  # the memo
    attempt: int  # the memo
    venue: str
    mint_in: str
    mint_out: str
    amount_in: int  # base units that left the wallet; 0 when it failed
    amount_out: int  # base units that the wallet received; 0 when it failed
    network_fee: int  # lamports, charged in any case
    error: str | None  # a FailureCode value; None: the swap happened
    pool: str = ""  # its address
    asked_in: int = 0  # base units that the swap was to take


class Adjustment(msgspec.Struct, frozen=True):
    """A change of the wallet's balance that no transaction made: its start, a grant, a reset."""

    number: int  # 1, 2, 3 ...
    mint: str
    units: int  # base units added; negative: taken
    reason: str  # "start", "fund", "reset"
    at_us: int


class PoolState(msgspec.Struct, frozen=True):
    """`Pool.state` and `Pool.settled_us`."""

    state: tuple[int, int]
    settled_us: int


class Batch(msgspec.Struct, frozen=True):
    """What one commit changes. Balances and pools are absolute, so that committing twice changes nothing."""

    number: int  # 1, 2, 3 ... within an epoch
    slot: int  # the chain's slot
    transactions: int  # landed since genesis, this batch included
    landed: Sequence[LandedTransaction]
    undone: Sequence[str]  # signatures that a fork took away
    adjustments: Sequence[Adjustment]
    balances: Mapping[str, int]  # by mint; those that changed
    pools: Mapping[str, PoolState]  # by address; those that swaps changed
    listings: Sequence[Listing] = ()  # those that are new or have changed
    shifts: Mapping[str, float] = {}  # by mint: by how much the log price was moved in all; those that changed


class Genesis(msgspec.Struct, frozen=True):
    """What makes a chain this chain. Stored when the ledger is new, read back ever after."""

    genesis_us: int  # when it began, Unix microseconds
    wallet_key: bytes  # 32 bytes, from entropy


class Anchor(msgspec.Struct, frozen=True):
    """From when on slots have which length."""

    at_us: int
    slot: int
    slot_us: int


class Stored(msgspec.Struct, frozen=True):
    """A ledger as it was found."""

    epoch: int  # how often it has been opened; a writer of an earlier epoch is fenced
    genesis: Genesis
    anchor: Anchor
    slot: int  # the highest slot that a commit has named
    transactions: int
    adjustments: int  # the number of the last one
    balances: dict[str, int]
    pools: dict[str, PoolState]
    listings: Sequence[Listing] = ()  # at most `LISTINGS_KEPT`, by time
    shifts: dict[str, float] = {}  # by mint


class Ledger(Protocol):
    """Where landed transactions are kept. One process writes at a time: the one that opened it last."""

    async def open(self, genesis: Genesis, anchor: Anchor) -> Stored:
        """Take the ledger over and read it; a new one starts with `genesis` and `anchor`."""

    async def set_anchor(self, epoch: int, anchor: Anchor) -> None:
        """Change the slots' length from `anchor` on."""

    async def commit(self, epoch: int, batch: Batch) -> None:
        """Make the batch durable, all or none.

        Raises `LedgerUnavailableError` when that is not known to have happened: commit the same batch again, with
        no other before it. Raises `LedgerFencedError` when the ledger is another's.
        """

    async def find(self, signatures: Sequence[str]) -> list[LandedTransaction]:
        """Those of the signatures that landed, in any order. Raises `LedgerUnavailableError`."""

    async def since(self, slot: int) -> list[LandedTransaction]:
        """What landed at `slot` or later, by slot. Raises `LedgerUnavailableError`."""

    async def latest(self, before: str | None, limit: int) -> list[LandedTransaction]:
        """What landed, newest first, behind the signature `before`. Raises `LedgerUnavailableError`."""

    async def close(self) -> None: ...


class MemoryLedger:
    """A ledger that lasts as long as its object: for tests, and for simulation on a virtual clock."""

    def __init__(self) -> None:
        self._genesis: Genesis | None = None
        self._anchor: Anchor | None = None
        self._epoch = 0
        self._slot = 0
        self._count = 0
        self._landed: dict[str, LandedTransaction] = {}
        self._balances: dict[str, int] = {}
        self._pools: dict[str, PoolState] = {}
        self._listings: dict[str, Listing] = {}  # by pool
        self._shifts: dict[str, float] = {}
        self.adjustments: list[Adjustment] = []

    async def open(self, genesis: Genesis, anchor: Anchor) -> Stored:
        self._epoch += 1
        self._genesis = self._genesis or genesis
        self._anchor = self._anchor or anchor
        return Stored(
            epoch=self._epoch,
            genesis=self._genesis,
            anchor=self._anchor,
            slot=self._slot,
            transactions=self._count,
            adjustments=len(self.adjustments),
            balances=dict(self._balances),
            pools=dict(self._pools),
            listings=_kept(self._listings.values()),
            shifts=dict(self._shifts),
        )

    async def set_anchor(self, epoch: int, anchor: Anchor) -> None:
        self._check(epoch)
        self._anchor = anchor

    async def commit(self, epoch: int, batch: Batch) -> None:
        self._check(epoch)
        for signature in batch.undone:
            self._landed.pop(signature, None)
        for row in batch.landed:
            self._landed.pop(row.signature, None)  # behind those that landed before it
            self._landed[row.signature] = row
        known = len(self.adjustments)
        self.adjustments.extend(each for each in batch.adjustments if each.number > known)
        self._balances.update(batch.balances)
        self._pools.update(batch.pools)
        self._listings.update((listing.pool, listing) for listing in batch.listings)
        self._shifts.update(batch.shifts)
        self._slot = batch.slot
        self._count = batch.transactions

    async def find(self, signatures: Sequence[str]) -> list[LandedTransaction]:
        return [self._landed[signature] for signature in signatures if signature in self._landed]

    async def since(self, slot: int) -> list[LandedTransaction]:
        recent = []
        for row in reversed(self._landed.values()):
            if row.slot < slot:
                break
            recent.append(row)
        return recent[::-1]

    async def latest(self, before: str | None, limit: int) -> list[LandedTransaction]:
        rows = sorted(self._landed.values(), key=_place, reverse=True)
        if before is not None:
            last = _place(self._landed[before])
            rows = [row for row in rows if _place(row) < last]
        return rows[:limit]

    async def close(self) -> None:
        pass

    @property
    def balances(self) -> dict[str, int]:
        """Base units by mint."""
        return dict(self._balances)

    def _check(self, epoch: int) -> None:
        if epoch != self._epoch:
            raise LedgerFencedError("the simulated chain's ledger was opened by another")


def _kept(listings: Iterable[Listing]) -> list[Listing]:
    kept = sorted(listings, key=lambda each: (each.closed_us is not None, -each.listed_us))[:LISTINGS_KEPT]
    return sorted(kept, key=lambda each: (each.listed_us, each.pool))


def _place(row: LandedTransaction) -> tuple[int, str]:
    return row.slot, row.signature
