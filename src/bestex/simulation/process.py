"""An operating system process of the simulation: everything that runs in it stops at once when it is killed.

What belongs to a process is known by the context that its tasks and callbacks run in, which asyncio hands on by itself.
The loop asks before each of them. A stalled process's wait; a dead one's are dropped, as after a `kill -9`, when no
`finally` runs. Python cannot drop a task without unwinding it, so the dead one's tasks are cancelled, at once and with
every port refusing: nothing that they do on their way out reaches anybody.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from bestex.simulation.loop import Handle, VirtualLoop

T = TypeVar("T")

UNWIND_ROUNDS: Final = 200
"""How often what is left of a killed process is cancelled again before it is left where it stands."""

_PRUNE_AT: Final = 512  # tasks remembered before those that have ended are forgotten


class State(Enum):
    RUNNING = "running"
    STALLED = "stalled"  # SIGSTOP
    DYING = "dying"  # its tasks are being unwound; nobody outside notices
    DEAD = "dead"


class ProcessKilledError(asyncio.CancelledError):
    """A dead process called a port. It is no `Exception`, so that the engine cannot answer it."""


class Process:
    """One process, from its start to its death."""

    def __init__(self, loop: "VirtualLoop", name: str, step: "Callable[[Process, str | Handle], None] | None") -> None:
        """`step` is called at every point where the process might be killed; it may kill or stall it."""
        self.name = name
        self.state = State.RUNNING
        self.step = step
        self.parked: list[Handle] = []  # what waits for a stalled process to go on
        self.context = copy_context()
        self.context.run(CURRENT.set, self)
        self.when_dead: dict[Callable[[], None], None] = {}
        self._loop = loop
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = _PRUNE_AT

    @property
    def alive(self) -> bool:
        return self.state is State.RUNNING or self.state is State.STALLED

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in this process."""
        return self._loop.create_task(work, context=self.context.copy())

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Remember a task that runs in this process."""
        self._tasks.append(task)
        if len(self._tasks) >= self._prune_at:
            self._tasks = [each for each in self._tasks if not each.done()]
            self._prune_at = 2 * len(self._tasks) + _PRUNE_AT

    async def at(self, point: str) -> None:
        """A point where the process might be killed or stalled: before or after a call to the world outside."""
        self.check()
        if self.step is not None:
            self.step(self, point)
            if self.state is State.STALLED:
                await asyncio.sleep(0)
            elif self.state is not State.RUNNING:
                await self._loop.create_future()  # for ever

    def check(self) -> None:
        """Raise `ProcessKilledError` in a dead process."""
        if self.state is State.DYING or self.state is State.DEAD:
            raise ProcessKilledError(f"{self.name} is dead")

    def kill(self) -> None:
        """Kill -9: nothing of it runs any more."""
        if self.alive:
            self.state = State.DYING
            self._loop.bury(self)

    def stall(self) -> None:
        """SIGSTOP: nothing of it runs until `go_on`."""
        if self.state is State.RUNNING:
            self.state = State.STALLED

    def go_on(self) -> None:
        """SIGCONT."""
        if self.state is State.STALLED:
            self.state = State.RUNNING
            parked, self.parked = self.parked, []
            self._loop.unpark(parked)

    def unwind(self, run: "Callable[[Process], int]") -> None:
        """End what is left of a killed process; `run` runs its handles that are ready, and says how many."""
        parked, self.parked = self.parked, []
        self._loop.unpark(parked)
        for _ in range(UNWIND_ROUNDS):
            for task in self._tasks:
                task.cancel()
            ran = run(self)
            self._tasks = [task for task in self._tasks if not task.done()]
            if not self._tasks and not ran:
                break
        self.state = State.DEAD
        for task in self._tasks:  # whatever will not end is left to the garbage collector
            task._log_destroy_pending = False  # type: ignore[attr-defined] # as asyncio's own `gather` does
            work = task.get_coro()
            if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()  # it never began
        for tell in list(self.when_dead):
            tell()


CURRENT: Final[ContextVar[Process | None]] = ContextVar("bestex.simulation.process", default=None)
"""The process that this code runs in; None: outside all of them."""
