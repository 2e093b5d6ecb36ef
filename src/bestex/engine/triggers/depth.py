"""What the pools pay, and what is left of them after the orders that go first."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bestex.ports import Curve


class Offer(NamedTuple):
    """The best that the pools pay for an amount."""

    amount_out: int  # base units, after the venue's fee; 0: nobody can fill it
    place: int  # which of the pools


class Depth:
    """A pair's pools in one direction, as they are after the swaps that were made of them here."""

    __slots__ = ("_sells_base", "curves")

    def __init__(self, curves: Iterable[Curve], sells_base: bool) -> None:
        self.curves = list(curves)
        self._sells_base = sells_base

    def offer(self, amount_in: int) -> Offer:
        """Of equal offers the first pool's."""
        best, place = 0, 0
        for number, curve in enumerate(self.curves):
            out = curve.amount_out(amount_in, self._sells_base)
            if out > best:
                best, place = out, number
        return Offer(best, place)

    def take(self, place: int, amount_in: int) -> None:
        """Make the swap."""
        self.curves[place] = self.curves[place].after(amount_in, self._sells_base)


class _Swap(NamedTuple):
    venue: str
    sells_base: bool
    amount_in: int


class InFlight:
    """The swaps of orders that have fired and not ended: no pool's price knows of them yet."""

    __slots__ = ("_amounts", "_swaps")

    def __init__(self) -> None:
        self._swaps: dict[int, _Swap] = {}  # by order
        self._amounts: defaultdict[tuple[str, bool], int] = defaultdict(int)  # sums of amount_in

    def __len__(self) -> int:
        return len(self._swaps)

    def __contains__(self, key: int) -> bool:
        return key in self._swaps

    def add(self, key: int, venue: str, sells_base: bool, amount_in: int) -> None:
        self.end(key)
        self._swaps[key] = _Swap(venue, sells_base, amount_in)
        self._amounts[venue, sells_base] += amount_in

    def end(self, key: int) -> None:
        """The order has ended, or waits again; nothing, where it was not in flight."""
        swap = self._swaps.pop(key, None)
        if swap is None:
            return
        place = swap.venue, swap.sells_base
        self._amounts[place] -= swap.amount_in
        if not self._amounts[place]:
            del self._amounts[place]

    def depth_left(self, curves: Sequence[Curve], sells_base: bool) -> Depth:
        """The pools after the swaps in flight in this direction.

        Not those in the other one: they would make the price better, and may fail. A pool that the swaps in flight
        exhaust is left out.
        """
        left: list[Curve] = []
        for curve in curves:
            amount_in = self._amounts.get((curve.venue, sells_base), 0)
            if not amount_in:
                left.append(curve)
            elif curve.amount_out(amount_in, sells_base):
                left.append(curve.after(amount_in, sells_base))
        return Depth(left, sells_base)
