"""The operator's hand: halt and resume, resolve what stays unknown, reconcile a journal older than the world."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec
import structlog

from bestex.domain.errors import AppendRefusedError, BestexError, JournalError
from bestex.domain.events import LOST, ConfirmedDetail, Detail, Event
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView, fold
from bestex.domain.orders import Order, order_as_it_stands
from bestex.domain.tokens import TokenRegistry
from bestex.engine.errors import JournalBehindError, NotHaltedError
from bestex.engine.order_log import absent, open_transaction
from bestex.engine.reconciliation import Progress, Reconciled, Reconciliation
from bestex.engine.resolution import (
    Resolution,
    check_it_did_not,
    check_unknown,
    executed_detail,
    fill_of,
    look,
    not_executed_detail,
    signed_signatures,
)
from bestex.engine.signing import SigningGate
from bestex.ports import Append, Chain, Clock, Halt, HaltCause, Journal, Wallet

APPEND_TRIES: Final = 20

_log = structlog.get_logger(__name__)


class ReconcileState(msgspec.Struct):
    """How the last reconciliation of this process stands."""

    running: bool = False
    progress: Progress | None = None
    result: Reconciled | None = None
    error: str | None = None


class Operated(Protocol):
    """The engine as a person's hand reaches it."""

    @property
    def gate(self) -> SigningGate: ...

    @property
    def open_orders(self) -> int: ...

    def refold(self, order_id: str) -> None:
        """Read an order anew and go on from there, if this engine holds it."""

    def resolved(self, signature: str, exits: str | None) -> None:
        """A person has said what became of a transaction; with the id of the exits that came with it."""

    def exits_of(self, entry: Order, confirmed: ConfirmedDetail) -> Append | None:
        """The rows that make the exits of an executed entry."""

    async def sweep(self) -> int:
        """Take up the unsettled orders that nobody is at; how many."""


