"""The real clock and the real randomness: the only module that may touch either."""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

import uuid_utils


class SystemClock:
    """`Clock` of this machine."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(seconds)  # not in a coroutine of its own: there is one for each order that waits


class SystemIds:
    """`Ids` from the operating system's entropy, never from a seed."""

    def __init__(self) -> None:
        self._entropy = random.SystemRandom()
        self._jitter = random.Random(self._entropy.randbytes(32))  # noqa: S311 -- jitter is no secret

    def entropy(self) -> bytes:
        """32 bytes to make a key of."""
        return self._entropy.randbytes(32)

    def order_id(self) -> str:
        return str(uuid_utils.uuid7())

    def fraction(self) -> float:
        return self._jitter.random()
