"""The simulated market: a pool at each venue for every pair with a reference price, kept near fair by arbitrage.

Fair prices wander (`walk`), and each venue's own target stays half a spread above or below them. Arbitrage is applied
lazily, when a pool is touched: the pool's price decays towards its target, by half every `ARBITRAGE_HALF_LIFE_S`.

Launched tokens have one pool, against SOL, and nobody keeps it near anything: swaps move it for good, and nature moves
it along its own path (`listing`).
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Final, NamedTuple

import msgspec

from bestex.domain.tokens import Pair, Token, TokenRegistry, pair_of
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from bestex.venues.simulated import base58
from bestex.venues.simulated.listing import PULL_LOG_DEPTH, Listing, log_ratio
from bestex.venues.simulated.pools import MeteoraPool, Pool, RaydiumPool
from bestex.venues.simulated.walk import Walk, venue_spread

VENUES: Final = ("raydium", "meteora")
ARBITRAGE_HALF_LIFE_S: Final = 2.0
ARBITRAGE_STEP_US: Final = 100_000  # a pool is settled at most this often: prices hardly move in less
SOL_MINT: Final = "So11111111111111111111111111111111111111112"

MOVES_MAX: Final = 100.0
"""How many times dearer or cheaper all moves of a token may make it: its pools' integers have room for so much."""

_WALLET_VALUE_USD: Final = 150_000_000
_DEPTH_USD_MAJOR: Final = 200_000_000  # either side of a pool between two majors
_DEPTH_USD: Final = 50_000_000
_PRICE_SCALE: Final = 10**18  # fixed point of prices where they meet amounts


class Reference(msgspec.Struct, frozen=True):
    """What the market knows of a token."""

    usd: float  # the price the walk starts around
    volatility: float  # standard deviation of the log price over a day
    major: bool = False


REFERENCES: Final = {
    SOL_MINT: Reference(150.0, 0.04, major=True),
    "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v": Reference(1.0, 0.0, major=True),  # USDC
    "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB": Reference(1.0, 0.0005, major=True),  # USDT
    "4k3Dyjzvzp8eMZWUXbBCjEvwSkkk59S5iCNLY3QrkX6R": Reference(2.5, 0.05),  # RAY
    "JUPyiwrYJFskUPiHa7hkeR8VUtAeFoSYbKedZNsDvCN": Reference(0.6, 0.05),  # JUP
    "DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263": Reference(0.00002, 0.06),  # BONK
    "EKpQGSJtjMFqKZ9KQanSqYXRcF8fBopzLHYxdM65zcjm": Reference(0.9, 0.06),  # WIF
    "METvsvVRapdj9cFLzq4Tr43xK4tAjQfwX76z3n6mWQL": Reference(0.5, 0.05),  # MET
}
"""By mint. A token that is not here has no pools."""


class Side(NamedTuple):
    """A pool seen from one of its tokens: the pool, and whether that token is its A."""

    pool: Pool
    a_to_b: bool


class Launched:
    """A launched token's pool, with what nature does to it."""

    __slots__ = ("is_thinned", "listing", "pool", "walk")

    def __init__(self, listing: Listing, pool: Pool, walk: Walk) -> None:
        self.listing = listing
        self.pool = pool
        self.walk = walk
        self.is_thinned = False  # whether its liquidity was pulled already

    def refill(self) -> None:
        """As it was when it was listed."""
        self.pool.fill(self.listing.reserve_token, self.listing.reserve_quote)
        self.pool.settled_us = self.listing.listed_us
        self.is_thinned = False


