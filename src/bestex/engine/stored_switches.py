"""The dead-man switches where several processes share them: apis arm them on disk, and one watcher has them go off.

To have one go off twice does no harm: what is cancelled stays cancelled. But a watcher that stood still while another
had it go off must not cancel what the client, back again, has ordered since: it cancels under its lease.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from bestex.domain.errors import BestexError, EngineFencedError
from bestex.engine.books import SWITCHES, Books
from bestex.ports import BookLease, Clock, DeadMan, TriggerStore

LOOK_EVERY_S: Final = 1.0

CancelUnder = Callable[[DeadMan, BookLease | None], Awaitable[None]]
"""Cancels what rests as the switch says, under the lease given, if any."""

_log = structlog.get_logger(__name__)


class SwitchesOnDisk:
    """`Switches` of one of several apis: any of them may have armed it."""

    def __init__(self, store: TriggerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def switch(self, caller: str) -> DeadMan | None:
        return next((each for each in await self._store.dead_men() if each.caller == caller), None)

    async def arm(self, caller: str, seconds: int, keeps_stops: bool) -> DeadMan:
        switch = DeadMan(caller, self._clock.now_us() + seconds * 1_000_000, keeps_stops)
        await self._store.set_dead_man(switch)
        return switch

    async def disarm(self, caller: str) -> None:
        await self._store.drop_dead_man(caller)


class WatchedSwitches:
    """The switches as a watcher sees them: the one that owns them has them go off."""

    def __init__(self, store: TriggerStore, clock: Clock, books: Books, cancel_resting: CancelUnder) -> None:
        self._store = store
        self._clock = clock
        self._books = books
        self._cancel_resting = cancel_resting

    async def run(self) -> None:
        """Have switches go off when they are due, while they are this watcher's, for ever."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            if not self._books.may_fire(SWITCHES):
                continue
            try:
                await self.look(self._books.fence(SWITCHES))
            except EngineFencedError:
                raise
            except BestexError as error:
                _log.warning("dead_man.interrupted", error=str(error))
            except Exception:  # noqa: BLE001 -- one order's defect must stop neither the others nor the watcher
                _log.exception("dead_man.defect")

    async def look(self, fence: BookLease | None = None) -> None:
        """Have all go off that are due, under the lease of the switches, or whosever they are.

        Raises what keeps an order from being cancelled.
        """
        for switch in await self._store.dead_men():
            if switch.due_us > self._clock.now_us():
                continue
            _log.warning("dead_man.went_off", caller=switch.caller, keeps_stops=switch.keeps_stops)
            await self._cancel_resting(switch, fence)
            await self._store.drop_dead_man(switch.caller, switch.due_us)  # unless it has been renewed meanwhile
