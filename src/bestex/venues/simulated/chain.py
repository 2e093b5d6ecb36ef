"""The simulated chain: slots and blockhashes, landing, execution, commitment, forks, and what its nodes answer.

Its truthfulness is what proofs of non-execution rest on, so this holds whatever faults strike: a slot that a node
calls final is in the ledger and stays, and a node shows every transaction in the part of history it claims to have.
"""

import random  # noqa: TID251 - only as a type: a seeded generator is passed in
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from bestex.domain.errors import ChainUnreachableError, ExpiresTooSoonError, FailureCode
from bestex.domain.events import SignedTransaction
from bestex.domain.route import Fill
from bestex.ports import BlockHeight, Clock, Commitment, StatusReport, TransactionStatus
from bestex.venues.simulated.agenda import Agenda
from bestex.venues.simulated.books import Books
from bestex.venues.simulated.faults import Faults
from bestex.venues.simulated.ledger import LandedTransaction, LedgerUnavailableError
from bestex.venues.simulated.market import Market, Side
from bestex.venues.simulated.slots import (
    BLOCKHASH_SLOTS_MAX,
    FINALITY_SLOTS,
    MIN_VALID_BLOCKS,
    SlotClock,
    block_height,
    blockhash_slot_for,
    last_valid_height,
)
from bestex.venues.simulated.transaction import Message, blockhash_of, verify

NETWORK_FEE: Final = 15_000  # lamports: 5,000 for the signature and a priority fee
MAX_SIGNATURES: Final = 256
MAIN_NODE: Final = "sim-a"
SECOND_NODE: Final = "sim-b"  # the one that lags
ARCHIVELESS_NODE: Final = "sim-c"  # the one that keeps little history
_FORK_AFTER_SLOTS: Final = (2, FINALITY_SLOTS - 8)
_MAX_MARKS: Final = 10_000  # transactions that a fault waits for


class NodeView(msgspec.Struct, frozen=True):
    """What one node knows at one moment."""

    endpoint: str
    slot: int
    finalized_slot: int
    history_from_slot: int


class Executed(NamedTuple):
    """An executed transaction at `confirmed` commitment, and what it did."""

    slot: int
    fill: Fill


