"""Holds the prices that come against the orders that wait for them, and keeps what trailing stops go by on disk."""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from functools import partial
from typing import Final

import structlog

from bestex.domain.errors import JournalError, UnknownTokenError
from bestex.domain.events import timestamp_us
from bestex.domain.orders import Order
from bestex.domain.tokens import Pair, TokenRegistry, pair_of
from bestex.engine.beyond_trigger import check_not_beyond
from bestex.engine.books import Books
from bestex.engine.firing_desk import Fired, FiringDesk
from bestex.engine.signing import SigningGate
from bestex.engine.triggers.book import Book, Entries
from bestex.engine.triggers.resting import entries_of, key_of
from bestex.engine.triggers.selection import trigger_of
from bestex.ports import Clock, HighWater, MarketData, RestingOrder, Tick, TriggerStore

KEEP_MARKS_EVERY_S: Final = 1.0
MAX_MARKS_WAITING: Final = 10_000  # for a database that is away

_log = structlog.get_logger(__name__)


class PriceDesk:
    """A book for each pair that has orders waiting."""

    def __init__(
        self,
        market: MarketData,
        store: TriggerStore,
        clock: Clock,
        gate: SigningGate,
        tokens: TokenRegistry,
        firing: FiringDesk,
        held: Books,
    ) -> None:
        self._market = market
        self._store = store
        self._clock = clock
        self._gate = gate
        self._tokens = tokens
        self._firing = firing
        self._held = held
        self._loop = asyncio.get_running_loop()
        self._books: dict[str, Book] = {}  # by the pair's name
        self._in_flight: dict[str, Book] = {}  # by order: those that fired and have not ended
        self._marks: defaultdict[str, list[HighWater]] = defaultdict(list)  # by pair, as a dead engine left them
        self._trailed: set[str] = set()  # pairs whose best prices a trailing stop may come back to
        self._followed: set[str] = set()
        self._collected: defaultdict[tuple[Pair, bool], list[Entries]] = defaultdict(list)  # by pair and direction
        self._looks: set[str] = set()  # pairs to be looked at before their next tick
        self._unkept: list[HighWater] = []  # marks that are not on disk yet
        market.on_tick(self._on_tick)

    def __len__(self) -> int:
        return sum(len(book) for book in self._books.values())

    async def run(self) -> None:
        """Keep the marks of trailing stops on disk, for ever."""
        while True:
            await self._clock.sleep(KEEP_MARKS_EVERY_S)
            self._tidy()
            await self.keep_marks()

    async def keep_marks(self) -> None:
        """Bring the marks that came since the last time to disk; later, where the database is away."""
        marks, self._unkept = self._unkept, []
        for name, book in self._books.items():
            if fresh := book.take_marks():
                marks += fresh
                self._trailed.add(name)
        if not marks:
            return
        try:
            await self._store.keep_high_waters(marks)
        except JournalError as error:
            _log.warning("prices.marks_not_kept", error=str(error))
            self._unkept = (marks + self._unkept)[-MAX_MARKS_WAITING:]

    async def load_marks(self, pairs: Collection[str] | None = None) -> None:
        """Read what trailing stops of these pairs, or of all, go by, before they are entered; those already in leave.

        Raises `JournalError`.
        """
        stored = await self._store.high_waters()
        if pairs is None:
            self._marks.clear()
        else:
            for name in pairs:
                self._marks.pop(name, None)
        for mark in stored:
            if pairs is None or mark.pair in pairs:
                self._marks[mark.pair].append(mark)
                self._trailed.add(mark.pair)
        for name, book in self._books.items():
            if pairs is None or name in pairs:
                book.remember(self._marks.get(name, ()))

    def let_go(self, pairs: Collection[str]) -> None:
        """Drop the books of these pairs and all that stands in them."""
        for name in pairs:
            self._books.pop(name, None)
            self._marks.pop(name, None)
        self._trailed.difference_update(pairs)
        self._looks.difference_update(pairs)
        for order_id in [each for each, book in self._in_flight.items() if book.pair.name in pairs]:
            del self._in_flight[order_id]
        for direction in [each for each in self._collected if each[0].name in pairs]:
            del self._collected[direction]
        self._follow()

    # --- Which orders wait

    def enter(self, order: RestingOrder) -> None:
        """Have an order wait for its price."""
        if (entry := self._entry(order)) is None:
            return
        pair, entries, sells_base = entry
        book = self._book(pair)
        if order.order_id in book:
            return
        trails = any(each.trail_bps for each in entries)
        book.add(entries, sells_base=sells_base, armed_us=timestamp_us(order.created_at) if trails else None)
        self._look_soon(pair.name)
        self._follow()

    def collect(self, order: RestingOrder) -> None:
        """Have an order wait for its price from the next `enter_collected` on: many enter faster together."""
        if (entry := self._entry(order)) is None:
            return
        pair, entries, sells_base = entry
        if any(each.trail_bps for each in entries):
            self.enter(order)
        else:
            self._collected[pair, sells_base].append(entries)

    def enter_collected(self, moved: Collection[str]) -> None:
        """Enter what has been collected, without the orders that have `moved` on.

        What came to stand in its book meanwhile stays as it is.
        """
        collected, self._collected = self._collected, defaultdict(list)
        for (pair, sells_base), found in collected.items():
            book = self._book(pair)
            if moved or len(book):
                ids = ((entries[0].order_id, entries) for entries in found)
                found = [entries for order_id, entries in ids if order_id not in moved and order_id not in book]
            book.load(found, sells_base=sells_base)
            self._look_soon(pair.name)
        self._follow()

    def collect_anew(self) -> None:
        """Forget what has been collected."""
        self._collected.clear()

    def _entry(self, order: RestingOrder) -> tuple[Pair, Entries, bool] | None:
        """An order's pair, what stands there for it, and its direction; one that cannot be read is left out."""
        try:
            token_in, token_out = self._tokens.get(order.token_in), self._tokens.get(order.token_out)
            entries = entries_of(order, token_in, token_out)
        except (UnknownTokenError, ValueError) as error:
            _log.error("prices.order_unreadable", order_id=order.order_id, error=str(error))
            return None
        pair = pair_of(token_in, token_out)
        return pair, entries, pair.base == token_in

    def remove(self, order_id: str) -> None:
        """Have an order wait no more."""
        key = key_of(order_id)
        for book in self._books.values():
            if book.remove_key(key):
                return

    def settled(self, order_id: str) -> None:
        """An order that fired has ended, or waits again: it takes no depth any more."""
        book = self._in_flight.pop(order_id, None)
        if book is not None:
            book.settled(order_id)

    async def check(self, order: Order) -> None:
        """Raise `BeyondTriggerError` for a trigger that the price is beyond already, unless the order allows that."""
        await check_not_beyond(order, self._market, self._clock)

    def _book(self, pair: Pair) -> Book:
        book = self._books.get(pair.name)
        if book is None:
            book = self._books[pair.name] = Book(pair, self._marks.get(pair.name, ()))
        return book

    def _tidy(self) -> None:
        """Drop the books that nobody needs: the empty ones whose best prices no trailing stop may come back to."""
        for name, book in list(self._books.items()):
            if not len(book) and not book.in_flight and name not in self._trailed:
                del self._books[name]
        self._follow()

    def _follow(self) -> None:
        """Have prices come for the pairs for which somebody waits."""
        followed = {name for name, book in self._books.items() if len(book)}
        if followed != self._followed:
            self._followed = followed
            self._market.follow([self._books[name].pair for name in followed])

    # --- What the prices do

    def _look_soon(self, name: str) -> None:
        """Look at a pair's prices without waiting for its next tick: an order may cross them as it comes."""
        if not self._looks:
            self._loop.call_soon(self._look)
        self._looks.add(name)

    def _look(self) -> None:
        looks, self._looks = self._looks, set()
        for name in sorted(looks):
            book = self._books.get(name)  # None: its orders left at once, and it was tidied away
            if book is not None and (tick := self._market.latest(book.pair)) is not None:
                self._on_tick(tick)

    def _on_tick(self, tick: Tick) -> None:
        book = self._books.get(tick.pair.name)
        if book is None:
            return
        try:
            self._fire(book, tick)
        except Exception:  # noqa: BLE001 -- one pair's defect must stop neither the others nor whoever brings the prices
            _log.exception("prices.defect", pair=tick.pair.name)

    def _fire(self, book: Book, tick: Tick) -> None:
        now_us = self._clock.now_us()
        firings = book.fires(tick, now_us)
        if self._gate.halt is not None or not firings or not self._held.may_fire(book.pair.name):
            return  # trailing stops follow the price all the same
        fired: list[Fired] = []
        for each in firings:
            book.fired(each)
            entry = each.entry
            self._in_flight[entry.order_id] = book
            trigger = partial(trigger_of, each, tick, now_us)
            fired.append(Fired(entry.order_id, entry.seq, entry.epoch, trigger, now_us))
        self._firing.fire(fired)
