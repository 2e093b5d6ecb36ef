"""Which books this watcher owns: it renews their leases, takes its fair share of the rest, and gives back what is more.

- Each second all leases are renewed in one statement, which also says how many watchers live. A dead one's leases run
  out `BOOK_LEASE_S` after its last renewal, when it is not counted any more either: the others take them up then.
- The fair share is the number of books by the number of watchers, rounded up. Who has more gives back at once, so that
  a new watcher finds its part; who has less takes what is nobody's.
- To read what waits in a book takes its time, and renewals do not wait for it. What is loaded follows what is leased.
"""

import asyncio
from collections.abc import Collection
from typing import Final

import structlog

from bestex.domain.errors import EngineFencedError, JournalError
from bestex.engine.books import ALWAYS_THERE, LeasedBooks, book_key
from bestex.engine.shared_watch import SharedWatch
from bestex.ports import BOOK_LEASE_S, BookLease, BookLeases, Clock, Journal
from bestex.waiting import sleep_or

RENEW_EVERY_S: Final = 1.0
LIST_EVERY_S: Final = 2.0  # between two looks which pairs have orders waiting
GATHER_S: Final = 0.05  # for other new pairs to be heard of
EMPTY_S: Final = 60.0  # until a book in which nothing waits any more is forgotten
TAKEN_UP_AT_ONCE: Final = 100  # books
_RETRY_S: Final = 0.5

_log = structlog.get_logger(__name__)


