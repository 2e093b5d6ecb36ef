"""One process, from its first step to its last: its signals, what runs in the background, and how it ends."""

import asyncio
import gc
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import structlog

from bestex.ambient import SystemClock, SystemIds
from bestex.config import Settings
from bestex.domain.errors import EngineFencedError
from bestex.domain.tokens import TokenRegistry

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1

# Each part of a stop, beside the drain that comes first; under 2 s together.
STOP_HTTP_S: Final = 0.4  # for answers under way
STOP_ANSWERS_S: Final = 0.15  # for answers of which only this much is known: that the engine stops
STOP_DRAIN_S: Final = 0.2  # for the last commits of the journal, and of the simulated chain
STOP_DATABASE_S: Final = 0.4  # for the embedded server; it finishes its checkpoint by itself
STOP_PARTS_S: Final = 1.6  # all of these

_log = structlog.get_logger("bestex")


class Process:
    """A process that runs until it is told to stop, or a part of it ends."""

    def __init__(self, settings: Settings, tokens: TokenRegistry) -> None:
        self._settings = settings
        self._tokens = tokens
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._background: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._starting: asyncio.Task[Any] | None = None  # until it has started
        self._failed = False
        self._not_ready: str | None = "starting"

    async def run(self) -> int:
        """Start, work until told to stop, stop; the exit code. A stop is obeyed while starting too."""
        self._starting = asyncio.current_task()
        self._own_signals()
        try:
            async with AsyncExitStack() as exits:
                await self._run(exits)
                return self._exit_code()
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            return EXIT_OK

    async def _run(self, exits: AsyncExitStack) -> None:
        """Start, `await self._stopped()`, stop; what `exits` holds is undone behind it."""
        raise NotImplementedError

    async def _stopped(self) -> None:
        """Wait to be told to stop; from here on it has started."""
        self._starting = None
        await self._stop.wait()

    def _start(self, name: str, work: Coroutine[Any, Any, None], exits: AsyncExitStack) -> None:
        """Run something until the exit comes back to it. It must not end before: its end stops the engine."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: self._stop.set())
        self._background.append(task)
        exits.push_async_callback(_cancel, task)

    @staticmethod
    def _collect_seldom() -> None:
        """What stands now stays: the collector need not look at it again. Little of what orders make is for it."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def _own_signals(self) -> None:
        """The first SIGTERM or SIGINT stops the engine in order; the second ends the process at once."""

        def received() -> None:
            if self._stop.is_set():
                os._exit(EXIT_FAILED)
            _log.info("engine.stopping")
            self._stop.set()
            if self._starting is not None:
                self._starting.cancel()

        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, received)

    def _watch_over(self, name: str, work: Coroutine[Any, Any, None], *, may_end: bool = False) -> asyncio.Task[None]:
        """Run something that stops the process, with exit code 1, should it break, or end by itself unless it may."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda done: self._ended_by_itself(done, may_end))
        return task

    def _ended_by_itself(self, task: asyncio.Task[None], may_end: bool) -> None:
        if self._stop.is_set() or task.cancelled():
            return
        error = task.exception()
        if error is not None or not may_end:
            _log.error("engine.part_ended", part=task.get_name(), exc_info=error)
            self._failed = True
            self._stop.set()

    def _exit_code(self) -> int:
        """0 when told to stop; 1, with the reason in the log, when a part of the engine ended by itself."""
        code = EXIT_FAILED if self._failed else EXIT_OK
        for task in self._background:
            if task.done() and not task.cancelled():
                error = task.exception()
                code = EXIT_FAILED
                if isinstance(error, EngineFencedError):
                    _log.error("engine.fenced", reason=str(error))
                else:
                    _log.error("engine.part_ended", part=task.get_name(), exc_info=error)
        return code


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


async def within(work: Coroutine[Any, Any, None], seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(work, seconds)
