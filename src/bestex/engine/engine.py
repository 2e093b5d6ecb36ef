"""The engine: intake, dispatch, executor, landing and recovery, put together."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from bestex.domain.errors import AppendRefusedError, JournalError, NotFoundError
from bestex.domain.events import AttemptStory, CancelledDetail, Event, SubmittedDetail
from bestex.domain.lifecycle import Status
from bestex.domain.orders import OrderState, OrderView, fold
from bestex.domain.tokens import TokenRegistry
from bestex.engine.decision import Done, Execute, decide
from bestex.engine.dispatch import InlineDispatcher
from bestex.engine.errors import AlreadyEndedError, JournalBehindError
from bestex.engine.executor import Executor
from bestex.engine.intake import Intake, IntakeLimits
from bestex.engine.landing import Landing, LandingLimits
from bestex.engine.order_log import OrderLog
from bestex.engine.patience import PatientChain
from bestex.engine.recovery import Recovery
from bestex.engine.retry import RetryPolicy
from bestex.engine.signing import SigningGate
from bestex.ports import Append, Chain, Clock, Ids, Journal, Lease
from bestex.routing.router import Router

CANCEL_TRIES: Final = 20
REFOLD_PAUSE_S: Final = 0.5
SWEEP_EVERY_S: Final = 5.0
HELD_PAGE: Final = 1_000

_log = structlog.get_logger(__name__)


class Recovered:
    """What a recovery found: unsettled orders by what they need."""

    def __init__(self) -> None:
        self.total = 0  # orders to recover together, as counted at the start
        self.orders = 0  # recovered so far
        self.to_execute = 0  # nothing of them is open: dispatched again
        self.to_prove = 0  # an attempt is open: its bytes go out again, and it is looked up
        self.to_finalize = 0  # confirmed, and followed until final

    def count(self, status: Status | None) -> None:
        match status:
            case Status.SUBMITTED:
                self.to_prove += 1
            case Status.CONFIRMED:
                self.to_finalize += 1
            case _:
                self.to_execute += 1


class EngineLimits(msgspec.Struct, frozen=True):
    concurrency: int = 1_000  # orders executing at once; those that wait for proof are not counted
    intake: IntakeLimits = IntakeLimits()
    landing: LandingLimits = LandingLimits()
    retry: RetryPolicy = RetryPolicy()
    build_deadline_s: float = 5.0  # for a venue to build and sign
    chain_deadline_s: float = 5.0  # for an answer of the chain's endpoint


class Engine:
    """Executes the orders that it accepts, and those that a dead engine left."""

    def __init__(
        self,
        journal: Journal,
        router: Router,
        chain: Chain,
        tokens: TokenRegistry,
        clock: Clock,
        ids: Ids,
        limits: EngineLimits,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self.dispatcher = InlineDispatcher(limits.concurrency)
        self.chain = patient = PatientChain(chain, limits.chain_deadline_s)
        self.gate = SigningGate()
        self.landing = Landing(patient, clock, ids, limits.landing, self._not_executed, self.refold)
        self._executor = Executor(router, self.landing, self.gate, limits.retry, limits.build_deadline_s, clock, ids)
        self._recovery = Recovery(journal, clock, tokens, self.gate)
        self._recovering = False
        self._strays: dict[str, int] = {}  # unsettled orders that nobody here was at, when last swept; with their seq
        self.intake = Intake(
            journal,
            clock,
            ids,
            limits.intake,
            self.gate,
            lambda: self.dispatcher.waiting,
            lambda: self.open_orders,
            self._go_on,
        )

    @property
    def open_orders(self) -> int:
        """Orders that execute, wait to, wait for proof, or are held by a halt."""
        return self.dispatcher.waiting + self.dispatcher.executing + len(self.landing) + len(self.gate.held)

    async def run(self) -> None:
        """Land what has been sent and sweep up what was left, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.landing.run())
            tasks.create_task(self._sweep_regularly())

    async def recover(self, on_progress: Callable[[Recovered, int], None] | None = None) -> Recovered:
        """Take over the unsettled orders that no living engine holds, however often it takes; what became of them.

        `on_progress` gets what has been recovered so far, and how many orders there are to recover together.
        """
        recovered = Recovered()
        found: list[OrderLog] = []  # gone on with once all are there: their execution would slow the rest down
        self._recovering = True
        try:
            while claimed := await self._claim_patiently(found, recovered):
                recovered.orders += claimed
                if on_progress is not None:
                    on_progress(recovered, max(recovered.total, recovered.orders))
        finally:
            self._recovering = False
            for log in found:
                self._go_on(log)
        return recovered

    async def _claim_patiently(self, found: list[OrderLog], recovered: Recovered) -> int:
        """Claim the next orders, however often it takes, into `found`; how many leases were had."""
        while True:
            try:
                if not recovered.total:
                    recovered.total = await self._journal.unsettled()
                claimed, logs = await self._recovery.claim()
            except JournalError as error:
                _log.warning("recovery.interrupted", recovered_orders=recovered.orders, error=str(error))
                await self._clock.sleep(REFOLD_PAUSE_S)
                continue
            for log in logs:
                recovered.count(log.state.status)
            found += logs
            return claimed

    async def sweep(self) -> int:
        """Take up the unsettled orders that nobody is at: a dead engine's, and our own that were lost; how many.

        Of our own, those that stood still since the last sweep and are neither dispatched nor landing. Should one
        be under way all the same, compare-and-set lets only one of the two go on.
        """
        taken, logs = await self._recovery.claim()
        for log in logs:
            self._go_on(log)
        busy = self.dispatcher.order_ids() | self.landing.order_ids() | self.gate.held
        strays: dict[str, int] = {}
        lost: list[Lease] = []
        after: str | None = None
        while page := await self._journal.held(after, HELD_PAGE):
            after = page[-1].order_id
            for held in page:
                if held.order_id in busy:
                    continue
                if self._strays.get(held.order_id) == held.seq:
                    lost.append(Lease(held.order_id, held.epoch))
                else:
                    strays[held.order_id] = held.seq
        self._strays = strays
        for start in range(0, len(lost), HELD_PAGE):
            for log in await self._recovery.read(lost[start : start + HELD_PAGE]):
                self._go_on(log)
        return taken + len(lost)

    async def _sweep_regularly(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_EVERY_S)
            if self._recovering:
                continue
            try:
                if taken := await self.sweep():
                    _log.warning("engine.swept", orders=taken)
            except JournalError as error:
                _log.warning("engine.sweep_failed", error=str(error))

    async def drain(self, seconds: float) -> None:
        """Take no more orders and bring those that execute to a safe point, for at most `seconds`.

        What is not signed yet stops where it stands; what is, is sent first.
        """
        self.intake.closed = True
        await self.dispatcher.drain(seconds, self._executor.submitting)

    async def stop(self) -> None:
        """Take no more orders and leave those that run where they stand."""
        self.intake.closed = True
        await self.dispatcher.stop()

    async def cancel(self, order_id: str) -> OrderView:
        """Cancel before signing at once; after it, note the wish: no further attempt is made.

        Raises `NotFoundError`, `AlreadyEndedError`, `JournalBehindError` as long as the order may have executed without
        the journal's knowing, or `JournalError` when the journal cannot be written.
        """
        for _ in range(CANCEL_TRIES):
            events = [stored.event for stored in await self._journal.events(order_id)]
            if not events:
                raise NotFoundError(f"there is no order {order_id}")
            state = fold(events)
            if state.ended:
                raise AlreadyEndedError(f"order {order_id} has ended as {state.status}")
            if state.cancel_requested:
                return state.view()
            if self.gate.journal_is_behind:
                raise JournalBehindError(f"order {order_id} may have executed: the journal is not reconciled yet")
            try:
                await self._append_cancel(state)
            except AppendRefusedError:
                continue  # the order moved on meanwhile: look again
            return state.view()
        raise JournalError(f"order {order_id} moved on {CANCEL_TRIES} times while it was to be cancelled")

    async def _append_cancel(self, state: OrderState) -> None:
        base_seq, base_status = state.seq, state.status
        signed = base_status is Status.SUBMITTED
        event = Event(
            order_id=state.order_id,
            seq=base_seq + 1,
            status=Status.SUBMITTED if signed else Status.CANCELLED,
            attempt=state.attempt,
            at_us=self._clock.now_us(),
            detail=SubmittedDetail(cancel_requested=True) if signed else CancelledDetail("client"),
        )
        state.apply(event)
        await self._journal.append(Append(state.order_id, base_seq, base_status, None, (event,), state.view()))

    def _go_on(self, log: OrderLog) -> None:
        decision = decide(log.state, log.transaction, None)
        match decision:
            case Done():
                return
            case Execute():
                self.dispatcher.dispatch(log.order.id, lambda: self._executor.execute(log))
            case _:
                self.landing.resume(log)

    def _not_executed(self, log: OrderLog, story: AttemptStory) -> None:
        self.dispatcher.dispatch(log.order.id, lambda: self._executor.execute(log, story))

    def refold(self, order_id: str) -> None:
        """Read an order anew and go on from there, if this engine still holds it."""
        self.dispatcher.dispatch(f"{order_id} refold", lambda: self._read_again(order_id))

    async def _read_again(self, order_id: str) -> None:
        while True:
            try:
                row = await self._journal.order(order_id)
                if row is None or row.lease_owner != self._journal.engine_id:
                    return
                logs = await self._recovery.read([Lease(order_id, row.lease_epoch)])
            except JournalError as error:
                _log.warning("order.read_again_failed", order_id=order_id, error=str(error))
                await self._clock.sleep(REFOLD_PAUSE_S)
                continue
            for log in logs:
                self._go_on(log)
            return
