"""Books of watched orders as a list: every order is looked at by itself, at every tick."""

from dataclasses import dataclass, field
from fractions import Fraction

from bestex.domain.price import PRICE_SCALE, least_out, most_out, parse_price, traded_price
from bestex.engine.triggers.selection import Firing
from bestex.ports import Curve, RestingOrder
from tests.support.curves import SOL, SOL_USDC, USDC


@dataclass
class Watched:
    """An order, or a leg of one, with all the prices that it has met."""

    kind: str
    amount_in: int
    sells_base: bool
    price: int | None = None  # at which it fires
    least: int | None = None  # of a limit that names an amount
    trail_bps: int | None = None
    armed_us: int = 0
    met: list[int] = field(default_factory=list)  # prices since it was armed

    @property
    def rises(self) -> bool:
        return self.kind in ("limit", "takeProfit")

    def extreme(self) -> int | None:
        if not self.met:
            return None
        return max(self.met) if self.sells_base else min(self.met)

    def trigger_price(self) -> int | None:
        if self.trail_bps is None:
            return self.price
        extreme = self.extreme()
        if extreme is None:
            return None
        if self.sells_base:
            return extreme * (10_000 - self.trail_bps) // 10_000
        return -(-extreme * (10_000 + self.trail_bps) // 10_000)

    def threshold(self) -> int | None:
        if self.least is not None:
            return self.least
        price = self.trigger_price()
        if price is None:
            return None
        if price == 0:
            return 0
        amount = least_out if self.rises else most_out
        return amount(price, self.amount_in, SOL_USDC, sells_base=self.sells_base)

    def rate(self) -> Fraction:
        """Output for one unit of input at its price."""
        if self.least is not None:
            return Fraction(self.least, self.amount_in)
        price = self.trigger_price()
        assert price is not None
        in_quote = Fraction(price * 10**USDC.decimals, PRICE_SCALE * 10**SOL.decimals)
        return in_quote if self.sells_base else 1 / in_quote


class ModelBook:
    """All orders in a list."""

    def __init__(self) -> None:
        self.orders: dict[str, list[Watched]] = {}
        self.in_flight: dict[str, tuple[str, bool, int]] = {}

    def fires(self, curves: list[Curve], at_us: int) -> list[tuple[object, ...]]:
        fired: list[tuple[object, ...]] = []
        for sells_base in (True, False):
            self.meet(curves, at_us, sells_base)
            fired += self.fire(curves, sells_base)
        return fired

    def meet(self, curves: list[Curve], at_us: int, sells_base: bool) -> None:
        price = naive_marginal(curves, sells_base)
        for legs in self.orders.values():
            for leg in legs:
                if leg.trail_bps is not None and leg.sells_base == sells_base and leg.armed_us <= at_us and price:
                    leg.met.append(price)

    def fire(self, curves: list[Curve], sells_base: bool) -> list[tuple[object, ...]]:
        left = self.left(curves, sells_base)
        standing = [
            (order_id, leg)
            for order_id, legs in self.orders.items()
            for leg in legs
            if leg.sells_base == sells_base and leg.threshold() is not None
        ]
        falling = sorted(
            (entry for entry in standing if not entry[1].rises and entry[1].threshold()),
            key=lambda entry: (-entry[1].rate(), entry[0]),
        )
        rising = sorted((entry for entry in standing if entry[1].rises), key=lambda entry: (entry[1].rate(), entry[0]))
        fired: list[tuple[object, ...]] = []
        for order_id, leg in falling + rising:
            threshold = leg.threshold()
            assert threshold is not None
            if any(order_id == other[0] for other in fired):
                continue
            if not leg.rises and not 0 < best(curves, leg.amount_in, sells_base)[0] <= threshold:
                continue
            out, place = best(left, leg.amount_in, sells_base)
            if out == 0 or (leg.rises and out < threshold):
                continue
            fired.append((order_id, leg.kind, left[place].venue, out, leg.extreme() if leg.trail_bps else None))
            left[place] = left[place].after(leg.amount_in, sells_base)
        return fired

    def left(self, curves: list[Curve], sells_base: bool) -> list[Curve]:
        left = []
        for curve in curves:
            amount = sum(
                a for venue, sells, a in self.in_flight.values() if (venue, sells) == (curve.venue, sells_base)
            )
            if amount == 0:
                left.append(curve)
            elif curve.amount_out(amount, sells_base):
                left.append(curve.after(amount, sells_base))
        return left


def best(curves: list[Curve], amount: int, sells_base: bool) -> tuple[int, int]:
    outs = [curve.amount_out(amount, sells_base) for curve in curves]
    most = max(outs, default=0)
    return most, outs.index(most) if outs else 0


def naive_marginal(curves: list[Curve], sells_base: bool) -> int | None:
    def price(power: int) -> tuple[int, int]:
        out, _ = best(curves, 10**power, sells_base)
        return out, traded_price(10**power, out, SOL_USDC, sells_base=sells_base)

    telling = [price(power)[1] for power in range(6, 20) if price(power)[0] >= 10**6]
    if telling:
        return telling[0]
    prices = [price(power)[1] for power in range(20) if price(power)[0]]
    if not prices:
        return None
    return max(prices) if sells_base else min(prices)


def seen(firing: Firing) -> tuple[object, ...]:
    return firing.entry.order_id, firing.entry.kind.value, firing.venue, firing.amount_out, firing.extreme


def legs_of(order: RestingOrder, sells_base: bool, armed_us: int) -> list[Watched]:
    amount = int(order.amount.split("e")[0])

    def leg(kind: str, price: str | None = None, trail_bps: int | None = None, least: int | None = None) -> Watched:
        return Watched(
            kind, amount, sells_base, None if price is None else parse_price(price), least, trail_bps, armed_us
        )

    match order.kind:
        case "limit" if order.limit_price is None:
            assert order.min_amount_out is not None
            return [leg("limit", least=int(order.min_amount_out.split("e")[0]))]
        case "limit":
            return [leg("limit", order.limit_price)]
        case "exits":
            return [leg(each.name.value, each.trigger_price, each.trail_bps) for each in order.legs]
        case kind:
            return [leg(kind, order.trigger_price, order.trail_bps)]
