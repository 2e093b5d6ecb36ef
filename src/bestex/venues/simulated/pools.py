"""The two kinds of pool the market has, as integer state that swaps and arbitrage move.

A pool trades token A against token B; its price is base units of B per base unit of A. Swaps use the on-chain
programs' integer math. Arbitrage is nature: it sets the price the world's other traders lead the pool to.
"""

import math
from typing import Final, NamedTuple, Protocol

from bestex.domain.tokens import Token
from bestex.ports import Curve
from bestex.venues.meteora import damm_v2
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from bestex.venues.raydium import cpmm
from bestex.venues.simulated.curves import CpmmCurve, DammCurve

RAYDIUM_FEE_PPM: Final = 2_500
METEORA_FEE_BILLIONTHS: Final = 2_000_000
_Q64: Final = 2.0**64


class Swap(NamedTuple):
    """What a swap would do; `Pool.apply` makes it happen."""

    amount_out: int  # base units the trader receives
    fee: int  # the pool's fee, base units of the input token when fee_on_input, else of the output token
    fee_on_input: bool
    next_state: tuple[int, int]


class Pool(Protocol):
    """A pool at one venue. `state` is all of it that changes, two integers."""

    venue: str
    address: str
    token_a: Token
    token_b: Token
    state: tuple[int, int]
    settled_us: int  # when arbitrage last moved it, Unix microseconds; 0: never

    def swap(self, amount_in: int, a_to_b: bool) -> Swap:
        """What selling `amount_in` of A (`a_to_b`) or of B gives; `ValueError` when it is too large for the pool."""

    def impact_bps(self, amount_in: int, swap: Swap, a_to_b: bool) -> int:
        """How much worse than the spot price `swap` executes, its fee left out: bps, rounded up."""

    def curve(self, base_is_a: bool) -> Curve:
        """The pool as it stands, for the pair whose base token is its A (`base_is_a`) or its B."""

    def reserves(self) -> tuple[int, int]:
        """The base units of A and of B, each rounded down."""

    def reserve_b(self) -> int: ...

    def units_of_a(self, units_of_b: int) -> int:
        """What base units of B come to in A at the spot price, rounded up."""

    def log_price(self) -> float: ...

    def fill(self, reserve_a: int, reserve_b: int) -> None:
        """Begin with these base units, B's to the unit."""

    def thin(self, log_change: float) -> None:
        """Change the logarithm of the depth; the next `move_to` shows it."""

    def move_to(self, log_price: float) -> None:
        """Move along the curve to a price, at the pool's own depth."""


