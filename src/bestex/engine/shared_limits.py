"""The intake's bounds over all apis of a database.

Each api reserves room for what it accepts, in the database, and accepts within that only. So no order is accepted by
which the orders that are stored would exceed a bound, whoever accepted them. Two things stand beside that:

- Orders come to wait, or to be open, by other ways too: a watched one fires, a slice begins, a dead worker's order is
  handed back. Those are never refused, here as in one process.
- A process that stands still between accepting an order and storing it, for longer than `ROOM_LASTS_S - USABLE_S`,
  stores it all the same: the bound may be exceeded by the orders that it was storing when it stood still, and no more.

A reservation covers what may not have been counted when it was given: what was not known to be stored when it was
asked for. It also covers what the last one allowed, until the next is asked for: orders are accepted, and being stored,
while the question is on its way. So room that one api has and another would need comes back with its second look.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from bestex.domain.errors import JournalError, JournalUnavailableError
from bestex.engine.intake import IntakeLimits
from bestex.engine.order_log import OrderLog
from bestex.ports import Clock, Journal, Room
from bestex.waiting import sleep_or

USABLE_S: Final = 3.0
"""How long room may be used after it was asked for: less than `ROOM_LASTS_S`, for commits under way."""
LOOK_AGAIN_S: Final = 0.1
"""Between two looks while orders come."""
LOOK_EVERY_S: Final = 1.0
"""Between two looks when none come: the share follows what is left."""
LOOK_RARELY_S: Final = 2.0
LOOKING_SHARE: Final = 20
"""A look that takes long is repeated after so many times as long, but at least every `LOOK_RARELY_S`: up to 100,000
open orders, counting takes 5 % of a database's core for each api."""
COUNT_WATCHED_EVERY_S: Final = 10.0
"""Watched orders are counted so often even where there is room enough, for who asks how many there are."""
WATCHED_ROOM_MIN: Final = 1_000
WATCHED_ROOM_DIVISOR: Final = 100
"""Room for watched orders is reserved in parts of at least a thousand, or a hundredth of the bound: a million of them
are not counted more often than needed."""

_log = structlog.get_logger(__name__)


class _Reserved:
    """Room for one sort of orders, and what has been stored since it was asked for."""

    __slots__ = ("bound", "granted", "stored")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.granted = 0
        self.stored = 0

    @property
    def taken(self) -> int:
        """Of the bound, what this api may not use. It leaves what may still be accepted, or is being stored."""
        return self.bound - self.granted + self.stored

    def grant(self, granted: int, stored_before: int) -> None:
        """Take a grant that was asked for when `stored_before` orders had been stored."""
        self.granted = granted
        self.stored -= stored_before


class SharedLimits:
    """What `Intake` asks how many orders there are, where several apis accept them.

    `waiting`, `opened` and `watched` raise `JournalUnavailableError` while that is not known.
    """

    def __init__(self, journal: Journal, clock: Clock, limits: IntakeLimits, committing: Callable[[], int]) -> None:
        """To be given every accepted order: `Intake(..., accepted=shared.accepted)`, or from within that.

        `committing` says of how many orders it is not known yet whether they are stored: `Intake.committing`.
        """
        self._committing = committing
        self._journal = journal
        self._clock = clock
        self._bounds = Room(limits.waiting, limits.open, limits.watched)
        self._waiting = _Reserved(limits.waiting)
        self._open = _Reserved(limits.open)
        self._watched = _Reserved(limits.watched)
        self._watched_max = max(WATCHED_ROOM_MIN, limits.watched // WATCHED_ROOM_DIVISOR)
        self._watched_again_at = 0.0  # by the monotonic clock
        self._watched_stale_at = 0.0
        self._usable_until = 0.0
        self.there_are = Room(0, 0, 0)  # orders over all processes, as last counted, each up to its bound
        self._orders_come = asyncio.Event()
        self._readable = True

    def waiting(self) -> int:
        return self._taken(self._waiting)

    def opened(self) -> int:
        return self._taken(self._open)

    def watched(self) -> int:
        return self._taken(self._watched)

    def accepted(self, log: OrderLog) -> None:
        """An order of this api is on disk."""
        if log.order.rests:
            self._watched.stored += 1
        else:
            self._waiting.stored += 1
            self._open.stored += 1

    def _taken(self, reserved: _Reserved) -> int:
        self._orders_come.set()
        if self._clock.monotonic() >= self._usable_until:
            raise JournalUnavailableError("the database cannot be asked how many orders there are; nothing was stored")
        return reserved.taken

    async def look(self) -> None:
        """Reserve anew. Raises `JournalUnavailableError`; what was reserved stays usable for its time."""
        began = self._clock.monotonic()
        before = self._waiting.stored, self._open.stored, self._watched.stored
        counts_watched = began >= (self._watched_again_at if self._watched_run_low else self._watched_stale_at)
        watched_max = self._watched_max if counts_watched else None
        reserved = await self._journal.reserve_room(self._bounds, watched_max, self._held(began))
        room = reserved.room
        self._waiting.grant(room.waiting, before[0])
        self._open.grant(room.open, before[1])
        if reserved.watched is not None:
            self._watched.grant(room.watched, before[2])
            now = self._clock.monotonic()
            self._watched_again_at = now + LOOKING_SHARE * (now - began)
            self._watched_stale_at = max(self._watched_again_at, now + COUNT_WATCHED_EVERY_S)
        elif room.watched < self._watched.granted:
            self._watched.granted = room.watched  # it has run out in the database
        watched = self.there_are.watched if reserved.watched is None else reserved.watched
        self.there_are = Room(reserved.waiting, reserved.open, watched)
        self._usable_until = began + USABLE_S

    def _held(self, now: float) -> Room:
        """What may be accepted until the next answer comes, or is being stored."""
        committing, usable = self._committing(), now < self._usable_until
        waiting, opened, watched = (
            max(each.granted - each.stored, committing) if usable else committing
            for each in (self._waiting, self._open, self._watched)
        )
        return Room(waiting, opened, watched)

    @property
    def _watched_run_low(self) -> bool:
        return self._watched.granted - self._watched.stored < max(1, self._watched_max // 2)

    async def run(self) -> None:
        """Reserve for ever: often while orders come, else once a second."""
        while True:
            self._orders_come.clear()
            began = self._clock.monotonic()
            try:
                await self.look()
            except JournalError as error:
                if self._readable:
                    _log.warning("intake.room_unknown", error=str(error))
                self._readable = False
            else:
                self._readable = True
            took = self._clock.monotonic() - began
            pause = min(max(LOOK_AGAIN_S, LOOKING_SHARE * took), LOOK_RARELY_S)
            await self._clock.sleep(pause)
            await sleep_or(self._clock, max(0.0, LOOK_EVERY_S - pause), self._orders_come)
