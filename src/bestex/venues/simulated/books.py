"""What the chain has executed, in memory and on its way to the ledger.

Execution changes balances and pools here at once. One group commit at a time brings the changes to the ledger;
everything that happens meanwhile goes in the next. A transaction becomes visible when its row is in the ledger.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from bestex.ports import Clock
from bestex.venues.simulated.ledger import (
    Adjustment,
    Batch,
    LandedTransaction,
    Ledger,
    LedgerFencedError,
    LedgerUnavailableError,
    PoolState,
    Stored,
)
from bestex.venues.simulated.listing import Listing
from bestex.venues.simulated.market import SOL_MINT
from bestex.venues.simulated.pools import Pool
from bestex.venues.simulated.slots import BLOCKHASH_SLOTS_MAX, SlotClock

MAX_UNCOMMITTED: Final = 20_000  # rows; beyond, the chain takes no more
MAX_RECENT: Final = 10_000  # transactions kept in memory, and those whose blockhash still lives
_RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)  # between tries while the ledger is away; the last one repeats

_log = structlog.get_logger(__name__)


class _Changes:
    """What the next batch will hold."""

    def __init__(self) -> None:
        self.landed: dict[str, LandedTransaction] = {}
        self.undone: dict[str, None] = {}
        self.adjustments: list[Adjustment] = []
        self.mints: dict[str, None] = {}
        self.pools: dict[str, Pool] = {}
        self.listings: dict[str, Listing] = {}  # by pool
        self.shifts: dict[str, float] = {}  # by mint
        self.floor: int | None = None  # the lowest slot that the batch touches
        self.waiters: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self.landed or self.undone or self.adjustments or self.pools or self.listings or self.shifts)

    def touch(self, slot: int) -> None:
        if self.floor is None or slot < self.floor:
            self.floor = slot


class Books:
    """Balances, landed transactions, and the way to the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        stored: Stored,
        recent: Sequence[LandedTransaction],
        slots: SlotClock,
        clock: Clock,
        pools: dict[str, Pool],
    ) -> None:
        """`recent`: what landed while its blockhash may still live, by slot. `pools` take over their stored states."""
        self._ledger = ledger
        self._epoch = stored.epoch
        self._slots = slots
        self._clock = clock
        self.balances = dict(stored.balances)  # by mint, base units
        self.executed = {row.signature: row for row in recent}  # by signature, in the order they landed
        self.visible = dict(self.executed)  # those whose row is in the ledger
        self.transactions = stored.transactions
        self.complete = stored.transactions == len(recent)  # whether `executed` holds all that ever landed
        self.fenced = False
        self._adjustments = stored.adjustments
        self._batch_number = 0
        self._doomed: dict[str, int] = {}  # signature and slot of those that a fork will take away
        self._next = _Changes()
        self._committing: tuple[_Changes, Batch] | None = None
        self._dirty = asyncio.Event()
        self._listeners: list[Callable[[Sequence[str]], None]] = []
        for address, found in stored.pools.items():
            if address in pools:
                pools[address].state = found.state
                pools[address].settled_us = found.settled_us

    @property
    def full(self) -> bool:
        return len(self._next.landed) + len(self._next.undone) >= MAX_UNCOMMITTED

    def floor(self) -> int | None:
        """The lowest slot of which not all is in the ledger or certain to stay: nothing from it on is final."""
        floor = self._next.floor
        if self._committing is not None:
            committing = self._committing[0].floor
            if committing is not None and (floor is None or committing < floor):
                floor = committing
        if self._doomed:
            doomed = min(self._doomed.values())
            if floor is None or doomed < floor:
                floor = doomed
        return floor

    def can_pay(self, mint: str, units: int, lamports: int) -> bool:
        """Whether the wallet holds `units` of the token and `lamports` for the network."""
        if mint == SOL_MINT:
            return self.balances.get(SOL_MINT, 0) >= units + lamports
        return self.balances.get(SOL_MINT, 0) >= lamports and self.balances.get(mint, 0) >= units

    def on_commit(self, listener: Callable[[Sequence[str]], None]) -> None:
        self._listeners.append(listener)

    def land(self, row: LandedTransaction, pool: Pool | None) -> None:
        """Enter an executed transaction: the balances move now, the row is on its way.

        `pool`: None for a failed one whose pool is gone.
        """
        self._move(row, 1)
        self.executed[row.signature] = row
        self.transactions += 1
        changes = self._next
        changes.landed[row.signature] = row
        changes.undone.pop(row.signature, None)
        if row.error is None and pool is not None:
            changes.pools[pool.address] = pool
        changes.touch(row.slot)
        self._dirty.set()

    def doom(self, row: LandedTransaction) -> None:
        """Keep the transaction's slot from becoming final: a fork will take it away."""
        self._doomed[row.signature] = row.slot

    def undo(self, signature: str) -> bool:
        """Take a landed transaction back, as a fork does; False when its output has been spent since."""
        row = self.executed.get(signature)
        del self._doomed[signature]
        if row is None or not self._can_undo(row):
            return False
        self._move(row, -1)
        del self.executed[signature]
        self.visible.pop(signature, None)
        self.transactions -= 1
        changes = self._next
        changes.landed.pop(signature, None)
        changes.undone[signature] = None
        changes.touch(row.slot)
        self._dirty.set()
        return True

    def adjust(self, mint: str, units: int, reason: str) -> None:
        """Change a balance without a transaction."""
        self._adjustments += 1
        self.balances[mint] = self.balances.get(mint, 0) + units
        adjustment = Adjustment(self._adjustments, mint, units, reason, self._clock.now_us())
        self._next.adjustments.append(adjustment)
        self._next.mints[mint] = None
        self._dirty.set()

    def change_pool(self, pool: Pool) -> None:
        """Have a pool's state stored although no swap moved it."""
        self._next.pools[pool.address] = pool
        self._dirty.set()

    def list_pool(self, listing: Listing) -> None:
        """Have a new or changed listing stored."""
        self._next.listings[listing.pool] = listing
        self._dirty.set()

    def shift(self, mint: str, log_price: float) -> None:
        """Have stored by how much a token's price was moved."""
        self._next.shifts[mint] = log_price
        self._dirty.set()

    async def find(self, signatures: Sequence[str]) -> list[LandedTransaction]:
        """Those of the signatures that are in the ledger; raises `LedgerUnavailableError`."""
        return await self._ledger.find(signatures)

    async def latest(self, before: str | None, limit: int) -> list[LandedTransaction]:
        """What is in the ledger, newest first; raises `LedgerUnavailableError`."""
        return await self._ledger.latest(before, limit)

    async def stored(self) -> None:
        """Wait until all that has happened so far is in the ledger; `run` must be running."""
        if self.fenced:
            raise LedgerFencedError("the simulated chain's ledger was opened by another process")
        changes = self._next if self._next or not self._committing else self._committing[0]
        if changes:
            waiter = asyncio.get_running_loop().create_future()
            changes.waiters.append(waiter)
            await waiter

    async def run(self) -> None:
        """Commit until cancelled. Raises `LedgerFencedError` when the ledger is another's."""
        while True:
            await self._dirty.wait()
            await self._commit_with_patience()

    async def flush(self) -> None:
        """Commit what there is, once; `run` must not be running. Raises the ledger's errors."""
        while self._committing or self._next:
            await self._commit()

    async def _commit_with_patience(self) -> None:
        tries = 0
        while True:
            try:
                await self._commit()
            except LedgerUnavailableError as error:
                if tries == 0:
                    _log.warning("simulation.ledger_away", error=str(error))
                await self._clock.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
            except LedgerFencedError as error:
                self._fence(error)
                raise
            else:
                return

    def _fence(self, error: LedgerFencedError) -> None:
        self.fenced = True
        waiting = [*self._next.waiters, *(self._committing[0].waiters if self._committing else ())]
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(error)

    async def _commit(self) -> None:
        """One commit: of the batch that failed last time, else of everything new."""
        if self._committing is None:
            self._dirty.clear()
            self._committing = self._take()
        changes, batch = self._committing
        await self._ledger.commit(self._epoch, batch)
        self._committing = None
        self._publish(changes)

    def _take(self) -> tuple[_Changes, Batch]:
        changes, self._next = self._next, _Changes()
        self._batch_number += 1
        mints = changes.mints
        batch = Batch(
            number=self._batch_number,
            slot=self._slots.slot(self._clock.now_us()),
            transactions=self.transactions,
            landed=list(changes.landed.values()),
            undone=list(changes.undone),
            adjustments=changes.adjustments,
            balances={mint: self.balances[mint] for mint in mints},
            pools={address: PoolState(pool.state, pool.settled_us) for address, pool in changes.pools.items()},
            listings=list(changes.listings.values()),
            shifts=changes.shifts,
        )
        return changes, batch

    def _publish(self, changes: _Changes) -> None:
        for signature, row in changes.landed.items():
            if self.executed.get(signature) is row:
                self.visible[signature] = row
        self._forget_old()
        for waiter in changes.waiters:
            if not waiter.done():
                waiter.set_result(None)
        signatures = [*changes.landed, *changes.undone]
        if signatures:
            for listener in self._listeners:
                listener(signatures)

    def _forget_old(self) -> None:
        """Drop the oldest transactions from memory; the ledger still knows them."""
        excess = len(self.executed) - MAX_RECENT
        if excess <= 0:
            return
        needed_from = self._slots.slot(self._clock.now_us()) - BLOCKHASH_SLOTS_MAX
        oldest: list[str] = []
        for signature, row in self.executed.items():
            if len(oldest) >= excess or row.slot >= needed_from or signature not in self.visible:
                break
            oldest.append(signature)
        for signature in oldest:
            del self.executed[signature], self.visible[signature]
        self.complete = self.complete and not oldest

    def _move(self, row: LandedTransaction, sign: int) -> None:
        balances, mints = self.balances, self._next.mints
        balances[SOL_MINT] -= sign * row.network_fee
        mints[SOL_MINT] = None
        if row.error is None:
            balances[row.mint_in] -= sign * row.amount_in
            balances[row.mint_out] = balances.get(row.mint_out, 0) + sign * row.amount_out
            mints[row.mint_in] = mints[row.mint_out] = None

    def _can_undo(self, row: LandedTransaction) -> bool:
        if row.error is not None:
            return True
        held = self.balances[row.mint_out]
        if row.mint_out == SOL_MINT:
            held += row.network_fee
        return held >= row.amount_out
