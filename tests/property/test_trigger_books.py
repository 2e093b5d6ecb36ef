"""A book decides as a list does whose orders are looked at one by one, whatever happens to them in between."""

import uuid
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from bestex.domain.price import PRICE_SCALE, least_out, most_out, parse_price, traded_price
from bestex.domain.terms import Leg, LegName
from bestex.engine.triggers.book import MAX_PRICE_AGE_US, Book
from bestex.engine.triggers.resting import entries_of
from bestex.engine.triggers.selection import MAX_MISSES, Firing
from bestex.ports import Curve, HighWater, RestingOrder
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from tests.support.curves import SOL, SOL_USDC, USDC, constant_product, damm, tick

DEPTHS = st.sampled_from([3 * 10**6, 10**11, 10**13, 10**15])  # lamports
MARKET = st.one_of(
    st.integers(1390, 1610).map(lambda tenths: tenths / 10), st.sampled_from([0.0001, 75.0, 149.9, 150.0, 150.1, 1e6])
)
PRICES = st.one_of(
    st.integers(1390, 1610).map(lambda tenths: f"{tenths / 10}"),
    st.sampled_from(["150", "150.1", "149.9", "150.0000000000001", "1", "1000000", "0.000000000000000001", "1e18"]),
)
NEAR = st.integers(1200, 1800).map(lambda tenths: f"{tenths / 10}")
AMOUNTS = st.one_of(
    st.integers(1, 64).flatmap(lambda bits: st.integers(2 ** (bits - 1), 2**bits - 1)),
    st.sampled_from([1, 7, 8, 10**6, 2**30, 10**9, 10**10, 10**11]),
)
TRAILS = st.sampled_from([1, 10, 30, 100, 500, 9_000])
MAX_ORDERS = 16  # with every leg of each, still fewer than a tick may look at in vain
assert MAX_ORDERS < MAX_MISSES


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


