"""Times at which something is to be done: each key once, at the last time that was said, and nothing kept for ever."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bestex.engine.deadlines import MAX_DUE, MAX_SLEEP_S, MAX_STALE, Deadlines
from tests.support.clock import FakeClock

SECOND_US = 1_000_000


class SetClock(FakeClock):
    """A clock that can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us


@asynccontextmanager
async def running(clock: FakeClock) -> AsyncIterator[tuple[Deadlines, list[str]]]:
    handed_over: list[str] = []
    batches: list[int] = []

    def due(keys: Sequence[str]) -> None:
        handed_over.extend(keys)
        batches.append(len(keys))

    deadlines = Deadlines(clock, due)
    task = asyncio.create_task(deadlines.run())
    try:
        yield deadlines, handed_over
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert max(batches, default=0) <= MAX_DUE


async def test_keys_are_handed_over_at_their_times_the_earliest_first() -> None:
    clock = FakeClock()
    async with running(clock) as (deadlines, handed_over):
        now_us = clock.now_us()
        for seconds, key in ((30, "c"), (20, "b"), (10, "a")):
            deadlines.at(now_us + seconds * SECOND_US, key)
        await clock.advance(9.9)
        assert handed_over == []
        await clock.advance(10.2)
        assert handed_over == ["a", "b"]
        await clock.advance(10.0)
        assert (handed_over, len(deadlines)) == (["a", "b", "c"], 0)


async def test_a_key_has_the_time_that_was_said_last() -> None:
    clock = FakeClock()
    async with running(clock) as (deadlines, handed_over):
        now_us = clock.now_us()
        deadlines.at(now_us + 10 * SECOND_US, "later")
        deadlines.at(now_us + 20 * SECOND_US, "later")
        deadlines.at(now_us + 20 * SECOND_US, "sooner")
        deadlines.at(now_us + 5 * SECOND_US, "sooner")
        deadlines.at(now_us + 5 * SECOND_US, "never")
        deadlines.forget("never")
        await clock.advance(15.0)
        assert handed_over == ["sooner"]
        await clock.advance(15.0)
        assert handed_over == ["sooner", "later"]


async def test_what_was_forgotten_takes_no_room() -> None:
    clock = FakeClock()
    async with running(clock) as (deadlines, handed_over):
        year_us = clock.now_us() + 365 * 86_400 * SECOND_US
        deadlines.at(clock.now_us() + SECOND_US, "stays")
        for number in range(10 * MAX_STALE):
            deadlines.at(year_us, str(number))
            deadlines.forget(str(number))
            deadlines.at(year_us + number, "changes")
        assert (len(deadlines), len(deadlines._heap) <= 2 * MAX_STALE) == (2, True)
        await clock.advance(2.0)
        assert handed_over == ["stays"]


async def test_a_clock_that_is_set_forward_is_noticed_soon() -> None:
    clock = SetClock()
    async with running(clock) as (deadlines, handed_over):
        deadlines.at(clock.now_us() + 3_600 * SECOND_US, "a")
        await clock.advance(1.0)
        clock.ahead_us = 3_600 * SECOND_US
        await clock.advance(MAX_SLEEP_S)
        assert handed_over == ["a"]
