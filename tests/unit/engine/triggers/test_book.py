"""What a book does where it has very much to do, and what it says of what fires."""

import uuid

import pytest

from bestex.domain.price import format_price, traded_price
from bestex.domain.terms import Leg, LegName
from bestex.domain.tokens import Pair, Token
from bestex.engine.triggers.book import MAX_PRICE_AGE_US, Book
from bestex.engine.triggers.depth import Depth
from bestex.engine.triggers.rates import class_bounds, size_class
from bestex.engine.triggers.resting import entries_of
from bestex.engine.triggers.selection import MAX_FIRINGS, MAX_MISSES, trigger_of
from bestex.engine.triggers.trailing import marginal_price, stop_price
from bestex.ports import HighWater, RestingOrder
from tests.support.curves import SOL, SOL_USDC, USDC, ConstantProduct, constant_product, tick

POOL = 10**15  # lamports


def order_id(number: int) -> str:
    return str(uuid.UUID(int=number))


def enter(
    book: Book, number: int, kind: str, amount: int, *, sells_base: bool = True, armed_us: int = 0, **terms: object
) -> None:
    token_in, token_out = (SOL, USDC) if sells_base else (USDC, SOL)
    text = f"{amount}e-{token_in.decimals}"
    order = RestingOrder(order_id(number), 2, kind, token_in.symbol, token_out.symbol, text, **terms)  # type: ignore[arg-type]
    book.add(entries_of(order, token_in, token_out), sells_base=sells_base, armed_us=armed_us)


def fired(book: Book, curve: ConstantProduct, at_us: int = 0) -> list[int]:
    return [firing.entry.key for firing in book.fires(tick([curve], at_us), at_us)]


def price_got(curve: ConstantProduct, amount: int, sells_base: bool = True) -> int:
    return traded_price(amount, curve.amount_out(amount, sells_base), SOL_USDC, sells_base=sells_base)


def a_crowd_that_just_misses(book: Book, curve: ConstantProduct, smallest: int, largest: int, count: int) -> None:
    """Orders of the largest size of a class that need more than they get, but less than the smallest would."""
    gets, smallest_gets = price_got(curve, largest), price_got(curve, smallest)
    for number in range(1, count + 1):
        limit = gets + (smallest_gets - gets) * number // (count + 2)
        enter(book, number, "limit", largest, limit_price=format_price(limit))


