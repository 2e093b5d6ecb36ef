"""Checks, at every commit of the journal and of the chain, what must hold. It sees both sides; the engine sees ports.

The truth about a transaction is the chain's own ledger and its own finalized height, whatever its nodes answer.
"""

from collections.abc import Callable, Sequence
from typing import Final

from bestex.domain.errors import FailureCode
from bestex.domain.events import (
    FINALIZED,
    LOST,
    BuildingDetail,
    ConfirmedDetail,
    Event,
    FailedDetail,
    SignedTransaction,
    StoredEvent,
    SubmittedDetail,
    settles,
    unseal,
)
from bestex.domain.lifecycle import ENDS, UNFILLED, Status
from bestex.domain.log_hash import GENESIS, stored_hash
from bestex.domain.money import parse_amount
from bestex.domain.orders import OrderState
from bestex.domain.tokens import TokenRegistry
from bestex.journal.memory import MemoryDatabase
from bestex.journal.writer import MergedRows, Verdict
from bestex.ports import Append
from bestex.simulation.invariants import Checks, Invariant
from bestex.simulation.trace import Trace
from bestex.venues.simulated.chain import SimulatedChain
from bestex.venues.simulated.ledger import Batch, LandedTransaction, MemoryLedger
from bestex.venues.simulated.market import SOL_MINT
from bestex.venues.simulated.slots import block_height

_I = Invariant
_LAMPORT_DECIMALS: Final = 9


class _Order:
    """What the referee knows of an order, by its own fold of the log."""

    __slots__ = ("executed", "history", "least", "signed", "state")

    def __init__(self) -> None:
        self.state = OrderState()
        self.history: list[StoredEvent] = []
        self.signed: dict[str, SignedTransaction] = {}  # by signature, first to last
        self.least: dict[int, int] = {}  # by attempt: minAmountOut in base units
        self.executed: dict[str, None] = {}  # signatures that stand executed in the ledger


