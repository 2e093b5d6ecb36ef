"""Builders of orders, their events and the appends that store them."""

import hashlib
import uuid
from collections.abc import Sequence
from itertools import count

from msgspec.structs import replace

from bestex.domain.events import (
    AttemptStory,
    BuildingDetail,
    CancelledDetail,
    ConfirmedDetail,
    Detail,
    Event,
    ExpiredDetail,
    FailedDetail,
    PendingDetail,
    QuoteRecord,
    RoutingDetail,
    StoredEvent,
    SubmittedDetail,
    WatchingDetail,
)
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState, OrderView
from bestex.ports import Append, NewOrder

EPOCH = 1
"""The lease epoch that an order gets when it is accepted."""

START_US = 1_750_000_000_123_457
HAPPY = (Status.PENDING, Status.ROUTING, Status.BUILDING, Status.SUBMITTED, Status.CONFIRMED)

_ids = count(1)


def order_id() -> str:
    """A new id; later ones sort later."""
    return str(uuid.UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + next(_ids)))


def pending(pair: str = "SOL/USDC", kind: str = "market", client_order_id: str | None = None) -> PendingDetail:
    base, quote = pair.split("/")
    return PendingDetail(
        kind=kind,
        token_in=base,
        token_out=quote,
        amount="1.5",
        slippage_bps=50,
        pair=pair,
        side="sell",
        client_order_id=client_order_id,
    )


QUOTES = (
    QuoteRecord("raydium", 181.3, "pool-r", "151.204417", "0.003", "SOL", 3, "151.2031", chosen=True),
    QuoteRecord("meteora", 1000.0, reason="did not answer within 1000 ms", error="quote_timeout"),
)
STORY = AttemptStory(1, "slippage_exceeded", "paid 1 USDC less", "raydium", "5igna", QUOTES)

DETAILS: dict[Status, Detail] = {
    Status.PENDING: pending(),
    Status.ROUTING: RoutingDetail(),
    Status.BUILDING: BuildingDetail("raydium", "pool-r", "151.204417", "150.448395", 3, QUOTES, wraps_sol=True),
    Status.SUBMITTED: SubmittedDetail("raydium", "5ignature", 281_474_976),
    Status.CONFIRMED: ConfirmedDetail(
        venue="raydium",
        tx_hash="5ignature",
        amount_in="1.5",
        amount_out="151.1",
        executed_price="100.733333333333",
        slippage_bps=6.91,
        fee_paid="0.000005",
        commitment="confirmed",
        slot=281_474_900,
    ),
    Status.FAILED: FailedDetail("slippage_exceeded", "three attempts", (STORY,)),
    Status.CANCELLED: CancelledDetail("client"),
    Status.WATCHING: WatchingDetail(),
    Status.EXPIRED: ExpiredDetail("its time was up"),
}
"""A plain detail for every status that has one."""


class DraftOrder:
    """An order as its writer sees it: makes the next append, each building on the one before."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002
        *,
        pair: str = "SOL/USDC",
        kind: str = "market",
        caller: str = "local",
        idempotency_key: str | None = None,
        client_order_id: str | None = None,
        request: str = "",
        parent_id: str | None = None,
        epoch: int | None = EPOCH,
    ) -> None:
        self.id = id or order_id()
        self.epoch = epoch  # None: as nobody's executor
        self.held = epoch is not None  # whether the writer holds the lease; nobody holds a watched order's
        self.state = OrderState()
        self.events: list[Event] = []
        self._pending = replace(pending(pair, kind, client_order_id), parent_id=parent_id)
        hashed = hashlib.sha256(request.encode()).digest()
        self._new = NewOrder(self.id, kind, pair, caller, idempotency_key, client_order_id, hashed, parent_id)

    @property
    def view(self) -> OrderView:
        return self.state.view()

    def next(self, *statuses: Status) -> Append:
        """The append of these statuses, each with its plain detail."""
        return self.add(
            *((status, DETAILS[status] if status != Status.PENDING else self._pending) for status in statuses)
        )

    def add(self, *steps: tuple[Status, Detail], sealed: bytes = b"", attempt: int | None = None) -> Append:
        """The append of these events. A watched order that goes on to route takes the lease."""
        base_seq, base_status = self.state.seq, self.state.status
        takes = self.epoch is not None and base_status is Status.WATCHING and any(s is Status.ROUTING for s, _ in steps)
        events = []
        for status, detail in steps:
            if attempt is None:
                attempt = self.state.attempt or int(status == Status.ROUTING)
            event = Event(
                self.id, self.state.seq + 1, status, attempt, START_US + self.state.seq * 250_001, detail, sealed
            )
            self.state.apply(event)
            events.append(event)
            attempt = None
        self.events += events
        new = self._new if base_seq == 0 else None
        rests = self.state.status is Status.WATCHING
        if self.epoch is not None:
            if takes:
                self.epoch += 1
            elif new is not None and rests:
                self.epoch, self.held = 0, False  # it was never leased
        epoch = self.epoch if self.held or takes else None
        self.held = self.epoch is not None and (self.held or takes) and not rests
        return Append(self.id, base_seq, base_status, epoch, tuple(events), self.view, new, takes)

    @classmethod
    def of(cls, other: "DraftOrder") -> "DraftOrder":
        """The same order again, as the same writer sees it."""
        again = cls(other.id, epoch=other.epoch)
        again.held = other.held
        for event in other.events:
            again.state.apply(event)
        again.events = list(other.events)
        return again

    def fork(self) -> "DraftOrder":
        """Another writer's view of the order as it stands now, as nobody's executor."""
        other = DraftOrder(self.id, epoch=None)
        for event in self.events:
            other.state.apply(event)
        other.events = list(self.events)
        return other


def stored(events: Sequence[Event], first_position: int = 1) -> list[StoredEvent]:
    """These events as a journal gives them, from a position on."""
    return [StoredEvent(position, event) for position, event in enumerate(events, first_position)]


def events_of(log: Sequence[StoredEvent]) -> list[Event]:
    return [entry.event for entry in log]
