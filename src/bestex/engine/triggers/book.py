"""One pair's watched orders, and which of them a tick makes fire."""

from collections.abc import Iterable
from typing import Final

from bestex.domain.tokens import Pair
from bestex.engine.triggers.depth import Depth, InFlight
from bestex.engine.triggers.ladder import Ladder
from bestex.engine.triggers.resting import Resting, Sense, TriggerKind, key_of
from bestex.engine.triggers.selection import MAX_FIRINGS, Firing, Selection, Walk
from bestex.engine.triggers.trailing import Trails
from bestex.ports import HighWater, Tick

MAX_PRICE_AGE_US: Final = 2_000_000
"""Microseconds after which a price is none."""

Entries = tuple[Resting, ...]
"""What one order has in the book: itself, or its legs."""


class _Direction:
    """The orders of a book that sell its base token, or those that buy it."""

    def __init__(self, pair: Pair, sells_base: bool) -> None:
        self.trails = Trails(pair, sells_base)
        self.orders: dict[int, Resting | Entries] = {}  # by key; most orders have one entry
        self._sells_base = sells_base
        self._rises = Ladder(Sense.RISE)
        self._falls = Ladder(Sense.FALL)
        self._rising = Walk()
        self._falling = Walk()

    def add(self, entries: Entries, armed_us: int | None) -> None:
        if armed_us is None and any(map(_trails, entries)):
            raise ValueError(f"order {entries[0].order_id} follows the price, but since when was not said")
        for entry in entries:
            if armed_us is not None and _trails(entry):
                self.trails.arm(entry, armed_us)
            else:
                self._ladder(entry).add(entry)
        self.orders[entries[0].key] = entries[0] if len(entries) == 1 else entries

    def load(self, orders: Iterable[Entries]) -> None:
        """Add many orders at once, none of which has a trailing stop."""
        rises: list[Resting] = []
        falls: list[Resting] = []
        for entries in orders:
            for entry in entries:
                if _trails(entry):
                    raise ValueError(f"order {entry.order_id} follows the price: it is added, not loaded")
                (rises if entry.kind.sense is Sense.RISE else falls).append(entry)
            self.orders[entries[0].key] = entries[0] if len(entries) == 1 else entries
        self._rises.load(rises)
        self._falls.load(falls)

    def find(self, key: int) -> Entries:
        found = self.orders.get(key, ())
        return (found,) if isinstance(found, Resting) else found

    def remove(self, key: int) -> Entries:
        entries = self.find(key)
        for entry in entries:
            if _trails(entry):
                self.trails.disarm(entry)
            else:
                self._ladder(entry).remove(entry)
        self.orders.pop(key, None)
        return entries

    def replace(self, before: Entries, after: Entries) -> None:
        if [entry.kind for entry in before] != [entry.kind for entry in after]:
            raise ValueError(f"order {before[0].order_id} cannot have other legs than it had")
        for old, new in zip(before, after, strict=True):
            if _trails(old):
                self.trails.exchange(old, new)
            else:
                self._ladder(old).remove(old)
                self._ladder(new).add(new)
        self.orders[after[0].key] = after[0] if len(after) == 1 else after

    def fires(self, tick: Tick, in_flight: InFlight, room: int) -> list[Firing]:
        now = Depth(tick.curves, self._sells_base)
        self.trails.feed(tick.at_us, now)
        left = in_flight.depth_left(tick.curves, self._sells_base)
        selection = Selection(now, left, self._sells_base, self.trails, room)
        self._falling.go([*self._falls.reaches(now), *self.trails.reaches(now)], selection)
        self._rising.go(self._rises.reaches(left), selection)
        return selection.firings

    def _ladder(self, entry: Resting) -> Ladder:
        return self._rises if entry.kind.sense is Sense.RISE else self._falls


def _trails(entry: Resting) -> bool:
    return entry.kind is TriggerKind.TRAILING_STOP


