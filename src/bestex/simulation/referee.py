"""Checks, at every commit of the journal and of the chain, what must hold. It sees both sides; the engine sees ports.

The truth about a transaction is the chain's own ledger and its own finalized height, whatever its nodes answer.
"""

from collections.abc import Callable, Sequence

from bestex.domain.errors import FailureCode
from bestex.domain.events import (
    FINALIZED,
    LOST,
    BuildingDetail,
    CancelledDetail,
    ConfirmedDetail,
    Event,
    FailedDetail,
    RoutingDetail,
    SignedTransaction,
    StoredEvent,
    SubmittedDetail,
    Trigger,
    unseal,
)
from bestex.domain.lifecycle import ENDS, UNFILLED, Status
from bestex.domain.log_hash import GENESIS, stored_hash
from bestex.domain.money import parse_amount
from bestex.domain.terms import Kind
from bestex.domain.tokens import TokenRegistry
from bestex.journal.memory import MemoryDatabase
from bestex.journal.writer import MergedRows, Verdict, with_companions
from bestex.ports import Append
from bestex.simulation.answer_checks import AnswerChecks
from bestex.simulation.family_checks import FamilyChecks
from bestex.simulation.firing_checks import FiringChecks
from bestex.simulation.funds_checks import FundsChecks
from bestex.simulation.invariants import Checks, Invariant
from bestex.simulation.known_orders import KnownOrder, KnownOrders
from bestex.simulation.ledger_watch import LedgerWatch
from bestex.simulation.quiet_checks import QuietChecks
from bestex.simulation.trace import Trace
from bestex.venues.simulated.ledger import Batch, MemoryLedger

_I = Invariant


