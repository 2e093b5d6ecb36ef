"""Dispatch over Redis: every order that waits is a BullMQ job until a worker has its lease."""

import asyncio
from collections.abc import Sequence

from bestex.dispatch.bullmq.adding import JobAdder
from bestex.dispatch.bullmq.queue import BullMqLimits
from bestex.dispatch.bullmq.serving import JobServer
from bestex.ports import Clock, RingListener, UnheldOrder


class BullMqDispatcher:
    """`Dispatcher` over Redis or Valkey.

    Nothing depends on what Redis keeps: jobs only say *look now*, and workers look by themselves, too.
    """

    def __init__(self, redis_url: str, clock: Clock, limits: BullMqLimits) -> None:
        self.adder = JobAdder(redis_url, clock, limits)
        self.server = JobServer(redis_url, clock, limits)
        self._serves = False

    def ring(self, orders: Sequence[UnheldOrder]) -> None:
        self.adder.add(orders)

    def on_ring(self, listener: RingListener) -> None:
        self.server.on_job(listener)
        self._serves = True

    def taken(self, order_ids: Sequence[str]) -> None:
        self.server.taken(order_ids)

    async def stop_listening(self) -> None:
        if self._serves:
            await self.server.stop()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.adder.run())
            if self._serves:
                tasks.create_task(self.server.run())
