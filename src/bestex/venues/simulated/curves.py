"""Snapshots of pools: what any swap would pay, by the same integer math as the swaps themselves."""

from typing import Final, NamedTuple

import msgspec

from bestex.venues.meteora import damm_v2
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from bestex.venues.raydium import cpmm

MAX_IMPACT_BPS: Final = 9_000
"""A swap that would empty the pool is no offer."""


class Offer(NamedTuple):
    """What a swap against a pool would do."""

    amount_out: int  # base units
    fee: int  # the pool's, base units of the input token when fee_on_input, else of the output token
    fee_on_input: bool
    impact_bps: int


class CpmmCurve(msgspec.Struct, frozen=True, gc=False):
    """`Curve` of a CPMM pool."""

    venue: str
    pool: str
    reserve_base: int  # base units
    reserve_quote: int  # base units
    fee_ppm: int

    def amount_out(self, amount_in: int, sells_base: bool) -> int:
        offer = self.offer(amount_in, sells_base)
        return 0 if offer is None else offer.amount_out

    def offer(self, amount_in: int, sells_base: bool) -> Offer | None:
        """None when it cannot be filled; its `amount_out` may be 0."""
        if sells_base:
            reserve_in, reserve_out = self.reserve_base, self.reserve_quote
        else:
            reserve_in, reserve_out = self.reserve_quote, self.reserve_base
        try:
            amount_out, fee = cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, self.fee_ppm)
        except ValueError:
            return None
        impact_bps = cpmm.price_impact_bps(amount_in, amount_out, fee, reserve_in, reserve_out)
        return None if impact_bps > MAX_IMPACT_BPS else Offer(amount_out, fee, True, impact_bps)

    def after(self, amount_in: int, sells_base: bool) -> "CpmmCurve":
        amount_out = self.amount_out(amount_in, sells_base)
        if amount_out == 0:
            return self
        base, quote = (amount_in, -amount_out) if sells_base else (-amount_out, amount_in)
        return CpmmCurve(self.venue, self.pool, self.reserve_base + base, self.reserve_quote + quote, self.fee_ppm)


class DammCurve(msgspec.Struct, frozen=True, gc=False):
    """`Curve` of a DAMM v2 pool."""

    venue: str
    pool: str
    liquidity: int  # Q64.64
    sqrt_price: int  # Q64.64
    fee_billionths: int
    fee_mode: CollectFeeMode
    base_is_a: bool  # whether the pair's base token is the pool's A

    def amount_out(self, amount_in: int, sells_base: bool) -> int:
        offer = self.offer(amount_in, sells_base)
        return 0 if offer is None else offer.amount_out

    def offer(self, amount_in: int, sells_base: bool) -> Offer | None:
        """None when it cannot be filled; its `amount_out` may be 0."""
        found = self._swap(amount_in, sells_base is self.base_is_a)
        if found is None:
            return None
        swap, impact_bps = found
        return Offer(swap.amount_out, swap.fee, swap.fee_on_input, impact_bps)

    def after(self, amount_in: int, sells_base: bool) -> "DammCurve":
        found = self._swap(amount_in, sells_base is self.base_is_a)
        if found is None or found[0].amount_out == 0:
            return self
        return msgspec.structs.replace(self, sqrt_price=found[0].next_sqrt_price)

    def _swap(self, amount_in: int, a_to_b: bool) -> tuple[damm_v2.SwapResult, int] | None:
        """The swap and its impact in bps; None for one that cannot be filled."""
        try:
            swap = damm_v2.swap_exact_in(
                amount_in, self.liquidity, self.sqrt_price, a_to_b, self.fee_billionths, self.fee_mode
            )
        except ValueError:
            return None
        impact_bps = damm_v2.price_impact_bps(amount_in, swap, self.sqrt_price, a_to_b)
        return None if impact_bps > MAX_IMPACT_BPS else (swap, impact_bps)
