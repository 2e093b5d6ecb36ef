"""An asyncio event loop on which time is virtual: when nothing is ready, it is at once the time of the next timer.

Everything that waits with asyncio, `asyncio.timeout` and `asyncio.wait` included, waits on it. It does no I/O.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, TypeVar

from bestex.simulation.process import CURRENT, UNWIND_ROUNDS, Process, ProcessKilledError, State

T = TypeVar("T")


class DeadlockError(RuntimeError):
    """Nothing is ready, no timer is set, and the main task has not ended."""


class VirtualFuture(asyncio.Future[T]):
    """A future whose place in a set depends on the run alone, not on its address."""

    def __init__(self, *, loop: "VirtualLoop") -> None:
        super().__init__(loop=loop)
        self._number = loop.next_number()

    def __hash__(self) -> int:
        return self._number


class VirtualTask(asyncio.Task[T]):
    """A task of which the same holds."""

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        *,
        loop: "VirtualLoop",
        context: contextvars.Context | None,
        name: str | None,
    ) -> None:
        self._number = loop.next_number()  # before asyncio puts it into its set of all tasks
        super().__init__(work, loop=loop, context=context, name=name)

    def __hash__(self) -> int:
        return self._number


class Handle:
    """A callback, when it is due, and the process that it belongs to. To asyncio it is a `TimerHandle`."""

    __slots__ = ("_args", "_callback", "_context", "_when", "gone", "process")

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self.gone = False
        self._when = when
        self._callback = callback
        self._args = args
        if context is None:
            self._context = contextvars.copy_context()
            self.process = CURRENT.get()
        else:
            self._context = context
            self.process = context.get(CURRENT)

    def run(self) -> None:
        self._context.run(self._callback, *self._args)

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self._when

    def __str__(self) -> str:
        """What it is about to do, for a story."""
        task = getattr(self._callback, "__self__", None)
        if isinstance(task, asyncio.Task):
            return f"a step of {getattr(task.get_coro(), '__qualname__', 'a task')}"
        return f"a call of {getattr(self._callback, '__qualname__', type(self._callback).__name__)}"


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop. `run` runs one main task to its end."""

    def __init__(self) -> None:
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._timer_numbers = count()
        self._numbers = count(1)
        self._now = 0.0
        self._dying: list[Process] = []
        self._outside: list[asyncio.Task[Any]] = []  # tasks of no process
        self._running = False
        self._closed = False
        self.errors: list[str] = []  # of callbacks, which nobody caught

    # --- Running

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """The result of `main`. What else still runs then is cancelled, and ends without time passing."""
        asyncio._set_running_loop(self)
        self._running = True
        try:
            task = self.create_task(main)
            while not task.done():
                self._turn()
            return task.result()
        finally:
            self._unwind_outside()
            self._running = False
            asyncio._set_running_loop(None)

    def _unwind_outside(self) -> None:
        for _ in range(UNWIND_ROUNDS):
            self._outside = [task for task in self._outside if not task.done()]
            for task in self._outside:
                task.cancel()
            if not self._outside and not self._ready:
                break
            self._run_ready_of(None)

    def _turn(self) -> None:
        """Run what is ready; when nothing is, let it be the time of the next timer."""
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2].gone:
                heapq.heappop(timers)
            if not timers:
                raise DeadlockError(f"nothing is ready and no timer is set at {self._now:.6f} s")
            self._now = max(self._now, timers[0][0])
        now = self._now
        while timers and timers[0][0] <= now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            if not ready:  # a killed process's have gone
                return
            handle = ready.popleft()
            if handle.gone:
                continue
            process = handle.process
            if process is None or self._admits(process, handle):
                self._run(handle)
            if self._dying:
                self._unwind_dying()

    def _run(self, handle: Handle) -> None:
        try:
            handle.run()
        except ProcessKilledError:
            pass  # a port refused to a callback what it refuses to a task
        except Exception as error:  # noqa: BLE001 -- as in any loop, the next callback runs all the same
            self.errors.append(f"{handle}: {error!r}")

    def _admits(self, process: Process, handle: Handle) -> bool:
        """Whether the process runs and still does when it has been asked at this point."""
        if process.state is State.RUNNING and process.step is not None:
            process.step(process, handle)
        if process.state is State.RUNNING:
            return True
        if process.state is State.STALLED:
            process.parked.append(handle)
        elif process.state is State.DYING:
            self._ready.appendleft(handle)  # its task ends by it
        return False

    # --- Processes

    def bury(self, process: Process) -> None:
        """Unwind a killed process once the callback that runs now returns."""
        self._dying.append(process)

    def unpark(self, handles: list[Handle]) -> None:
        """Have the handles of a process that goes on run next."""
        self._ready.extend(handles)

    def _unwind_dying(self) -> None:
        while self._dying:
            self._dying.pop().unwind(self._run_ready_of)

    def _run_ready_of(self, process: Process | None) -> int:
        ran = 0
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if handle.process is not process:
                self._ready.append(handle)
            elif not handle.gone:
                self._run(handle)
                ran += 1
        return ran

    # --- What asyncio asks of a loop

    def next_number(self) -> int:
        return next(self._numbers)

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override] # what it needs of a handle is there
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(self._now, callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(when, callback, args, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return VirtualFuture(loop=self)

    def create_task(  # type: ignore[override]
        self,
        work: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        process = CURRENT.get() if context is None else context.get(CURRENT)
        if process is not None and process.state is State.DEAD:
            work.close()
            process.check()
        task = VirtualTask(work, loop=self, context=context, name=name)
        if process is not None:
            process.adopt(task)
        else:
            self._outside.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """News of results that nobody took: they come whenever memory is freed, and each has its taker."""

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()


def new_loop() -> VirtualLoop:
    """A loop of which nothing has run yet. What asyncio defines and the loop does not, I/O above all, raises."""
    return VirtualLoop()  # type: ignore[abstract] # to the type checker only