class Book:
    """One pair's watched orders: those that sell its base token and those that buy it.

    An order stands here from `add` until `remove`, or until it has `fired`; then what it takes of the pools' depth is
    reckoned with until it is `settled`.
    """

    def __init__(self, pair: Pair, marks: Iterable[HighWater] = ()) -> None:
        """`marks`: as `remember` takes them."""
        self.pair = pair
        self._in_flight = InFlight()
        self._sells = _Direction(pair, sells_base=True)
        self._buys = _Direction(pair, sells_base=False)
        self.remember(marks)

    def __len__(self) -> int:
        """How many orders stand here."""
        return len(self._sells.orders) + len(self._buys.orders)

    def __contains__(self, order_id: str) -> bool:
        return bool(self.find(order_id))

    def remember(self, marks: Iterable[HighWater]) -> None:
        """Take over stored best prices, of this pair among others, for the trailing stops that will be added.

        Those that stand here leave, for they may have missed better ones: they are to be added anew.
        """
        mine = [mark for mark in marks if mark.pair == self.pair.name]
        for sells_base in (True, False):
            direction = self._direction(sells_base)
            for key in direction.trails.armed():
                direction.remove(key)
            direction.trails.remember(mark for mark in mine if mark.sells_base is sells_base)

    @property
    def in_flight(self) -> int:
        """How many orders have fired and are not settled."""
        return len(self._in_flight)

    def find(self, order_id: str) -> Entries:
        """The order's entries; none when it does not stand here."""
        key = key_of(order_id)
        return self._sells.find(key) or self._buys.find(key)

    def add(self, entries: Entries, *, sells_base: bool, armed_us: int | None = None) -> None:
        """Have the order of these entries stand here; `ValueError` when it does already.

        `armed_us`: since when a trailing stop follows the price, Unix microseconds. An order in flight is in flight
        no more.
        """
        key = self._key(entries)
        if self._sells.find(key) or self._buys.find(key):
            raise ValueError(f"order {entries[0].order_id} stands in the book of {self.pair.name} already")
        self._in_flight.end(key)
        self._direction(sells_base).add(entries, armed_us)

    def load(self, orders: Iterable[Entries], *, sells_base: bool) -> None:
        """Add many orders at once, none of which stands here or has a trailing stop: much faster."""
        self._direction(sells_base).load(orders)

    def replace(self, entries: Entries) -> None:
        """Put an order's new entries in the place of its old ones; `KeyError` when it does not stand here.

        A trailing stop keeps its best price.
        """
        key = self._key(entries)
        for direction in (self._sells, self._buys):
            if before := direction.find(key):
                direction.replace(before, entries)
                return
        raise KeyError(entries[0].order_id)

    def remove(self, order_id: str) -> Entries:
        """Take the order out with all its legs, and give them; none when it does not stand here."""
        return self.remove_key(key_of(order_id))

    def remove_key(self, key: int) -> Entries:
        """The same by the order's key: asked of many books, a fraction of the cost."""
        for direction in (self._sells, self._buys):
            if key in direction.orders:
                return direction.remove(key)
        return ()

    def fires(self, tick: Tick, now_us: int) -> list[Firing]:
        """The orders that a tick makes fire, the first to be executed first; they stand here until they have `fired`.

        None where the tick is older than `MAX_PRICE_AGE_US` or shows no pool. `ValueError` for another pair's tick.
        """
        if tick.pair != self.pair:
            raise ValueError(f"a tick of {tick.pair.name} says nothing of {self.pair.name}")
        if not tick.curves or now_us - tick.at_us > MAX_PRICE_AGE_US:
            return []
        firings: list[Firing] = []
        for direction in (self._sells, self._buys):
            firings += direction.fires(tick, self._in_flight, MAX_FIRINGS - len(firings))
        return firings

    def fired(self, firing: Firing) -> None:
        """The order leaves the book with all its legs, and is in flight."""
        entry = firing.entry
        self._direction(firing.sells_base).remove(entry.key)
        self._in_flight.add(entry.key, firing.venue, firing.sells_base, entry.amount_in)

    def settled(self, order_id: str) -> None:
        """The order has ended, or will not be executed now: it is in flight no more. Nothing, where it was not."""
        self._in_flight.end(key_of(order_id))

    def take_marks(self) -> list[HighWater]:
        """The best prices that are to be stored since this was last asked: asked after each tick, one per direction."""
        return self._sells.trails.take_marks() + self._buys.trails.take_marks()

    def _direction(self, sells_base: bool) -> _Direction:
        return self._sells if sells_base else self._buys

    @staticmethod
    def _key(entries: Entries) -> int:
        keys = {entry.key for entry in entries}
        if len(keys) != 1:
            raise ValueError(f"an order stands in the book with its own entries, one or more: {len(keys)} orders given")
        return keys.pop()
