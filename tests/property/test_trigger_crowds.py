"""Where many orders stand close together a book decides as a list does whose orders are looked at one by one."""

import uuid
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.price import format_price, traded_price
from bestex.engine.triggers.book import Book
from bestex.engine.triggers.resting import entries_of
from bestex.ports import Curve, HighWater, RestingOrder
from tests.support.curves import SOL, SOL_USDC, USDC, constant_product, damm, tick
from tests.support.model_book import ModelBook, best, legs_of, seen

POOL = 10**15  # lamports


def an_order(number: int, kind: str, amount: int, sells_base: bool, **terms: object) -> RestingOrder:
    token_in, token_out = (SOL, USDC) if sells_base else (USDC, SOL)
    text = f"{amount}e-{token_in.decimals}"
    order_id = str(uuid.UUID(int=number))
    return RestingOrder(order_id, 2, kind, token_in.symbol, token_out.symbol, text, **terms)  # type: ignore[arg-type]


def entered(book: Book, model: ModelBook, order: RestingOrder, sells_base: bool, armed_us: int = 0) -> None:
    entries = entries_of(order, *((SOL, USDC) if sells_base else (USDC, SOL)))
    book.add(entries, sells_base=sells_base, armed_us=armed_us)
    model.orders[order.order_id] = legs_of(order, sells_base, armed_us)


@given(
    st.sampled_from(["limit", "takeProfit", "stop"]),
    st.booleans(),
    st.integers(POOL // 50, POOL // 3),
    st.lists(st.tuples(st.integers(1000, 1140), st.integers(-60, 60)), min_size=2, max_size=20),
    st.booleans(),
)
def test_of_big_orders_close_to_what_they_would_get_the_right_ones_fire(
    kind: str, sells_base: bool, smallest: int, crowd: list[tuple[int, int]], two_pools: bool
) -> None:
    curves: list[Curve] = [constant_product(150, POOL), *([damm(150.3, POOL)] if two_pools else [])]
    book, model = Book(SOL_USDC), ModelBook()
    for number, (share, away_bps) in enumerate(crowd):
        amount = smallest * share // 1000
        if not sells_base:
            amount = amount * 150 // 1000
        out, _ = best(curves, amount, sells_base)
        gets = traded_price(amount, out, SOL_USDC, sells_base=sells_base)
        price = format_price(gets * (10_000 + away_bps) // 10_000)
        terms = {"limit_price": price} if kind == "limit" else {"trigger_price": price}
        entered(book, model, an_order(number, kind, amount, sells_base, **terms), sells_base)

    assert [seen(firing) for firing in book.fires(tick(curves), 1_000_000)] == model.fires(curves, 1_000_000)


ARM = st.tuples(st.just("arm"), st.sampled_from([100, 1_000, 1_500, 5_000]))
PRICE = st.tuples(st.just("price"), st.integers(100, 130))
LEAVE = st.tuples(st.just("leave"), st.integers(0, 5))
RESTART = st.tuples(st.just("restart"), st.just(0))


@given(
    st.booleans(),
    st.lists(st.one_of(ARM, ARM, ARM, PRICE, PRICE, PRICE, PRICE, LEAVE, RESTART), min_size=25, max_size=60),
)
def test_trailing_stops_follow_the_best_price_since_each_was_armed(
    sells_base: bool, steps: Sequence[tuple[str, int]]
) -> None:
    book, model = Book(SOL_USDC), ModelBook()
    orders: dict[str, tuple[RestingOrder, int]] = {}
    marks: list[HighWater] = []
    for number, (step, value) in enumerate(steps, 1):
        at_us = number * 1_000_000
        if step == "arm" and len(orders) < 20:
            amount = 10**8 + number  # one class of sizes
            order = an_order(number, "trailingStop", amount, sells_base, trail_bps=value)
            orders[order.order_id] = order, at_us
            entered(book, model, order, sells_base, at_us)
        elif step == "price":
            curves: list[Curve] = [constant_product(value, 10**18)]
            firings = book.fires(tick(curves, at_us), at_us)
            assert [seen(firing) for firing in firings] == model.fires(curves, at_us)
            marks += book.take_marks()
            for firing in firings:
                order_id = firing.entry.order_id
                book.fired(firing)
                book.settled(order_id)
                del orders[order_id], model.orders[order_id]
        elif step == "leave" and orders:
            order_id = sorted(orders)[value % len(orders)]
            del orders[order_id], model.orders[order_id]
            assert book.remove(order_id)
        elif step == "restart":
            book = Book(SOL_USDC, marks)
            for order, armed_us in orders.values():
                entries = entries_of(order, *((SOL, USDC) if sells_base else (USDC, SOL)))
                book.add(entries, sells_base=sells_base, armed_us=armed_us)
    assert len(book) == len(orders)


@given(st.lists(st.integers(90, 110), min_size=2, max_size=40))
def test_marks_are_no_more_than_the_best_prices_that_may_still_count(prices: list[int]) -> None:
    """One for each price at most, and what is kept of them at the end is a staircase."""
    book, model = Book(SOL_USDC), ModelBook()
    kept: list[HighWater] = []
    for number, price in enumerate(prices, 1):
        order = an_order(number, "trailingStop", 10**9, True, trail_bps=9_000)
        entered(book, model, order, True, number)
        book.fires(tick([constant_product(price, 10**18)], number), number)
        fresh = book.take_marks()
        assert len(fresh) <= 1
        kept = [mark for mark in kept if all(float(mark.price) > float(new.price) for new in fresh)] + fresh

    suffix_bests = {max(prices[start:]) for start in range(len(prices))}
    assert len(kept) == len(suffix_bests)
    assert kept[-1].at_us == len(prices)
