"""Trailing stops: each follows the best price since it was armed, and none of that is written per order.

Orders that have met the same best price stand in one group. A better price merges the groups that it beats, so groups
are a stack, the best and oldest first; a worse price changes none. Sellers' best price is the highest, buyers' the
lowest; `standing` says both: less is better.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from msgspec.structs import replace

from bestex.domain.money import MAX_BASE_UNITS
from bestex.domain.price import format_price, most_out, parse_price, traded_price
from bestex.domain.tokens import Pair
from bestex.engine.triggers.depth import Depth
from bestex.engine.triggers.ladder import Candidate, fallen
from bestex.engine.triggers.ordered import Ordered, SortKey
from bestex.engine.triggers.rates import ROUNDING_UNITS, size_class
from bestex.engine.triggers.resting import Resting, fall_rank
from bestex.ports import HighWater

BPS: Final = 10_000
PROBE_UNITS: Final = 10**6
"""Base units that the smallest telling trade takes and pays at least: one more or less is a millionth of its price."""

MAX_MARKS: Final = 10_000
"""Best prices of one pair and side that are remembered; the oldest are forgotten before."""

_NUMBERS: Final = 1 << 32  # reaches of trailing stops are numbered from here: no class of a ladder has such a number
_AFTER_ALL: Final = 1 << 128  # above every order's key


def stop_price(extreme: int, trail_bps: int, sells_base: bool) -> int:
    """The price at which a trailing stop fires; rounded away from the extreme."""
    if sells_base:
        return extreme * (BPS - trail_bps) // BPS
    return -(-extreme * (BPS + trail_bps) // BPS)


def marginal_price(depth: Depth, pair: Pair, sells_base: bool) -> int | None:
    """The price of the smallest power of ten of base units that takes and pays `PROBE_UNITS` or more; None: no price.

    Where nothing pays so much: of the powers of ten the best price that any gets, for their roundings only make it
    worse.
    """
    amount = PROBE_UNITS
    while amount <= MAX_BASE_UNITS:
        out = depth.offer(amount).amount_out
        if out >= PROBE_UNITS:
            return traded_price(amount, out, pair, sells_base=sells_base)
        amount, most = amount * 10, (out + ROUNDING_UNITS) * 10
        while most < PROBE_UNITS:  # an output grows at most as its amount: powers that cannot be enough
            amount, most = amount * 10, most * 10
    prices = [
        traded_price(amount, out, pair, sells_base=sells_base)
        for power in range(20)
        if (out := depth.offer(amount := 10**power).amount_out)
    ]
    if not prices:
        return None
    return max(prices) if sells_base else min(prices)


class _Group:
    """Orders of nearly one size that have met the same best price, by how far they let the price fall back."""

    __slots__ = ("into", "members", "rank", "serial", "standing")

    def __init__(self, standing: int, serial: int) -> None:
        self.standing = standing
        self.serial = serial
        self.members: Ordered[Resting] = Ordered(attrgetter("trail_bps", "key"))
        self.rank = 0  # of the first member
        self.into: _Group | None = None  # the group that it was merged into


class _Class:
    """The groups of one class of sizes."""

    __slots__ = ("by_rank", "stack")

    def __init__(self) -> None:
        self.stack: list[_Group] = []  # by standing, the best first
        self.by_rank: Ordered[_Group] = Ordered(attrgetter("rank", "serial"))


class TrailingReach:
    """One group's members that may have met their price."""

    __slots__ = ("_group", "_trails", "number", "rank")

    def __init__(self, number: int, rank: int, group: _Group, trails: "Trails") -> None:
        self.number = number
        self.rank = rank
        self._group = group
        self._trails = trails

    def candidates(self, after: SortKey) -> Iterator[Candidate]:
        trails, group, number = self._trails, self._group, self.number
        rank = -1
        trail_bps = -1
        price = 0
        for order in group.members.after(trails.place(group, after)):
            if order.trail_bps != trail_bps:
                trail_bps = order.trail_bps
                rank, price = trails.rank(group, trail_bps)
                if rank > self.rank:
                    return
            if (rank, order.key) > after:
                yield rank, order.key, number, trails.as_it_stands(order, rank, price)

    def narrow(self, left: Depth) -> None:
        pass


