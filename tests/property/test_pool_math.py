"""What holds for every swap on every pool: no series of trades takes out what it did not pay for."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, isqrt

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bestex.venues.meteora import damm_v2
from bestex.venues.meteora.damm_v2 import (
    MAX_SQRT_PRICE,
    MIN_SQRT_PRICE,
    CollectFeeMode,
    PriceRangeViolation,
    SwapResult,
)
from bestex.venues.raydium import cpmm

U64_MAX = 2**64 - 1


def of_every_size(bits_max: int) -> st.SearchStrategy[int]:
    """Integers of 1..bits_max bits, every length as likely as any other."""
    return st.integers(1, bits_max).flatmap(lambda bits: st.integers(2 ** (bits - 1), 2**bits - 1))


# ---------------------------------------------------------------- Raydium CPMM

RESERVES = of_every_size(63)
CPMM_AMOUNTS = of_every_size(63)
FEE_RATES_PPM = st.one_of(st.sampled_from([0, 100, 2_500, 10_000, 999_999]), st.integers(0, 999_999))


@given(CPMM_AMOUNTS, RESERVES, RESERVES, FEE_RATES_PPM)
def test_cpmm_the_constant_product_never_decreases(
    amount_in: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int
) -> None:
    amount_out, fee = cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, fee_rate_ppm)
    # even when the whole fee leaves the pool
    assert (reserve_in + amount_in - fee) * (reserve_out - amount_out) >= reserve_in * reserve_out


@given(CPMM_AMOUNTS, RESERVES, RESERVES, FEE_RATES_PPM)
def test_cpmm_gives_the_most_that_the_constant_product_allows(
    amount_in: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int
) -> None:
    amount_out, fee = cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, fee_rate_ppm)
    assert (reserve_in + amount_in - fee) * (reserve_out - amount_out - 1) < reserve_in * reserve_out


@given(CPMM_AMOUNTS, RESERVES, RESERVES, FEE_RATES_PPM)
def test_cpmm_the_fee_is_the_rate_rounded_up(
    amount_in: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int
) -> None:
    _amount_out, fee = cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, fee_rate_ppm)
    assert fee == ceil(Fraction(amount_in * fee_rate_ppm, 1_000_000))
    assert 0 <= fee <= amount_in


@given(CPMM_AMOUNTS, CPMM_AMOUNTS, RESERVES, RESERVES, FEE_RATES_PPM)
def test_cpmm_more_in_never_gives_less_out(
    amount: int, more: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int
) -> None:
    assume(amount + more <= U64_MAX - reserve_in)
    less_out, _fee = cpmm.swap_exact_in(amount, reserve_in, reserve_out, fee_rate_ppm)
    more_out, _fee = cpmm.swap_exact_in(amount + more, reserve_in, reserve_out, fee_rate_ppm)
    assert less_out <= more_out


@given(RESERVES, RESERVES, FEE_RATES_PPM, st.data())
def test_cpmm_exact_out_asks_the_least_input_that_gives_it(
    reserve_in: int, reserve_out: int, fee_rate_ppm: int, data: st.DataObject
) -> None:
    assume(reserve_out > 1)
    amount_out = data.draw(st.integers(1, reserve_out - 1))
    try:
        amount_in, fee = cpmm.swap_exact_out(amount_out, reserve_in, reserve_out, fee_rate_ppm)
    except ValueError:
        assume(False)
        raise
    assert 0 <= fee < amount_in <= U64_MAX - reserve_in
    assert cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, fee_rate_ppm)[0] >= amount_out
    if amount_in > 1:
        assert cpmm.swap_exact_in(amount_in - 1, reserve_in, reserve_out, fee_rate_ppm)[0] < amount_out


@given(CPMM_AMOUNTS, RESERVES, RESERVES, FEE_RATES_PPM)
def test_cpmm_exact_out_never_asks_more_than_was_paid_for_it(
    amount_in: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int
) -> None:
    amount_out, _fee = cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, fee_rate_ppm)
    assume(amount_out > 0)
    assert cpmm.swap_exact_out(amount_out, reserve_in, reserve_out, fee_rate_ppm)[0] <= amount_in


@given(CPMM_AMOUNTS, RESERVES, RESERVES, FEE_RATES_PPM, st.booleans())
def test_cpmm_there_and_back_never_gains(
    amount_in: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int, fee_stays: bool
) -> None:
    bought, fee = cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, fee_rate_ppm)
    assume(bought > 0)
    reserve_in_after = reserve_in + amount_in - (0 if fee_stays else fee)
    back, _fee = cpmm.swap_exact_in(bought, reserve_out - bought, reserve_in_after, fee_rate_ppm)
    assert back <= amount_in


@given(CPMM_AMOUNTS, CPMM_AMOUNTS, RESERVES, RESERVES, FEE_RATES_PPM, st.booleans())
def test_cpmm_two_swaps_never_give_more_than_one_of_their_sum(
    first: int, second: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int, fee_stays: bool
) -> None:
    assume(first + second <= U64_MAX - reserve_in)
    whole, _fee = cpmm.swap_exact_in(first + second, reserve_in, reserve_out, fee_rate_ppm)
    first_out, fee = cpmm.swap_exact_in(first, reserve_in, reserve_out, fee_rate_ppm)
    reserve_in_after = reserve_in + first - (0 if fee_stays else fee)
    second_out, _fee = cpmm.swap_exact_in(second, reserve_in_after, reserve_out - first_out, fee_rate_ppm)
    assert first_out + second_out <= whole


@given(CPMM_AMOUNTS, RESERVES, RESERVES, FEE_RATES_PPM)
def test_cpmm_price_impact_is_the_shortfall_from_spot(
    amount_in: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int
) -> None:
    amount_out, fee = cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, fee_rate_ppm)
    impact_bps = cpmm.price_impact_bps(amount_in, amount_out, fee, reserve_in, reserve_out)
    assert 0 <= impact_bps <= 10_000
    if amount_out:
        spot = Fraction(reserve_out, reserve_in)
        executed = Fraction(amount_out, amount_in - fee)
        assert impact_bps == ceil((1 - executed / spot) * 10_000)


def test_cpmm_price_impact_of_a_swap_of_one_percent_of_the_pool_is_one_percent() -> None:
    amount_out, fee = cpmm.swap_exact_in(10**10, 99 * 10**10, 99 * 10**10, 0)
    assert cpmm.price_impact_bps(10**10, amount_out, fee, 99 * 10**10, 99 * 10**10) == 100


def test_cpmm_an_input_eaten_by_the_fee_gives_nothing() -> None:
    assert cpmm.swap_exact_in(1, 10**9, 10**9, 2_500) == (0, 1)
    assert cpmm.price_impact_bps(1, 0, 1, 10**9, 10**9) == 10_000


@pytest.mark.parametrize(
    ("amount_in", "reserve_in", "reserve_out", "fee_rate_ppm", "complaint"),
    [
        (0, 10, 10, 0, "amount_in"),
        (-1, 10, 10, 0, "amount_in"),
        (U64_MAX - 9, 10, 10, 0, "amount_in"),
        (1, 0, 10, 0, "reserves"),
        (1, 10, 0, 0, "reserves"),
        (1, -1, 10, 0, "reserves"),
        (1, U64_MAX + 1, 10, 0, "reserves"),
        (1, 10, U64_MAX + 1, 0, "reserves"),
        (1, 10, 10, -1, "fee_rate_ppm"),
        (1, 10, 10, 1_000_000, "fee_rate_ppm"),
    ],
)
def test_cpmm_refuses_an_exact_in_that_no_pool_can_have(
    amount_in: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, fee_rate_ppm)


@pytest.mark.parametrize(
    ("amount_out", "reserve_in", "reserve_out", "fee_rate_ppm", "complaint"),
    [
        (0, 10, 10, 0, "amount_out"),
        (-1, 10, 10, 0, "amount_out"),
        (10, 10, 10, 0, "amount_out"),
        (11, 10, 10, 0, "amount_out"),
        (9, U64_MAX // 10 + 1, 10, 0, "costs more"),
        (1, 0, 10, 0, "reserves"),
        (1, 10, 10, 1_000_000, "fee_rate_ppm"),
    ],
)
def test_cpmm_refuses_an_exact_out_that_no_pool_can_give(
    amount_out: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        cpmm.swap_exact_out(amount_out, reserve_in, reserve_out, fee_rate_ppm)


def test_cpmm_takes_everything_up_to_u64() -> None:
    amount_out, _fee = cpmm.swap_exact_in(U64_MAX - 10, 10, U64_MAX, 0)
    assert 0 < amount_out < U64_MAX
    assert cpmm.swap_exact_out(9, U64_MAX // 10, 10, 0)[0] <= U64_MAX


# ---------------------------------------------------------------- Meteora DAMM v2


@dataclass(frozen=True)
class DammPool:
    liquidity: int
    sqrt_price: int
    fee_numerator: int
    mode: CollectFeeMode

    def sell(self, amount_in: int, a_to_b: bool) -> SwapResult:
        """A swap on this pool; one that is too large for it is no example."""
        try:
            return damm_v2.swap_exact_in(
                amount_in, self.liquidity, self.sqrt_price, a_to_b, self.fee_numerator, self.mode
            )
        except PriceRangeViolation:
            assume(False)
            raise

    def after(self, swap: SwapResult) -> "DammPool":
        return DammPool(self.liquidity, swap.next_sqrt_price, self.fee_numerator, self.mode)


@st.composite
def damm_pools(draw: st.DrawFn) -> DammPool:
    reserve_a, reserve_b = draw(of_every_size(63)), draw(of_every_size(63))
    sqrt_price = isqrt((reserve_b << 128) // reserve_a)
    assume(MIN_SQRT_PRICE <= sqrt_price <= MAX_SQRT_PRICE)
    fee_numerators = st.one_of(
        st.sampled_from([0, 100_000, 2_500_000, damm_v2.MAX_FEE_NUMERATOR]),
        st.integers(0, damm_v2.MAX_FEE_NUMERATOR),
    )
    return DammPool(
        liquidity=isqrt(reserve_a * reserve_b) << 64,
        sqrt_price=sqrt_price,
        fee_numerator=draw(fee_numerators),
        mode=draw(st.sampled_from(CollectFeeMode)),
    )


DAMM_AMOUNTS = of_every_size(64)
A_TO_B = st.booleans()


@given(damm_pools(), DAMM_AMOUNTS, A_TO_B)
def test_damm_v2_the_reserves_behind_the_price_never_fall_short(pool: DammPool, amount_in: int, a_to_b: bool) -> None:
    swap = pool.sell(amount_in, a_to_b)
    net_in = amount_in - swap.fee if swap.fee_on_input else amount_in
    gross_out = swap.amount_out if swap.fee_on_input else swap.amount_out + swap.fee
    before_a, before_b = damm_v2.reserves(pool.liquidity, pool.sqrt_price)
    after_a, after_b = damm_v2.reserves(pool.liquidity, swap.next_sqrt_price)
    paid_a, paid_b = (net_in, -gross_out) if a_to_b else (-gross_out, net_in)
    assert before_a + paid_a >= after_a
    assert before_b + paid_b >= after_b


@given(damm_pools(), DAMM_AMOUNTS, A_TO_B)
def test_damm_v2_selling_moves_the_price_against_the_seller_within_the_range(
    pool: DammPool, amount_in: int, a_to_b: bool
) -> None:
    swap = pool.sell(amount_in, a_to_b)
    if a_to_b:
        assert MIN_SQRT_PRICE <= swap.next_sqrt_price <= pool.sqrt_price
    else:
        assert pool.sqrt_price <= swap.next_sqrt_price <= MAX_SQRT_PRICE
    assert 0 <= swap.amount_out <= U64_MAX


@given(damm_pools(), DAMM_AMOUNTS, A_TO_B)
def test_damm_v2_the_fee_is_the_rate_rounded_up_on_its_own_side(pool: DammPool, amount_in: int, a_to_b: bool) -> None:
    swap = pool.sell(amount_in, a_to_b)
    assert swap.fee_on_input == (pool.mode is CollectFeeMode.ONLY_TOKEN_B and not a_to_b)
    charged = amount_in if swap.fee_on_input else swap.amount_out + swap.fee
    assert swap.fee == ceil(Fraction(charged * pool.fee_numerator, 10**9))
    assert 0 <= swap.fee <= charged


@given(damm_pools(), DAMM_AMOUNTS, DAMM_AMOUNTS, A_TO_B)
def test_damm_v2_more_in_never_gives_less_out(pool: DammPool, amount: int, more: int, a_to_b: bool) -> None:
    assume(amount + more <= U64_MAX)
    assert pool.sell(amount, a_to_b).amount_out <= pool.sell(amount + more, a_to_b).amount_out


@given(damm_pools(), DAMM_AMOUNTS, A_TO_B)
def test_damm_v2_there_and_back_never_gains(pool: DammPool, amount_in: int, a_to_b: bool) -> None:
    swap = pool.sell(amount_in, a_to_b)
    assume(swap.amount_out > 0)
    assert pool.after(swap).sell(swap.amount_out, not a_to_b).amount_out <= amount_in


@given(damm_pools(), DAMM_AMOUNTS, DAMM_AMOUNTS, A_TO_B)
def test_damm_v2_two_swaps_never_give_more_than_one_of_their_sum(
    pool: DammPool, first: int, second: int, a_to_b: bool
) -> None:
    assume(first + second <= U64_MAX)
    whole = pool.sell(first + second, a_to_b)
    first_swap = pool.sell(first, a_to_b)
    second_swap = pool.after(first_swap).sell(second, a_to_b)
    assert first_swap.amount_out + second_swap.amount_out <= whole.amount_out


@given(damm_pools(), DAMM_AMOUNTS, A_TO_B)
def test_damm_v2_price_impact_is_the_shortfall_from_spot(pool: DammPool, amount_in: int, a_to_b: bool) -> None:
    swap = pool.sell(amount_in, a_to_b)
    impact_bps = damm_v2.price_impact_bps(amount_in, swap, pool.sqrt_price, a_to_b)
    assert 0 <= impact_bps <= 10_000
    if swap.amount_out:
        b_per_a = Fraction(pool.sqrt_price**2, 2**128)
        spot = b_per_a if a_to_b else 1 / b_per_a
        net_in = amount_in - swap.fee if swap.fee_on_input else amount_in
        gross_out = swap.amount_out if swap.fee_on_input else swap.amount_out + swap.fee
        assert impact_bps == ceil((1 - Fraction(gross_out, net_in) / spot) * 10_000)


@given(of_every_size(128), st.integers(MIN_SQRT_PRICE, MAX_SQRT_PRICE), DAMM_AMOUNTS, A_TO_B)
@example(1, MIN_SQRT_PRICE, 1, True)
@example(1, MAX_SQRT_PRICE, 1, False)
@example(2**128 - 1, MIN_SQRT_PRICE, U64_MAX, False)
def test_damm_v2_refuses_or_stays_within_range_and_u64_on_any_pool(
    liquidity: int, sqrt_price: int, amount_in: int, a_to_b: bool
) -> None:
    try:
        swap = damm_v2.swap_exact_in(amount_in, liquidity, sqrt_price, a_to_b, 2_500_000, CollectFeeMode.BOTH_TOKEN)
    except ValueError:
        return
    assert MIN_SQRT_PRICE <= swap.next_sqrt_price <= MAX_SQRT_PRICE
    assert 0 <= swap.amount_out <= U64_MAX


ONE = 2**64  # Q64.64
MILLION_DEEP = 10**6 * ONE


def swap_at(sqrt_price: int, amount_in: int, a_to_b: bool, liquidity: int = MILLION_DEEP) -> SwapResult:
    return damm_v2.swap_exact_in(amount_in, liquidity, sqrt_price, a_to_b, 0, CollectFeeMode.BOTH_TOKEN)


def test_damm_v2_the_lowest_price_may_be_reached_and_not_passed() -> None:
    # so deep that the price, rounded up, ends where it was
    assert swap_at(MIN_SQRT_PRICE, 1, True, 2**128 - 1).next_sqrt_price == MIN_SQRT_PRICE
    with pytest.raises(PriceRangeViolation, match="sell less"):
        swap_at(MIN_SQRT_PRICE, U64_MAX, True)
    with pytest.raises(PriceRangeViolation, match="sell less"):
        swap_at(MIN_SQRT_PRICE, 1, True, 2**64)


def test_damm_v2_the_highest_price_may_be_reached_and_not_passed() -> None:
    last_step = (2**64 << 128) // MILLION_DEEP  # what the largest input may add
    exact = (10**6 << 128) // MILLION_DEEP
    assert exact == ONE
    assert last_step > ONE
    assert swap_at(MAX_SQRT_PRICE - ONE, 10**6, False).next_sqrt_price == MAX_SQRT_PRICE
    with pytest.raises(PriceRangeViolation, match="sell less"):
        swap_at(MAX_SQRT_PRICE - ONE + 1, 10**6, False)


def test_damm_v2_an_input_eaten_by_the_fee_gives_nothing_and_moves_nothing() -> None:
    swap = damm_v2.swap_exact_in(1, MILLION_DEEP, ONE, False, 2_500_000, CollectFeeMode.ONLY_TOKEN_B)
    assert swap == SwapResult(amount_out=0, fee=1, fee_on_input=True, next_sqrt_price=ONE)
    assert damm_v2.price_impact_bps(1, swap, ONE, False) == 10_000


def test_damm_v2_reserves_at_price_one_are_the_liquidity_of_each() -> None:
    # less what stands beyond the ends of the price range
    assert damm_v2.reserves(10**12 * ONE, ONE) == (999_999_999_767, 999_999_999_767)


@pytest.mark.parametrize(
    ("amount_in", "liquidity", "sqrt_price", "fee_numerator", "complaint"),
    [
        (0, MILLION_DEEP, ONE, 0, "amount_in"),
        (-1, MILLION_DEEP, ONE, 0, "amount_in"),
        (U64_MAX + 1, MILLION_DEEP, ONE, 0, "amount_in"),
        (1, 0, ONE, 0, "liquidity"),
        (1, 2**128, ONE, 0, "liquidity"),
        (1, MILLION_DEEP, MIN_SQRT_PRICE - 1, 0, "sqrt_price"),
        (1, MILLION_DEEP, MAX_SQRT_PRICE + 1, 0, "sqrt_price"),
        (1, MILLION_DEEP, ONE, -1, "fee_numerator"),
        (1, MILLION_DEEP, ONE, 990_000_001, "fee_numerator"),
        (U64_MAX, 2**128 - 1, MIN_SQRT_PRICE * 2, 0, "does not fit u64"),
    ],
)
def test_damm_v2_refuses_a_swap_that_no_pool_can_have(
    amount_in: int, liquidity: int, sqrt_price: int, fee_numerator: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        damm_v2.swap_exact_in(amount_in, liquidity, sqrt_price, False, fee_numerator, CollectFeeMode.BOTH_TOKEN)
