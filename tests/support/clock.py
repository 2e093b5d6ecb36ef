"""A clock that stands still until a test moves it."""

import asyncio
import heapq
from itertools import count

_SETTLE_ROUNDS = 25  # turns of the event loop after each wake-up, for what it set off to get to its next wait


class FakeClock:
    """`Clock` whose time passes only in `advance`. Sleepers wake in the order of their times."""

    def __init__(self, now_us: int = 1_750_000_000_000_000) -> None:
        self._start_us = now_us
        self._now_us = now_us
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return (self._now_us - self._start_us) / 1e6

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awakening = asyncio.get_running_loop().create_future()
        due_us = self._now_us + max(1, round(seconds * 1e6))
        heapq.heappush(self._sleepers, (due_us, next(self._numbers), awakening))
        await awakening

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: every sleep that ends in them ends at its own moment, with its consequences."""
        target_us = self._now_us + round(seconds * 1e6)
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target_us:
            due_us, _, awakening = heapq.heappop(self._sleepers)
            if awakening.done():  # its sleeper was cancelled
                continue
            self._now_us = max(self._now_us, due_us)
            awakening.set_result(None)
            await self.settle()
        self._now_us = target_us

    async def settle(self) -> None:
        """Let everything that can run without time run."""
        for _ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(0)
