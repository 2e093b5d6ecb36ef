"""Whether what fires may: on a price that was shown, is fresh, and satisfies the order; on a launch that passes."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, assert_never

from bestex.domain.events import Event, PendingDetail, Trigger
from bestex.domain.launches import Launch, LaunchFilters, judge
from bestex.domain.money import parse_amount
from bestex.domain.orders import Order
from bestex.domain.price import least_out, most_out, parse_price
from bestex.domain.terms import Kind, LegName
from bestex.domain.tokens import Pair
from bestex.engine.firing_desk import FIRES_WITHIN_US
from bestex.engine.triggers.book import MAX_PRICE_AGE_US
from bestex.engine.triggers.depth import Depth
from bestex.engine.triggers.trailing import marginal_price, stop_price
from bestex.ports import Tick
from bestex.simulation.invariants import Checks, Invariant
from bestex.simulation.known_orders import KnownOrder

_I = Invariant
_BPS: Final = 10_000
_LAST_SHOWN_US: Final = 120_000_000
"""A feed repeats prices up to so old."""


class Threshold:
    """The output at which an order of `amount_in` fires: at least it, or at most it. Base units."""

    __slots__ = ("amount_in", "name", "rises", "units")

    def __init__(self, name: str, amount_in: int, units: int, *, rises: bool) -> None:
        """`name`: as triggers call it."""
        self.name = name
        self.amount_in = amount_in
        self.units = units
        self.rises = rises

    def is_met(self, amount_out: int, margin_bps: int = 0) -> bool:
        """`margin_bps`: by how much more than needed."""
        if self.rises:
            return amount_out * _BPS >= self.units * (_BPS + margin_bps)
        return amount_out > 0 and amount_out * _BPS <= self.units * (_BPS - margin_bps)


class FiringChecks:
    """Remembers what engines were shown, and holds each firing against it."""

    def __init__(self, checks: Checks) -> None:
        self.shown: defaultdict[str, list[Tick]] = defaultdict(list)  # by the pair's name
        self.launches: defaultdict[str, list[Launch]] = defaultdict(list)  # by mint
        self._checks = checks

    def price_shown(self, tick: Tick) -> None:
        """An engine was shown prices."""
        of_pair = self.shown[tick.pair.name]
        if not of_pair or of_pair[-1] is not tick:
            of_pair.append(tick)

    def launch_shown(self, launch: Launch) -> None:
        """An engine was shown a new pool, or looked at it again."""
        self.launches[launch.token.mint].append(launch)

    def fired(self, known: KnownOrder, order: Order, event: Event, trigger: Trigger) -> None:
        """An order's firing was committed; `order` is what it leads to."""
        if order.kind is Kind.SNIPER:
            self._check_launch(order, event, trigger)
            return
        age_ms = trigger.age_ms
        young = age_ms is not None and age_ms * 1000 <= MAX_PRICE_AGE_US
        self._checks.check(_I.FRESH_PRICE, young, f"it fired on a price {age_ms} ms old", known.id)
        extreme = parse_price(trigger.extreme) if trigger.extreme is not None else 0
        waits_for = thresholds_of(known, order, extreme)
        threshold = next((each for each in waits_for if each.name == trigger.kind), None)
        if threshold is None:
            self._checks.fail(_I.FRESH_PRICE, f"it fired as {trigger.kind}, which it does not wait for", known.id)
            return
        met = any(
            threshold.is_met(_best(tick, order.sells_base, threshold.amount_in))
            for tick in self._recent(order.pair, event.at_us)
            if tick.slot == trigger.slot
        )
        if threshold.rises and trigger.amount_out is not None:
            met = met and threshold.is_met(parse_amount(trigger.amount_out, order.token_out.decimals))
        what = f"it fired at {event.at_us} on slot {trigger.slot}: no price there that is young enough satisfies it"
        self._checks.check(_I.FRESH_PRICE, met, what, known.id)
        if extreme:
            self._check_extreme(known, order, event, extreme)

    def _recent(self, pair: Pair, at_us: int) -> Iterator[Tick]:
        """The prices shown that an order may fire by at a time, the latest first."""
        earliest_us = at_us - MAX_PRICE_AGE_US - FIRES_WITHIN_US
        for tick in reversed(self.shown[pair.name]):
            if tick.at_us < earliest_us - _LAST_SHOWN_US:
                return  # a stale feed repeats old ones, but not for ever
            if tick.at_us >= earliest_us:
                yield tick

    def _check_extreme(self, known: KnownOrder, order: Order, event: Event, extreme: int) -> None:
        """It follows no price that was not there since it waits."""
        armed_us = known.history[0].event.at_us // 1000 * 1000
        sells = order.sells_base
        for tick in self.shown[order.pair.name]:
            if armed_us <= tick.at_us <= event.at_us:
                price = marginal_price(Depth(tick.curves, sells), order.pair, sells)
                if price is not None and (price >= extreme if sells else price <= extreme):
                    self._checks.check(_I.FRESH_PRICE, True, "")
                    return
        self._checks.fail(_I.FRESH_PRICE, f"it follows {extreme}, which no price was since it waits", known.id)

    def _check_launch(self, order: Order, event: Event, trigger: Trigger) -> None:
        filters = order.terms.filters or LaunchFilters()
        mint = trigger.mint or ""
        wanted = order.terms.mint in (None, mint)
        passes = any(
            all(verdict.passed for verdict in judge(filters, launch, event.at_us)) for launch in self.launches[mint]
        )
        what = f"it fired on {mint}, of which no launch was shown that passes"
        self._checks.check(_I.FRESH_PRICE, wanted and passes, what, order.id)


