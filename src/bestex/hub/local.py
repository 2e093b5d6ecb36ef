"""The hub within one process: committed events to whoever watches, each through a bounded queue of its own."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from bestex.domain.events import StoredEvent

QUEUE_EVENTS: Final = 256
"""Events waiting for one watcher. One that falls further behind reads the journal instead."""


class LocalSubscription:
    """One watcher's queue."""

    def __init__(self, hub: "LocalHub", order_id: str | None, limit: int) -> None:
        self._hub = hub
        self.order_id = order_id
        self._limit = limit
        self._events: list[StoredEvent] = []  # a deque would take more room than all else here
        self._overflowed = False
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, event: StoredEvent) -> None:
        if len(self._events) >= self._limit:
            self._events.clear()
            self._overflowed = True
        if not self._overflowed:
            self._events.append(event)
        self._wake()

    def overflow(self) -> None:
        """Have the watcher read the journal."""
        self._events.clear()
        self._overflowed = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _is_idle(self) -> bool:
        return not self._events and not self._overflowed

    async def next(self) -> Sequence[StoredEvent] | None:
        """Wait for events; None when some were dropped because the queue overflowed: read the journal."""
        while self._is_idle():
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._overflowed:
            self._overflowed = False
            return None
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._hub.forget(self)


class LocalOrdersSubscription(LocalSubscription):
    """The queue of one who watches many orders."""

    def __init__(self, hub: "LocalHub", limit: int) -> None:
        super().__init__(hub, None, limit)
        self._orders: set[str] = set()
        self._woken = False

    def watch(self, order_id: str) -> None:
        self._orders.add(order_id)
        self._hub.add(order_id, self)

    def forget(self, order_id: str) -> None:
        self._orders.discard(order_id)
        self._hub.remove(order_id, self)

    def wake(self) -> None:
        """Have `next` return now, maybe with nothing."""
        self._woken = True
        self._wake()

    def _is_idle(self) -> bool:
        return super()._is_idle() and not self._woken

    async def next(self) -> Sequence[StoredEvent] | None:
        events = await super().next()
        self._woken = False
        return events

    def close(self) -> None:
        for order_id in self._orders:
            self._hub.remove(order_id, self)
        self._orders.clear()


class LocalHub:
    """`Hub` for the watchers of one process."""

    def __init__(self, queue_events: int = QUEUE_EVENTS) -> None:
        self._queue_events = queue_events
        self._by_order: dict[str, list[LocalSubscription]] = {}
        self._of_all: list[LocalSubscription] = []

    @property
    def watchers(self) -> int:
        return len(self._of_all) + sum(map(len, self._by_order.values()))

    @property
    def watched(self) -> Collection[str]:
        """The orders that somebody watches, as they are at any moment."""
        return self._by_order.keys()

    @property
    def is_followed(self) -> bool:
        """Whether somebody watches all orders."""
        return bool(self._of_all)

    def publish(self, events: Sequence[StoredEvent]) -> None:
        self.publish_to_orders(events)
        for subscription in self._of_all:
            for event in events:
                subscription.offer(event)

    def publish_to_orders(self, events: Sequence[StoredEvent]) -> None:
        """Give events to those who watch their orders, and to nobody who watches all."""
        by_order = self._by_order
        if by_order:
            for event in events:
                watching = by_order.get(event.event.order_id)
                if watching is not None:
                    for subscription in watching:
                        subscription.offer(event)

    def overflow(self) -> None:
        """Have every watcher read the journal: events may be missing, or be others than was said."""
        for subscriptions in (self._of_all, *self._by_order.values()):
            for subscription in subscriptions:
                subscription.overflow()

    def watch(self, order_id: str) -> LocalSubscription:
        subscription = LocalSubscription(self, order_id, self._queue_events)
        self.add(order_id, subscription)
        return subscription

    def watch_orders(self) -> LocalOrdersSubscription:
        return LocalOrdersSubscription(self, self._queue_events * 16)

    def watch_all(self) -> LocalSubscription:
        subscription = LocalSubscription(self, None, self._queue_events * 16)
        self._of_all.append(subscription)
        return subscription

    def forget(self, subscription: LocalSubscription) -> None:
        if subscription.order_id is not None:
            self.remove(subscription.order_id, subscription)
        elif subscription in self._of_all:
            self._of_all.remove(subscription)

    def add(self, order_id: str, subscription: LocalSubscription) -> None:
        """Have `subscription` offered an order's events."""
        self._by_order.setdefault(order_id, []).append(subscription)

    def remove(self, order_id: str, subscription: LocalSubscription) -> None:
        of_order = self._by_order.get(order_id)
        if of_order is None:
            return
        if subscription in of_order:
            of_order.remove(subscription)
        if not of_order:
            del self._by_order[order_id]
