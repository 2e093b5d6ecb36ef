"""What a client knows of the simulated world well enough to quote and to sign as its venues would, without asking.

The world tells it the prices of the pairs that are traded here, whether its venues answer at once, and the paper
wallet's key. What is older than `PRICES_LIFE_S`, or unknown, has to be asked for. Prices that moved meanwhile meet the
slippage limit on the chain, as they do in life.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from bestex.domain.events import SignedTransaction
from bestex.domain.route import SwapRequest
from bestex.domain.tokens import Pair, Token, pair_of
from bestex.ports import Clock, Wallet
from bestex.venues.simnet import wire
from bestex.venues.simnet.connection import Connection
from bestex.venues.simnet.prices import curve_of
from bestex.venues.simnet.remote_market import RemoteMarketData
from bestex.venues.simulated.chain import NETWORK_FEE
from bestex.venues.simulated.curves import CpmmCurve, DammCurve
from bestex.venues.simulated.market import SOL_MINT
from bestex.venues.simulated.slots import last_valid_height
from bestex.venues.simulated.transaction import Message, blockhash_of, sign

PRICES_LIFE_S: Final = 0.5
"""Five ticks: busy processes are late, and prices hardly move in so long."""
UNUSED_S: Final = 10.0
"""A pair that nobody has traded for so long is followed no more."""
PAIRS_MAX: Final = 256
"""Pairs that are followed for trading; those beyond are asked for each time."""
BLOCKHASHES_MAX: Final = 64


class Prices(NamedTuple):
    """A pair's pools, seen by who sells one of its tokens."""

    curves: Mapping[str, CpmmCurve | DammCurve]  # by venue
    sells_base: bool
    network_fee_out: int  # what landing costs, base units of the token that is bought
    slot: int  # the chain's, when they were read
    heard_at: float  # monotonic seconds


class _Traded:
    """A pair that is traded here."""

    __slots__ = ("buys", "heard_at", "pair", "sells", "used_at")

    def __init__(self, pair: Pair, now: float) -> None:
        self.pair = pair
        self.used_at = now  # monotonic seconds, as is the next
        self.heard_at = 0.0
        self.sells: Prices | None = None  # of who sells the base token
        self.buys: Prices | None = None


class Mirror:
    """The world as far as one client trades in it."""

    def __init__(self, connection: Connection, market: RemoteMarketData, wallet: Wallet, clock: Clock) -> None:
        self._connection = connection
        self._market = market
        self._wallet = wallet
        self._clock = clock
        self._at_once = False
        self._key = b""
        self._slot_us = 1  # as are the others, not used before it is told
        self._traded: dict[tuple[str, str], _Traded] = {}  # by the mints of base and quote token
        self._by_swap: dict[tuple[str, str], _Traded] = {}  # by the mints of what is sold and bought
        self._blockhashes: dict[int, str] = {}  # by slot
        connection.on_connect.append(self._follow)
        connection.on_disconnect.append(self._forget)

    def prices(self, token_in: Token, token_out: Token) -> Prices | None:
        """A pair's prices, if swaps in it are quoted and signed at once; None: ask."""
        traded = self._by_swap.get((token_in.mint, token_out.mint))
        if traded is None:
            self._begin(token_in, token_out)
            return None
        now = traded.used_at = self._clock.monotonic()
        if not self._at_once or now - traded.heard_at > PRICES_LIFE_S:
            return None
        return traded.sells if token_in.mint == traded.pair.base.mint else traded.buys

    def sign(self, request: SwapRequest, venue: str, pool: str, prices: Prices) -> SignedTransaction | None:
        """A swap with the newest blockhash that is known, if the wallet can pay; None: ask."""
        token_in = request.token_in
        lamports = self._wallet.held(SOL_MINT)
        held = self._wallet.held(token_in.mint)
        if held is None or lamports is None:
            return None
        lamports -= request.amount_in if token_in.mint == SOL_MINT else 0
        if lamports < NETWORK_FEE or held < request.amount_in:
            return None
        slot = self._slot_now(prices)
        blockhash = self._blockhash(slot)
        message = Message(
            order_id=request.order_id,
            attempt=request.attempt,
            venue=venue,
            pool=pool,
            mint_in=token_in.mint,
            mint_out=request.token_out.mint,
            amount_in=request.amount_in,
            min_amount_out=request.min_amount_out,
            blockhash=blockhash,
            blockhash_slot=slot,
        )
        signature, raw = sign(message, self._key)
        return SignedTransaction(signature, raw, blockhash, slot, last_valid_height(slot))

    def _slot_now(self, prices: Prices) -> int:
        """A slot that the chain has certainly come to: two clocks do not run alike, so one less than went by."""
        passed = int((self._clock.monotonic() - prices.heard_at) * 1e6) // self._slot_us
        return prices.slot + max(0, passed - 1)

    # --- What comes

    def told(self, news: wire.Trading) -> None:
        self._at_once, self._key, self._slot_us = news.at_once, news.key, news.slot_us

    def ticked(self, news: wire.Ticked) -> None:
        tick = news.tick
        traded = self._traded.get((tick.base, tick.quote))
        if traded is None:
            return
        now = self._clock.monotonic()
        if now - traded.used_at > UNUSED_S:
            self._end(traded)
            return
        traded.heard_at = now
        if news.fees is None:
            traded.sells = traded.buys = None
            return
        curves = {each.venue: curve_of(each) for each in tick.curves}
        in_base, in_quote = news.fees
        traded.sells = Prices(curves, True, in_quote, tick.slot, now)
        traded.buys = Prices(curves, False, in_base, tick.slot, now)

    # --- Whose prices

    def _begin(self, token_in: Token, token_out: Token) -> None:
        now = self._clock.monotonic()
        if len(self._traded) >= PAIRS_MAX:
            for unused in [each for each in self._traded.values() if now - each.used_at > UNUSED_S]:
                self._end(unused)
            if len(self._traded) >= PAIRS_MAX:
                return
        if not self._traded:
            self._connection.say(wire.FollowTrading())
        pair = pair_of(token_in, token_out)
        mints = pair.base.mint, pair.quote.mint
        traded = self._traded.setdefault(mints, _Traded(pair, now))
        self._by_swap[mints] = traded
        if pair_of(token_out, token_in) == pair:
            self._by_swap[mints[::-1]] = traded
        self._lend()

    def _end(self, traded: _Traded) -> None:
        mints = traded.pair.base.mint, traded.pair.quote.mint
        del self._traded[mints]
        self._by_swap = {swap: each for swap, each in self._by_swap.items() if each is not traded}
        self._lend()

    def _lend(self) -> None:
        self._market.lend([traded.pair for traded in self._traded.values()])

    def _follow(self) -> None:
        if self._traded:
            self._connection.say(wire.FollowTrading())

    def _forget(self) -> None:
        """Without a connection nothing is current."""
        self._at_once = False

    def _blockhash(self, slot: int) -> str:
        known = self._blockhashes.get(slot)
        if known is None:
            if len(self._blockhashes) >= BLOCKHASHES_MAX:
                del self._blockhashes[next(iter(self._blockhashes))]
            known = self._blockhashes[slot] = blockhash_of(slot, self._key)
        return known
