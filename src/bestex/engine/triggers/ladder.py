"""The orders of one direction and one sense: in classes of nearly equal size, and in each the easiest first."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, Protocol

from bestex.engine.triggers.depth import Depth
from bestex.engine.triggers.ordered import Ordered, SortKey
from bestex.engine.triggers.rates import (
    KEY_MAX,
    ROUNDING_UNITS,
    class_bounds,
    least_rate_key,
    most_rate_key,
    size_class,
)
from bestex.engine.triggers.resting import Resting, Sense

Candidate = tuple[int, int, int, Resting]
"""Rank, key of the order, number of the reach (orders' legs may share the two before), the entry."""

SORT_KEY: Final = attrgetter("rank", "key")


class Reach(Protocol):
    """The part of a class that may cross: up to a rank. Beyond it none does, whatever its exact size."""

    number: int  # no two reaches of a tick share it
    rank: int

    def candidates(self, after: SortKey) -> Iterator[Candidate]:
        """Those within reach, behind a place, the easiest first."""

    def narrow(self, left: Depth) -> None:
        """Look again, now that there is less depth left."""


class FallenReach:
    """Of those that wait for the price to fall: the pools' own price counts, so it stays as it is."""

    __slots__ = ("_orders", "number", "rank")

    def __init__(self, number: int, orders: Ordered[Resting], rank: int) -> None:
        self.number = number
        self.rank = rank
        self._orders = orders

    def candidates(self, after: SortKey) -> Iterator[Candidate]:
        number = self.number
        for order in self._orders.after(after):
            if order.rank > self.rank:
                return
            yield order.rank, order.key, number, order

    def narrow(self, left: Depth) -> None:
        pass


class RisenReach(FallenReach):
    """Of those that wait for the price to rise."""

    __slots__ = ("_smallest",)

    def __init__(self, number: int, orders: Ordered[Resting], rank: int, smallest: int) -> None:
        super().__init__(number, orders, rank)
        self._smallest = smallest  # amount of the class

    def narrow(self, left: Depth) -> None:
        self.rank = min(self.rank, _most_key(left, self._smallest))


class Ladder:
    """All orders of a book that wait for prices to rise, or to fall, in one direction."""

    __slots__ = ("_classes", "_numbers", "sense")

    def __init__(self, sense: Sense) -> None:
        self.sense = sense
        self._classes: dict[int, Ordered[Resting]] = {}
        self._numbers: list[int] = []  # of the classes, ascending

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, order: Resting) -> None:
        self._class(size_class(order.amount_in)).add(order)

    def load(self, orders: Iterable[Resting]) -> None:
        """Add many at once."""
        by_class: dict[int, list[Resting]] = {}
        for order in orders:
            by_class.setdefault(size_class(order.amount_in), []).append(order)
        for number, members in by_class.items():
            self._class(number).load(members)

    def remove(self, order: Resting) -> None:
        """`KeyError` when it is not here."""
        number = size_class(order.amount_in)
        orders = self._classes[number]
        orders.remove(order)
        if not orders:
            del self._classes[number]
            del self._numbers[bisect_left(self._numbers, number)]

    def reaches(self, depth: Depth) -> Sequence[Reach]:
        """The classes in which some may cross. Looks at the pools only as often as it must."""
        return self._risen(depth) if self.sense is Sense.RISE else self._fallen(depth)

    def _risen(self, depth: Depth) -> list[RisenReach]:
        reaches: list[RisenReach] = []
        most = KEY_MAX  # what the smallest size looked at may get; no larger one gets more for each unit
        for number in self._numbers:
            orders = self._classes[number]
            easiest = orders.first().rank
            if easiest > most:
                continue
            smallest, _ = class_bounds(number)
            most = min(most, _most_key(depth, smallest))
            if easiest <= most:
                reaches.append(RisenReach(number, orders, most, smallest))
        return reaches

    def _fallen(self, depth: Depth) -> list[FallenReach]:
        easiest = ((number, self._classes[number].first().rank) for number in reversed(self._numbers))
        return [FallenReach(number, self._classes[number], rank) for number, rank in fallen(easiest, depth)]

    def _class(self, number: int) -> Ordered[Resting]:
        found = self._classes.get(number)
        if found is None:
            found = self._classes[number] = Ordered(SORT_KEY)
            insort(self._numbers, number)
        return found


def _most_key(depth: Depth, smallest: int) -> int:
    return most_rate_key(depth.offer(smallest + ROUNDING_UNITS).amount_out, smallest)


def fallen(classes: Iterable[tuple[int, int]], depth: Depth) -> Iterator[tuple[int, int]]:
    """The classes in which some may have fallen to their thresholds, and up to which rank.

    `classes`: each with the rank of its easiest, from the largest sizes to the smallest.
    """
    out, amount = 0, 1  # what the largest size looked at gets; no smaller one gets less for each unit
    for number, easiest in classes:
        smallest, largest = class_bounds(number)
        if easiest > KEY_MAX - least_rate_key(out, amount, smallest):
            continue
        out, amount = depth.offer(largest).amount_out, largest
        rank = KEY_MAX - least_rate_key(out, amount, smallest)
        if easiest <= rank:
            yield number, rank
