"""Times at which something is to be done about orders: a heap, and one task that waits for the next of them."""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from typing import Final

from bestex.ports import Clock
from bestex.waiting import sleep_or

MAX_DUE: Final = 1_000  # keys handed over at a time
MAX_STALE: Final = 1_000  # forgotten times that the heap may hold beside as many as there are keys
MAX_SLEEP_S: Final = 10.0
"""Seconds between two looks at the time: it may be set, or go on while the machine sleeps."""


class Deadlines:
    """Keys, each with one time."""

    def __init__(self, clock: Clock, due: Callable[[Sequence[str]], None]) -> None:
        """`due` is called with keys whose time has come, at most `MAX_DUE` at once."""
        self._clock = clock
        self._due = due
        self._times: dict[str, int] = {}  # by key
        self._heap: list[tuple[int, str]] = []  # of these, and of others that were forgotten or changed since
        self._earlier = asyncio.Event()  # one came that is due before all others

    def __len__(self) -> int:
        return len(self._times)

    def at(self, at_us: int, key: str) -> None:
        """Have `key` handed over at `at_us`, Unix microseconds, and not at the time it had before."""
        if self._times.get(key) == at_us:
            return
        self._times[key] = at_us
        if not self._heap or at_us < self._heap[0][0]:
            self._earlier.set()
        heapq.heappush(self._heap, (at_us, key))
        self._clear_out()

    def forget(self, key: str) -> None:
        """Hand `key` over no more."""
        if self._times.pop(key, None) is not None:
            self._clear_out()

    def _clear_out(self) -> None:
        """Drop the stale times when they are the most."""
        if len(self._heap) > 2 * len(self._times) + MAX_STALE:
            self._heap[:] = [(at_us, key) for key, at_us in self._times.items()]
            heapq.heapify(self._heap)

    async def run(self) -> None:
        """Hand over what is due, until cancelled."""
        heap = self._heap
        while True:
            self._earlier.clear()
            now_us = self._clock.now_us()
            keys: list[str] = []
            while heap and heap[0][0] <= now_us and len(keys) < MAX_DUE:
                at_us, key = heapq.heappop(heap)
                if self._times.get(key) == at_us:
                    del self._times[key]
                    keys.append(key)
            if keys:
                self._due(keys)
                await asyncio.sleep(0)
            elif heap:
                await sleep_or(self._clock, min((heap[0][0] - now_us) / 1e6, MAX_SLEEP_S), self._earlier)
            else:
                await self._earlier.wait()
