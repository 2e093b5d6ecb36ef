"""Meteora DAMM v2 swap math, exact to the base unit.

A pool is its liquidity and the square root of its price, both Q64.64 integers; the price is base units of
token B per base unit of token A. Amounts are integers of base units within u64. Every division names its
rounding, and every rounding favours the pool. This is the pool with a static base fee and the full price
range.

Source: MeteoraAg/damm-v2, `curve.rs` and `state/pool.rs`. `tests/vectors/meteora_damm_v2.json` holds swaps
executed by the program itself.
"""

from enum import StrEnum
from typing import NamedTuple, assert_never

FEE_DENOMINATOR = 10**9
MAX_FEE_NUMERATOR = 990_000_000  # 99 %, the program's cap
MIN_SQRT_PRICE = 4295048016  # Q64.64
MAX_SQRT_PRICE = 79226673521066979257578248091  # Q64.64
U64_MAX = 2**64 - 1
U128_MAX = 2**128 - 1
BPS = 10_000


class CollectFeeMode(StrEnum):
    """Which token a pool takes its fee in."""

    BOTH_TOKEN = "both_token"
    ONLY_TOKEN_B = "only_token_b"


class SwapResult(NamedTuple):
    """What a swap does."""

    amount_out: int  # base units the trader receives
    fee: int  # base units, of the input token when fee_on_input, else of the output token
    fee_on_input: bool  # True: fee is part of amount_in; False: fee was taken from what the curve gave
    next_sqrt_price: int  # Q64.64, the pool's after the swap


class PriceRangeViolation(ValueError):
    """The swap would move the price out of the pool's range: it is too large for this pool."""


def swap_exact_in(
    amount_in: int,
    liquidity: int,
    sqrt_price: int,
    a_to_b: bool,
    fee_numerator: int,
    collect_fee_mode: CollectFeeMode,
) -> SwapResult:
    """What selling exactly `amount_in` of token A (`a_to_b`) or token B gives.

    `fee_numerator` is in billionths. `amount_out` is 0 when the input is too small to buy one base unit.

    Raises PriceRangeViolation when the swap is too large for the pool's price range, ValueError for an
    amount, liquidity, price or fee that no pool can have.
    """
    _check_pool(liquidity, sqrt_price)
    if not 0 < amount_in <= U64_MAX:
        raise ValueError(f"amount_in must be within 1..{U64_MAX} base units: {amount_in}")
    if not 0 <= fee_numerator <= MAX_FEE_NUMERATOR:
        raise ValueError(f"fee_numerator must be within 0..{MAX_FEE_NUMERATOR} billionths: {fee_numerator}")

    if _fee_is_on_input(collect_fee_mode, a_to_b):
        fee = _ceil_div(amount_in * fee_numerator, FEE_DENOMINATOR)
        amount_out, next_sqrt_price = _trade_on_curve(amount_in - fee, liquidity, sqrt_price, a_to_b)
        return SwapResult(amount_out, fee, True, next_sqrt_price)
    gross_out, next_sqrt_price = _trade_on_curve(amount_in, liquidity, sqrt_price, a_to_b)
    fee = _ceil_div(gross_out * fee_numerator, FEE_DENOMINATOR)
    return SwapResult(gross_out - fee, fee, False, next_sqrt_price)


def price_impact_bps(amount_in: int, swap: SwapResult, sqrt_price: int, a_to_b: bool) -> int:
    """How much worse than the spot price `swap` executes, its fee left out: bps in 0..10,000, rounded up.

    `amount_in` is the swap's, `sqrt_price` the pool's before it. Rounding of the output counts, so a swap
    that gives nothing has an impact of 10,000.
    """
    if swap.amount_out == 0:
        return BPS
    net_in = amount_in - swap.fee if swap.fee_on_input else amount_in
    gross_out = swap.amount_out if swap.fee_on_input else swap.amount_out + swap.fee
    # The output at the spot price and the real one, on one scale without a division:
    # the price is sqrt_price**2 >> 128.
    if a_to_b:
        spot_value, value = net_in * sqrt_price * sqrt_price, gross_out << 128
    else:
        spot_value, value = net_in << 128, gross_out * sqrt_price * sqrt_price
    return _ceil_div((spot_value - value) * BPS, spot_value)


def reserves(liquidity: int, sqrt_price: int) -> tuple[int, int]:
    """The base units of token A and of token B that stand behind the full price range, each rounded down.

    Fees that wait in the vaults are not part of them.

    Raises ValueError for a liquidity or price that no pool can have.
    """
    _check_pool(liquidity, sqrt_price)
    reserve_a = liquidity * (MAX_SQRT_PRICE - sqrt_price) // (sqrt_price * MAX_SQRT_PRICE)
    reserve_b = liquidity * (sqrt_price - MIN_SQRT_PRICE) >> 128
    return reserve_a, reserve_b


def _trade_on_curve(net_in: int, liquidity: int, sqrt_price: int, a_to_b: bool) -> tuple[int, int]:
    """`(gross_out, next_sqrt_price)`, no fee."""
    if a_to_b:
        # ceil: the price falls no further than the input pays for
        next_sqrt_price = _ceil_div(liquidity * sqrt_price, liquidity + net_in * sqrt_price)
        if next_sqrt_price < MIN_SQRT_PRICE:
            raise PriceRangeViolation(_out_of_range(net_in, next_sqrt_price))
        gross_out = liquidity * (sqrt_price - next_sqrt_price) >> 128  # floor
    else:
        # floor: the price rises no further than the input pays for
        next_sqrt_price = sqrt_price + (net_in << 128) // liquidity
        if next_sqrt_price > MAX_SQRT_PRICE:
            raise PriceRangeViolation(_out_of_range(net_in, next_sqrt_price))
        gross_out = liquidity * (next_sqrt_price - sqrt_price) // (sqrt_price * next_sqrt_price)  # floor
    if gross_out > U64_MAX:
        raise ValueError(f"the output does not fit u64: {gross_out} base units; the liquidity is not a real pool's")
    return gross_out, next_sqrt_price


def _fee_is_on_input(collect_fee_mode: CollectFeeMode, a_to_b: bool) -> bool:
    match collect_fee_mode:
        case CollectFeeMode.BOTH_TOKEN:
            return False
        case CollectFeeMode.ONLY_TOKEN_B:
            return not a_to_b
        case _:
            assert_never(collect_fee_mode)


def _check_pool(liquidity: int, sqrt_price: int) -> None:
    if not 0 < liquidity <= U128_MAX:
        raise ValueError(f"liquidity must be within 1..{U128_MAX} (Q64.64): {liquidity}")
    if not MIN_SQRT_PRICE <= sqrt_price <= MAX_SQRT_PRICE:
        raise ValueError(f"sqrt_price must be within {MIN_SQRT_PRICE}..{MAX_SQRT_PRICE} (Q64.64): {sqrt_price}")


def _out_of_range(net_in: int, next_sqrt_price: int) -> str:
    return (
        f"an input of {net_in} base units, its fee left out, "
        f"moves the pool's sqrt_price to {next_sqrt_price}, "
        f"outside {MIN_SQRT_PRICE}..{MAX_SQRT_PRICE} (Q64.64); sell less"
    )


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