class Market:
    """All pools. Times are Unix microseconds."""

    def __init__(self, seed: int, tokens: TokenRegistry) -> None:
        self._seed = seed
        self.tokens = tuple(token for token in tokens if token.mint in REFERENCES)
        self.sol = next((token for token in self.tokens if token.mint == SOL_MINT), None)
        self._walks = {token.mint: Walk(seed, token.mint, REFERENCES[token.mint].volatility) for token in self.tokens}
        self._sides: dict[tuple[str, str, str], Side] = {}
        self.pools: dict[str, Pool] = {}  # by address
        self._pair_names: dict[str, str] = {}  # by address
        self._logs: dict[str, tuple[int, float]] = {}  # by mint: the step it is for, and the fair log price
        self._fees: dict[str, tuple[int, int, int]] = {}  # by mint: step, lamports, their value in the token
        self._launched: dict[str, Launched] = {}  # by address
        self._shifts: dict[str, float] = {}  # by mint: by how much the log price was moved in all
        self._listeners: list[Callable[[Pool], None]] = []
        self._open_pools()

    def _open_pools(self) -> None:
        for number, (first, second) in enumerate(combinations(self.tokens, 2)):
            pair = pair_of(first, second)
            log_depth = self._log_depth(pair.base, pair.quote)
            fee_mode = CollectFeeMode.ONLY_TOKEN_B if number % 2 else CollectFeeMode.BOTH_TOKEN
            for pool in (
                RaydiumPool(_address("raydium", pair.name), pair.base, pair.quote, log_depth),
                MeteoraPool(_address("meteora", pair.name), pair.base, pair.quote, log_depth, fee_mode),
            ):
                self.pools[pool.address] = pool
                self._pair_names[pool.address] = pair.name
                self._sides[pool.venue, pair.base.mint, pair.quote.mint] = Side(pool, True)
                self._sides[pool.venue, pair.quote.mint, pair.base.mint] = Side(pool, False)

    def _log_depth(self, token_a: Token, token_b: Token) -> float:
        """Logarithm of the geometric mean of the base units on the two sides."""
        references = REFERENCES[token_a.mint], REFERENCES[token_b.mint]
        depth = _DEPTH_USD_MAJOR if all(reference.major for reference in references) else _DEPTH_USD
        return math.log(depth) - (self._log_base(token_a) + self._log_base(token_b)) / 2

    @staticmethod
    def _log_base(token: Token) -> float:
        """Logarithm of the starting USD price of one base unit."""
        return math.log(REFERENCES[token.mint].usd) - token.decimals * math.log(10)

    def side(self, venue: str, mint_in: str, mint_out: str) -> Side | None:
        """The venue's pool for selling `mint_in` for `mint_out`, not yet settled; None when it has none."""
        return self._sides.get((venue, mint_in, mint_out))

    def on_move(self, listener: Callable[[Pool], None]) -> None:
        """Have `listener` called with each pool that something else than time has moved."""
        self._listeners.append(listener)

    def moved(self, pool: Pool) -> None:
        """Tell who listens that something else than time has moved the pool."""
        for listener in self._listeners:
            listener(pool)

    def settle(self, pool: Pool, now_us: int) -> None:
        """Let arbitrage catch up with the pool."""
        elapsed_us = now_us - pool.settled_us
        if elapsed_us < ARBITRAGE_STEP_US:
            return
        if (launched := self._launched.get(pool.address)) is not None:
            self._let_wander(launched, now_us)
            return
        decay = 0.5 ** (elapsed_us / (ARBITRAGE_HALF_LIFE_S * 1e6))
        target = self._target(pool, now_us)
        pool.move_to(target + (pool.log_price() - target) * decay)
        pool.settled_us = now_us

    @staticmethod
    def _let_wander(launched: Launched, now_us: int) -> None:
        pool, listing, walk = launched.pool, launched.listing, launched.walk
        way = listing.log_path(walk, now_us) - listing.log_path(walk, pool.settled_us)
        pool.settled_us = now_us
        if not launched.is_thinned and listing.is_pulled(now_us):
            launched.is_thinned = True
            pool.thin(PULL_LOG_DEPTH)
        elif not way:
            return  # to the unit: a price that stays must not lose any to rounding
        pool.move_to(pool.log_price() + way)

    def add(self, listing: Listing, token: Token) -> Pool:
        """Open the pool of a launched token, against SOL."""
        if (sol := self.sol) is None:
            raise ValueError("launched tokens are sold for SOL, which the token registry lacks")
        log_depth = math.log(listing.reserve_token * listing.reserve_quote) / 2
        pool: Pool
        if listing.venue == "raydium":
            pool = RaydiumPool(listing.pool, token, sol, log_depth)
        else:
            pool = MeteoraPool(listing.pool, token, sol, log_depth, CollectFeeMode.ONLY_TOKEN_B)
        launched = Launched(listing, pool, Walk(self._seed, token.mint, listing.volatility))
        launched.refill()
        self._launched[pool.address] = launched
        self.pools[pool.address] = pool
        self._sides[pool.venue, token.mint, SOL_MINT] = Side(pool, True)
        self._sides[pool.venue, SOL_MINT, token.mint] = Side(pool, False)
        return pool

    def remove(self, address: str) -> None:
        """Close a launched token's pool: nothing swaps against it any more."""
        pool = self._launched.pop(address).pool
        del self.pools[address]
        for key in ((pool.venue, pool.token_a.mint, SOL_MINT), (pool.venue, SOL_MINT, pool.token_a.mint)):
            del self._sides[key]

    def move_price(self, pair: Pair, percent: float, now_us: int) -> list[Pool]:
        """Have the pair's base token be worth so much more against all from now on, in this pair's pools at once.

        The pools that moved; the token's others follow by arbitrage. `ValueError` for a pair without pools or a move
        that goes too far.
        """
        sides = [side for venue in VENUES if (side := self.side(venue, pair.base.mint, pair.quote.mint)) is not None]
        if not sides:
            raise ValueError(f"no venue has a pool for {pair.name}")
        way = log_ratio(percent)
        shift = self._shifts.get(pair.base.mint, 0.0) + way
        if abs(shift) > math.log(MOVES_MAX) + 1e-9:  # twice half as far is as far
            raise ValueError(
                f"all moves together may make {pair.base.symbol} at most {MOVES_MAX:g} times dearer or cheaper, "
                f"not {math.exp(abs(shift)):.4g} times; a reset takes them back"
            )
        for pool, base_is_a in sides:
            self.settle(pool, now_us)
            pool.move_to(pool.log_price() + (way if base_is_a else -way))
        self.shift(pair.base.mint, shift)
        for pool, _ in sides:
            self.moved(pool)
        return [side.pool for side in sides]

    def shift(self, mint: str, log_price: float) -> None:
        """Have all moves of a token's price come to this."""
        self._shifts[mint] = log_price
        self._fees.pop(mint, None)

    @property
    def shifts(self) -> Mapping[str, float]:
        """By mint: by how much the logarithm of its price was moved."""
        return self._shifts

    def jump(self, pool: Pool, a_to_b: bool, bps: float) -> None:
        """Move the pool's price by `bps` against whoever sells its A (`a_to_b`) or its B."""
        pool.move_to(pool.log_price() + (-bps if a_to_b else bps) / 10_000)
        self.moved(pool)

    def _target(self, pool: Pool, now_us: int) -> float:
        step = now_us // ARBITRAGE_STEP_US
        fair = self._log_fair(pool.token_a, step) - self._log_fair(pool.token_b, step)
        spread = venue_spread(self._seed, self._pair_names[pool.address], step * ARBITRAGE_STEP_US / 1e6)
        return fair + spread / 2 if pool.venue == "raydium" else fair - spread / 2

    def _log_fair(self, token: Token, step: int) -> float:
        """Logarithm of the fair USD price of one base unit."""
        known = self._logs.get(token.mint)
        if known is not None and known[0] == step:
            log = known[1]
        else:
            log = self._log_base(token) + self._walks[token.mint].log_at(step * ARBITRAGE_STEP_US / 1e6)
            self._logs[token.mint] = step, log
        return log + self._shifts.get(token.mint, 0.0)

    def lamports_in(self, token: Token, lamports: int, now_us: int) -> int:
        """What `lamports` are worth in base units of `token` at fair prices, rounded up; 0 without a price.

        A launched token's fair price is its pool's.
        """
        if token.mint == SOL_MINT:
            return lamports
        step = now_us // ARBITRAGE_STEP_US
        known = self._fees.get(token.mint)
        if known is not None and known[:2] == (step, lamports):
            return known[2]
        sol = self.sol
        if token.mint not in REFERENCES or sol is None:
            return self._lamports_in_launched(token, lamports)
        ratio = int(math.exp(self._log_fair(sol, step) - self._log_fair(token, step)) * _PRICE_SCALE)
        worth = -(-lamports * ratio // _PRICE_SCALE)
        self._fees[token.mint] = step, lamports, worth
        return worth

    def _lamports_in_launched(self, token: Token, lamports: int) -> int:
        for venue in VENUES:
            side = self.side(venue, token.mint, SOL_MINT)
            if side is not None:
                return side.pool.units_of_a(lamports)
        return 0

    def spreads(self, now_us: int) -> dict[str, float]:
        """Per pair: how much dearer raydium's spot price is than meteora's, percent."""
        logs: dict[str, dict[str, float]] = {}
        for address, pair in self._pair_names.items():
            pool = self.pools[address]
            self.settle(pool, now_us)
            logs.setdefault(pair, {})[pool.venue] = pool.log_price()
        return {
            pair: round((math.exp(by_venue["raydium"] - by_venue["meteora"]) - 1) * 100, 4)
            for pair, by_venue in logs.items()
        }

    def start_balance(self, token: Token) -> int:
        """What the paper wallet starts with: 1,000,000 SOL, and the like value of every other token."""
        whole: int = round(_WALLET_VALUE_USD / REFERENCES[token.mint].usd)
        return int(whole * 10**token.decimals)

    def reset(self) -> None:
        """Every pool as if it had never been traded, and no price moved."""
        for mint in self._shifts:
            self._shifts[mint] = 0.0
        self._fees.clear()
        for pool in self.pools.values():
            pool.settled_us = 0
        for launched in self._launched.values():
            launched.refill()


def _address(venue: str, pair: str) -> str:
    return base58.address_text(hashlib.blake2b(f"pool {venue} {pair}".encode(), digest_size=32).digest())
