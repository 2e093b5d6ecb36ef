"""Follow the log of a database that several processes share, and give its events to whoever listens in this one.

Signals say how far the log has come; the journal has the content. A lost signal only delays: the follower asks the
journal itself every second.

What it keeps, so that a watcher who subscribes and then reads the journal misses nothing and sees nothing out of order:

1. Everything that this process hears comes through the follower, its own commits too, in the order of positions.
2. The follower never stands beyond what has been committed.
3. It goes on in steps. The end of a step is known to be committed before it looks who watches. A watcher who came
   later finds everything up to that end in the journal, so the step may pass by the orders that nobody watched; one
   who came earlier was seen. When nobody watches anything, a step reads nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from bestex.domain.errors import JournalError
from bestex.domain.events import StoredEvent
from bestex.hub.local import LocalHub
from bestex.ports import Clock, Journal, JournalListener
from bestex.waiting import sleep_or

LOOK_EVERY_S: Final = 1.0
"""How often the journal is asked where the log ends, whatever the signals say."""
GATHER_S: Final = 0.01
"""Between two steps: under load one step takes what many commits brought."""
STEP_POSITIONS_MAX: Final = 2_000
PAUSE_S: Final = 0.2
"""Before the journal is asked again when it could not be read."""

_log = structlog.get_logger(__name__)


class LogFollower:
    """Reads the log behind its position for this process's hub and other listeners."""

    def __init__(self, journal: Journal, hub: LocalHub, clock: Clock) -> None:
        self._journal = journal
        self._hub = hub
        self._clock = clock
        self._listeners: list[JournalListener] = []
        self._position = 0
        self._known = 0  # a position that has been committed
        self._look_at = 0.0  # when the journal is asked where the log ends, by the monotonic clock
        self._stepping = False
        self._wake = asyncio.Event()
        self._readable = True

    @property
    def position(self) -> int:
        """Everything up to here has been given to whoever it is for."""
        return self._position

    @property
    def behind(self) -> int:
        """Events known to be committed and not given yet."""
        return self._known - self._position

    def listen(self, listener: JournalListener) -> None:
        """Have `listener` called with all events behind `position`, in position order: then every one is read."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Begin at the log's end. To be called before anybody watches. Raises `JournalUnavailableError`."""
        self._position = self._known = await self._journal.head()

    def signal(self, position: int | None = None) -> None:
        """The log has come to `position`; None: nobody knows how far, signals may have been lost."""
        if position is None:
            self._look_at = 0.0
        elif position > self._known:
            self._known = position
        if position is None or self._stepping or self._is_needed:
            self._wake.set()
        else:
            self._position = self._known

    def hear(self, payload: str | None) -> None:
        """`signal`, with the position as text."""
        self.signal(int(payload) if payload is not None and payload.isdecimal() else None)

    async def run(self) -> None:
        """Follow for ever. While the journal cannot be read, watchers wait and listeners hear nothing."""
        while True:
            self._wake.clear()
            try:
                await self._step_on()
            except JournalError as error:
                self._report(error)
                await self._clock.sleep(PAUSE_S)
                continue
            self._report(None)
            await self._clock.sleep(GATHER_S)
            if not self._wake.is_set():
                await sleep_or(self._clock, max(0.0, self._look_at - self._clock.monotonic()), self._wake)

    @property
    def _is_needed(self) -> bool:
        return bool(self._listeners or self._hub.watchers)

    async def _step_on(self) -> None:
        """Look where the log ends when that is due, and go on to what is known."""
        self._stepping = True
        try:
            now = self._clock.monotonic()
            if now >= self._look_at:
                self._look_at = now + LOOK_EVERY_S
                known = self._known
                self._arrive_at(await self._journal.head(), known)
            while self._position < self._known:
                await self._step()
        except JournalError:
            self._look_at = 0.0
            raise
        finally:
            self._stepping = False

    def _arrive_at(self, head: int, known: int) -> None:
        """The log ends at `head`, and was said to end at `known` when that was asked."""
        if head < self._position:
            # The database is another now, and older: positions will come again, with other events.
            _log.warning("hub.log_went_back", position=self._position, head=head)
            self._position = self._known = head
            self._hub.overflow()
        elif head < known:
            self._known = head  # a signal was wrong
        else:
            self._known = max(self._known, head)

    async def _step(self) -> None:
        begin, hub = self._position, self._hub
        if not self._is_needed:
            self._position = self._known
            return
        end = min(self._known, begin + STEP_POSITIONS_MAX)
        if self._listeners or hub.is_followed:
            events = await self._journal.feed(begin, end - begin)
            if len(events) < end - begin:
                self._known = end = begin + len(events)  # a signal was wrong
            hub.publish(events)
            self._tell(events)
        else:
            hub.publish_to_orders(await self._journal.feed_of(hub.watched, begin, end))
        self._position = end

    def _tell(self, events: Sequence[StoredEvent]) -> None:
        for listener in self._listeners:
            try:
                listener(events)
            except Exception:  # noqa: BLE001 -- what listens must not stop what others hear
                _log.exception("hub.listener_broke")

    def _report(self, error: JournalError | None) -> None:
        if error is not None and self._readable:
            _log.warning("hub.log_unreadable", error=str(error))
        elif error is None and not self._readable:
            _log.info("hub.log_readable")
        self._readable = error is None