class Referee:
    """Knows what the journal and the chain hold, and checks the one against the other."""

    def __init__(self, checks: Checks, trace: Trace, database: MemoryDatabase, tokens: TokenRegistry) -> None:
        self.when_written: Callable[[], None] | None = None  # called when an engine hands rows to its writer
        self.orders = KnownOrders(tokens)
        self.ledger = LedgerWatch(checks, trace, self.orders, tokens)
        self.firings = FiringChecks(checks)
        self.families = FamilyChecks(checks, self.orders)
        self.answers = AnswerChecks(checks, self.orders, database)
        self.quiet = QuietChecks(checks, self.orders, self.firings)
        self.funds = FundsChecks(checks, self.orders, self.ledger)
        self._checks = checks
        self._trace = trace
        self._database = database
        self._owner_of: dict[str, str] = {}  # by signature
        self._queued: dict[tuple[str, str], list[Append]] = {}  # by engine and order: appended, not settled
        self._doomed: dict[int, Append] = {}  # queued behind a refused one, by identity

    @property
    def unsettled(self) -> int:
        """Orders for which something is left to do."""
        return len(self.orders.unsettled)

    def is_open(self, order_id: str) -> bool:
        """Whether it is there and has not ended."""
        order = self.orders.find(order_id)
        return order is not None and not order.state.ended

    # --- The journal

    def queued(self, engine_id: str, append: Append) -> None:
        """An engine hands rows to its writer."""
        self._queued.setdefault((engine_id, append.order_id), []).append(append)
        if self.when_written is not None:
            self.when_written()

    def committed(self, engine_id: str, rows: Sequence[MergedRows], verdict: Verdict, first: int) -> None:
        """A commit was made; `first` is the index of its first row in the log."""
        alive = engine_id in self._database.engines
        rows = with_companions(rows)
        for merged in rows:
            self._settle_queued(engine_id, merged, verdict)
            if merged.first.order_id in verdict.refused:
                continue
            self._check_owner(engine_id, merged, alive)
            if merged.first.new is not None and merged.first.new.idempotency_key is not None:
                self.answers.check_key(merged.first.new.idempotency_key, merged.first.order_id)
        stored = self._database.log[first:]
        for each in stored:
            self._stored(each, engine_id)
        for merged in rows:
            if merged.first.order_id not in verdict.refused:
                self._check_view(merged)
        self.families.committed([each.event for each in stored])

    def _settle_queued(self, engine_id: str, merged: MergedRows, verdict: Verdict) -> None:
        """The rows of an order have been stored or refused; with refused ones go those queued behind them."""
        order_id = merged.first.order_id
        queued = self._queued.get((engine_id, order_id), [])
        if order_id in verdict.refused:
            self._trace.note("refused", order_id, verdict.refused[order_id])
            for append in queued:
                if append not in merged.appends:
                    self._doomed[id(append)] = append
            queued.clear()
            return
        for append in merged.appends:
            doomed = id(append) in self._doomed
            what = "a row was stored whose predecessor was refused"
            self._checks.check(_I.REFUSED_TAKES_LATER, not doomed, what, order_id)
            queued[:] = [each for each in queued if each is not append]

    def _check_owner(self, engine_id: str, merged: MergedRows, alive: bool) -> None:
        """Rows under a lease are its owner's; when they let the order wait, nobody holds it afterwards."""
        epoch, order_id = merged.first.lease_epoch, merged.first.order_id
        holds = alive
        if epoch is not None:
            order = self._database.orders.get(order_id)
            owner = None if merged.last.events[-1].status is Status.WATCHING else engine_id
            holds = alive and order is not None and (order.owner, order.epoch) == (owner, epoch)
        what = f"engine {engine_id} wrote under epoch {epoch}, which is not its own"
        self._checks.check(_I.ONLY_THE_OWNER_WRITES, holds, what, order_id)

    def _check_view(self, merged: MergedRows) -> None:
        state = self.orders.get(merged.first.order_id).state
        holds = merged.last.view == state.view()
        self._checks.check(_I.PROJECTION_IS_THE_FOLD, holds, "its view is not the fold of its events", state.order_id)

    def _stored(self, stored: StoredEvent, engine_id: str) -> None:
        event, checks = stored.event, self._checks
        order_id = event.order_id
        order = self.orders.find(order_id)
        if order is None:
            order = self.orders.begin(order_id)
            self.answers.check_first(order_id)
        before = order.state.status
        self._trace.note(event.status.value, order_id, f"seq {event.seq}", f"attempt {event.attempt}", event.detail)
        checks.counts[_I.GAPLESS_AND_LEGAL] += 1
        try:
            self.orders.apply(order, stored, engine_id)
        except ValueError as error:
            checks.fail(_I.GAPLESS_AND_LEGAL, str(error), order_id)
            return
        match event.detail:
            case RoutingDetail(trigger=trigger):
                self._routed(order, event, before, trigger)
            case BuildingDetail() as detail:
                self._built(order, event, detail)
            case SubmittedDetail() as detail if detail.signature is not None:
                self._signed(order, event, before)
            case ConfirmedDetail() as detail if order.state.confirmed is not None and detail.filled_slices is None:
                self._confirmed(order, event, detail)
            case FailedDetail() as detail:
                holds = detail.code != FailureCode.INTERNAL
                checks.check(_I.NOTHING_BREAKS, holds, f"it failed by a defect: {detail.message}", order_id)
            case CancelledDetail():
                self.quiet.cancelled(event, order.state.view())
            case _:
                pass
        if event.status in UNFILLED:
            self._check_proven(order, _I.UNFILLED_IS_NOT_EXECUTED, f"it ended as {event.status}")
        elif event.status is not before and before is Status.SUBMITTED and event.status is not Status.CONFIRMED:
            self._check_proven(order, _I.PROVEN_BEFORE_SIGNING, f"it went on with {event.status}")

    def _routed(self, order: KnownOrder, event: Event, before: Status | None, trigger: Trigger | None) -> None:
        once = (trigger is not None) is (before is Status.WATCHING)
        self._checks.check(_I.FIRES_ONCE, once, f"it fired out of {before}", order.id)
        if trigger is not None and order.order is not None:
            self.firings.fired(order, order.order, event, trigger)
            self.families.fired(order, order.order)

    def _built(self, order: KnownOrder, event: Event, detail: BuildingDetail) -> None:
        if order.order is None:
            return
        order.least[event.attempt] = parse_amount(detail.min_amount_out, order.order.token_out.decimals)
        order.limits[event.attempt] = order.order.limit_out() or 0
        self.funds.built(order)

    def _signed(self, order: KnownOrder, event: Event, before: Status | None) -> None:
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

    def _check_proven(self, order: KnownOrder, invariant: Invariant, what: str) -> None:
        """Every signature of the order so far is known never to execute."""
        ledger = self.ledger
        for signature, transaction in order.signed.items():
            holds = ledger.never_executes(transaction)
            what_is = f"{what}, and {signature[:12]} {ledger.fate(transaction)}"
            self._checks.check(invariant, holds, what_is, order.id)

    def _confirmed(self, order: KnownOrder, event: Event, detail: ConfirmedDetail) -> None:
        checks, ledger, order_id = self._checks, self.ledger, event.order_id
        if detail.gone:
            self._check_proven(order, _I.CONFIRMED_IS_EXECUTED, "it was given up as lost")
        if detail.commitment == LOST or detail.resolved:
            return
        known = order.state.confirmed
        signature = known.tx_hash if known is not None else None
        executed = ledger.executed(signature)
        checks.check(_I.CONFIRMED_IS_EXECUTED, bool(executed), "confirmed, and it never executed", order_id)
        if detail.commitment == FINALIZED:
            row = ledger.rows.get(signature or "")
            final = row is not None and row.error is None and row.slot <= ledger.finalized_slot()
            checks.check(_I.CONFIRMED_IS_EXECUTED, final, "finalized, and the chain has it otherwise", order_id)
            executed = [row] if row is not None else []
        true = any(ledger.moved(order, row) for row in executed)
        checks.check(_I.AMOUNTS_ARE_TRUE, true, "the amounts reported are not those moved", order_id)

    def broke(self, what: str) -> None:
        """An error came out of the engine that is none of its own."""
        self._checks.fail(_I.NOTHING_BREAKS, what)

    # --- The chain

    def order_of(self, signature: str) -> str | None:
        """The order whose attempt it is, when that is on disk."""
        return self._owner_of.get(signature)

    def sent(self, transaction: SignedTransaction) -> None:
        """An engine hands a transaction to the chain."""
        order_id = self._owner_of.get(transaction.signature)
        known = self.orders.get(order_id).signed.get(transaction.signature) if order_id is not None else None
        self._checks.check(
            _I.DISK_BEFORE_CHAIN, known == transaction, f"{transaction.signature[:12]} was sent before", order_id
        )

    # --- The end

    def finish(self) -> None:
        """The world is healthy and time enough has passed: check the whole."""
        for order in self.orders:
            state = order.state
            self._checks.check(_I.EVERY_ORDER_ENDS, order.is_settled, f"it still is {state.status}", order.id)
            self._check_end(order)
            kept = self._database.orders.get(order.id)
            same = kept is not None and kept.view == state.view() and kept.events == order.history
            self._checks.check(_I.PROJECTION_IS_THE_FOLD, same, "the journal has it otherwise", order.id)
        self.families.finish()
        self._check_hashes()

    def _check_end(self, order: KnownOrder) -> None:
        state, checks = order.state, self._checks
        if order.order is not None and order.order.kind is Kind.TWAP:
            checks.check(_I.UNFILLED_IS_NOT_EXECUTED, not order.executed, "a sliced order swapped itself", order.id)
        elif state.status is Status.CONFIRMED and state.confirmed is not None and not state.confirmed.gone:
            [*rest] = order.executed
            true = rest == [state.confirmed.tx_hash] and self.ledger.moved(order, self.ledger.rows[rest[0]])
            checks.check(_I.CONFIRMED_IS_EXECUTED, true, "the chain has it otherwise", order.id)
        elif state.status is Status.CONFIRMED:
            checks.check(_I.CONFIRMED_IS_EXECUTED, not order.executed, "lost, and it executed", order.id)
        elif state.status in ENDS:
            checks.check(_I.UNFILLED_IS_NOT_EXECUTED, not order.executed, "its swap executed", order.id)

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
        self._referee.ledger.landed(batch)
