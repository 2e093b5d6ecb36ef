"""A deadline ends a call that waits too long, and is nowhere to be seen otherwise."""

import asyncio

import pytest

from bestex.engine.deadline import within


async def test_a_call_that_need_not_wait_gives_its_result_at_once() -> None:
    async def call() -> int:
        return 7

    assert await within(0.0, call()) == 7


async def test_a_call_that_waits_several_times_gives_its_result() -> None:
    async def call() -> list[int]:
        return [await asyncio.sleep(0, number) for number in range(5)]

    assert await within(5.0, call()) == [0, 1, 2, 3, 4]


async def test_a_call_that_waits_too_long_is_cancelled() -> None:
    cancelled = False

    async def call() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    with pytest.raises(TimeoutError):
        await within(0.01, call())
    assert cancelled


async def test_an_error_before_or_after_waiting_comes_through() -> None:
    async def call(*, waits: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("broken")

    for waits in (False, True):
        with pytest.raises(ValueError, match="broken"):
            await within(5.0, call(waits=waits))


async def test_cancelling_the_caller_cancels_the_call() -> None:
    ended = asyncio.Event()

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.ensure_future(within(5.0, call()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_a_call_may_set_a_deadline_of_its_own() -> None:
    async def call() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "its own"
        return "none"

    assert await within(5.0, call()) == "its own"