class RaydiumPool:
    """CPMM: `state` is (reserve_a, reserve_b)."""

    venue = "raydium"

    __slots__ = ("_log_depth", "address", "settled_us", "state", "token_a", "token_b")

    def __init__(self, address: str, token_a: Token, token_b: Token, log_depth: float) -> None:
        """`log_depth`: logarithm of the square root of reserve_a * reserve_b."""
        self.address = address
        self.token_a = token_a
        self.token_b = token_b
        self.settled_us = 0
        self._log_depth = log_depth
        self.state = (0, 0)
        self.move_to(0.0)

    def swap(self, amount_in: int, a_to_b: bool) -> Swap:
        reserve_a, reserve_b = self.state
        if a_to_b:
            amount_out, fee = cpmm.swap_exact_in(amount_in, reserve_a, reserve_b, RAYDIUM_FEE_PPM)
            return Swap(amount_out, fee, True, (reserve_a + amount_in, reserve_b - amount_out))
        amount_out, fee = cpmm.swap_exact_in(amount_in, reserve_b, reserve_a, RAYDIUM_FEE_PPM)
        return Swap(amount_out, fee, True, (reserve_a - amount_out, reserve_b + amount_in))

    def impact_bps(self, amount_in: int, swap: Swap, a_to_b: bool) -> int:
        reserve_in, reserve_out = self.state if a_to_b else self.state[::-1]
        return cpmm.price_impact_bps(amount_in, swap.amount_out, swap.fee, reserve_in, reserve_out)

    def curve(self, base_is_a: bool) -> Curve:
        reserve_base, reserve_quote = self.state if base_is_a else self.state[::-1]
        return CpmmCurve(self.venue, self.address, reserve_base, reserve_quote, RAYDIUM_FEE_PPM)

    def reserves(self) -> tuple[int, int]:
        return self.state

    def reserve_b(self) -> int:
        return self.state[1]

    def units_of_a(self, units_of_b: int) -> int:
        reserve_a, reserve_b = self.state
        return -(-units_of_b * reserve_a // reserve_b)

    def log_price(self) -> float:
        reserve_a, reserve_b = self.state
        return math.log(reserve_b / reserve_a)

    def fill(self, reserve_a: int, reserve_b: int) -> None:
        self.state = (reserve_a, reserve_b)
        self._log_depth = (math.log(reserve_a) + math.log(reserve_b)) / 2

    def thin(self, log_change: float) -> None:
        self._log_depth += log_change

    def move_to(self, log_price: float) -> None:
        half = log_price / 2
        reserve_a, reserve_b = int(math.exp(self._log_depth - half)), int(math.exp(self._log_depth + half))
        self.state = (max(1, reserve_a), max(1, reserve_b))


class MeteoraPool:
    """DAMM v2: `state` is (liquidity, sqrt_price), both Q64.64."""

    venue = "meteora"

    __slots__ = ("_fee_mode", "_liquidity", "address", "settled_us", "state", "token_a", "token_b")

    def __init__(
        self, address: str, token_a: Token, token_b: Token, log_depth: float, fee_mode: CollectFeeMode
    ) -> None:
        self.address = address
        self.token_a = token_a
        self.token_b = token_b
        self.settled_us = 0
        self._liquidity = int(math.exp(log_depth) * _Q64)
        self._fee_mode = fee_mode
        self.state = (0, 0)
        self.move_to(0.0)

    def swap(self, amount_in: int, a_to_b: bool) -> Swap:
        liquidity, sqrt_price = self.state
        result = damm_v2.swap_exact_in(amount_in, liquidity, sqrt_price, a_to_b, METEORA_FEE_BILLIONTHS, self._fee_mode)
        return Swap(result.amount_out, result.fee, result.fee_on_input, (liquidity, result.next_sqrt_price))

    def impact_bps(self, amount_in: int, swap: Swap, a_to_b: bool) -> int:
        result = damm_v2.SwapResult(swap.amount_out, swap.fee, swap.fee_on_input, swap.next_state[1])
        return damm_v2.price_impact_bps(amount_in, result, self.state[1], a_to_b)

    def curve(self, base_is_a: bool) -> Curve:
        liquidity, sqrt_price = self.state
        return DammCurve(
            self.venue, self.address, liquidity, sqrt_price, METEORA_FEE_BILLIONTHS, self._fee_mode, base_is_a
        )

    def reserves(self) -> tuple[int, int]:
        return damm_v2.reserves(*self.state)

    def reserve_b(self) -> int:
        return damm_v2.reserves(*self.state)[1]

    def units_of_a(self, units_of_b: int) -> int:
        sqrt_price = self.state[1]
        return -(-(units_of_b << 128) // (sqrt_price * sqrt_price))

    def log_price(self) -> float:
        return 2 * math.log(self.state[1] / _Q64)

    def fill(self, reserve_a: int, reserve_b: int) -> None:
        sqrt_price = math.isqrt((reserve_b << 128) // reserve_a)  # floor: the price is no higher than asked
        # ceil: B's reserve is what was asked once it is rounded down
        self._liquidity = -(-(reserve_b << 128) // (sqrt_price - damm_v2.MIN_SQRT_PRICE))
        self.state = (self._liquidity, sqrt_price)

    def thin(self, log_change: float) -> None:
        self._liquidity = int(self._liquidity * math.exp(log_change))

    def move_to(self, log_price: float) -> None:
        self.state = (self._liquidity, int(math.exp(log_price / 2) * _Q64))