class Ownership:
    """The books of one watcher."""

    def __init__(
        self, leases: BookLeases, journal: Journal, books: LeasedBooks, watch: SharedWatch, clock: Clock
    ) -> None:
        self._leases = leases
        self._journal = journal
        self._books = books
        self._watch = watch
        self._clock = clock
        self._had: dict[str, BookLease] = {}  # by key, as the database said last
        self._loaded: dict[str, BookLease] = {}  # what the watch has taken up, or is about to
        self._giving_back: set[str] = set()
        self._keys: frozenset[str] = ALWAYS_THERE  # of all books in which anything waits
        self._listed_at: float | None = None  # by the clock's `monotonic`
        self._empty_since: dict[str, float] = {}
        self._heard_of: set[str] = set()  # books that may be newer than what is being listed
        self._heard = asyncio.Event()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()  # of whoever asks for leases or lets go: what is known here must end as it is there
        self._closed = False

    @property
    def taken_up(self) -> int:
        """Books whose orders are all watched."""
        return sum(self._had.get(key) == lease for key, lease in self._loaded.items())

    def heard_of(self, key: str) -> None:
        """An order has come to wait in a book: there may be no such book yet."""
        if key and key not in self._keys:
            self._keys |= {key}
            self._heard_of.add(key)
            self._heard.set()

    def close(self) -> None:
        """Take nothing more, and fire nothing more."""
        self._closed = True
        self._books.let_go(list(self._books.keys))

    async def leave(self) -> None:
        """Have all be nobody's, so that others need not wait; raises `JournalError`."""
        self.close()
        async with self._turn:
            await self._leases.leave()

    async def run(self) -> None:
        """Own books, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew_regularly())
            tasks.create_task(self._load())

    async def _renew_regularly(self) -> None:
        while not self._closed:
            try:
                async with self._turn:
                    await self._round()
            except EngineFencedError:
                raise
            except JournalError as error:
                _log.warning("books.not_renewed", books=len(self._had), error=str(error))
            await sleep_or(self._clock, RENEW_EVERY_S, self._heard)
            if self._heard.is_set():
                await self._clock.sleep(GATHER_S)
                self._heard.clear()

    async def _round(self) -> None:
        if self._closed:
            return
        began = self._clock.monotonic()
        standing = await self._leases.renew()
        if self._closed:
            return
        self._has({lease.key: lease for lease in standing.mine})
        self._books.good_until(began + BOOK_LEASE_S)
        await self._list(began)
        await self._drop_empty(began)
        share = -(-len(self._keys) // standing.watchers)
        held = (self._had.keys() & self._keys) - self._giving_back
        room = share - len(held)
        if room < 0:
            self._give_back(sorted(held)[room:])
        elif room > 0 and (wanted := sorted(self._keys - self._had.keys())):
            claimed = await self._leases.claim(wanted, room)
            if claimed and not self._closed:
                _log.info("books.claimed", books=len(claimed), share=share, watchers=standing.watchers)
                self._has(self._had | {lease.key: lease for lease in claimed})

    def _has(self, leases: dict[str, BookLease]) -> None:
        """Own these and no others."""
        self._had = leases
        self._giving_back &= leases.keys()
        kept = {key: lease for key, lease in self._loaded.items() if leases.get(key) == lease}
        if lost := self._loaded.keys() - kept.keys() - self._giving_back:
            _log.warning("books.lost", books=len(lost))
        self._books.let_go([key for key in self._books.keys if kept.get(key) is None or key in self._giving_back])
        self._changed.set()

    def _give_back(self, keys: Collection[str]) -> None:
        _log.info("books.given_back", books=len(keys))
        self._giving_back |= set(keys)
        self._books.let_go(keys)
        self._changed.set()

    async def _list(self, now: float) -> None:
        if self._listed_at is not None and now < self._listed_at + LIST_EVERY_S:
            return
        self._heard_of.clear()
        pairs = await self._journal.resting_pairs()
        self._keys = ALWAYS_THERE.union(map(book_key, pairs), self._heard_of)
        self._listed_at = now

    async def _drop_empty(self, now: float) -> None:
        """Forget the books in which nothing has waited for long."""
        empty = self._had.keys() - self._keys
        self._empty_since = {key: self._empty_since.get(key, now) for key in empty}
        if gone := [key for key, since in self._empty_since.items() if now >= since + EMPTY_S]:
            await self._leases.drop(gone)  # the next renewal tells which of them are gone

    # --- What the watch has taken up

    async def _load(self) -> None:
        """Have the watch follow what is owned, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._follow()
            except EngineFencedError:
                raise
            except JournalError as error:
                _log.warning("books.interrupted", error=str(error))
                await self._clock.sleep(_RETRY_S)
                self._changed.set()

    async def _follow(self) -> None:
        await self._let_go([key for key, lease in self._loaded.items() if self._had.get(key) != lease])
        if given_back := sorted(self._giving_back):
            await self._let_go(given_back)
            async with self._turn:
                await self._leases.let_go(given_back)
                self._had = {key: lease for key, lease in self._had.items() if key not in given_back}
                self._giving_back.difference_update(given_back)
        fresh = [lease for key, lease in sorted(self._had.items()) if key not in self._loaded]
        pairs = [lease for lease in fresh if lease.key not in ALWAYS_THERE]
        await self._take_up([lease for lease in fresh if lease.key in ALWAYS_THERE])  # a sniper waits for no pair
        for start in range(0, len(pairs), TAKEN_UP_AT_ONCE):
            await self._take_up(pairs[start : start + TAKEN_UP_AT_ONCE])

    async def _let_go(self, keys: Collection[str]) -> None:
        if keys:
            for key in keys:
                self._loaded.pop(key, None)
            self._books.let_go(keys)
            await self._watch.let_go(keys)

    async def _take_up(self, leases: list[BookLease]) -> None:
        leases = [lease for lease in leases if self._is_wanted(lease)]
        if not leases:
            return
        began = self._clock.monotonic()
        self._books.take_up(leases)
        self._loaded.update((lease.key, lease) for lease in leases)
        try:
            orders = await self._watch.take_up(leases)
        except JournalError:
            await self._let_go([lease.key for lease in leases])
            raise
        seconds = round(self._clock.monotonic() - began, 3)
        _log.info("books.taken_up", books=len(leases), orders=orders, seconds=seconds)

    def _is_wanted(self, lease: BookLease) -> bool:
        return not self._closed and self._had.get(lease.key) == lease and lease.key not in self._giving_back
