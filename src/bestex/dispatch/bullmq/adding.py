"""Adds a job for every order that nobody holds, many at a time, after the order's commit."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog
from bullmq import Queue

from bestex.dispatch.bullmq.queue import QUEUE, BullMqLimits, close, url_of
from bestex.ports import Clock, UnheldOrder

_log = structlog.get_logger(__name__)


class JobAdder:
    """A bounded queue before the queue: whoever rings does not wait for Redis."""

    def __init__(self, redis_url: str, clock: Clock, limits: BullMqLimits) -> None:
        self._url = url_of(redis_url)
        self._clock = clock
        self._limits = limits
        self._rung: deque[UnheldOrder] = deque()
        self._wake = asyncio.Event()
        self._queue: Queue | None = None
        self._is_away = False
        self.added = 0  # jobs, since the start
        self.dropped = 0  # orders for which none was added: Redis was away, or too many waited to be

    def add(self, orders: Sequence[UnheldOrder]) -> None:
        """Have jobs added for these orders."""
        room = self._limits.rings - len(self._rung)
        self._rung.extend(orders[:room] if room < len(orders) else orders)
        self.dropped += max(0, len(orders) - room)
        self._wake.set()

    async def run(self) -> None:
        """Add what is rung for, for ever."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._rung:
                    await self._add_some()
        finally:
            await self._abandon()

    async def _add_some(self) -> None:
        """Add the next ones. Should Redis be away, they are dropped: workers find their orders before it is back."""
        batch = [self._rung.popleft() for _ in range(min(len(self._rung), self._limits.batch))]
        try:
            async with asyncio.timeout(self._limits.call_s):
                if self._queue is None:
                    self._queue = Queue(QUEUE, {"connection": self._url})
                await self._queue.addBulk([_job(order) for order in batch])
        except Exception as error:  # noqa: BLE001 -- whatever the client raises, nothing may come of it
            self.dropped += len(batch) + len(self._rung)
            self._rung.clear()
            if not self._is_away:
                _log.warning("dispatch.jobs_not_added", error=repr(error))
            self._is_away = True
            await self._abandon()
            await self._clock.sleep(self._limits.retry_s)
        else:
            self.added += len(batch)
            if self._is_away:
                _log.info("dispatch.jobs_added_again", dropped=self.dropped)
            self._is_away = False

    async def _abandon(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            await close(queue)


def _job(order: UnheldOrder) -> dict[str, Any]:
    """Removed in any case once it is done: BullMQ takes no job whose id stands among the failed ones."""
    return {
        "name": order.kind,
        "data": {"orderId": order.order_id, "kind": order.kind, "pair": order.pair},
        "opts": {
            "jobId": order.order_id,
            "priority": order.priority,
            "removeOnComplete": True,
            "removeOnFail": True,
        },
    }