class Books(RuleBasedStateMachine):
    """The book and the list, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ModelBook()
        self.book = Book(SOL_USDC)
        self.requests: dict[str, RestingOrder] = {}
        self.gone: dict[str, tuple[RestingOrder, bool]] = {}
        self.marks: list[HighWater] = []
        self.now_us = 10**15
        self.issued = 0

    # --- Orders ---

    def _add(self, order: RestingOrder, sells_base: bool) -> None:
        tokens = (SOL, USDC) if sells_base else (USDC, SOL)
        entries = entries_of(order, *tokens)
        self.now_us += 1000
        self.book.add(entries, sells_base=sells_base, armed_us=self.now_us)
        self.model.orders[order.order_id] = legs_of(order, sells_base, self.now_us)
        self.model.in_flight.pop(order.order_id, None)
        self.requests[order.order_id] = order

    def _new(self, kind: str, sells_base: bool, amount: int, **terms: object) -> None:
        self.issued += 1
        order_id = str(uuid.UUID(int=(self.issued * 7919) % 65_537))  # later ones need not sort later here
        token_in, token_out = (SOL, USDC) if sells_base else (USDC, SOL)
        text = f"{amount}e-{token_in.decimals}"
        self._add(RestingOrder(order_id, 1, kind, token_in.symbol, token_out.symbol, text, **terms), sells_base)  # type: ignore[arg-type]

    @precondition(lambda self: len(self.model.orders) < MAX_ORDERS)
    @rule(kind=st.sampled_from(["stop", "takeProfit"]), sells_base=st.booleans(), amount=AMOUNTS, price=PRICES)
    def a_trigger_order_comes(self, kind: str, sells_base: bool, amount: int, price: str) -> None:
        self._new(kind, sells_base, amount, trigger_price=price)

    @precondition(lambda self: len(self.model.orders) < MAX_ORDERS)
    @rule(sells_base=st.booleans(), amount=AMOUNTS, price=PRICES)
    def a_limit_order_comes(self, sells_base: bool, amount: int, price: str) -> None:
        self._new("limit", sells_base, amount, limit_price=price)

    @precondition(lambda self: len(self.model.orders) < MAX_ORDERS)
    @rule(sells_base=st.booleans(), amount=AMOUNTS, least=AMOUNTS)
    def a_limit_order_comes_that_names_its_output(self, sells_base: bool, amount: int, least: int) -> None:
        token_out = USDC if sells_base else SOL
        self._new("limit", sells_base, amount, min_amount_out=f"{least}e-{token_out.decimals}")

    @precondition(lambda self: len(self.model.orders) < MAX_ORDERS)
    @rule(sells_base=st.booleans(), amount=AMOUNTS, trail_bps=TRAILS)
    def a_trailing_stop_comes(self, sells_base: bool, amount: int, trail_bps: int) -> None:
        self._new("trailingStop", sells_base, amount, trail_bps=trail_bps)

    @precondition(lambda self: len(self.model.orders) < MAX_ORDERS)
    @rule(sells_base=st.booleans(), amount=AMOUNTS, profit=PRICES, loss=PRICES, trail_bps=st.none() | TRAILS)
    def exits_come(self, sells_base: bool, amount: int, profit: str, loss: str, trail_bps: int | None) -> None:
        legs = [Leg(LegName.TAKE_PROFIT, 50, profit), Leg(LegName.STOP_LOSS, 50, loss)]
        if trail_bps is not None:
            legs.append(Leg(LegName.TRAILING_STOP, 50, trail_bps=trail_bps))
        self._new("exits", sells_base, amount, legs=tuple(legs))

    @precondition(lambda self: len(self.model.orders) < MAX_ORDERS - 6)
    @rule(
        kind=st.sampled_from(["limit", "takeProfit", "stop"]),
        sells_base=st.booleans(),
        depth=DEPTHS,
        shares=st.lists(st.integers(1, 40), min_size=6, max_size=6),
        data=st.data(),
    )
    def big_orders_come(self, kind: str, sells_base: bool, depth: int, shares: list[int], data: st.DataObject) -> None:
        """Hundredths of a pool, near its price: what they move it by decides which of them fire."""
        for share in shares:
            price = data.draw(NEAR)
            amount = max(1, depth * share // 100)
            if not sells_base:
                amount = max(1, amount * 150 // 1000)
            self._new(kind, sells_base, amount, **{"limit_price" if kind == "limit" else "trigger_price": price})

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data())
    def an_order_is_cancelled(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.model.orders)))
        legs = self.model.orders.pop(order_id)
        assert len(self.book.remove(order_id)) == len(legs)
        assert order_id not in self.book

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data(), price=PRICES, seq=st.integers(2, 9))
    def an_order_is_amended(self, data: st.DataObject, price: str, seq: int) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.model.orders)))
        order, legs = self.requests[order_id], self.model.orders[order_id]
        if order.limit_price is not None:
            order = replace(order, limit_price=price, seq=seq)
        elif order.trigger_price is not None:
            order = replace(order, trigger_price=price, seq=seq)
        else:
            order = replace(order, seq=seq)
        sells_base = legs[0].sells_base
        entries = entries_of(order, *((SOL, USDC) if sells_base else (USDC, SOL)))
        self.book.replace(entries)
        assert self.book.find(order_id) == entries
        self.requests[order_id] = order
        changed = legs_of(order, sells_base, 0)
        for leg, old in zip(changed, legs, strict=True):
            leg.armed_us, leg.met = old.armed_us, old.met
        self.model.orders[order_id] = changed

    # --- Prices ---

    @rule(
        raydium=MARKET, spread=st.sampled_from([0.999, 1.0, 1.004]), depth=DEPTHS, other=DEPTHS,
        venues=st.sampled_from(["both", "both", "raydium", "meteora"]), mode=st.sampled_from(CollectFeeMode),
    )  # fmt: skip
    def a_tick_comes(
        self, raydium: float, spread: float, depth: int, other: int, venues: str, mode: CollectFeeMode
    ) -> None:
        curves: list[Curve] = []
        if venues != "meteora":
            curves.append(constant_product(raydium, depth))
        if venues != "raydium":
            curves.append(damm(raydium * spread, other, mode=mode))
        self._tick(curves)

    def _tick(self, curves: list[Curve]) -> None:
        self.now_us += 400_000
        found = self.book.fires(tick(curves, self.now_us), self.now_us + MAX_PRICE_AGE_US)
        expected = self.model.fires(curves, self.now_us)
        assert [seen(firing) for firing in found] == expected
        self.marks += self.book.take_marks()
        for firing in found:
            self._leaves(firing)

    def _leaves(self, firing: Firing) -> None:
        order_id = firing.entry.order_id
        self.book.fired(firing)
        legs = self.model.orders.pop(order_id)
        self.model.in_flight[order_id] = (firing.venue, firing.sells_base, legs[0].amount_in)
        self.gone[order_id] = (self.requests[order_id], firing.sells_base)

    @rule(age=st.integers(MAX_PRICE_AGE_US + 1, 10**9), price=MARKET)
    def a_stale_tick_comes(self, age: int, price: float) -> None:
        curves = [constant_product(price, 10**13)]
        assert self.book.fires(tick(curves, self.now_us - age), self.now_us) == []
        assert self.book.fires(tick([], self.now_us), self.now_us) == []

    @rule(price=st.integers(1490, 1510).map(lambda tenths: tenths / 10), depth=DEPTHS, both=st.booleans())
    def the_market_is_calm(self, price: float, depth: int, both: bool) -> None:
        curves: list[Curve] = [constant_product(price, depth)]
        if both:
            curves.append(damm(price, depth))
        self._tick(curves)

    # --- What fired ---

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def an_order_that_fired_ends(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.gone)))
        del self.gone[order_id]
        self.model.in_flight.pop(order_id)
        self.book.settled(order_id)

    @precondition(lambda self: self.gone and len(self.model.orders) < MAX_ORDERS)
    @rule(data=st.data())
    def an_order_that_fired_waits_again(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.gone)))
        order, sells_base = self.gone.pop(order_id)
        self._add(order, sells_base)

    @rule()
    def the_engine_starts_anew(self) -> None:
        """The book is made again from what is stored; what was in flight is told to it, or has ended."""
        book = Book(SOL_USDC, self.marks)
        for order_id in sorted(self.model.orders):
            legs = self.model.orders[order_id]
            sells_base = legs[0].sells_base
            entries = entries_of(self.requests[order_id], *((SOL, USDC) if sells_base else (USDC, SOL)))
            book.add(entries, sells_base=sells_base, armed_us=legs[-1].armed_us)
        self.book = book
        self.gone.clear()
        self.model.in_flight.clear()

    @invariant()
    def both_hold_the_same_orders(self) -> None:
        assert len(self.book) == len(self.model.orders)
        assert self.book.in_flight == len(self.model.in_flight)
        assert all(order_id in self.book for order_id in self.model.orders)


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


Books.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase
