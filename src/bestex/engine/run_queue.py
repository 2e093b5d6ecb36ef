"""The run queue of one process: jobs of orders, so many at once, the others in the order they came."""

import asyncio
from collections import deque
from collections.abc import Callable, Container, Coroutine
from functools import partial
from typing import Any

import structlog

Job = Callable[[], Coroutine[Any, Any, None]]
"""Executes one order from where it stands."""

_log = structlog.get_logger(__name__)


AtOnce = Callable[[], "asyncio.Future[Any] | None"]
"""Begins a job without waiting for anything, and gives what is done with it; None where that cannot be."""


class RunQueue:
    """Runs jobs in this process, at most `concurrency` at once, and never two of one order."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[str, Job, AtOnce | None]] = deque()
        self._executing: dict[str, asyncio.Future[Any]] = {}
        self._stopped = False
        self._made_room: Callable[[], None] | None = None

    @property
    def waiting(self) -> int:
        """Jobs that wait to run."""
        return len(self._waiting)

    @property
    def executing(self) -> int:
        return len(self._executing)

    @property
    def room(self) -> int:
        """How many more jobs could run now."""
        return 0 if self._stopped else max(0, self._concurrency - len(self._executing) - len(self._waiting))

    def on_room(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever a job has ended and none waits for its place."""
        self._made_room = listener

    def order_ids(self) -> set[str]:
        """The orders that execute or wait to."""
        return {order_id for order_id, _, _ in self._waiting} | self._executing.keys()

    def dispatch(self, order_id: str, job: Job, at_once: AtOnce | None = None) -> None:
        """Run `job` as soon as there is room. After `stop` it is left for the next engine.

        `at_once` is tried first: the future that it gives stands for the job, which is not run then.
        """
        if self._stopped:
            return
        if len(self._executing) < self._concurrency and order_id not in self._executing:
            self._start(order_id, job, at_once)
        else:
            self._waiting.append((order_id, job, at_once))

    async def drain(self, seconds: float, finish: Container[str]) -> None:
        """Start nothing more and stop what executes; first wait for the orders in `finish`, for at most `seconds`."""
        self._stopped = True
        self._waiting.clear()
        finishing = []
        for order_id, task in self._executing.items():
            if order_id in finish:
                finishing.append(task)
            else:
                task.cancel()
        if finishing:
            await asyncio.wait(finishing, timeout=seconds)
        await self.stop()

    async def stop(self) -> None:
        """Stop what executes where it stands; the journal knows how to go on."""
        self._stopped = True
        self._waiting.clear()
        tasks = list(self._executing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, order_id: str, job: Job, at_once: AtOnce | None) -> None:
        begun = at_once() if at_once is not None else None
        if begun is not None:
            self._executing[order_id] = begun
            begun.add_done_callback(partial(self._left, order_id))
            return
        task = self._loop.create_task(job())
        self._executing[order_id] = task
        task.add_done_callback(lambda done: self._finished(order_id, done))

    def _finished(self, order_id: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("order.executor_broke", order_id=order_id, exc_info=error)
        self._left(order_id, task)

    def _left(self, order_id: str, _: asyncio.Future[Any]) -> None:
        """There is room for another."""
        del self._executing[order_id]
        if self._stopped:
            return
        if self._waiting:
            self._start_waiting()
        if self._made_room is not None and not self._waiting:
            self._made_room()

    def _start_waiting(self) -> None:
        """Fill the room there is. What waits for another job of its order keeps its place."""
        kept = []
        while self._waiting and len(self._executing) < self._concurrency:
            order_id, job, at_once = self._waiting.popleft()
            if order_id in self._executing:
                kept.append((order_id, job, at_once))
            else:
                self._start(order_id, job, at_once)
        self._waiting.extendleft(reversed(kept))
