"""The dead-man switches where several processes share them: apis arm them on disk, and one watcher has them go off.

To have one go off twice does no harm: what is cancelled stays cancelled.
"""

from typing import Final

import structlog

from bestex.domain.errors import BestexError, EngineFencedError
from bestex.engine.books import SWITCHES, Books
from bestex.engine.dead_man import CancelResting
from bestex.ports import Clock, DeadMan, TriggerStore

LOOK_EVERY_S: Final = 1.0

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

    def __init__(self, store: TriggerStore, clock: Clock, books: Books, cancel_resting: CancelResting) -> None:
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
                await self.look()
            except EngineFencedError:
                raise
            except BestexError as error:
                _log.warning("dead_man.interrupted", error=str(error))
            except Exception:  # noqa: BLE001 -- one order's defect must stop neither the others nor the watcher
                _log.exception("dead_man.defect")

    async def look(self) -> None:
        """Have all go off that are due: whosever they are. Raises what keeps an order from being cancelled."""
        for switch in await self._store.dead_men():
            if switch.due_us > self._clock.now_us():
                continue
            _log.warning("dead_man.went_off", caller=switch.caller, keeps_stops=switch.keeps_stops)
            await self._cancel_resting(switch)
            await self._store.drop_dead_man(switch.caller, switch.due_us)  # unless it has been renewed meanwhile
