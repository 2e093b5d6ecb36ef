"""Prices compare exactly, whichever way round the pair is traded, and every division rounds as it says."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.money import MAX_BASE_UNITS, AmountError
from bestex.domain.price import (
    MAX_PRICE,
    PRICE_SCALE,
    format_price,
    inverse_text,
    least_out,
    most_out,
    parse_price,
    traded_price,
)
from bestex.domain.tokens import Pair, Token, load_tokens

TOKENS = load_tokens()
SOL_USDC = Pair(TOKENS.get("SOL"), TOKENS.get("USDC"))
PRICES = st.integers(1, MAX_PRICE)
AMOUNTS = st.integers(1, MAX_BASE_UNITS)
PAIRS = st.builds(
    lambda base, quote: Pair(Token("B", "b", base), Token("Q", "q", quote)), st.integers(0, 18), st.integers(0, 18)
)


def exact_out(price: int, amount_in: int, pair: Pair, sells_base: bool) -> Fraction:
    """What `amount_in` comes to at exactly `price`, base units."""
    rate = Fraction(price, PRICE_SCALE) * Fraction(10**pair.quote.decimals, 10**pair.base.decimals)
    return amount_in * rate if sells_base else amount_in / rate


@given(PRICES, AMOUNTS, PAIRS, st.booleans())
def test_the_least_and_the_most_output_stand_around_the_exact_one(
    price: int, amount_in: int, pair: Pair, sells_base: bool
) -> None:
    exact = exact_out(price, amount_in, pair, sells_base)
    least = least_out(price, amount_in, pair, sells_base=sells_base)
    most = most_out(price, amount_in, pair, sells_base=sells_base)

    assert most <= exact <= least
    assert exact - most < 1
    assert least - exact < 1


@given(PRICES, AMOUNTS, PAIRS, st.booleans())
def test_the_least_output_trades_at_the_price_or_better_and_one_unit_less_does_not(
    price: int, amount_in: int, pair: Pair, sells_base: bool
) -> None:
    least = least_out(price, amount_in, pair, sells_base=sells_base)
    traded = traded_price(amount_in, least, pair, sells_base=sells_base)
    if sells_base:
        assert traded >= price
        assert traded_price(amount_in, least - 1, pair, sells_base=True) < price
    else:
        assert traded <= price
        assert least - 1 < exact_out(price, amount_in, pair, sells_base)


@given(PRICES, AMOUNTS, PAIRS, st.booleans())
def test_the_most_output_trades_at_the_price_or_worse_and_one_unit_more_does_not(
    price: int, amount_in: int, pair: Pair, sells_base: bool
) -> None:
    most = most_out(price, amount_in, pair, sells_base=sells_base)
    if sells_base:
        assert traded_price(amount_in, most, pair, sells_base=True) <= price
    elif most > 0:
        assert traded_price(amount_in, most, pair, sells_base=False) >= price
    assert most + 1 > exact_out(price, amount_in, pair, sells_base)


@given(AMOUNTS, AMOUNTS, PAIRS, st.booleans())
def test_a_traded_price_is_the_exact_one_rounded_down(
    amount_in: int, amount_out: int, pair: Pair, sells_base: bool
) -> None:
    base, quote = (amount_in, amount_out) if sells_base else (amount_out, amount_in)
    exact = Fraction(quote, 10**pair.quote.decimals) / Fraction(base, 10**pair.base.decimals) * PRICE_SCALE

    assert 0 <= exact - traded_price(amount_in, amount_out, pair, sells_base=sells_base) < 1


def test_a_swap_that_moved_nothing_has_no_price() -> None:
    assert traded_price(5, 0, SOL_USDC, sells_base=False) == 0
    assert traded_price(5, 0, SOL_USDC, sells_base=True) == 0


def test_prices_are_read_and_traded_in_token_units() -> None:
    price = parse_price("150.25")
    assert least_out(price, 2_000_000_000, SOL_USDC, sells_base=True) == 300_500_000
    assert least_out(price, 300_500_000, SOL_USDC, sells_base=False) == 2_000_000_000
    assert traded_price(2_000_000_000, 300_500_000, SOL_USDC, sells_base=True) == price
    assert traded_price(300_500_000, 2_000_000_000, SOL_USDC, sells_base=False) == price
    assert inverse_text(parse_price("160")) == "0.00625"


@given(PRICES)
def test_a_price_comes_back_from_its_text(price: int) -> None:
    assert parse_price(format_price(price)) == price


@given(PRICES)
def test_the_other_way_round_is_never_more_than_the_exact_inverse(price: int) -> None:
    other_way = inverse_text(price)
    exact = Fraction(PRICE_SCALE, price)

    assert 0 <= exact - Fraction(other_way) < Fraction(1, PRICE_SCALE)


@pytest.mark.parametrize("text", ["0", "-1", "1e19", "0.0000000000000000001", "abc", "", "NaN", "1e999999999"])
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(AmountError):
        parse_price(text)