class Referee:
    """Knows what the journal and the chain hold, and checks the one against the other."""

    def __init__(self, checks: Checks, trace: Trace, database: MemoryDatabase, tokens: TokenRegistry) -> None:
        self.chain: SimulatedChain | None = None
        self.when_written: Callable[[], None] | None = None  # called when an engine hands rows to its writer
        self.unsettled = 0  # orders for which something is left to do
        self._checks = checks
        self._trace = trace
        self._database = database
        self._tokens = tokens
        self.orders: dict[str, _Order] = {}
        self._keys: dict[str, str] = {}  # order by idempotency key; there is one caller
        self._denied: dict[str, None] = {}  # orders whose client was told that nothing is stored
        self._owner_of: dict[str, str] = {}  # by signature
        self._queued: dict[tuple[str, str], list[Append]] = {}  # by engine and order: appended, not settled
        self._doomed: dict[int, Append] = {}  # queued behind a refused one, by identity
        self.rows: dict[str, LandedTransaction] = {}  # the ledger, by signature
        self._once: dict[str, list[LandedTransaction]] = {}  # all that ever stood in it, by signature
        self._balances: dict[str, int] = {}  # by mint, from what moved

    # --- The journal

    def queued(self, engine_id: str, append: Append) -> None:
        """An engine hands rows to its writer."""
        self._queued.setdefault((engine_id, append.order_id), []).append(append)
        if self.when_written is not None:
            self.when_written()

    def committed(self, engine_id: str, rows: Sequence[MergedRows], verdict: Verdict, first: int) -> None:
        """A commit was made; `first` is the index of its first row in the log."""
        checks = self._checks
        alive = engine_id in self._database.engines
        for merged in rows:
            order_id = merged.first.order_id
            queued = self._queued.get((engine_id, order_id), [])
            if order_id in verdict.refused:
                self._trace.note("refused", order_id, verdict.refused[order_id])
                for append in queued:
                    if append not in merged.appends:
                        self._doomed[id(append)] = append
                queued.clear()
                continue
            for append in merged.appends:
                doomed = id(append) in self._doomed
                checks.check(
                    _I.REFUSED_TAKES_LATER, not doomed, "a row was stored whose predecessor was refused", order_id
                )
                queued[:] = [each for each in queued if each is not append]
            self._check_owner(engine_id, merged.first, alive)
            if merged.first.new is not None and merged.first.new.idempotency_key is not None:
                self._check_key(merged.first.new.idempotency_key, order_id)
        log = self._database.log
        for stored in log[first:]:
            self._stored(stored)
        for merged in rows:
            if merged.first.order_id not in verdict.refused:
                self._check_view(merged)

    def _check_owner(self, engine_id: str, append: Append, alive: bool) -> None:
        order = self._database.orders.get(append.order_id)
        if append.lease_epoch is None:
            holds = alive
        else:
            holds = alive and order is not None and (order.owner, order.epoch) == (engine_id, append.lease_epoch)
        what = f"engine {engine_id} wrote under epoch {append.lease_epoch}, which is not its own"
        self._checks.check(_I.ONLY_THE_OWNER_WRITES, holds, what, append.order_id)

    def _check_view(self, merged: MergedRows) -> None:
        state = self.orders[merged.first.order_id].state
        holds = merged.last.view == state.view()
        self._checks.check(_I.PROJECTION_IS_THE_FOLD, holds, "its view is not the fold of its events", state.order_id)

    def _stored(self, stored: StoredEvent) -> None:
        event, checks = stored.event, self._checks
        order_id = event.order_id
        order = self.orders.get(order_id)
        if order is None:
            order = self.orders[order_id] = _Order()
            self.unsettled += 1
            self._check_first(order_id)
        before = order.state.status
        self._trace.note(event.status.value, order_id, f"seq {event.seq}", f"attempt {event.attempt}", event.detail)
        checks.counts[_I.GAPLESS_AND_LEGAL] += 1
        try:
            order.state.apply(event)
        except ValueError as error:
            checks.fail(_I.GAPLESS_AND_LEGAL, str(error), order_id)
            return
        if order.history:
            self.unsettled += settles(order.history[-1].event)
        self.unsettled -= settles(event)
        order.history.append(stored)
        match event.detail:
            case BuildingDetail() as detail:
                decimals = self._tokens.get(order.state.view().token_out).decimals
                order.least[event.attempt] = parse_amount(detail.min_amount_out, decimals)
            case SubmittedDetail() as detail if detail.signature is not None:
                self._signed(order, event, before)
            case ConfirmedDetail() as detail:
                self._confirmed(order, event, detail)
            case FailedDetail() as detail:
                holds = detail.code != FailureCode.INTERNAL
                checks.check(_I.NOTHING_BREAKS, holds, f"it failed by a defect: {detail.message}", order_id)
            case _:
                pass
        if event.status is Status.ROUTING and before is Status.SUBMITTED:
            self._check_proven(order, _I.PROVEN_BEFORE_SIGNING, "a new attempt began")
        elif event.status in UNFILLED:
            self._check_proven(order, _I.UNFILLED_IS_NOT_EXECUTED, f"it ended as {event.status}")

    def _check_first(self, order_id: str) -> None:
        checks = self._checks
        checks.check(
            _I.DENIED_IS_ABSENT, order_id not in self._denied, "its client was told that nothing is stored", order_id
        )

    def _signed(self, order: _Order, event: Event, before: Status | None) -> None:
        transaction = unseal(event.sealed) if event.sealed else None
        detail, order_id, checks = event.detail, event.order_id, self._checks
        assert isinstance(detail, SubmittedDetail)  # noqa: S101 -- as its caller has matched
        on_disk = transaction is not None and transaction.signature == detail.signature
        checks.check(_I.DISK_BEFORE_CHAIN, on_disk, "submitted without the signed bytes", order_id)
        checks.check(_I.ONE_OPEN_ATTEMPT, before is Status.BUILDING, "signed while an attempt is open", order_id)
        self._check_proven(order, _I.PROVEN_BEFORE_SIGNING, "it was signed again")
        if transaction is not None:
            owner = self._owner_of.setdefault(transaction.signature, order_id)
            unique = owner == order_id and transaction.signature not in order.signed
            checks.check(_I.ONE_OPEN_ATTEMPT, unique, "one signature stands for two attempts", order_id)
            order.signed[transaction.signature] = transaction

    def _check_proven(self, order: _Order, invariant: Invariant, what: str) -> None:
        """Every signature of the order so far is known never to execute."""
        for signature, transaction in order.signed.items():
            holds = self._never_executes(transaction)
            self._checks.check(
                invariant, holds, f"{what}, and {signature[:12]} {self._fate(transaction)}", order.state.order_id
            )

    def _never_executes(self, transaction: SignedTransaction) -> bool:
        final = self._finalized_slot()
        row = self.rows.get(transaction.signature)
        if row is None:
            return block_height(final) > transaction.last_valid_block_height
        return row.error is not None and row.slot <= final

    def _fate(self, transaction: SignedTransaction) -> str:
        final = self._finalized_slot()
        row = self.rows.get(transaction.signature)
        if row is None:
            return f"may land up to height {transaction.last_valid_block_height}; {block_height(final)} is final"
        return f"stands in slot {row.slot} with {row.error or 'its swap executed'}; slot {final} is final"

    def _finalized_slot(self) -> int:
        return self.chain.view().finalized_slot if self.chain is not None else 0

    def _confirmed(self, order: _Order, event: Event, detail: ConfirmedDetail) -> None:
        if detail.gone:
            self._check_proven(order, _I.CONFIRMED_IS_EXECUTED, "it was given up as lost")
        if detail.commitment == LOST or detail.resolved:
            return
        order_id, known = event.order_id, order.state.confirmed
        signature = known.tx_hash if known is not None else None
        executed = [row for row in self._once.get(signature or "", ()) if row.error is None]
        self._checks.check(_I.CONFIRMED_IS_EXECUTED, bool(executed), "confirmed, and it never executed", order_id)
        if detail.commitment == FINALIZED:
            row = self.rows.get(signature or "")
            final = row is not None and row.error is None and row.slot <= self._finalized_slot()
            self._checks.check(_I.CONFIRMED_IS_EXECUTED, final, "finalized, and the chain has it otherwise", order_id)
            executed = [row] if row is not None else []
        true = any(self._moved(order, row) for row in executed)
        self._checks.check(_I.AMOUNTS_ARE_TRUE, true, "the amounts reported are not those moved", order_id)

    def _moved(self, order: _Order, row: LandedTransaction) -> bool:
        """Whether the order's view reports what the transaction did."""
        view = order.state.view()
        if view.amount_in is None or view.amount_out is None or view.fee_paid is None:
            return False
        token_in, token_out = self._tokens.get(view.token_in), self._tokens.get(view.token_out)
        return (
            (row.mint_in, row.mint_out, row.venue, row.order_id)
            == (token_in.mint, token_out.mint, view.venue, view.order_id)
            and parse_amount(view.amount_in, token_in.decimals) == row.amount_in
            and parse_amount(view.amount, token_in.decimals) == row.amount_in
            and parse_amount(view.amount_out, token_out.decimals) == row.amount_out
            and parse_amount(view.fee_paid, _LAMPORT_DECIMALS) == row.network_fee
        )

    # --- The clients

    def accepted(self, order_id: str, key: str | None) -> None:
        """A client was answered 202."""
        there = order_id in self._database.orders
        self._checks.check(_I.ACCEPTED_IS_DURABLE, there, "answered 202 and not in the journal", order_id)
        if key is not None:
            self._check_key(key, order_id)

    def _check_key(self, key: str, order_id: str) -> None:
        one = self._keys.setdefault(key, order_id) == order_id
        self._checks.check(_I.ONE_ORDER_A_KEY, one, f"the key {key} made two orders", order_id)

    def denied(self, order_id: str) -> None:
        """A client was told that nothing of this order is stored."""
        self._denied[order_id] = None
        absent = order_id not in self._database.orders
        self._checks.check(_I.DENIED_IS_ABSENT, absent, "answered 'nothing stored' and in the journal", order_id)

    def cancelled(self, order_id: str, status: str) -> None:
        """A client's cancel was answered with the order in `status`."""
        order = self.orders.get(order_id)
        recorded = order is not None and (
            order.state.status is Status.CANCELLED if status == Status.CANCELLED else order.state.cancel_requested
        )
        self._checks.check(_I.CANCEL_IS_RECORDED, recorded, f"the cancel was answered {status}", order_id)

    def broke(self, what: str) -> None:
        """An error came out of the engine that is none of its own."""
        self._checks.fail(_I.NOTHING_BREAKS, what)

    def published(self, events: Sequence[StoredEvent]) -> None:
        """Events go out to watchers."""
        log, checks = self._database.log, self._checks
        for stored in events:
            committed = stored.position <= len(log) and log[stored.position - 1].event == stored.event
            checks.check(_I.PUBLISHED_IS_COMMITTED, committed, "published before its commit", stored.event.order_id)

    def seen(self, order_id: str, before: int, events: Sequence[StoredEvent]) -> None:
        """A watcher of an order, who has seen `before` of its events, gets these."""
        order = self.orders.get(order_id)
        history = order.history[before : before + len(events)] if order is not None else []
        self._checks.check(_I.WATCHED_IS_A_PREFIX, history == list(events), "a watcher saw something else", order_id)

    def seen_of_all(self, before: int, events: Sequence[StoredEvent]) -> None:
        """A watcher of all orders, who has seen the log's first `before` rows, gets these."""
        log = self._database.log[before : before + len(events)]
        self._checks.check(_I.WATCHED_IS_A_PREFIX, log == list(events), "a watcher of all orders saw something else")

    # --- The chain

    def order_of(self, signature: str) -> str | None:
        """The order whose attempt it is, when that is on disk."""
        return self._owner_of.get(signature)

    def sent(self, transaction: SignedTransaction) -> None:
        """An engine hands a transaction to the chain."""
        order_id = self._owner_of.get(transaction.signature)
        known = self.orders[order_id].signed.get(transaction.signature) if order_id is not None else None
        self._checks.check(
            _I.DISK_BEFORE_CHAIN, known == transaction, f"{transaction.signature[:12]} was sent before", order_id
        )

    def landed(self, batch: Batch) -> None:
        """The chain's ledger has made a commit."""
        balances = self._balances
        for adjustment in batch.adjustments:
            balances[adjustment.mint] = balances.get(adjustment.mint, 0) + adjustment.units
        for signature in batch.undone:
            if (row := self.rows.pop(signature, None)) is not None:
                self._move(row, -1)
                self._trace.note("taken back by a fork", row.order_id, signature[:12])
                self.orders[row.order_id].executed.pop(signature, None)
        for row in batch.landed:
            if (before := self.rows.pop(row.signature, None)) is not None:
                self._move(before, -1)
            self._move(row, 1)
            self._land(row)
        for mint, units in batch.balances.items():
            self._checks.check(_I.BALANCES_RECONCILE, balances.get(mint, 0) == units, f"{mint} holds {units}")

    def _land(self, row: LandedTransaction) -> None:
        checks = self._checks
        self.rows[row.signature] = row
        self._once.setdefault(row.signature, []).append(row)
        self._trace.note(
            "landed", row.order_id, f"attempt {row.attempt}", row.signature[:12], f"slot {row.slot}", row.error or ""
        )
        order = self.orders.get(row.order_id)
        if order is None or row.signature not in order.signed:
            checks.fail(_I.DISK_BEFORE_CHAIN, "landed, and not in the journal", row.order_id)
        elif row.error is None:
            order.executed[row.signature] = None
            checks.check(_I.ONE_SWAP, len(order.executed) == 1, "its swap executed twice", row.order_id)
            enough = row.amount_out >= order.least[row.attempt]
            checks.check(_I.LEAST_OUTPUT, enough, "it paid less than minAmountOut", row.order_id)

    def _move(self, row: LandedTransaction, sign: int) -> None:
        balances = self._balances
        balances[SOL_MINT] = balances.get(SOL_MINT, 0) - sign * row.network_fee
        if row.error is None:
            balances[row.mint_in] = balances.get(row.mint_in, 0) - sign * row.amount_in
            balances[row.mint_out] = balances.get(row.mint_out, 0) + sign * row.amount_out

    # --- The end

    def finish(self) -> None:
        """The world is healthy and time enough has passed: check the whole."""
        for order_id, order in self.orders.items():
            state = order.state
            done = bool(order.history) and settles(order.history[-1].event)
            self._checks.check(_I.EVERY_ORDER_ENDS, done, f"it still is {state.status}", order_id)
            if state.status is Status.CONFIRMED and state.confirmed is not None and not state.confirmed.gone:
                [*rest] = order.executed
                true = rest == [state.confirmed.tx_hash] and self._moved(order, self.rows[rest[0]])
                self._checks.check(_I.CONFIRMED_IS_EXECUTED, true, "the chain has it otherwise", order_id)
            elif state.status is Status.CONFIRMED:
                self._checks.check(_I.CONFIRMED_IS_EXECUTED, not order.executed, "lost, and it executed", order_id)
            elif state.status in ENDS:
                self._checks.check(_I.UNFILLED_IS_NOT_EXECUTED, not order.executed, "its swap executed", order_id)
            kept = self._database.orders.get(order_id)
            same = kept is not None and kept.view == state.view() and kept.events == order.history
            self._checks.check(_I.PROJECTION_IS_THE_FOLD, same, "the journal has it otherwise", order_id)
        self._check_hashes()

    def _check_hashes(self) -> None:
        before = GENESIS
        for stored, kept in zip(self._database.log, self._database.hashes, strict=True):
            before = stored_hash(before, stored)
            self._checks.check(_I.HASHES_CHAIN, before == kept, f"row {stored.position} has another hash")


class WatchedLedger(MemoryLedger):
    """The chain's ledger, under the referee's eyes."""

    def __init__(self, referee: Referee) -> None:
        super().__init__()
        self._referee = referee

    async def commit(self, epoch: int, batch: Batch) -> None:
        await super().commit(epoch, batch)
        self._referee.landed(batch)