def test_nobody_waits_for_ever_behind_a_crowd_that_just_misses() -> None:
    curve = constant_product(150, POOL)
    smallest, largest = class_bounds(size_class(POOL // 10))
    book = Book(SOL_USDC)
    crowd = 20 * MAX_MISSES
    a_crowd_that_just_misses(book, curve, smallest, largest, crowd)
    enter(book, 10**6, "limit", smallest, limit_price=format_price(price_got(curve, smallest)))  # asks for most

    ticks = 0
    while not (found := fired(book, curve)):
        ticks += 1
        assert ticks <= crowd // MAX_MISSES
    assert found == [10**6]
    assert ticks > 1, "no tick may look at the whole crowd"


def test_the_easiest_go_first_while_a_crowd_is_being_looked_at() -> None:
    curve = constant_product(150, POOL)
    smallest, largest = class_bounds(size_class(POOL // 10))
    book = Book(SOL_USDC)
    a_crowd_that_just_misses(book, curve, smallest, largest, 20 * MAX_MISSES)
    for _ in range(5):
        assert fired(book, curve) == []

    enter(book, 10**6, "limit", 10**9, limit_price="1")
    assert fired(book, curve) == [10**6]


def test_one_tick_fires_no_more_than_the_most_and_the_next_one_the_others() -> None:
    book = Book(SOL_USDC)
    for number in range(MAX_FIRINGS + 2):
        enter(book, number, "limit", 10**6, limit_price="100")
    now = tick([constant_product(150, POOL)], 0)

    firings = book.fires(now, 0)
    assert [firing.entry.key for firing in firings] == list(range(MAX_FIRINGS))
    for firing in firings:
        book.fired(firing)
    assert [firing.entry.key for firing in book.fires(now, 0)] == [MAX_FIRINGS, MAX_FIRINGS + 1]


def test_no_more_fire_than_the_depth_fills_at_their_limits_until_those_before_have_ended() -> None:
    curve = constant_product(150, POOL)
    tenth = POOL // 10
    left = curve.after(tenth, True)
    book = Book(SOL_USDC)
    limit = format_price((price_got(curve, tenth) + price_got(left, tenth)) // 2)
    for number in (3, 1, 2):
        enter(book, number, "limit", tenth, limit_price=limit)

    [firing] = book.fires(tick([curve], 0), 0)
    assert firing.entry.key == 1
    book.fired(firing)
    assert (len(book), book.in_flight) == (2, 1)
    assert fired(book, curve) == [], "what is in flight has taken its depth already"

    book.settled(firing.entry.order_id)
    assert fired(book, curve) == [2]


def test_what_buys_in_flight_makes_no_depth_for_what_sells() -> None:
    curve = constant_product(150, POOL)
    book = Book(SOL_USDC)
    enter(book, 1, "limit", POOL // 10 * 150 // 1000, sells_base=False, limit_price="200")
    [firing] = book.fires(tick([curve], 0), 0)
    book.fired(firing)

    enter(book, 2, "limit", 10**9, limit_price="155")
    assert fired(book, curve) == []


def test_stops_fire_on_the_price_there_is_not_on_the_one_that_others_may_make() -> None:
    curve = constant_product(150, POOL)
    tenth = POOL // 10
    book = Book(SOL_USDC)
    enter(book, 1, "stop", tenth, trigger_price="145")
    enter(book, 2, "stop", 10**9, trigger_price="145")  # gets 149.6 until the first one has sold

    assert fired(book, curve) == [1]


def test_a_stop_needs_a_price() -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "stop", 10**9, trigger_price="145")

    assert fired(book, ConstantProduct(POOL, 100)) == [], "the pool pays nothing at all"
    assert fired(book, ConstantProduct(POOL, 10**10)) == [1]


@pytest.mark.parametrize(("age_us", "count"), [(MAX_PRICE_AGE_US, 1), (MAX_PRICE_AGE_US + 1, 0)])
def test_a_price_is_one_until_it_is_stale(age_us: int, count: int) -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "limit", 10**9, limit_price="1")
    at_us = 10**15
    assert len(book.fires(tick([constant_product(150, POOL)], at_us), at_us + age_us)) == count


def test_another_pairs_tick_is_refused() -> None:
    jup = Pair(Token("JUP", "jup", 6), USDC)
    with pytest.raises(ValueError, match="JUP/USDC"):
        Book(SOL_USDC).fires(tick([constant_product(150, POOL)], pair=jup), 0)


def test_when_one_leg_fires_all_leave() -> None:
    legs = (
        Leg(LegName.TAKE_PROFIT, 50, "160"),
        Leg(LegName.STOP_LOSS, 50, "140"),
        Leg(LegName.TRAILING_STOP, 50, trail_bps=50),
    )
    book = Book(SOL_USDC)
    enter(book, 1, "exits", 10**9, legs=legs)
    now = tick([constant_product(170, POOL)], 0)
    [firing] = book.fires(now, 0)
    assert firing.entry.kind.value == "takeProfit"
    book.fired(firing)

    assert order_id(1) not in book
    assert fired(book, constant_product(100, POOL)) == []


def test_legs_that_cross_in_one_tick_fire_once() -> None:
    legs = (Leg(LegName.TAKE_PROFIT, 50, "140"), Leg(LegName.STOP_LOSS, 50, "160"))
    book = Book(SOL_USDC)
    enter(book, 1, "exits", 10**9, legs=legs)
    assert fired(book, constant_product(150, POOL)) == [1]


def test_the_story_says_what_the_trigger_saw() -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "trailingStop", 10**9, trail_bps=100)
    book.fires(tick([constant_product(160, POOL)], 1_000), 1_000)
    now = tick([constant_product(150, POOL)], 2_000, slot=77)
    [firing] = book.fires(now, 5_500)
    story = trigger_of(firing, now, 5_500)

    assert (story.kind, story.venue, story.pool, story.slot, story.age_ms) == (
        "trailingStop", "raydium", "pool-r", 77, 3.5,
    )  # fmt: skip
    assert (story.extreme, story.threshold) == ("159.5999", "158.003901")
    assert story.amount_out == "149.62485"
    assert story.price == "149.62485"


@pytest.mark.parametrize(
    ("extreme", "trail_bps", "sells_base", "price"),
    [
        (10_000, 100, True, 9_900),
        (10_001, 100, True, 9_900),
        (10_000, 100, False, 10_100),
        (10_001, 100, False, 10_102),
    ],
)
def test_a_trailing_stops_price_is_rounded_away_from_the_best(
    extreme: int, trail_bps: int, sells_base: bool, price: int
) -> None:
    assert stop_price(extreme, trail_bps, sells_base) == price


def test_orders_armed_at_different_prices_share_the_best_one_that_comes_later() -> None:
    book = Book(SOL_USDC)
    for number, price in enumerate((160, 158, 156, 154)):
        enter(book, number, "trailingStop", 10**9, armed_us=number, trail_bps=1_000 + number)
        assert fired(book, constant_product(price, POOL), number) == []
    assert fired(book, constant_product(170, POOL), 10) == []
    assert len(book.remove(order_id(1))) == 1

    firings = book.fires(tick([constant_product(140, POOL)], 11), 11)
    assert [(firing.entry.key, format_price(firing.extreme or 0)) for firing in firings] == [
        (0, "169.5749"),
        (2, "169.5749"),
        (3, "169.5749"),
    ]
    for firing in firings:
        book.fired(firing)
    assert len(book) == 0


def test_a_price_that_is_not_the_best_writes_no_mark() -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "trailingStop", 10**9, trail_bps=9_000)
    book.fires(tick([constant_product(150, POOL)], 1), 1)
    assert [mark.at_us for mark in book.take_marks()] == [1]
    book.fires(tick([constant_product(149, POOL)], 2), 2)
    assert book.take_marks() == []
    book.fires(tick([constant_product(151, POOL)], 3), 3)
    assert book.take_marks() == [HighWater("SOL/USDC", True, 3, "150.6224")]
    assert book.take_marks() == []


def test_without_a_trailing_stop_there_are_no_marks() -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "stop", 10**9, trigger_price="1")
    book.fires(tick([constant_product(150, POOL)], 1), 1)
    assert book.take_marks() == []


def test_an_older_tick_than_the_last_one_changes_no_best_price() -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "trailingStop", 10**9, trail_bps=1_000)
    book.fires(tick([constant_product(150, POOL)], 1_000), 1_000)
    book.fires(tick([constant_product(500, POOL)], 999), 1_000)
    assert fired(book, constant_product(140, POOL), 1_001) == []


