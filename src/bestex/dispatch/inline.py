"""Dispatch within one process: whoever rings calls those who listen."""

import asyncio
from collections.abc import Sequence

from bestex.ports import RingListener, UnheldOrder


class InlineDispatcher:
    """`Dispatcher` of one process."""

    def __init__(self) -> None:
        self._listeners: list[RingListener] = []

    def ring(self, orders: Sequence[UnheldOrder]) -> None:
        if orders:
            for listener in self._listeners:
                listener(())

    def on_ring(self, listener: RingListener) -> None:
        self._listeners.append(listener)

    def taken(self, order_ids: Sequence[str]) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()