class Operator:
    """What a person may do to a running engine."""

    def __init__(
        self,
        engine: Operated,
        journal: Journal,
        chain: Chain,
        wallet: Wallet,
        tokens: TokenRegistry,
        clock: Clock,
        republish: Callable[[], Awaitable[None]],
    ) -> None:
        """`republish` publishes the log's head anew, after a reconciliation has made it another history's."""
        self._engine = engine
        self._journal = journal
        self._chain = chain
        self._tokens = tokens
        self._clock = clock
        self._republish = republish
        self._reconciliation = Reconciliation(journal, chain, wallet, tokens, clock)
        self._reconciling: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # of halt and resume: the gate must end as the journal says
        self._resuming = False
        self.reconcile_state = ReconcileState()

    @property
    def halt_in_force(self) -> Halt | None:
        return self._engine.gate.halt

    @property
    def open_orders(self) -> int:
        return self._engine.open_orders

    async def halt(self, reason: str, cause: HaltCause = HaltCause.OPERATOR) -> Halt:
        """Have nothing signed from now on, over restarts too; what was signed is still resolved. The halt in force."""
        async with self._turn:
            await self._journal.halt(reason, cause)
            return await self.obey() or Halt(reason, cause, self._clock.now_us())

    async def obey(self) -> Halt | None:
        """Close the gate when the journal has a halt; which."""
        halt = await self._journal.halted()
        if halt is not None:
            self._engine.gate.close(halt)
            _log.warning("engine.halted", reason=halt.reason, cause=halt.cause.value)
        return halt

    async def resume(self) -> None:
        """Sign again. `JournalBehindError` while the journal is behind its published head, or is being reconciled."""
        async with self._turn:
            if self._reconciling is not None and not self._reconciling.done():
                raise JournalBehindError("the journal is being reconciled: resume when that is done")
            self._resuming = True  # nothing may begin to be reconciled meanwhile
            try:
                await self._resume()
            finally:
                self._resuming = False

    async def _resume(self) -> None:
        await self._journal.resume()
        halt = await self.obey()
        if halt is not None and halt.cause is HaltCause.JOURNAL_BEHIND:
            raise JournalBehindError(f"{halt.reason}. Run `bestex reconcile` first.")
        if halt is not None:
            return  # somebody has ordered another one since
        _log.info("engine.resumed")
        for order_id in sorted(self._engine.gate.open()):
            self._engine.refold(order_id)

    async def resolve(self, order_id: str, resolution: Resolution) -> OrderView:
        """Record what a person decided of an order whose outcome is unknown.

        Raises `NotFoundError`, `NotUnknownError`, `ContradictedError`, `JournalBehindError`, or `JournalError`.
        """
        if self._engine.gate.journal_is_behind:
            raise JournalBehindError("the journal is not reconciled yet: another attempt may have executed")
        for _ in range(APPEND_TRIES):
            events = [stored.event for stored in await self._journal.events(order_id)]
            if not events:
                raise await absent(self._journal, order_id)
            try:
                return await self._resolve(events, resolution)
            except AppendRefusedError:
                continue  # the order moved on meanwhile: look again
        raise JournalError(f"order {order_id} moved on {APPEND_TRIES} times while it was to be resolved")

    async def _resolve(self, events: list[Event], resolution: Resolution) -> OrderView:
        state = fold(events)
        check_unknown(state)
        transaction = open_transaction(events)
        if transaction is None:
            raise ValueError(f"order {state.order_id} is {state.status} without a signed transaction")
        answer = await look(self._chain, transaction.signature)
        status: Status
        detail: Detail
        if resolution.executed is not None:
            signed = signed_signatures(events)
            if resolution.executed in signed and resolution.executed != transaction.signature:  # an earlier one
                check_it_did_not(resolution, transaction, answer)
                answer = await look(self._chain, resolution.executed)
            fill = await fill_of(self._chain, resolution.executed)
            order = order_as_it_stands(events, self._tokens)
            status = Status.CONFIRMED
            detail = executed_detail(order, state, resolution, signed, transaction, answer, fill)
        else:
            status, detail = not_executed_detail(state, resolution, transaction, answer)
        exits = None
        if isinstance(detail, ConfirmedDetail) and state.confirmed is None and detail.commitment != LOST:
            exits = self._engine.exits_of(order_as_it_stands(events, self._tokens), detail)
        view = await self._append(events[-1], state.attempt, status, detail, events, exits)
        self._engine.resolved(transaction.signature, exits.order_id if exits is not None else None)
        _log.warning("order.resolved", order_id=state.order_id, executed=resolution.executed, note=resolution.note)
        return view

    async def _append(
        self,
        last: Event,
        attempt: int,
        status: Status,
        detail: Detail,
        events: list[Event],
        companion: Append | None,
    ) -> OrderView:
        event = Event(last.order_id, last.seq + 1, status, attempt, self._clock.now_us(), detail)
        view = fold([*events, event]).view()
        append = Append(last.order_id, last.seq, last.status, None, (event,), view, companion=companion)
        await self._journal.append(append)
        return view

    def start_reconciling(self, caller: str) -> None:
        """Begin in the background; `reconcile_state` tells how it goes. `NotHaltedError` while anything is signed.

        Does nothing while one is running.
        """
        if self.halt_in_force is None or self._resuming:
            raise NotHaltedError("halt it first: `bestex halt`")
        if self._reconciling is None or self._reconciling.done():
            self.reconcile_state = ReconcileState(running=True)
            self._reconciling = asyncio.get_running_loop().create_task(self._reconcile(caller, self.reconcile_state))

    async def stop(self) -> None:
        if self._reconciling is not None:
            self._reconciling.cancel()
            await asyncio.wait((self._reconciling,))

    async def _reconcile(self, caller: str, state: ReconcileState) -> None:
        def on_progress(progress: Progress) -> None:
            state.progress = progress

        try:
            result = await self._reconciliation.run(caller, on_progress)
            for order_id in result.adopted:
                self._engine.refold(order_id)
            await self._engine.sweep()  # orders that the journal did not know are nobody's yet
            await self._republish()
            await self.halt("reconciled: look at what was adopted, then resume", HaltCause.RECONCILED)
            state.result = result
        except BestexError as error:
            _log.error("reconcile.failed", error=str(error))
            state.error = str(error)
        except Exception as error:  # noqa: BLE001 -- a person waits for the answer, and the engine goes on
            _log.exception("reconcile.defect")
            state.error = f"{type(error).__name__}: {error}"
        finally:
            state.running = False
