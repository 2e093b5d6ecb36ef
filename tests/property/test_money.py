"""Amounts are exact, bounded, and answered at once whatever the text."""

import time
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bestex.domain.money import (
    MAX_BASE_UNITS,
    PRICE_DECIMALS,
    AmountError,
    format_amount,
    min_amount_out,
    parse_amount,
    price_text,
)

DECIMALS = st.integers(0, 18)
UNITS = st.integers(1, MAX_BASE_UNITS) | st.integers(1, 10**6)
NUMBERS = st.from_regex(r"-?[0-9]{1,24}(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


@given(UNITS, DECIMALS)
@example(MAX_BASE_UNITS, 0)
@example(MAX_BASE_UNITS, 18)
def test_an_amount_written_and_read_again_is_the_same(units: int, decimals: int) -> None:
    assert parse_amount(format_amount(units, decimals), decimals) == units


@given(UNITS, DECIMALS)
def test_an_amount_is_written_exactly_and_without_needless_zeros(units: int, decimals: int) -> None:
    text = format_amount(units, decimals)

    assert Fraction(text) * 10**decimals == units
    assert "." not in text or not text.endswith(("0", "."))
    assert not text.startswith("0") or text.startswith("0.")


@given(NUMBERS, DECIMALS)
@example("100e-2", 0)
@example("0.10", 1)
@example("1e-18", 18)
@example("1.0000000000", 9)
@example("18446744073709551615", 0)
@example("18446744073709551616", 0)
@example("18446744073.709551615", 9)
@example("18446744073.709551616", 9)
def test_a_number_is_read_exactly_or_not_at_all(text: str, decimals: int) -> None:
    exact = Fraction(text) * 10**decimals
    if exact.denominator == 1 and 0 < exact <= MAX_BASE_UNITS:
        assert parse_amount(text, decimals) == exact
    else:
        with pytest.raises(AmountError):
            parse_amount(text, decimals)


@given(st.text(max_size=30), DECIMALS)
def test_any_text_is_an_amount_or_an_amount_error(text: str, decimals: int) -> None:
    try:
        units = parse_amount(text, decimals)
    except AmountError:
        return
    assert 0 < units <= MAX_BASE_UNITS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0", "above zero"),
        ("0.000", "above zero"),
        ("0e999999", "above zero"),
        ("-0", "above zero"),
        ("-1.5", "above zero"),
        ("-1e999999", "above zero"),
        ("1e400", "at most 18446744073.709551615"),
        ("1e999999", "at most 18446744073.709551615"),
        ("1e999999999", "at most"),
        ("18446744073.709551616", "at most"),
        ("9" * 64, "at most"),
        ("0.0000000001", "more decimals than the token's 9"),
        ("1.0000000001", "more decimals than the token's 9"),
        ("1e-10", "more decimals"),
        ("1e-999999", "more decimals"),
        *((text, "decimal number") for text in ["NaN", "Infinity", "-Infinity", "inf", "", " ", "1.5 ", " 1.5", "1,5"]),
        *((text, "decimal number") for text in ["1.", ".5", "+1", "--1", "0x10", "1_000", "1e", "1e+", "1.5.5", "1\n"]),
        *(
            (text, "decimal number")
            for text in ["\uff11\uff12", "\u00b2", "\u0663", "1e9999999999", "1" * 100_000, "1e" + "9" * 100_000]
        ),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_amount_is_refused_with_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(AmountError, match=says):
        parse_amount(text, 9)


@pytest.mark.parametrize(
    "text", ["1e999999", "1e999999999", "1e-999999999", "0e999999999", "9" * 64 + "e64", "0." + "0" * 63 + "1e-64"]
)
def test_a_huge_exponent_is_answered_at_once(text: str) -> None:
    began = time.perf_counter()
    for _ in range(10):
        with pytest.raises(AmountError):
            parse_amount(text, 9)
    assert (time.perf_counter() - began) / 10 < 0.001


@given(st.integers(0, MAX_BASE_UNITS), st.integers(0, 10_000))
def test_the_least_output_is_never_looser_than_the_slippage_asked_for(quoted: int, slippage_bps: int) -> None:
    least = min_amount_out(quoted, slippage_bps)
    exact = Fraction(quoted) * (10_000 - slippage_bps) / 10_000

    assert exact <= least < exact + 1
    assert 0 <= least <= quoted


@given(st.integers(0, MAX_BASE_UNITS))
def test_no_slippage_asks_for_all_and_full_slippage_for_nothing(quoted: int) -> None:
    assert min_amount_out(quoted, 0) == quoted
    assert min_amount_out(quoted, 10_000) == 0


@given(UNITS, DECIMALS, UNITS, DECIMALS)
def test_a_price_is_rounded_down_at_its_last_decimal(
    quote_units: int, quote_decimals: int, base_units: int, base_decimals: int
) -> None:
    exact = Fraction(quote_units, 10**quote_decimals) / Fraction(base_units, 10**base_decimals)
    shown = Fraction(price_text(quote_units, quote_decimals, base_units, base_decimals))

    assert shown <= exact < shown + Fraction(1, 10**PRICE_DECIMALS)


def test_a_price_is_quote_tokens_per_base_token() -> None:
    assert price_text(151_100_000, 6, 1_500_000_000, 9) == "100.733333333333"
    assert price_text(1, 6, 2**64 - 1, 0) == "0"