def test_a_changed_trailing_stop_keeps_its_best_price() -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "trailingStop", 10**9, trail_bps=1_000)
    book.fires(tick([constant_product(160, POOL)], 1), 1)
    changed = RestingOrder(order_id(1), 9, "trailingStop", "SOL", "USDC", "1", trail_bps=1_000)
    book.replace(entries_of(changed, SOL, USDC))

    [firing] = book.fires(tick([constant_product(140, POOL)], 2), 2)
    assert (firing.entry.seq, firing.extreme) == (9, 159_599_900_000_000_000_000)


def test_an_order_stands_here_once() -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "limit", 10**9, limit_price="100")
    with pytest.raises(ValueError, match="already"):
        enter(book, 1, "limit", 10**9, sells_base=False, limit_price="100")
    assert len(book.remove(order_id(1))) == 1
    assert book.remove(order_id(1)) == ()


def test_a_trailing_stop_is_not_entered_without_its_time_nor_with_the_many() -> None:
    order = RestingOrder(order_id(1), 2, "trailingStop", "SOL", "USDC", "1", trail_bps=100)
    entries = entries_of(order, SOL, USDC)
    book = Book(SOL_USDC)
    with pytest.raises(ValueError, match="since when"):
        book.add(entries, sells_base=True)
    with pytest.raises(ValueError, match="not loaded"):
        book.load([entries], sells_base=True)
    assert len(book) == 0


def test_many_orders_are_loaded_as_if_they_came_one_by_one() -> None:
    loaded, added = Book(SOL_USDC), Book(SOL_USDC)
    orders = []
    for number in range(3_000):
        limit, amount = f"{100 + number * 7919 % 3_000 / 100}", f"0.{1 + number % 97:04d}"
        order = RestingOrder(order_id(number), 2, "limit", "SOL", "USDC", amount, limit_price=limit)
        orders.append(entries_of(order, SOL, USDC))
        added.add(orders[-1], sells_base=True)
    loaded.load(reversed(orders), sells_base=True)

    curve = constant_product(115, POOL)
    found = fired(loaded, curve)
    assert found == fired(added, curve)
    assert 1_000 < len(found) < 2_000


def test_a_change_that_is_not_of_the_same_legs_is_refused() -> None:
    book = Book(SOL_USDC)
    enter(book, 1, "limit", 10**9, limit_price="100")
    other = RestingOrder(order_id(1), 3, "stop", "SOL", "USDC", "1", trigger_price="100")
    with pytest.raises(ValueError, match="other legs"):
        book.replace(entries_of(other, SOL, USDC))
    with pytest.raises(KeyError):
        Book(SOL_USDC).replace(entries_of(other, SOL, USDC))


@pytest.mark.parametrize("sells_base", [True, False])
def test_the_price_of_the_moment_is_that_of_a_small_trade_after_its_fee(sells_base: bool) -> None:
    deep = Depth([constant_product(150, 10**18)], sells_base)
    price = marginal_price(deep, SOL_USDC, sells_base)
    assert price is not None
    exact = 150 * 0.9975 if sells_base else 150 / 0.9975
    assert float(format_price(price)) == pytest.approx(exact, rel=2e-6)


def test_a_pool_too_shallow_for_six_digits_has_a_price_and_an_empty_one_has_none() -> None:
    shallow = Depth([ConstantProduct(1_000_000, 150)], True)
    assert marginal_price(shallow, SOL_USDC, True) is not None
    assert marginal_price(Depth([], True), SOL_USDC, True) is None
