"""Dispatch within one process: whoever rings calls those who listen."""

import asyncio
from collections.abc import Sequence

from bestex.ports import RingListener, UnheldOrder


class Bell:
    """What the parts of a process ring, and listen to."""

    def __init__(self) -> None:
        self.listeners: list[RingListener] = []


class InlineDispatcher:
    """`Dispatcher` of one part of a process."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._listener: RingListener | None = None

    def ring(self, orders: Sequence[UnheldOrder]) -> None:
        if orders:
            for listener in self._bell.listeners:
                listener(())

    def on_ring(self, listener: RingListener) -> None:
        self._listener = listener
        self._bell.listeners.append(listener)

    def taken(self, order_ids: Sequence[str]) -> None:
        """Nothing is kept of what was rung."""

    async def stop_listening(self) -> None:
        if self._listener in self._bell.listeners:
            self._bell.listeners.remove(self._listener)

    async def run(self) -> None:
        await asyncio.Event().wait()