def thresholds_of(known: KnownOrder, order: Order, extreme: int) -> list[Threshold]:
    """What an order waits for, by its own terms: of several legs each one's. `extreme` 0: no price is known yet."""
    first = known.history[0].event.detail
    assert isinstance(first, PendingDetail)  # noqa: S101 -- the fold has checked it
    amount_in = parse_amount(first.amount, order.token_in.decimals)
    terms = order.terms
    match order.kind:
        case Kind.LIMIT:
            limit_out = order.limit_out()
            return [] if limit_out is None else [Threshold("limit", amount_in, limit_out, rises=True)]
        case Kind.TAKE_PROFIT | Kind.STOP:
            return [_priced(order.kind.value, order, amount_in, terms.trigger_price or "")]
        case Kind.TRAILING_STOP:
            return _trailing(order, amount_in, extreme, terms.trail_bps)
        case Kind.EXITS:
            found: list[Threshold] = []
            for leg in terms.legs:
                if leg.name is LegName.TRAILING_STOP:
                    found += _trailing(order, amount_in, extreme, leg.trail_bps)
                else:
                    found.append(_priced(leg.name.value, order, amount_in, leg.trigger_price or ""))
            return found
        case Kind.MARKET | Kind.SNIPER | Kind.TWAP:
            return []
        case _:
            assert_never(order.kind)


def _priced(name: str, order: Order, amount_in: int, text: str) -> Threshold:
    price, pair, sells = parse_price(text), order.pair, order.sells_base
    if name == "takeProfit":
        return Threshold(name, amount_in, least_out(price, amount_in, pair, sells_base=sells), rises=True)
    return Threshold(name, amount_in, most_out(price, amount_in, pair, sells_base=sells), rises=False)


def _trailing(order: Order, amount_in: int, extreme: int, trail_bps: int | None) -> list[Threshold]:
    if not extreme:
        return []
    price = stop_price(extreme, trail_bps or 0, order.sells_base)
    units = most_out(price, amount_in, order.pair, sells_base=order.sells_base)
    return [Threshold("trailingStop", amount_in, units, rises=False)]


def _best(tick: Tick, sells_base: bool, amount_in: int) -> int:
    return Depth(tick.curves, sells_base).offer(amount_in).amount_out
