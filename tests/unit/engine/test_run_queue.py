"""The run queue of one process: every job once, so many at once, in the order they came."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from bestex.engine.run_queue import RunQueue

CONCURRENCY = 3

pytestmark = pytest.mark.timeout(20)


class Jobs:
    """Jobs that run until they are let go, and what was seen of them."""

    def __init__(self, dispatcher: RunQueue) -> None:
        self._dispatcher = dispatcher
        self._gates: dict[str, asyncio.Event] = {}
        self.started: list[str] = []
        self.ended: list[str] = []
        self.at_once_max = 0
        self.orders_executing: Counter[str] = Counter()
        self.orders_at_once_max = 0

    def dispatch(self, *names: str, error: BaseException | None = None) -> None:
        """Dispatch jobs; what stands before the `/` of a name is its order."""
        for name in names:
            self._gates[name] = asyncio.Event()
            self._dispatcher.dispatch(name.partition("/")[0], lambda name=name: self._job(name, error))  # type: ignore[misc]

    async def let_go(self, *names: str) -> None:
        for name in names:
            self._gates[name].set()
        await settled()

    async def let_all_go(self) -> None:
        while running := [name for name in self.started if name not in self.ended]:
            await self.let_go(*running)

    async def _job(self, name: str, error: BaseException | None) -> None:
        order = name.partition("/")[0]
        self.started.append(name)
        self.orders_executing[order] += 1
        self.at_once_max = max(self.at_once_max, self.orders_executing.total())
        self.orders_at_once_max = max(self.orders_at_once_max, self.orders_executing[order])
        try:
            await self._gates[name].wait()
            if error is not None:
                raise error
        finally:
            self.ended.append(name)
            self.orders_executing[order] -= 1


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def dispatcher() -> AsyncIterator[RunQueue]:
    dispatcher = RunQueue(CONCURRENCY)
    yield dispatcher
    await dispatcher.stop()


@pytest.fixture
async def jobs(dispatcher: RunQueue) -> Jobs:
    return Jobs(dispatcher)


def names(count: int) -> list[str]:
    return [f"order {number}" for number in range(count)]


async def test_every_job_runs_once(jobs: Jobs, dispatcher: RunQueue) -> None:
    jobs.dispatch(*names(50))
    await settled()
    await jobs.let_all_go()

    assert Counter(jobs.ended) == Counter(names(50))
    assert (dispatcher.waiting, dispatcher.executing) == (0, 0)


async def test_never_more_jobs_run_at_once_than_may(jobs: Jobs, dispatcher: RunQueue) -> None:
    jobs.dispatch(*names(50))
    await settled()
    assert (dispatcher.executing, dispatcher.waiting) == (CONCURRENCY, 50 - CONCURRENCY)
    await jobs.let_all_go()

    assert jobs.at_once_max == CONCURRENCY


async def test_a_place_that_falls_free_is_taken_at_once(jobs: Jobs) -> None:
    jobs.dispatch(*names(5))
    await settled()
    await jobs.let_go("order 1")
    assert jobs.started == names(4)
    await jobs.let_go("order 3", "order 0")
    assert jobs.started == names(5)


async def test_who_comes_first_is_served_first(jobs: Jobs) -> None:
    jobs.dispatch(*names(30))
    await settled()
    jobs.dispatch("late")
    await jobs.let_all_go()

    assert jobs.started == [*names(30), "late"]


async def test_an_order_is_never_executed_twice_at_once(jobs: Jobs, dispatcher: RunQueue) -> None:
    jobs.dispatch("one/1", "one/2", "two/1", "one/3", "two/2")
    await settled()
    assert jobs.started == ["one/1", "two/1"]
    assert dispatcher.waiting == 3
    await jobs.let_all_go()

    assert Counter(jobs.ended) == Counter(["one/1", "one/2", "one/3", "two/1", "two/2"])
    assert jobs.orders_at_once_max == 1


async def test_a_job_that_waits_for_its_order_holds_up_no_other_order(jobs: Jobs) -> None:
    jobs.dispatch("one/1", "one/2", "two", "three", "four")
    await settled()
    await jobs.let_go("two")

    assert jobs.started == ["one/1", "two", "three", "four"]


@pytest.mark.parametrize("error", [ValueError("a defect"), asyncio.CancelledError()], ids=["raises", "is cancelled"])
async def test_a_job_that_breaks_stops_no_other(jobs: Jobs, dispatcher: RunQueue, error: BaseException) -> None:
    with capture_logs() as logs:
        jobs.dispatch("bad", error=error)
        jobs.dispatch(*names(10))
        await settled()
        await jobs.let_all_go()

    assert set(names(10)) <= set(jobs.ended)
    assert dispatcher.executing == 0
    told = [(entry["event"], entry["order_id"]) for entry in logs]
    assert told == ([("order.executor_broke", "bad")] if isinstance(error, ValueError) else [])


async def test_stopping_ends_what_runs_and_starts_nothing_that_waits(jobs: Jobs, dispatcher: RunQueue) -> None:
    jobs.dispatch(*names(10))
    await settled()
    await dispatcher.stop()

    assert jobs.started == jobs.ended == names(CONCURRENCY)
    assert (dispatcher.waiting, dispatcher.executing) == (0, 0)


async def test_after_a_stop_jobs_are_left_for_the_next_engine(jobs: Jobs, dispatcher: RunQueue) -> None:
    await dispatcher.stop()
    jobs.dispatch(*names(3))
    await settled()

    assert jobs.started == []
    assert (dispatcher.waiting, dispatcher.executing) == (0, 0)


async def test_a_job_may_dispatch_the_next_one_of_its_own_order(dispatcher: RunQueue) -> None:
    ran: list[int] = []
    finished = asyncio.Event()

    async def job(number: int) -> None:
        ran.append(number)
        if number == 5:
            finished.set()
        else:
            dispatcher.dispatch("one", lambda: job(number + 1))

    dispatcher.dispatch("one", lambda: job(1))
    async with asyncio.timeout(5):
        await finished.wait()
    assert ran == [1, 2, 3, 4, 5]
