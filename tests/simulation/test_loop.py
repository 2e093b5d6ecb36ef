"""The virtual loop: asyncio's own waits wait on it, and no real time passes."""

import asyncio

import pytest

from bestex.simulation.clock import START_US, SeededIds, VirtualClock
from bestex.simulation.loop import DeadlockError, new_loop


def test_sleeping_takes_virtual_time_alone() -> None:
    loop = new_loop()

    async def main() -> float:
        await asyncio.sleep(86_400)
        return loop.time()

    assert loop.run(main()) == 86_400


def test_timers_fire_in_the_order_of_their_times() -> None:
    loop = new_loop()
    fired: list[int] = []

    async def main() -> None:
        for seconds in (3, 1, 2):
            loop.call_later(seconds, fired.append, seconds)
        loop.call_later(1.5, fired.append, 99).cancel()
        await asyncio.sleep(5)

    loop.run(main())
    assert fired == [1, 2, 3]


def test_deadlines_of_asyncio_run_on_it() -> None:
    loop = new_loop()

    async def main() -> tuple[float, int, int]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.sleep(10)
        timed_out = loop.time()
        tasks = [asyncio.create_task(asyncio.sleep(seconds)) for seconds in (1, 9)]
        done, waiting = await asyncio.wait(tasks, timeout=4)
        return timed_out, len(done), len(waiting)

    assert loop.run(main()) == (3, 1, 1)
    assert loop.time() == 7


def test_a_deadlock_is_an_error_that_says_so() -> None:
    loop = new_loop()

    async def main() -> None:
        await loop.create_future()

    with pytest.raises(DeadlockError, match="nothing is ready and no timer is set"):
        loop.run(main())


def test_an_error_of_the_main_task_comes_out() -> None:
    async def main() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        new_loop().run(main())


def test_a_callback_that_breaks_is_kept_and_the_next_one_runs() -> None:
    loop = new_loop()
    ran: list[bool] = []

    async def main() -> None:
        loop.call_soon(lambda: 1 // 0)
        loop.call_soon(ran.append, True)
        await asyncio.sleep(0)

    loop.run(main())
    assert ran
    assert "ZeroDivisionError" in loop.errors[0]


def test_the_loop_does_no_input_or_output() -> None:
    loop = new_loop()

    async def main() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    with pytest.raises(NotImplementedError):
        loop.run(main())


def test_what_still_runs_at_the_end_is_cancelled() -> None:
    ended: list[bool] = []

    async def endless() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append(True)

    async def main() -> None:
        asyncio.create_task(endless())  # noqa: RUF006 -- the loop keeps it
        await asyncio.sleep(0)

    new_loop().run(main())
    assert ended


def test_the_clock_goes_with_the_loop() -> None:
    loop = new_loop()
    clock = VirtualClock(loop)

    async def main() -> None:
        await clock.sleep(1.5)

    loop.run(main())
    assert (clock.now_us(), clock.monotonic()) == (START_US + 1_500_000, 1.5)


def test_ids_repeat_with_the_seed_and_never_between_processes() -> None:
    clock = VirtualClock(new_loop())
    first, again, other = SeededIds(7, 1, clock), SeededIds(7, 1, clock), SeededIds(7, 2, clock)
    ids = [first.order_id() for _ in range(1_000)]
    assert ids == [again.order_id() for _ in range(1_000)]
    assert ids == sorted(set(ids))
    assert not {other.order_id() for _ in range(1_000)} & set(ids)
    assert ids[0][14] == "7"
    assert first.fraction() == again.fraction()