class SimulatedChain:
    """`Chain` without a network. `landing_us` is the shortest and the longest time from send to landing."""

    def __init__(
        self,
        *,
        clock: Clock,
        slots: SlotClock,
        books: Books,
        market: Market,
        agenda: Agenda,
        faults: Faults,
        nature: random.Random,
        key: bytes,
        landing_us: tuple[int, int],
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._books = books
        self._market = market
        self._agenda = agenda
        self._faults = faults
        self._nature = nature
        self._key = key
        self._landing_us = landing_us
        self._blockhashes: dict[int, str] = {}  # by slot, the latest asked for
        self._in_flight: dict[str, None] = {}
        self._unreachable_until_us = 0
        self._hidden: dict[str, None] = {}  # landed, but shown only when final
        self._jumps: dict[str, None] = {}  # the price will jump just before these land

    # --- What the venues' builders use

    def blockhash(self, expires_us: int | None = None) -> tuple[str, int]:
        """The latest blockhash with which nothing lands after `expires_us`, and its slot.

        Raises `ExpiresTooSoonError`.
        """
        self._reach()
        now_us = self._clock.now_us()
        slot = self._slots.slot(now_us)
        if expires_us is not None:
            found = blockhash_slot_for(slot, self._slots.slot_at(expires_us))
            if found is None:
                left_s = max(0.0, (expires_us - now_us) / 1e6)
                raise ExpiresTooSoonError(
                    f"it expires in {left_s:.1f} s: no time to land in, "
                    f"at least {MIN_VALID_BLOCKS} blocks of {self._slots.slot_us / 1000:g} ms"
                )
            slot = found
        return self._blockhash_of(slot), slot

    def jump_before(self, signature: str) -> None:
        """Have the pool move against this transaction just before it lands."""
        _mark(self._jumps, signature)

    @property
    def slot_us(self) -> int:
        """How long a slot lasts, microseconds."""
        return self._slots.slot_us

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    # --- The port

    async def send(self, transaction: SignedTransaction) -> None:
        self.send_at_once(transaction)

    def send_at_once(self, transaction: SignedTransaction) -> bool:
        self._reach()
        if self._books.full or self._agenda.full:
            raise ChainUnreachableError("the simulated chain is overloaded: its ledger does not keep up")
        if self._faults.strikes("send_error_before"):
            raise ChainUnreachableError("simulated: the connection broke before the transaction was taken")
        signature, message = verify(transaction.raw, self._key)
        self._take(signature, message)
        if self._faults.strikes("send_error_after"):
            raise ChainUnreachableError("simulated: the connection broke after the transaction was taken")
        return True

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        if len(signatures) > MAX_SIGNATURES:
            raise ValueError(f"at most {MAX_SIGNATURES} signatures a call, not {len(signatures)}")
        self._reach()
        view = self._view()
        if self._faults.strikes("pruned_history"):
            kept = int(self._faults.size("pruned_history_slots"))
            view = NodeView(ARCHIVELESS_NODE, view.slot, view.finalized_slot, max(0, view.slot - kept))
        rows = await self._rows(signatures)
        return StatusReport(
            endpoint=view.endpoint,
            slot=view.slot,
            finalized_slot=view.finalized_slot,
            history_from_slot=view.history_from_slot,
            statuses=tuple([self._status(rows.get(signature), view) for signature in signatures]),
        )

    async def finalized_height(self) -> BlockHeight:
        self._reach()
        view = self._view()
        return BlockHeight(view.endpoint, block_height(view.finalized_slot), view.finalized_slot)

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        self._reach()
        visible = self._books.visible
        rows = visible if all(map(visible.__contains__, signatures)) else await self._rows(signatures)
        return [_fill(rows.get(signature)) for signature in signatures]

    def executed(self, signatures: Sequence[str]) -> list[Executed | None]:
        """What a look at these would show now, without asking the ledger; None where that would not be all.

        Only of those that executed without an error: what else there is to know, has to be asked for.
        """
        if self._faults.any or self._books.fenced:
            return [None] * len(signatures)
        visible = self._books.visible
        return [_executed(visible.get(signature)) for signature in signatures]

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        self._books.on_commit(listener)

    # --- What the nodes know

    def view(self) -> NodeView:
        """What the main node knows now."""
        slot = self._slots.slot(self._clock.now_us())
        finalized = slot - FINALITY_SLOTS
        floor = self._books.floor()
        if floor is not None and floor <= finalized:
            finalized = floor - 1
        return NodeView(MAIN_NODE, slot, max(0, finalized), 0)

    def _view(self) -> NodeView:
        view = self.view()
        if self._faults.strikes("lagging_node"):
            lag = int(self._faults.size("lagging_node_slots"))
            slot = max(0, view.slot - lag)
            finalized = max(0, min(slot - FINALITY_SLOTS, view.finalized_slot))
            return NodeView(SECOND_NODE, slot, finalized, 0)
        return view

    async def _rows(self, signatures: Sequence[str]) -> dict[str, LandedTransaction]:
        """The visible ones among the signatures: from memory, the rest from the ledger."""
        books = self._books
        visible = books.visible
        if books.complete:
            return visible
        unknown = [
            signature
            for signature in signatures
            if signature not in books.executed and signature not in self._in_flight
        ]
        if not unknown:
            return visible
        rows = {signature: visible[signature] for signature in signatures if signature in visible}
        try:
            found = await books.find(unknown)
        except LedgerUnavailableError as error:
            raise ChainUnreachableError(f"the simulated chain's ledger is away: {error}") from error
        rows.update((row.signature, row) for row in found)
        return rows

    def _status(self, row: LandedTransaction | None, view: NodeView) -> TransactionStatus | None:
        if row is None or not view.history_from_slot <= row.slot <= view.slot:
            return None
        if row.slot <= view.finalized_slot:
            return TransactionStatus(row.slot, Commitment.FINALIZED, row.error)
        if self._hidden and row.signature in self._hidden:
            return None
        return TransactionStatus(row.slot, Commitment.CONFIRMED, row.error)

    def _reach(self) -> None:
        """Raise `ChainUnreachableError` when the chain is gone."""
        if self._books.fenced:
            raise ChainUnreachableError("the simulated chain's ledger was opened by another process")
        faults = self._faults
        if not faults.any or not faults.values["chain_unreachable"]:
            return
        now_us = self._clock.now_us()
        if now_us >= self._unreachable_until_us:
            if not faults.strikes("chain_unreachable"):
                return
            self._unreachable_until_us = now_us + int(faults.size("chain_unreachable_s") * 1e6)
        raise ChainUnreachableError("simulated: the chain's endpoint does not answer")

    # --- Landing and execution

    def _take(self, signature: str, message: Message) -> None:
        """Take signed bytes on their way to a block; nothing happens for those already there or on their way.

        What has expired is not taken: it may have landed longer ago than `executed` reaches back.
        """
        if signature in self._books.executed or signature in self._in_flight:
            return
        if not self._is_blockhash_alive(message, self._slots.slot(self._clock.now_us())):
            return
        if self._faults.strikes("dropped"):
            return
        shortest, longest = self._landing_us
        delay_us = self._nature.randint(shortest, longest) if longest else 0
        if self._faults.strikes("late_landing"):
            latest = int(self._faults.size("late_landing_slots"))
            delay_us += self._faults.whole(latest // 8, latest) * self._slots.slot_us
        if delay_us:
            self._land_later(signature, message, delay_us)
        else:
            self._execute(signature, message)

    def _land_later(self, signature: str, message: Message, delay_us: int) -> None:
        self._in_flight[signature] = None
        self._agenda.at(self._clock.now_us() + delay_us, partial(self._land, signature, message))

    def _land(self, signature: str, message: Message) -> None:
        self._in_flight.pop(signature, None)
        self._execute(signature, message)

    def _execute(self, signature: str, message: Message) -> None:
        """Put the transaction in the current block, unless that is impossible: expired, unpayable, already there."""
        books = self._books
        now_us = self._clock.now_us()
        slot = self._slots.slot(now_us)
        if signature in books.executed or not self._is_blockhash_alive(message, slot):
            return
        if not books.can_pay(message.mint_in, 0, NETWORK_FEE):
            return
        side = self._market.side(message.venue, message.mint_in, message.mint_out)
        if side is not None and side.pool.address != message.pool:
            side = None  # there is another one by now
        if side is not None:
            self._market.settle(side.pool, now_us)
            if self._jumps and signature in self._jumps:
                del self._jumps[signature]
                self._market.jump(side.pool, side.a_to_b, self._faults.size("price_jump_bps"))
        dying = self._faults.strikes("dying_fork_error")
        error: FailureCode | None = FailureCode.SLIPPAGE_EXCEEDED if dying else None
        amount_out = 0
        if error is None:
            amount_out, error = self._swap(message, side)
        row = LandedTransaction(
            signature=signature,
            slot=slot,
            landed_us=now_us,
            order_id=message.order_id,
            attempt=message.attempt,
            venue=message.venue,
            mint_in=message.mint_in,
            mint_out=message.mint_out,
            amount_in=0 if error else message.amount_in,
            amount_out=amount_out,
            network_fee=NETWORK_FEE,
            error=error.value if error else None,
            pool=message.pool,
            asked_in=message.amount_in,
        )
        books.land(row, side.pool if side is not None else None)
        if self._faults.any:
            self._after_executed(row, message, dying)

    def _swap(self, message: Message, side: Side | None) -> tuple[int, FailureCode | None]:
        """Swap against the pool, None when it is gone: `(amount_out, None)`, or `(0, error)` and the pool as it was."""
        if not self._books.can_pay(message.mint_in, message.amount_in, NETWORK_FEE):
            return 0, FailureCode.INSUFFICIENT_FUNDS
        if side is None:
            return 0, FailureCode.TRANSACTION_FAILED
        pool, a_to_b = side
        try:
            swap = pool.swap(message.amount_in, a_to_b)
        except ValueError:
            return 0, FailureCode.TRANSACTION_FAILED
        if swap.amount_out < message.min_amount_out or swap.amount_out == 0:
            return 0, FailureCode.SLIPPAGE_EXCEEDED
        pool.state = swap.next_state
        self._market.moved(pool)
        return swap.amount_out, None

    def _after_executed(self, row: LandedTransaction, message: Message, dying: bool) -> None:
        if self._faults.strikes("lost_status"):
            _mark(self._hidden, row.signature)
        forked = not dying and row.error is None and self._faults.strikes("fork_after_confirmed")
        if dying or forked:
            self._books.doom(row)
            delay_us = self._faults.whole(*_FORK_AFTER_SLOTS) * self._slots.slot_us
            fork = partial(self._fork, row.signature, message, dying and self._faults.coin())
            self._agenda.at(self._clock.now_us() + delay_us, fork)

    def _fork(self, signature: str, message: Message, lands_again: bool) -> None:
        """The block of this transaction is not part of the chain any more."""
        if self._books.undo(signature) and lands_again and signature not in self._in_flight:
            self._land_later(signature, message, self._faults.whole(1, 8) * self._slots.slot_us)

    def _is_blockhash_alive(self, message: Message, slot: int) -> bool:
        return (
            0 <= message.blockhash_slot <= slot
            and block_height(slot) <= last_valid_height(message.blockhash_slot)
            and message.blockhash == self._blockhash_of(message.blockhash_slot)
        )

    def _blockhash_of(self, slot: int) -> str:
        known = self._blockhashes.get(slot)
        if known is None:
            known = blockhash_of(slot, self._key)
            if len(self._blockhashes) >= BLOCKHASH_SLOTS_MAX:
                del self._blockhashes[next(iter(self._blockhashes))]
            self._blockhashes[slot] = known
        return known


def _fill(row: LandedTransaction | None) -> Fill | None:
    if row is None or row.error is not None:
        return None
    return Fill(row.amount_in, row.amount_out, row.network_fee)


def _executed(row: LandedTransaction | None) -> Executed | None:
    fill = _fill(row)
    return None if row is None or fill is None else Executed(row.slot, fill)


def _mark(marks: dict[str, None], signature: str) -> None:
    """Remember a signature, and forget the oldest when there are too many."""
    marks[signature] = None
    if len(marks) > _MAX_MARKS:
        del marks[next(iter(marks))]
