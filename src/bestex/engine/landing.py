"""Landing: from signed bytes on disk to proof of what became of them, and on to finality.

Every order whose transaction is not proven or not final stands in one table, outside the executors' concurrency
limit. Statuses are looked up in batches, and `decide` says what they mean; the same bytes are sent again while their
blockhash lives. While the outcome stays unknown, a note on the order says what is known and when the next look is.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, assert_never

import msgspec
import structlog

from bestex.domain.errors import AppendRefusedError, JournalError
from bestex.domain.events import (
    FINALIZED,
    LOST,
    AttemptStory,
    ConfirmedDetail,
    SignedTransaction,
    SubmittedDetail,
    timestamp_text,
)
from bestex.domain.lifecycle import Status
from bestex.domain.orders import Order
from bestex.domain.route import Fill
from bestex.engine.decision import Answer, Confirm, Done, Execute, Finalize, GiveUp, Look, Lose, decide
from bestex.engine.fills import confirmed_detail, note_of
from bestex.engine.landing_table import LandingTable, Waiting
from bestex.engine.order_log import OrderLog
from bestex.ports import Append, BlockHeight, Chain, Clock, Ids, TransactionStatus

MAX_SIGNATURES_A_CALL: Final = 256
LOOKS_AT_ONCE: Final = 8
SENDS_AT_ONCE: Final = 32
FINALITY_TICKS: Final = 16  # within `finality_every_s`

_NO_ANSWER: Final = "the chain's endpoint does not answer"

_log = structlog.get_logger(__name__)


class LandingLimits(msgspec.Struct, frozen=True):
    look_every_s: float = 1.0  # at every signature that no hint came for
    look_pause_s: float = 5.0  # the same, once there is a note that its outcome is unknown
    finality_every_s: float = 4.0  # at confirmed transactions that are not final
    resend_every_s: float = 2.0  # the same bytes, give or take a quarter at random
    note_after_s: float = 10.0  # the first note on an unknown outcome; each further one waits twice as long
    note_pause_max_s: float = 600.0

    @classmethod
    def looking_every(cls, look_every_s: float) -> "LandingLimits":
        """The pauses that go with looking this often: all but those of the notes, which are for people."""
        return cls(
            look_every_s=look_every_s,
            look_pause_s=5 * look_every_s,
            finality_every_s=4 * look_every_s,
            resend_every_s=2 * look_every_s,
        )


class Landing:
    """The table of transactions that are not final."""

    def __init__(
        self,
        chain: Chain,
        clock: Clock,
        ids: Ids,
        limits: LandingLimits,
        not_executed: Callable[[OrderLog, AttemptStory], None],
        refold: Callable[[str], None],
        exits_of: Callable[[Order, ConfirmedDetail], Append | None],
        watch: Callable[[str], None],
    ) -> None:
        """`not_executed` gets orders whose attempt is proven not executed, `refold` the ids of those to read anew.

        `exits_of` gives the order that an executed entry brings with it, and `watch` gets its id once it is on disk.
        """
        self._exits_of = exits_of
        self._watch = watch
        self._chain = chain
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._not_executed = not_executed
        self._refold = refold
        self._table = LandingTable()
        self._hinted: list[str] = []
        self._sending: set[asyncio.Future[None]] = set()  # first sends that have to wait for the endpoint
        self._wake = asyncio.Event()
        chain.on_status(self._hint)

    def __len__(self) -> int:
        """How many wait for proof; those that wait for finality are not counted."""
        return len(self._table.open)

    @property
    def confirmed(self) -> int:
        """How many are confirmed and wait for finality."""
        return len(self._table.confirmed)

    def order_ids(self) -> set[str]:
        """The orders in the table."""
        return self._table.order_ids()

    async def land(self, log: OrderLog, transaction: SignedTransaction) -> None:
        """Send a transaction whose `submitted` event has been committed, and follow it."""
        await self._send(self._follow(log, transaction))

    def land_at_once(self, log: OrderLog, transaction: SignedTransaction) -> None:
        """The same without waiting: where the endpoint has to be waited for, a task does."""
        waiting = self._follow(log, transaction)
        try:
            sent = self._chain.send_at_once(transaction)
        except Exception as error:  # noqa: BLE001 -- whatever broke, the bytes may have arrived
            _log.info("landing.send_unknown", signature=transaction.signature, error=repr(error))
            sent = True
        if sent:
            log.sent()
            return
        sending = asyncio.ensure_future(self._send(waiting))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def resume(self, log: OrderLog) -> None:
        """Follow the latest transaction of an order read from the journal; an open one's bytes go out again."""
        if log.transaction is None:
            raise ValueError(f"order {log.order.id} has no signed transaction")
        self._wait_for(log, log.transaction)
        self._hint((log.transaction.signature,))

    def reload(self, log: OrderLog) -> None:
        """Give up this view of an order: its next step depends on what another wrote."""
        if log.transaction is not None:
            self.forget(log.transaction.signature)
        self._refold(log.order.id)

    def forget(self, signature: str) -> None:
        """Follow a transaction no more."""
        self._table.forget(signature)

    async def run(self) -> None:
        """Follow hints and look at the whole table regularly, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_hints())
            tasks.create_task(self._look_regularly())
            tasks.create_task(self._look_for_finality())

    def _wait_for(self, log: OrderLog, transaction: SignedTransaction) -> Waiting:
        waiting = Waiting(log, transaction, self._clock.monotonic(), self._limits.note_after_s)
        self._table.put(waiting)
        return waiting

    def _follow(self, log: OrderLog, transaction: SignedTransaction) -> Waiting:
        """Enter a transaction that is sent now."""
        waiting = self._wait_for(log, transaction)
        waiting.look_at += self._limits.look_every_s
        waiting.resend_at = self._next_resend()
        return waiting

    # --- Sending

    def _next_resend(self) -> float:
        return self._clock.monotonic() + self._limits.resend_every_s * (0.75 + self._ids.fraction() / 2)

    async def _send(self, waiting: Waiting) -> None:
        """Hand the bytes over. Whatever the endpoint says, what became of them is unknown until looked up."""
        try:
            await self._chain.send(waiting.transaction)
        except Exception as error:  # noqa: BLE001 -- whatever broke, the bytes may have arrived
            _log.info("landing.send_unknown", signature=waiting.transaction.signature, error=repr(error))
        waiting.log.sent()

    async def _resend(self, due: Sequence[Waiting]) -> None:
        for start in range(0, len(due), SENDS_AT_ONCE):
            still = [waiting for waiting in due[start : start + SENDS_AT_ONCE] if self._table.holds(waiting)]
            for waiting in still:
                waiting.resend_at = self._next_resend()
            await asyncio.gather(*map(self._send, still))

    # --- Looking

    def _hint(self, signatures: Sequence[str]) -> None:
        self._hinted.extend(signatures)
        self._wake.set()

    async def _follow_hints(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            hinted, self._hinted = self._hinted, []
            known = [waiting for signature in hinted if (waiting := self._table.find(signature))]
            await self._look_at(known, None)

    async def _look_regularly(self) -> None:
        while True:
            await self._clock.sleep(self._limits.look_every_s)
            now = self._clock.monotonic()
            await self._look_at_due([waiting for waiting in self._table.open.values() if waiting.look_at <= now])

    async def _look_for_finality(self) -> None:
        """A few at a time: what becomes final at once must not crowd out those that wait for a commit."""
        tick_s = self._limits.finality_every_s / FINALITY_TICKS
        while True:
            await self._clock.sleep(tick_s)
            answered = True
            while answered and (due := self._table.due_for_finality(self._clock.monotonic(), MAX_SIGNATURES_A_CALL)):
                at = self._clock.monotonic() + self._limits.finality_every_s
                for waiting in due:
                    self._table.look_later(waiting, at)
                answered = await self._look_at_due(due)
                await self._clock.sleep(0)

    async def _look_at_due(self, due: Sequence[Waiting]) -> bool:
        """Look at these, with the height that a proof of expiry needs; whether the endpoint answered."""
        if not due:
            return True
        try:
            height = await self._chain.finalized_height()
        except Exception as error:  # noqa: BLE001 -- unreachable or broken, nothing is proven: look again
            self._unanswered(due, error)
            return False
        await self._look_at(due, height)
        return True

    async def _look_at(self, waiting: Sequence[Waiting], height: BlockHeight | None) -> None:
        """Look statuses up and act on what is proven; `height` was read before, for the proof of expiry."""
        batches = [
            waiting[start : start + MAX_SIGNATURES_A_CALL] for start in range(0, len(waiting), MAX_SIGNATURES_A_CALL)
        ]
        if len(batches) == 1:
            await self._look_up(batches[0], height)
            return
        for start in range(0, len(batches), LOOKS_AT_ONCE):
            await asyncio.gather(*(self._look_up(batch, height) for batch in batches[start : start + LOOKS_AT_ONCE]))

    async def _look_up(self, batch: Sequence[Waiting], height: BlockHeight | None) -> None:
        try:
            report = await self._chain.statuses([each.transaction.signature for each in batch])
        except Exception as error:  # noqa: BLE001 -- unreachable or broken, the statuses are unknown: look again
            self._unanswered(batch, error)
            return
        executed: list[tuple[Waiting, Confirm]] = []
        unseen: list[Waiting] = []
        for each, status in zip(batch, report.statuses, strict=True):
            if not self._table.holds(each):
                continue
            if status is not None:
                each.log.seen()
            try:
                decision = decide(each.log.state, each.transaction, Answer(status, report, height))
                match decision:
                    case Confirm():
                        executed.append((each, decision))
                    case Look(resend=True) if each.resend_at <= self._clock.monotonic() and each.transaction.raw:
                        self._look_again(each, decision.known)
                        unseen.append(each)
                    case _:
                        self._act(each, decision)
            except Exception:  # noqa: BLE001 -- one order's defect must not stop the others: it stays, unknown
                _log.exception("landing.defect", order_id=each.log.order.id, signature=each.transaction.signature)
        if executed:
            await self._confirm(executed)
        if unseen:
            await self._resend(unseen)

    def _unanswered(self, waiting: Iterable[Waiting], error: Exception) -> None:
        _log.warning("landing.chain_unreachable", transactions=len(self._table), error=repr(error))
        for each in waiting:
            if self._table.holds(each):
                self._look_again(each, _NO_ANSWER)

    # --- Acting on what is known

    def _act(self, waiting: Waiting, decision: Look | Done | Execute | GiveUp | Finalize | Lose) -> None:
        match decision:
            case Look(known=known):
                self._look_again(waiting, known)
            case GiveUp(code=code, message=message):
                self.forget(waiting.transaction.signature)
                self._not_executed(waiting.log, waiting.log.story(code, message))
            case Finalize():
                self._note(waiting, ConfirmedDetail(commitment=FINALIZED))
            case Lose(note=note, gone=gone):
                _log.warning("order.lost", order_id=waiting.log.order.id, note=note, gone=gone)
                self._note(waiting, ConfirmedDetail(commitment=LOST, note=note, gone=gone))
            case Done() | Execute():
                self.reload(waiting.log)
            case _:
                assert_never(decision)

    def _look_again(self, waiting: Waiting, known: str) -> None:
        """Set the time of the next look; say on the order what is known when that is due."""
        limits, now = self._limits, self._clock.monotonic()
        if not waiting.is_open:
            return
        if now < waiting.note_at:
            noted = waiting.note_pause_s > limits.note_after_s
            waiting.look_at = now + (limits.look_pause_s if noted else limits.look_every_s)
        else:
            waiting.note_pause_s = min(2 * waiting.note_pause_s, limits.note_pause_max_s)
            waiting.note_at = now + waiting.note_pause_s
            waiting.look_at = now + limits.look_pause_s
            next_look = timestamp_text(self._clock.now_us() + int(limits.look_pause_s * 1e6))
            self._record(waiting, Status.SUBMITTED, SubmittedDetail(note=known, next_look_at=next_look))

    async def _confirm(self, executed: Sequence[tuple[Waiting, Confirm]]) -> None:
        """Read what the swaps did, and record it."""
        seqs = [waiting.log.state.seq for waiting, _ in executed]
        try:
            fills = await self._chain.fills([waiting.transaction.signature for waiting, _ in executed])
        except Exception as error:  # noqa: BLE001 -- unreachable or broken, the amounts are unknown: look again
            if len(executed) > 1:  # one that cannot be read must not keep the others
                await asyncio.gather(*(self._confirm([each]) for each in executed))
            else:
                self._unanswered([waiting for waiting, _ in executed], error)
            return
        for (waiting, confirm), seq, fill in zip(executed, seqs, fills, strict=True):
            # While the chain was asked, the other look at the table may have concluded.
            if not self._table.holds(waiting) or waiting.log.state.seq != seq:
                continue
            if fill is None:
                self._look_again(waiting, "the chain shows it executed, and not yet what it did")
                continue
            try:
                self._note(waiting, self._filled(waiting, confirm.status, fill))
            except Exception:  # noqa: BLE001 -- one order's defect must not stop the others: it stays, unknown
                _log.exception("landing.defect", order_id=waiting.log.order.id)

    def _filled(self, waiting: Waiting, status: TransactionStatus, fill: Fill) -> ConfirmedDetail:
        log = waiting.log
        detail = confirmed_detail(
            log.order,
            log.state.building,
            waiting.transaction.signature,
            fill,
            commitment=status.commitment.value,
            slot=status.slot,
            note=None if waiting.is_open else "it landed again, in another block",
            timings=log.timings(),
        )
        return detail if waiting.is_open else note_of(detail)

    def _note(self, waiting: Waiting, detail: ConfirmedDetail) -> None:
        """Record what is known of an executed swap; it stays in the table until it is final."""
        exits = self._exits_of(waiting.log.order, detail) if waiting.is_open else None
        if self._record(waiting, Status.CONFIRMED, detail, exits):
            waiting.look_at = self._clock.monotonic() + self._limits.finality_every_s
            self._table.put(waiting)

    def _record(
        self,
        waiting: Waiting,
        status: Status,
        detail: ConfirmedDetail | SubmittedDetail,
        companion: Append | None = None,
    ) -> bool:
        """Append to the order's log; False when the order has moved on, and is read anew."""
        log = waiting.log
        try:
            appended = log.record(status, detail, companion=companion)
        except JournalError:
            self.reload(log)
            return False
        if not log.state.settled:  # else nothing comes after it; should it be refused, the sweep finds the order
            appended.add_done_callback(partial(self._recorded, log))
        if companion is not None:
            appended.add_done_callback(partial(self._made, companion.order_id))
        return True

    def _made(self, order_id: str, appended: "asyncio.Future[int]") -> None:
        """The exits are on disk with their entry; where they are not, another view of the entry makes them."""
        if not appended.cancelled() and appended.exception() is None:
            self._watch(order_id)

    def _recorded(self, log: OrderLog, appended: "asyncio.Future[int]") -> None:
        """What was refused is decided again on what stands in the journal; of other errors the sweep does it."""
        if not appended.cancelled() and isinstance(appended.exception(), AppendRefusedError):
            self.reload(log)
