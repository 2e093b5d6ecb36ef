"""Keys of rates sort as the rates, and classes hold the amounts between their bounds."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.engine.triggers.rates import (
    KEY_MAX,
    MANTISSA_BITS,
    class_bounds,
    least_rate_key,
    most_rate_key,
    rate_key,
    size_class,
)
from tests.support.curves import constant_product, damm

AMOUNTS = st.integers(1, 64).flatmap(lambda bits: st.integers(2 ** (bits - 1), 2**bits - 1))
PRICED = st.integers(1, 2**120)


@given(PRICED, PRICED, PRICED, PRICED)
def test_a_larger_rate_never_has_a_smaller_key(out: int, amount: int, other_out: int, other_amount: int) -> None:
    one, other = Fraction(out, amount), Fraction(other_out, other_amount)
    if one <= other:
        assert rate_key(out, amount) <= rate_key(other_out, other_amount)
    if one >= other * (1 + Fraction(1, 2 ** (MANTISSA_BITS - 1))):
        assert rate_key(out, amount) > rate_key(other_out, other_amount)


@given(PRICED, PRICED)
def test_keys_fit_in_two_digits_and_do_not_depend_on_how_a_rate_is_written(out: int, amount: int) -> None:
    assert 0 < rate_key(out, amount) <= KEY_MAX
    assert rate_key(out, amount) == rate_key(3 * out, 3 * amount)


def test_nothing_for_something_has_the_least_key() -> None:
    assert rate_key(0, 5) == rate_key(-3, 5) == 0


@given(AMOUNTS, AMOUNTS)
def test_an_amount_is_between_the_bounds_of_its_class_and_classes_are_in_order(amount: int, other: int) -> None:
    smallest, largest = class_bounds(size_class(amount))
    assert smallest <= amount <= largest
    assert size_class(smallest) == size_class(largest) == size_class(amount)
    assert largest < 2 * smallest
    if amount <= other:
        assert size_class(amount) <= size_class(other)


@pytest.mark.parametrize("pool", [constant_product(150, 10**13), damm(150, 10**13), constant_product(1e-4, 10**7)])
@given(smaller=st.integers(1, 10**15), larger=st.integers(1, 10**15), sells_base=st.booleans())
def test_no_size_gets_more_than_its_bound_nor_less(smaller: int, larger: int, sells_base: bool, pool: object) -> None:
    smaller, larger = sorted((smaller, larger))
    most = most_rate_key(pool.amount_out(smaller + 4, sells_base), smaller)  # type: ignore[attr-defined]
    least = least_rate_key(pool.amount_out(larger, sells_base), larger, smaller)  # type: ignore[attr-defined]
    for amount in (smaller, (smaller + larger) // 2, larger):
        got = rate_key(pool.amount_out(amount, sells_base), amount)  # type: ignore[attr-defined]
        assert least <= got <= most
