"""Time and ids of a simulated run: all from the loop and the seed."""

import asyncio
import random  # noqa: TID251 - only ever seeded, never ambient
from typing import Final

from bestex.simulation.loop import VirtualLoop

START_US: Final = 1_750_000_000_000_000
"""The wall clock's time when a run begins, Unix microseconds."""


class VirtualClock:
    """`Clock` of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_us(self) -> int:
        return START_US + round(self._loop.time() * 1e6)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededIds:
    """`Ids` that repeat with the seed, and never within a run: each process has its own `number`."""

    def __init__(self, seed: int, number: int, clock: VirtualClock) -> None:
        self._random = random.Random(f"{seed}/ids/{number}")  # noqa: S311 -- ids need repetition, not secrecy
        self._number = number
        self._clock = clock
        self._count = 0

    def order_id(self) -> str:
        self._count += 1
        rest = self._number << 64 | self._count << 32 | self._random.getrandbits(32)  # 74 bits
        number = self._clock.now_us() // 1000 << 80 | 7 << 76 | rest >> 62 << 64 | 2 << 62 | rest & (1 << 62) - 1
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def fraction(self) -> float:
        return self._random.random()
