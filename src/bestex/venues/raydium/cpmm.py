"""Raydium CPMM swap math, exact to the base unit.

Amounts and reserves are integers of base units, each within u64 as on chain. Every division names its
rounding, and every rounding favours the pool. The trade fee is taken from the input.

Reserves are what the program trades against: the vault's balance less the protocol, fund and creator fees
waiting in it.

Source: raydium-io/raydium-cp-swap, `curve/constant_product.rs` and `curve/fees.rs`.
`tests/vectors/raydium_cpmm.json` holds swaps executed by the program itself.
"""

FEE_RATE_DENOMINATOR = 1_000_000
U64_MAX = 2**64 - 1
BPS = 10_000


def swap_exact_in(amount_in: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int) -> tuple[int, int]:
    """What selling exactly `amount_in` gives: `(amount_out, fee)`; `fee` is part of `amount_in`.

    `amount_out` is 0 when the input is too small to buy one base unit; the program refuses such a swap.

    Raises ValueError for an amount, reserve or fee rate that no pool can have.
    """
    _check_pool(reserve_in, reserve_out, fee_rate_ppm)
    if not 0 < amount_in <= U64_MAX - reserve_in:
        raise ValueError(
            f"amount_in must be at least 1 and fit the pool's u64 balance beside the reserve: "
            f"amount_in={amount_in}, reserve_in={reserve_in}"
        )
    fee = _ceil_div(amount_in * fee_rate_ppm, FEE_RATE_DENOMINATOR)
    net_in = amount_in - fee
    amount_out = net_in * reserve_out // (reserve_in + net_in)  # floor: the pool keeps the fraction
    return amount_out, fee


def swap_exact_out(amount_out: int, reserve_in: int, reserve_out: int, fee_rate_ppm: int) -> tuple[int, int]:
    """What buying exactly `amount_out` costs: `(amount_in, fee)`; `fee` is part of `amount_in`.

    It is the smallest input from which `swap_exact_in` gives at least `amount_out`.

    Raises ValueError for an amount, reserve or fee rate that no pool can have, for `amount_out` not below the
    reserve, and when the cost does not fit u64.
    """
    _check_pool(reserve_in, reserve_out, fee_rate_ppm)
    if not 0 < amount_out < reserve_out:
        raise ValueError(
            f"amount_out must be at least 1 and below the reserve: amount_out={amount_out}, reserve_out={reserve_out}"
        )
    net_in = _ceil_div(reserve_in * amount_out, reserve_out - amount_out)
    amount_in = _ceil_div(net_in * FEE_RATE_DENOMINATOR, FEE_RATE_DENOMINATOR - fee_rate_ppm)
    if amount_in > U64_MAX - reserve_in:
        raise ValueError(
            f"amount_out costs more than the pool's u64 balance can hold: "
            f"amount_out={amount_out}, reserve_out={reserve_out}, amount_in={amount_in}"
        )
    return amount_in, amount_in - net_in


def price_impact_bps(amount_in: int, amount_out: int, fee: int, reserve_in: int, reserve_out: int) -> int:
    """How much worse than the spot price a swap executes, its fee left out: bps in 0..10,000, rounded up.

    `amount_in`, `amount_out` and `fee` are the swap's, the reserves those before it. Rounding of `amount_out`
    counts, so a swap that gives nothing has an impact of 10,000.
    """
    if amount_out == 0:
        return BPS
    spot_value = (amount_in - fee) * reserve_out  # the output at the spot price, times reserve_in
    return _ceil_div((spot_value - amount_out * reserve_in) * BPS, spot_value)


def _check_pool(reserve_in: int, reserve_out: int, fee_rate_ppm: int) -> None:
    if not (0 < reserve_in <= U64_MAX and 0 < reserve_out <= U64_MAX):
        raise ValueError(
            f"reserves must be within 1..{U64_MAX} base units: reserve_in={reserve_in}, reserve_out={reserve_out}"
        )
    if not 0 <= fee_rate_ppm < FEE_RATE_DENOMINATOR:
        raise ValueError(f"fee_rate_ppm must be within 0..{FEE_RATE_DENOMINATOR - 1}: {fee_rate_ppm}")


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
