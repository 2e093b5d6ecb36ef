"""The dead-man switch: unless its owner renews it in time, all that it has resting is cancelled.

The switch is on disk before its owner is answered, so that it goes off although the engine was dead when it was due.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from bestex.domain.errors import BestexError, EngineFencedError
from bestex.engine.deadlines import Deadlines
from bestex.engine.errors import JournalBehindError
from bestex.ports import Clock, DeadMan, TriggerStore

_RETRY_S: Final = 0.5

_log = structlog.get_logger(__name__)

CancelResting = Callable[[DeadMan], Awaitable[None]]


class Switches(Protocol):
    """The callers' switches, as callers reach them. Raises `JournalError`, and then they stand as they did."""

    async def switch(self, caller: str) -> DeadMan | None: ...

    async def arm(self, caller: str, seconds: int, keeps_stops: bool) -> DeadMan:
        """Arm or renew it."""

    async def disarm(self, caller: str) -> None: ...


class DeadManSwitches:
    """The switches of a process that is alone: it has them go off itself."""

    def __init__(self, store: TriggerStore, clock: Clock, cancel_resting: CancelResting) -> None:
        """`cancel_resting` cancels what a caller has resting; where it raises, it is called again."""
        self._store = store
        self._clock = clock
        self._cancel_resting = cancel_resting
        self._switches: dict[str, DeadMan] = {}  # by caller
        self._turn = asyncio.Lock()  # of whoever writes: what is known here must end as it is on disk
        self._going_off: asyncio.TaskGroup | None = None  # while it runs
        self._deadlines = Deadlines(clock, self._due)

    async def switch(self, caller: str) -> DeadMan | None:
        return self._switches.get(caller)

    async def arm(self, caller: str, seconds: int, keeps_stops: bool) -> DeadMan:
        """Arm or renew it; raises `JournalError`, and then it stands as it did."""
        async with self._turn:
            switch = DeadMan(caller, self._clock.now_us() + seconds * 1_000_000, keeps_stops)
            await self._store.set_dead_man(switch)
            self._set(switch)
        return switch

    async def disarm(self, caller: str) -> None:
        async with self._turn:
            await self._drop(caller)

    async def load(self) -> None:
        """Take up the switches on disk. Raises `JournalError`, and is called again then.

        Those that were due meanwhile go off before this returns: what rests must not be executed first.
        """
        async with self._turn:
            switches = await self._store.dead_men()
            for switch in switches:
                if switch.due_us <= self._clock.now_us():
                    with suppress(JournalBehindError):  # nothing is executed either
                        await self._cancel_resting(switch)
                self._set(switch)

    async def run(self) -> None:
        """Have switches go off when they are due, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._going_off = tasks
            tasks.create_task(self._deadlines.run())

    def _set(self, switch: DeadMan) -> None:
        self._switches[switch.caller] = switch
        self._deadlines.at(switch.due_us, switch.caller)

    async def _drop(self, caller: str) -> None:
        await self._store.drop_dead_man(caller)
        self._switches.pop(caller, None)
        self._deadlines.forget(caller)

    def _due(self, callers: Sequence[str]) -> None:
        """Those that were not renewed meanwhile."""
        now_us = self._clock.now_us()
        for caller in callers:
            switch = self._switches.get(caller)
            if switch is not None and switch.due_us <= now_us and self._going_off is not None:
                self._going_off.create_task(self._go_off(switch))

    async def _go_off(self, switch: DeadMan) -> None:
        """Cancel what its owner has resting, however often that takes, and drop the switch."""
        _log.warning("dead_man.went_off", caller=switch.caller, keeps_stops=switch.keeps_stops)
        while self._switches.get(switch.caller) is switch:
            try:
                await self._cancel_resting(switch)
                async with self._turn:
                    if self._switches.get(switch.caller) is switch:  # it may have been renewed meanwhile
                        await self._drop(switch.caller)
            except EngineFencedError:
                return  # the engine that took this one's place has the switch
            except BestexError as error:
                _log.warning("dead_man.interrupted", error=str(error))
                await self._clock.sleep(_RETRY_S)
            except Exception:  # noqa: BLE001 -- one order's defect must stop neither the others nor the engine
                _log.exception("dead_man.defect")
                await self._clock.sleep(_RETRY_S)
