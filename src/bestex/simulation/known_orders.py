"""The orders of a run as the referee knows them: by its own fold of the log."""

from collections.abc import Iterator

from bestex.domain.errors import UnknownTokenError
from bestex.domain.events import Event, SignedTransaction, StoredEvent, settles
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order, order_after, order_from_pending
from bestex.domain.tokens import TokenRegistry


class KnownOrder:
    """One order. Amounts are base units."""

    __slots__ = ("armed_seq", "engine_id", "executed", "history", "least", "limits", "order", "signed", "state")

    def __init__(self) -> None:
        self.state = OrderState()
        self.order: Order | None = None  # as its events so far leave it
        self.history: list[StoredEvent] = []
        self.engine_id = ""  # who wrote its last event
        self.armed_seq = 0  # of the event since which it waits
        self.signed: dict[str, SignedTransaction] = {}  # by signature, first to last
        self.least: dict[int, int] = {}  # by attempt: minAmountOut
        self.limits: dict[int, int] = {}  # by attempt: what the order's own limit asks for; 0: it has none
        self.executed: dict[str, None] = {}  # signatures that stand executed in the ledger

    @property
    def id(self) -> str:
        return self.state.order_id

    @property
    def rests(self) -> bool:
        return self.state.status is Status.WATCHING

    @property
    def is_settled(self) -> bool:
        return bool(self.history) and settles(self.history[-1].event)


class KnownOrders:
    """All of them, by id."""

    def __init__(self, tokens: TokenRegistry) -> None:
        self._tokens = tokens
        self._orders: dict[str, KnownOrder] = {}
        self.unsettled: dict[str, KnownOrder] = {}  # those for which something is left to do

    def __iter__(self) -> Iterator[KnownOrder]:
        return iter(self._orders.values())

    def find(self, order_id: str) -> KnownOrder | None:
        return self._orders.get(order_id)

    def get(self, order_id: str) -> KnownOrder:
        return self._orders[order_id]

    def begin(self, order_id: str) -> KnownOrder:
        order = self._orders[order_id] = self.unsettled[order_id] = KnownOrder()
        return order

    def apply(self, order: KnownOrder, stored: StoredEvent, engine_id: str) -> None:
        """Fold in its next event; `ValueError` when it cannot follow."""
        event = stored.event
        before = order.state.status
        order.state.apply(event)
        order.order = self._order_after(order.order, event)
        order.history.append(stored)
        order.engine_id = engine_id
        if order.rests and before is not Status.WATCHING:
            order.armed_seq = event.seq
        if settles(event):
            self.unsettled.pop(event.order_id, None)
        else:
            self.unsettled[event.order_id] = order  # a swap that was final is not taken back, but one confirmed is

    def _order_after(self, order: Order | None, event: Event) -> Order | None:
        if event.status is not Status.PENDING:
            return None if order is None else order_after(order, event)
        try:
            return order_from_pending(event, self._tokens)
        except UnknownTokenError:
            return None
