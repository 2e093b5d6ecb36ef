"""A book decides as a list does whose orders are looked at one by one, whatever happens to them in between."""

import uuid

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from bestex.domain.terms import Leg, LegName
from bestex.engine.triggers.book import MAX_PRICE_AGE_US, Book
from bestex.engine.triggers.resting import entries_of
from bestex.engine.triggers.selection import MAX_MISSES, Firing
from bestex.ports import Curve, HighWater, RestingOrder
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from tests.support.curves import SOL, SOL_USDC, USDC, constant_product, damm, tick
from tests.support.model_book import ModelBook, legs_of, seen

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


Books.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase
