"""Which of those that may cross do fire: in price order, then in time order, as far as the pools' depth goes."""

from collections.abc import Sequence
from heapq import merge
from typing import Final, Protocol

import msgspec

from bestex.domain.events import Trigger
from bestex.domain.money import format_amount
from bestex.domain.price import format_price, traded_price
from bestex.engine.triggers.depth import Depth
from bestex.engine.triggers.ladder import Reach
from bestex.engine.triggers.ordered import SortKey
from bestex.engine.triggers.resting import Resting, Sense
from bestex.ports import Tick

MAX_FIRINGS: Final = 10_000
"""Orders of one book that one tick fires; the others fire at the next one."""

MAX_MISSES: Final = 24
"""Orders of one direction and sense that a tick looks at in vain from the front, and as many from where it left off."""

_START: Final[SortKey] = (-1, -1)


class Firing(msgspec.Struct, frozen=True, gc=False):
    """An order that fires, and what its trigger saw."""

    entry: Resting  # a trailing stop's with the threshold it had then
    sells_base: bool
    venue: str
    pool: str
    amount_out: int  # base units that the venue pays after those that fire before it
    extreme: int | None = None  # the best price since a trailing stop was armed, as `domain.price` has it


def trigger_of(firing: Firing, tick: Tick, now_us: int) -> Trigger:
    """What the order's event keeps. Its prices are rounded down from the amounts."""
    entry, pair, sells_base = firing.entry, tick.pair, firing.sells_base
    bought = pair.quote if sells_base else pair.base
    threshold = traded_price(entry.amount_in, entry.threshold, pair, sells_base=sells_base)
    return Trigger(
        kind=entry.kind.value,
        price=format_price(traded_price(entry.amount_in, firing.amount_out, pair, sells_base=sells_base)),
        threshold=format_price(threshold),
        extreme=None if firing.extreme is None else format_price(firing.extreme),
        amount_out=format_amount(firing.amount_out, bought.decimals),
        venue=firing.venue,
        pool=firing.pool,
        slot=tick.slot,
        age_ms=max(0, now_us - tick.at_us) / 1000,
    )


class Extremes(Protocol):
    def extreme(self, key: int) -> int | None:
        """The best price since a trailing stop was armed."""


class Selection:
    """The firings of one tick in one direction."""

    def __init__(self, now: Depth, left: Depth, sells_base: bool, extremes: Extremes, room: int) -> None:
        """`now`: the pools as they stand; `left`: after all that is in flight. `room`: firings that are left."""
        self.firings: list[Firing] = []
        self.left = left
        self._now = now
        self._sells_base = sells_base
        self._extremes = extremes
        self._room = room
        self._keys: set[int] = set()

    @property
    def full(self) -> bool:
        return len(self.firings) >= self._room

    def take(self, order: Resting) -> bool:
        """Whether the order fires, or another leg of it has; then what it takes of the depth is gone.

        What rises must find its threshold in what is left. What falls must find the pools' own price at its
        threshold: that others may push it there is no price yet.
        """
        if order.key in self._keys:
            return True
        if order.kind.sense is Sense.FALL and not 0 < self._now.offer(order.amount_in).amount_out <= order.threshold:
            return False
        amount_out, place = self.left.offer(order.amount_in)
        if amount_out == 0 or (order.kind.sense is Sense.RISE and amount_out < order.threshold):
            return False
        curve = self.left.curves[place]
        extreme = self._extremes.extreme(order.key) if order.trail_bps else None
        self.firings.append(Firing(order, self._sells_base, curve.venue, curve.pool, amount_out, extreme))
        self._keys.add(order.key)
        self.left.take(place, order.amount_in)
        return True


class Walk:
    """Goes through the candidates of one direction and sense, tick after tick, so that nobody waits for ever.

    A tick looks from the front, for the easiest go first; and, where it had to stop, from where the last one left off.
    """

    __slots__ = ("_left_off",)

    def __init__(self) -> None:
        self._left_off = _START

    def go(self, reaches: Sequence[Reach], selection: Selection) -> None:
        stopped = _walk(reaches, selection, _START)
        if stopped is not None and not selection.full:
            stopped = _walk(reaches, selection, max(stopped, self._left_off))
        self._left_off = _START if stopped is None else stopped


def _walk(reaches: Sequence[Reach], selection: Selection, after: SortKey) -> SortKey | None:
    """Walk on from a place; gives where it stopped, None at the end."""
    by_number = {reach.number: reach for reach in reaches}
    misses = 0
    for rank, key, number, order in merge(*(reach.candidates(after) for reach in reaches)):
        reach = by_number[number]
        if rank > reach.rank:
            continue  # out of reach since others fired
        if selection.full:
            return after
        after = rank, key
        if selection.take(order):
            continue
        reach.narrow(selection.left)
        if rank > reach.rank:
            continue
        misses += 1
        if misses == MAX_MISSES:
            return after
    return None
