"""Takeover: what dead engines held is let go of, so that the living claim it as they claim whatever waits.

Mostly there is no dead engine, and a look costs one row for each engine. When there is one, its orders are found by
going through all that are open, page by page; one that left nothing is not looked at again until it gives a sign of
life. Now and then all are gone through in any case: an engine whose row is gone may have left some too.
"""

from typing import Final

import msgspec
import structlog

from bestex.domain.errors import JournalError
from bestex.ports import Clock, Dispatcher, Ids, Journal

PAGE_ORDERS: Final = 1_000

_log = structlog.get_logger(__name__)


class TakeoverLimits(msgspec.Struct, frozen=True):
    look_every_s: float = 2.0  # for dead engines, give or take a quarter at random
    search_every_s: float = 10.0  # through all open orders, dead engine or not


class Takeover:
    """The looks of one worker after the dead."""

    def __init__(
        self, journal: Journal, dispatcher: Dispatcher, clock: Clock, ids: Ids, limits: TakeoverLimits
    ) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._left_nothing: dict[str, int] = {}  # dead engines by id, with their last sign of life
        self._search_at = 0.0  # a time of the clock's `monotonic`

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                if freed := await self.look():
                    _log.warning("takeover.orders_freed", orders=freed)
            except JournalError as error:
                _log.warning("takeover.failed", error=str(error))
            await self._clock.sleep(self._limits.look_every_s * (0.75 + self._ids.fraction() / 2))

    async def look(self) -> int:
        """Free the orders of engines that are dead; how many."""
        silent = await self._journal.silent_engines()
        now = self._clock.monotonic()
        searches = self._search_at <= now
        if not searches and silent == self._left_nothing:
            return 0
        freed = 0
        after: str | None = None
        while page := await self._journal.free_orders_of_the_dead(after, PAGE_ORDERS):
            self._dispatcher.ring(page)
            after = page[-1].order_id
            freed += len(page)
        self._left_nothing = {} if freed else silent
        if searches:
            await self._journal.forget_engines()
            self._search_at = now + self._limits.search_every_s
        return freed
