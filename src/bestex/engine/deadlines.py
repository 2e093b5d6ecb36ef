"""Times at which something is to be done about orders: a heap, and one task that waits for the next of them."""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from typing import Final

from bestex.ports import Clock

MAX_DUE: Final = 1_000  # keys handed over at a time


class Deadlines:
    """Keys by time, as few bytes for each as can be. A key that is not wanted any more is the receiver's to skip."""

    def __init__(self, clock: Clock, due: Callable[[Sequence[str]], None]) -> None:
        """`due` is called with keys whose time has come, at most `MAX_DUE` at once."""
        self._clock = clock
        self._due = due
        self._heap: list[tuple[int, str]] = []
        self._earlier = asyncio.Event()  # one came that is due before all others

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, at_us: int, key: str) -> None:
        """Have `key` handed over at `at_us`, Unix microseconds."""
        if not self._heap or at_us < self._heap[0][0]:
            self._earlier.set()
        heapq.heappush(self._heap, (at_us, key))

    async def run(self) -> None:
        """Hand over what is due, until cancelled."""
        heap = self._heap
        while True:
            self._earlier.clear()
            now_us = self._clock.now_us()
            keys: list[str] = []
            while heap and heap[0][0] <= now_us and len(keys) < MAX_DUE:
                keys.append(heapq.heappop(heap)[1])
            if keys:
                self._due(keys)
                await asyncio.sleep(0)
            elif heap:
                await self._sleep_or_earlier((heap[0][0] - now_us) / 1e6)
            else:
                await self._earlier.wait()

    async def _sleep_or_earlier(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        waiting = asyncio.ensure_future(self._earlier.wait())
        try:
            await asyncio.wait((sleeping, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waiting.cancel()
            await asyncio.gather(sleeping, waiting, return_exceptions=True)
