"""Execution: the orders whose leases this engine holds, from where they stand to their settled end.

What a dead engine left is recovered, and a sweep takes up what was lost on the way.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from bestex.domain.errors import JournalError
from bestex.domain.events import AttemptStory, ConfirmedDetail, StoredEvent
from bestex.domain.lifecycle import Status
from bestex.domain.orders import Order
from bestex.domain.tokens import TokenRegistry
from bestex.engine.decision import Done, Execute, decide
from bestex.engine.executor import Executor
from bestex.engine.exits import exits_append
from bestex.engine.funds import Funds
from bestex.engine.intake import CALLER, IntakeLimits
from bestex.engine.landing import Landing, LandingLimits
from bestex.engine.order_log import OrderLog
from bestex.engine.patience import PatientChain
from bestex.engine.rearming import RearmPolicy
from bestex.engine.recovery import Recovery
from bestex.engine.retry import RetryPolicy
from bestex.engine.run_queue import RunQueue
from bestex.engine.signing import SigningGate
from bestex.ports import Append, Chain, Clock, Ids, Journal, Lease, Wallet
from bestex.routing.router import Router

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
    rearming: RearmPolicy = RearmPolicy()
    funds_patience_s: float = 30.0  # for other orders to let go of what they are about to spend
    build_deadline_s: float = 5.0  # for a venue to build and sign
    chain_deadline_s: float = 5.0  # for an answer of the chain's endpoint


class Execution:
    """Executes and lands."""

    def __init__(
        self,
        journal: Journal,
        router: Router,
        chain: Chain,
        wallet: Wallet,
        tokens: TokenRegistry,
        clock: Clock,
        ids: Ids,
        limits: EngineLimits,
        gate: SigningGate,
        rest: Callable[[OrderLog], None],
        watch: Callable[[str], None],
        handed_back: Callable[[int], None] | None = None,
    ) -> None:
        """`rest` gets the orders that are watched again, `watch` the ids of those that may be by now.

        With `handed_back` orders are handed back for the pauses between their attempts; it gets when each of these
        pauses ends, Unix microseconds.
        """
        self._handed_back = handed_back
        self._journal = journal
        self._clock = clock
        self._gate = gate
        self._rest = rest
        self._watch = watch
        self.dispatcher = RunQueue(limits.concurrency)
        self.chain = patient = PatientChain(chain, limits.chain_deadline_s)
        self.funds = Funds(wallet, limits.funds_patience_s)
        self.recovery = Recovery(journal, clock, tokens, gate)
        self.landing = Landing(
            patient, clock, ids, limits.landing, self._not_executed, self.refold, self.exits_of, watch
        )
        self._executor = Executor(
            router,
            self.landing,
            gate,
            self.funds,
            limits.retry,
            limits.rearming,
            limits.build_deadline_s,
            clock,
            ids,
            rest,
            None if handed_back is None else self._let_go,
        )
        self._recovering = False
        self._strays: dict[str, int] = {}  # unsettled orders that nobody here was at, when last swept; with their seq

    @property
    def open_orders(self) -> int:
        """Orders that execute, wait to, wait for proof, or are held by a halt."""
        return self.dispatcher.waiting + self.dispatcher.executing + len(self.landing) + len(self._gate.held)

    @property
    def submitting(self) -> int:
        """Orders that are signed, and whose signatures are on their way to disk."""
        return len(self._executor.submitting)

    async def run(self) -> None:
        """Land what has been sent and sweep up what was left, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.landing.run())
            tasks.create_task(self._sweep_regularly())

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Follow what has been committed; a listener of the journal."""
        self.funds.committed(events)

    async def recover(self, on_progress: Callable[[Recovered, int], None] | None = None) -> Recovered:
        """Take over the unsettled orders that no living engine holds, however often it takes; what became of them.

        `on_progress` gets what has been recovered so far, and how many orders there are to recover together.
        """
        recovered = Recovered()
        found: list[OrderLog] = []  # gone on with once all are there: their execution would slow the rest down
        self._recovering = True
        self.funds.taking_over()
        try:
            while claimed := await self._claim_patiently(found, recovered):
                recovered.orders += claimed
                if on_progress is not None:
                    on_progress(recovered, max(recovered.total, recovered.orders))
        finally:
            self._recovering = False
            for log in found:
                self.go_on(log)
            self.funds.taken_over()
        return recovered

    async def _claim_patiently(self, found: list[OrderLog], recovered: Recovered) -> int:
        """Claim the next orders, however often it takes, into `found`; how many leases were had."""
        while True:
            try:
                if not recovered.total:
                    recovered.total = await self._journal.unsettled()
                claimed, logs = await self.recovery.claim()
            except JournalError as error:
                _log.warning("recovery.interrupted", recovered_orders=recovered.orders, error=str(error))
                await self._clock.sleep(REFOLD_PAUSE_S)
                continue
            for log in logs:
                recovered.count(log.state.status)
            found += logs
            return claimed

    async def sweep(self) -> int:
        """Take up the unsettled orders that nobody is at: a dead engine's, and our own that were lost; how many."""
        taken, logs = await self.recovery.claim()
        for log in logs:
            self.go_on(log)
        return taken + await self.take_up_strays()

    async def take_up_strays(self) -> int:
        """Of the orders that this engine holds, take up those that nobody here is at; how many.

        Those that stood still since the last call and are neither dispatched nor landing. Should one be under way all
        the same, compare-and-set lets only one of the two go on.
        """
        busy = self.dispatcher.order_ids() | self.landing.order_ids() | self._gate.held
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
            for log in await self.recovery.read(lost[start : start + HELD_PAGE]):
                self.go_on(log)
        return len(lost)

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
        """Bring the orders that execute to a safe point, for at most `seconds`.

        What is not signed yet stops where it stands; what is, is sent first.
        """
        await self.dispatcher.drain(seconds, self._executor.submitting)

    async def stop(self) -> None:
        """Leave those that run where they stand."""
        await self.dispatcher.stop()

    def _let_go(self, order_id: str, due_us: int) -> None:
        """An order has been handed back for a pause; another may take it up."""
        self.funds.release(order_id)
        if self._handed_back is not None:
            self._handed_back(due_us)

    def fired(self, log: OrderLog) -> None:
        """Execute a watched order that has just fired."""
        self.dispatcher.dispatch(log.order.id, lambda: self._executor.execute(log, fired=True))

    def exits_of(self, entry: Order, confirmed: ConfirmedDetail) -> Append | None:
        """The rows that make the exits of an executed entry, to be stored with its `confirmed`; None without exits."""
        if entry.terms.exits is None:
            return None
        return exits_append(self._journal, self._clock, entry, confirmed, CALLER)

    def go_on(self, log: OrderLog) -> None:
        """Take an order up where it stands."""
        if log.state.status is Status.WATCHING:
            self._rest(log)
            return
        decision = decide(log.state, log.transaction, None)
        match decision:
            case Done():
                self.funds.release(log.order.id)  # it may have ended while it waited for them
            case Execute():
                self.dispatcher.dispatch(
                    log.order.id,
                    lambda: self._executor.execute(log, fired=log.has_begun),
                    lambda: self._executor.execute_at_once(log),
                )
            case _:
                if log.state.status is Status.SUBMITTED:
                    self.funds.hold(log.order)
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
                    self.funds.release(order_id)
                    if row is not None and row.view.status == Status.WATCHING:
                        self._watch(order_id)  # it waits again; else another executes it
                    return
                logs = await self.recovery.read([Lease(order_id, row.lease_epoch)])
            except JournalError as error:
                _log.warning("order.read_again_failed", order_id=order_id, error=str(error))
                await self._clock.sleep(REFOLD_PAUSE_S)
                continue
            for log in logs:
                self.go_on(log)
            return
