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
    unseal,
)
from bestex.domain.lifecycle import Status
from bestex.domain.orders import Order, OrderState
from bestex.ports import Append, Clock, Journal, NewOrder


class OrderLog:
    """An order's state and the right to add to it. Once a row is refused it takes no more: fold the order anew."""

    __slots__ = ("_clock", "_journal", "_last", "epoch", "order", "state", "transaction")

    def __init__(self, journal: Journal, clock: Clock, order: Order, state: OrderState, epoch: int) -> None:
        self._journal = journal
        self._clock = clock
        self._last: asyncio.Future[int] | None = None
        self.order = order
        self.state = state
        self.epoch = epoch  # of the lease under which this engine executes the order
        self.transaction: SignedTransaction | None = None  # of the open attempt

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

    def routing(self, attempt: int, previous: AttemptStory | None) -> "asyncio.Future[int]":
        reason = f"{previous.code}: {previous.message}" if previous is not None else None
        return self.record(Status.ROUTING, RoutingDetail(reason, previous), attempt=attempt)

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
        )


def open_transaction(events: list[Event]) -> SignedTransaction | None:
    """The signed transaction of the attempt that is open after `events`, or None."""
    if not events or events[-1].status is not Status.SUBMITTED:
        return None
    sealed = next(event.sealed for event in reversed(events) if event.sealed)
    return unseal(sealed)
