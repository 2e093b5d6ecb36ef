"""One order as its executor sees it: the fold of its events, and the writing of the next ones."""

import asyncio

from bestex.domain.errors import AppendRefusedError, FailureCode
from bestex.domain.events import (
    AttemptStory,
    Detail,
    Event,
    FailedDetail,
    QuoteRecord,
    RoutingDetail,
    SignedTransaction,
    Timings,
    unseal,
)
from bestex.domain.lifecycle import Status
from bestex.domain.orders import Order, OrderState
from bestex.ports import Append, Clock, Journal, NewOrder


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
        "order",
        "state",
        "transaction",
    )

    def __init__(self, journal: Journal, clock: Clock, order: Order, state: OrderState, epoch: int) -> None:
        self._journal = journal
        self._clock = clock
        self._last: asyncio.Future[int] | None = None
        self.order = order
        self.state = state
        self.epoch = epoch  # of the lease under which this engine executes the order
        self.transaction: SignedTransaction | None = None  # of the latest attempt that was signed
        self._accept_ms: float | None = None
        self._signed_at: float | None = None  # this and the next: of the attempt, by the clock's `monotonic`
        self._committed_at: float | None = None
        self._sent_at: float | None = None
        self._seen_at: float | None = None

    def record(
        self,
        status: Status,
        detail: Detail,
        *,
        attempt: int | None = None,
        transaction: SignedTransaction | None = None,
        sealed: bytes = b"",
        new: NewOrder | None = None,
    ) -> "asyncio.Future[int]":
        """Append the order's next event. Await the result where the lifecycle has a barrier.

        Raises `AppendRefusedError` when an earlier row is known to have been refused.
        """
        self.check()
        state = self.state
        base_seq, base_status = state.seq, state.status
        attempt = state.attempt if attempt is None else attempt
        event = Event(self.order.id, base_seq + 1, status, attempt, self._clock.now_us(), detail, sealed)
        state.apply(event)
        if transaction is not None:
            self.transaction = transaction
        self._last = self._journal.append(
            Append(self.order.id, base_seq, base_status, self.epoch, (event,), state.view(), new)
        )
        return self._last

    def check(self) -> None:
        """Raise `AppendRefusedError` when an earlier row is known to have been refused."""
        last = self._last
        if last is not None and last.done() and not last.cancelled() and (error := last.exception()) is not None:
            raise AppendRefusedError(f"an earlier row of order {self.order.id} was refused") from error

    def routing(self, attempt: int, previous: AttemptStory | None, paused_s: float | None) -> "asyncio.Future[int]":
        """Begin an attempt; `previous` was given up, and the engine paused for `paused_s` since."""
        reason = f"{previous.code}: {previous.message}" if previous is not None else None
        pause_ms = None if paused_s is None else _milliseconds(paused_s)
        self._signed_at = self._committed_at = self._sent_at = self._seen_at = None
        return self.record(Status.ROUTING, RoutingDetail(reason, previous, pause_ms), attempt=attempt)

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
    sealed = next(event.sealed for event in reversed(events) if event.sealed and event.status is Status.SUBMITTED)
    return unseal(sealed)


def _between(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else _milliseconds(max(0.0, after - before))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
