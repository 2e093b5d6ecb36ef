"""Things that will happen at their time: landings, forks."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

from bestex.ports import Clock
from bestex.waiting import sleep_or

MAX_ENTRIES: Final = 50_000


class Agenda:
    """Callbacks by time. Those of one moment happen in the order they were entered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._earlier = asyncio.Event()  # an entry came that is due before all others

    @property
    def full(self) -> bool:
        return len(self._entries) >= MAX_ENTRIES

    def at(self, due_us: int, happen: Callable[[], None]) -> None:
        """Have `happen` called at `due_us`, Unix microseconds, while `run` runs."""
        if not self._entries or due_us < self._entries[0][0]:
            self._earlier.set()
        heapq.heappush(self._entries, (due_us, next(self._numbers), happen))

    def clear(self) -> None:
        self._entries.clear()

    async def run(self) -> None:
        """Let things happen until cancelled."""
        entries = self._entries
        while True:
            now_us = self._clock.now_us()
            while entries and entries[0][0] <= now_us:
                heapq.heappop(entries)[2]()
            self._earlier.clear()
            if entries:
                await sleep_or(self._clock, (entries[0][0] - now_us) / 1e6, self._earlier)
            else:
                await self._earlier.wait()
