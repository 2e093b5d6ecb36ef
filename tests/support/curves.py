"""Pools of both kinds as `ports.Curve`s, with the on-chain programs' own arithmetic, and ticks of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bestex.domain.tokens import Pair, load_tokens
from bestex.ports import Curve, Tick
from bestex.venues.meteora import damm_v2
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from bestex.venues.raydium import cpmm

TOKENS = load_tokens()
SOL, USDC = TOKENS.get("SOL"), TOKENS.get("USDC")
SOL_USDC = Pair(SOL, USDC)
RAYDIUM_FEE_PPM = 2_500
METEORA_FEE_BILLIONTHS = 2_000_000


@dataclass
class ConstantProduct:
    """Base units of base and quote token."""

    base: int
    quote: int
    venue: str = "raydium"
    pool: str = "pool-r"

    def amount_out(self, amount_in: int, sells_base: bool) -> int:
        reserve_in, reserve_out = (self.base, self.quote) if sells_base else (self.quote, self.base)
        try:
            return cpmm.swap_exact_in(amount_in, reserve_in, reserve_out, RAYDIUM_FEE_PPM)[0]
        except ValueError:
            return 0

    def after(self, amount_in: int, sells_base: bool) -> "ConstantProduct":
        out = self.amount_out(amount_in, sells_base)
        base, quote = (amount_in, -out) if sells_base else (-out, amount_in)
        return ConstantProduct(self.base + base, self.quote + quote, self.venue, self.pool)


@dataclass
class Damm:
    """DAMM v2: liquidity and square root of the price, both Q64.64."""

    liquidity: int
    sqrt_price: int
    fee_mode: CollectFeeMode = CollectFeeMode.BOTH_TOKEN
    venue: str = "meteora"
    pool: str = "pool-m"

    def _swap(self, amount_in: int, sells_base: bool) -> damm_v2.SwapResult:
        return damm_v2.swap_exact_in(
            amount_in, self.liquidity, self.sqrt_price, sells_base, METEORA_FEE_BILLIONTHS, self.fee_mode
        )

    def amount_out(self, amount_in: int, sells_base: bool) -> int:
        try:
            return self._swap(amount_in, sells_base).amount_out
        except ValueError:
            return 0

    def after(self, amount_in: int, sells_base: bool) -> "Damm":
        root = self._swap(amount_in, sells_base).next_sqrt_price
        return Damm(self.liquidity, root, self.fee_mode, self.venue, self.pool)


def constant_product(price: float, base_units: int, pair: Pair = SOL_USDC) -> ConstantProduct:
    """A pool at a price, in token units, with so many base units of the base token."""
    rate = price * 10**pair.quote.decimals / 10**pair.base.decimals
    return ConstantProduct(base_units, max(1, int(base_units * rate)))


def damm(
    price: float, base_units: int, pair: Pair = SOL_USDC, mode: CollectFeeMode = CollectFeeMode.BOTH_TOKEN
) -> Damm:
    """The same at Meteora."""
    root = math.sqrt(price * 10**pair.quote.decimals / 10**pair.base.decimals)
    return Damm(int(base_units * root * 2.0**64), int(root * 2.0**64), mode)


def tick(curves: Sequence[Curve], at_us: int = 1_000_000, pair: Pair = SOL_USDC, slot: int = 1) -> Tick:
    return Tick(pair, slot, at_us, tuple(curves))
