"""One order as its executor sees it: the fold of its events, and the writing of the next ones."""

import asyncio
from typing import Final

from bestex.domain.errors import AppendRefusedError, FailureCode, NotFoundError, OrderArchivedError
from bestex.domain.events import (
    AttemptStory,
    BuildingDetail,
    Detail,
    Event,
    FailedDetail,
    QuoteRecord,
    RoutingDetail,
    SignedTransaction,
    SubmittedDetail,
    Timings,
    Trigger,
    WatchingDetail,
    seal,
    unseal,
)
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order, changes_order, order_after
from bestex.ports import Append, BookLease, Clock, Journal, NewOrder

_FIRST_ROUTING: Final = RoutingDetail()


async def absent(journal: Journal, order_id: str) -> NotFoundError:
    """What to say of an order of which the journal has no event: archived, or never there. Raises `JournalError`."""
    archived = await journal.archived(order_id)
    if archived is not None:
        return OrderArchivedError(order_id, archived.file)
    return NotFoundError(f"there is no order {order_id}")


class OrderLog:
    """An order's state and the right to add to it. Once a row is refused it takes no more: fold the order anew."""

    __slots__ = (
        "_accept_ms",
        "_clock",
        "_committed_at",
        "_journal",
        "_last",
        "_seen_at",
        "_sent_at",
        "_signed_at",
        "epoch",
        "has_begun",
        "leased",
        "order",
        "state",
        "transaction",
    )

    def __init__(
        self, journal: Journal, clock: Clock, order: Order, state: OrderState, epoch: int, *, leased: bool = True
    ) -> None:
        """`epoch`: of the order's last lease; `leased`: whether this engine holds it. Nobody holds a watched one's."""
        self._journal = journal
        self._clock = clock
        self._last: asyncio.Future[int] | None = None
        self.order = order
        self.state = state
        self.epoch = epoch
        self.leased = leased
        self.has_begun = False  # its next attempt: whoever fired it or handed it back has recorded that
        self.transaction: SignedTransaction | None = None  # of the latest attempt that was signed
        self._accept_ms: float | None = None
        self._signed_at: float | None = None  # this and the next: of the attempt, by the clock's `monotonic`
        self._committed_at: float | None = None
        self._sent_at: float | None = None
        self._seen_at: float | None = None

    def accept(self, new: NewOrder) -> "asyncio.Future[int]":
        """Append the order itself; one that rests waits from its first commit on."""
        self._last = self._journal.append(self.draft_new(new))
        return self._last

    def draft_new(self, new: NewOrder) -> Append:
        """The rows of the order itself."""
        order = self.order
        sealed = seal(order.sealed_tokens())
        first = Event(order.id, 1, Status.PENDING, 0, order.created_us, order.pending_detail(), sealed)
        events: tuple[Event, ...] = (first,)
        if order.rests:
            self.leased = False
            events = (first, Event(order.id, 2, Status.WATCHING, 0, order.created_us, WatchingDetail()))
        for event in events:
            self.state.apply(event)
        epoch = self.epoch if self.leased else None
        return Append(order.id, 0, None, epoch, events, self.state.view(), new)

    def fire(self, trigger: Trigger, fence: BookLease | None = None) -> "asyncio.Future[int]":
        """Begin to execute a watched order: its next attempt, under a lease that is taken with it.

        `fence`: the book that it fires from, where that is one engine's among several; likewise below.
        """
        self._signed_at = self._committed_at = self._sent_at = self._seen_at = None
        self.epoch += 1
        self.leased = True
        detail = RoutingDetail(trigger=trigger)
        return self.record(Status.ROUTING, detail, attempt=self.state.attempt + 1, takes_lease=True, fence=fence)

    def watch(
        self, detail: WatchingDetail, companion: Append | None = None, fence: BookLease | None = None
    ) -> "asyncio.Future[int]":
        """Have the order wait, or note something while it does; its lease is let go."""
        appended = self.record(Status.WATCHING, detail, companion=companion, fence=fence)
        self.leased = False
        return appended

    def record(
        self,
        status: Status,
        detail: Detail,
        *,
        attempt: int | None = None,
        transaction: SignedTransaction | None = None,
        sealed: bytes = b"",
        takes_lease: bool = False,
        companion: Append | None = None,
        fence: BookLease | None = None,
        run_after_us: int | None = None,
    ) -> "asyncio.Future[int]":
        """Append the order's next event. Await the result where the lifecycle has a barrier.

        With `run_after_us` the lease is let go with it. Raises `AppendRefusedError` when an earlier row is known to
        have been refused.
        """
        self.check()
        state = self.state
        attempt = state.attempt if attempt is None else attempt
        event = Event(self.order.id, state.seq + 1, status, attempt, self._clock.now_us(), detail, sealed)
        if transaction is not None:
            self.transaction = transaction
        base_seq, base_status = state.seq, state.status
        state.apply(event)
        if changes_order(detail):
            self.order = order_after(self.order, event)
        epoch = self.epoch if self.leased else None
        append = Append(
            event.order_id,
            base_seq,
            base_status,
            epoch,
            (event,),
            state.view(),
            None,
            takes_lease,
            companion,
            fence,
            run_after_us,
        )
        if run_after_us is not None:
            self.leased = False
        self._last = self._journal.append(append)
        return self._last

    def submit_at_once(
        self,
        building: BuildingDetail,
        submitted: SubmittedDetail,
        transaction: SignedTransaction,
        times_us: tuple[int, int],
    ) -> "asyncio.Future[int]":
        """Append a whole first attempt, from `routing` to `submitted`, of an order that is `pending`.

        `times_us`: when its routing began, and when its venue was chosen, Unix microseconds.
        """
        self.check()
        order_id, state = self.order.id, self.state
        seq, status = state.seq, state.status
        routing_us, building_us = times_us
        events = (
            Event(order_id, seq + 1, Status.ROUTING, 1, routing_us, _FIRST_ROUTING),
            Event(order_id, seq + 2, Status.BUILDING, 1, building_us, building),
            Event(order_id, seq + 3, Status.SUBMITTED, 1, self._clock.now_us(), submitted, seal(transaction)),
        )
        for event in events:
            state.apply(event)
        self.transaction = transaction
        self._last = self._journal.append(Append(order_id, seq, status, self.epoch, events, state.view()))
        return self._last

    def check(self) -> None:
        """Raise `AppendRefusedError` when an earlier row is known to have been refused."""
        last = self._last
        if last is not None and last.done() and not last.cancelled() and (error := last.exception()) is not None:
            raise AppendRefusedError(f"an earlier row of order {self.order.id} was refused") from error

    def routing(
        self, attempt: int, previous: AttemptStory | None, paused_s: float | None, run_after_us: int | None = None
    ) -> "asyncio.Future[int]":
        """Begin an attempt; `previous` was given up, and the engine paused for `paused_s` since.

        With `run_after_us` the pause is still to come: the order is handed back until then.
        """
        reason = f"{previous.code}: {previous.message}" if previous is not None else None
        pause_ms = None if paused_s is None else _milliseconds(paused_s)
        self._signed_at = self._committed_at = self._sent_at = self._seen_at = None
        detail = RoutingDetail(reason, previous, pause_ms)
        return self.record(Status.ROUTING, detail, attempt=attempt, run_after_us=run_after_us)

    @property
    def attempts_since_fired(self) -> int:
        """How many attempts have begun, of a watched order since it last fired."""
        return self.state.attempt - self.state.first_attempt + 1

    def failed(self, story: AttemptStory) -> "asyncio.Future[int]":
        """End the order with the story of its last attempt."""
        stories = (*self.state.attempts, story)
        return self.record(Status.FAILED, FailedDetail(story.code, story.message, stories))

    def story(self, code: FailureCode, message: str, quotes: tuple[QuoteRecord, ...] = ()) -> AttemptStory:
        """What became of the attempt under way; `quotes` where it ended before a venue was chosen."""
        building, submitted = self.state.building, self.state.submitted
        return AttemptStory(
            attempt=self.state.attempt,
            code=code.value,
            message=message,
            venue=building.venue if building else None,
            signature=submitted.signature if submitted else None,
            quotes=quotes,
            timings=self.timings(),
        )

    # --- Where the time goes

    def accepted(self, began: float) -> None:
        """The order's commit has been answered; its request came at `began`."""
        self._accept_ms = _milliseconds(self._clock.monotonic() - began)

    def signed(self) -> None:
        self._signed_at = self._clock.monotonic()

    def committed(self) -> None:
        self._committed_at = self._clock.monotonic()

    def sent(self) -> None:
        """The endpoint has answered the first send, whatever it said."""
        if self._sent_at is None:
            self._sent_at = self._clock.monotonic()

    def seen(self) -> None:
        """The chain shows the transaction."""
        if self._seen_at is None:
            self._seen_at = self._clock.monotonic()

    def timings(self) -> Timings | None:
        """What this process saw of the attempt; None when it saw nothing of it."""
        if self._signed_at is None and self._accept_ms is None:
            return None
        return Timings(
            self._accept_ms,
            _between(self._signed_at, self._committed_at),
            _between(self._committed_at, self._sent_at),
            _between(self._sent_at, self._seen_at),
        )


def open_transaction(events: list[Event]) -> SignedTransaction | None:
    """The signed transaction of the attempt that is open after `events`, or that executed; None when there is none."""
    if not events or events[-1].status not in (Status.SUBMITTED, Status.CONFIRMED):
        return None
    signed = (event.sealed for event in reversed(events) if event.sealed and event.status is Status.SUBMITTED)
    sealed = next(signed, None)  # a sliced order is confirmed without one of its own
    return None if sealed is None else unseal(sealed)


def _between(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else _milliseconds(max(0.0, after - before))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