class Trails:
    """The trailing stops of one direction of a pair."""

    __slots__ = (
        "_classes",
        "_fresh",
        "_groups",
        "_last_us",
        "_marks",
        "_numbers",
        "_pair",
        "_sells_base",
        "_serial",
        "_waiting",
    )

    def __init__(self, pair: Pair, sells_base: bool) -> None:
        self._pair = pair
        self._sells_base = sells_base
        self._classes: dict[int, _Class] = {}
        self._numbers: list[int] = []  # of the classes, ascending
        self._groups: dict[int, _Group] = {}  # by the order's key; the group may have been merged since
        self._waiting: dict[int, tuple[int, Resting]] = {}  # armed at, order; those that have met no price yet
        self._marks: list[tuple[int, int]] = []  # time, standing: both ascending
        self._fresh: list[tuple[int, int]] = []  # those of them that nobody has asked for yet
        self._last_us = 0  # of the last price
        self._serial = 0

    def __len__(self) -> int:
        return len(self._groups) + len(self._waiting)

    def remember(self, marks: Iterable[HighWater]) -> None:
        """Take over marks that were stored, of this pair and direction, while no order is armed."""
        known, self._marks = self._marks, []
        for mark in sorted(marks, key=attrgetter("at_us")):
            _push(self._marks, mark.at_us, self._standing(parse_price(mark.price)))
            self._last_us = max(self._last_us, mark.at_us)
        for at_us, standing in known:
            _push(self._marks, at_us, standing)

    def armed(self) -> list[int]:
        """The keys of all orders."""
        return [*self._groups, *self._waiting]

    def take_marks(self) -> list[HighWater]:
        """What is to be stored since this was last asked; one where it is asked after each price."""
        fresh, self._fresh = self._fresh, []
        return [HighWater(self._pair.name, self._sells_base, at_us, format_price(abs(best))) for at_us, best in fresh]

    def arm(self, order: Resting, armed_us: int) -> None:
        """Have it follow the best price since then; where none is known, it begins with the next price."""
        at = bisect_left(self._marks, armed_us, key=lambda mark: mark[0])
        if at == len(self._marks):
            self._waiting[order.key] = armed_us, order
        else:
            self._join(order, self._marks[at][1])

    def disarm(self, order: Resting) -> None:
        """`KeyError` when it is not here."""
        if self._waiting.pop(order.key, None) is not None:
            return
        group = self._group(order.key)
        del self._groups[order.key]
        number = size_class(order.amount_in)
        found = self._classes[number]
        found.by_rank.remove(group)
        group.members.remove(order)
        if group.members:
            self._place(found, group)
        else:
            del found.stack[bisect_left(found.stack, group.standing, key=attrgetter("standing"))]
        if not found.stack:
            del self._classes[number]
            del self._numbers[bisect_left(self._numbers, number)]

    def exchange(self, before: Resting, after: Resting) -> None:
        """Put one in the other's place, which keeps its best price."""
        if (waiting := self._waiting.get(before.key)) is not None:
            self._waiting[after.key] = waiting[0], after
            return
        standing = self._group(before.key).standing
        self.disarm(before)
        self._join(after, standing)

    def extreme(self, key: int) -> int | None:
        """The best price since the order was armed; None when it has met none."""
        return abs(self._group(key).standing) if key in self._groups else None

    def feed(self, at_us: int, depth: Depth) -> None:
        """Have the orders meet the price of a moment. An older one than the last is not looked at."""
        if not len(self) or at_us < self._last_us:
            return
        price = marginal_price(depth, self._pair, self._sells_base)
        if not price:
            return
        self._last_us = at_us
        standing = self._standing(price)
        is_best = not self._marks or standing < self._marks[-1][1]
        if is_best:
            for found in self._classes.values():
                self._beat(found, standing)
        joins = [order for armed_us, order in self._waiting.values() if armed_us <= at_us]
        for order in joins:
            del self._waiting[order.key]
            self._join(order, standing)
        if is_best or joins:
            _push(self._marks, at_us, standing)
            _push(self._fresh, at_us, standing)

    def reaches(self, depth: Depth) -> list[TrailingReach]:
        """The groups in which some may have met their price."""
        easiest = ((number, self._classes[number].by_rank.first().rank) for number in reversed(self._numbers))
        reaches: list[TrailingReach] = []
        for number, rank in fallen(easiest, depth):
            for group in self._classes[number].by_rank:
                if group.rank > rank:
                    break
                reaches.append(TrailingReach(_NUMBERS + group.serial, rank, group, self))
        return reaches

    def rank(self, group: _Group, trail_bps: int) -> tuple[int, int]:
        """The rank of those of a group that let the price fall back so far, and the price at which they fire."""
        price = stop_price(abs(group.standing), trail_bps, self._sells_base)
        return fall_rank(price, self._pair, self._sells_base), price

    def place(self, group: _Group, after: SortKey) -> SortKey:
        """A place among a group's members behind which all stand that come after a rank and key, and few others."""
        if after[0] < 0:
            return after
        trail_bps = bisect_left(range(BPS), after[0], key=lambda trail_bps: self.rank(group, trail_bps)[0])
        return trail_bps - 1, _AFTER_ALL

    def as_it_stands(self, order: Resting, rank: int, price: int) -> Resting:
        """The order with the threshold that it has where it fires at this price."""
        threshold = most_out(price, order.amount_in, self._pair, sells_base=self._sells_base) if price else 0
        return replace(order, rank=rank, threshold=min(threshold, MAX_BASE_UNITS))

    def _standing(self, price: int) -> int:
        return -price if self._sells_base else price

    def _group(self, key: int) -> _Group:
        group = self._groups[key]
        while group.into is not None:
            group = group.into
        self._groups[key] = group
        return group

    def _join(self, order: Resting, standing: int) -> None:
        number = size_class(order.amount_in)
        found = self._classes.get(number)
        if found is None:
            found = self._classes[number] = _Class()
            insort(self._numbers, number)
        at = bisect_left(found.stack, standing, key=attrgetter("standing"))
        if at < len(found.stack) and found.stack[at].standing == standing:
            group = found.stack[at]
            found.by_rank.remove(group)
        else:
            self._serial += 1
            group = _Group(standing, self._serial)
            found.stack.insert(at, group)
        group.members.add(order)
        self._groups[order.key] = group
        self._place(found, group)

    def _beat(self, found: _Class, standing: int) -> None:
        """Merge the groups that a price is better than, the smaller ones into the largest."""
        beaten: list[_Group] = []
        while found.stack and found.stack[-1].standing >= standing:
            group = found.stack.pop()
            found.by_rank.remove(group)
            beaten.append(group)
        if not beaten:
            return
        largest = max(beaten, key=lambda group: len(group.members))
        for group in beaten:
            if group is not largest:
                group.into = largest
                largest.members.add_all(group.members)
        largest.standing = standing
        found.stack.append(largest)
        self._place(found, largest)

    def _place(self, found: _Class, group: _Group) -> None:
        group.rank, _ = self.rank(group, group.members.first().trail_bps)
        found.by_rank.add(group)


def _push(marks: list[tuple[int, int]], at_us: int, standing: int) -> None:
    """Add a mark; those that are no better are forgotten."""
    while marks and marks[-1][1] >= standing:
        marks.pop()
    marks.append((at_us, standing))
    if len(marks) > MAX_MARKS:
        del marks[0]
