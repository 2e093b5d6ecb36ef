"""What clients and watchers were told, against what the journal holds."""

from collections.abc import Sequence

from bestex.domain.events import StoredEvent, WatchingDetail
from bestex.domain.lifecycle import Status
from bestex.journal.memory import MemoryDatabase
from bestex.simulation.invariants import Checks, Invariant
from bestex.simulation.known_orders import KnownOrders

_I = Invariant


class AnswerChecks:
    """Checks answers as they are given, and rows against the answers that were given before."""

    def __init__(self, checks: Checks, orders: KnownOrders, database: MemoryDatabase) -> None:
        self._checks = checks
        self._orders = orders
        self._database = database
        self._keys: dict[str, str] = {}  # order by idempotency key; there is one caller
        self._denied: dict[str, None] = {}  # orders whose client was told that nothing is stored

    # --- Clients

    def accepted(self, order_id: str, key: str | None) -> None:
        """A client was answered 202."""
        there = order_id in self._database.orders
        self._checks.check(_I.ACCEPTED_IS_DURABLE, there, "answered 202 and not in the journal", order_id)
        if key is not None:
            self.check_key(key, order_id)

    def check_key(self, key: str, order_id: str) -> None:
        """An order with this key was stored, or answered."""
        one = self._keys.setdefault(key, order_id) == order_id
        self._checks.check(_I.ONE_ORDER_A_KEY, one, f"the key {key} made two orders", order_id)

    def denied(self, order_id: str) -> None:
        """A client was told that nothing of this order is stored."""
        self._denied[order_id] = None
        absent = order_id not in self._database.orders
        self._checks.check(_I.DENIED_IS_ABSENT, absent, "answered 'nothing stored' and in the journal", order_id)

    def check_first(self, order_id: str) -> None:
        """An order's first row was stored."""
        absent = order_id not in self._denied
        self._checks.check(_I.DENIED_IS_ABSENT, absent, "its client was told that nothing is stored", order_id)

    def cancelled(self, order_id: str, status: str) -> None:
        """A client's cancel was answered with the order in `status`."""
        order = self._orders.find(order_id)
        recorded = order is not None and (
            order.state.status is Status.CANCELLED if status == Status.CANCELLED else order.state.cancel_requested
        )
        self._checks.check(_I.CANCEL_IS_RECORDED, recorded, f"the cancel was answered {status}", order_id)

    def amended(self, order_id: str, seq: int) -> None:
        """A client's change was answered with the order at `seq`."""
        order = self._orders.find(order_id)
        event = order.history[seq - 1].event if order is not None and 0 < seq <= len(order.history) else None
        recorded = event is not None and isinstance(event.detail, WatchingDetail) and event.detail.changes is not None
        self._checks.check(_I.CHANGE_IS_RECORDED, recorded, f"a change was answered at seq {seq}", order_id)

    # --- Watchers

    def published(self, events: Sequence[StoredEvent]) -> None:
        """Events go out to watchers."""
        log, checks = self._database.log, self._checks
        for stored in events:
            committed = stored.position <= len(log) and log[stored.position - 1].event == stored.event
            checks.check(_I.PUBLISHED_IS_COMMITTED, committed, "published before its commit", stored.event.order_id)

    def seen(self, order_id: str, before: int, events: Sequence[StoredEvent]) -> None:
        """A watcher of an order, who has seen `before` of its events, gets these."""
        order = self._orders.find(order_id)
        history = order.history[before : before + len(events)] if order is not None else []
        self._checks.check(_I.WATCHED_IS_A_PREFIX, history == list(events), "a watcher saw something else", order_id)

    def seen_of_all(self, before: int, events: Sequence[StoredEvent]) -> None:
        """A watcher of all orders, who has seen the log's first `before` rows, gets these."""
        log = self._database.log[before : before + len(events)]
        self._checks.check(_I.WATCHED_IS_A_PREFIX, log == list(events), "a watcher of all orders saw something else")
