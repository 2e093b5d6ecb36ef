"""What the simulated market pays now, for those outside the engines who want to know."""

from typing import Final

from bestex.domain.price import format_price, traded_price
from bestex.domain.tokens import Token, pair_of
from bestex.ports import Clock
from bestex.venues.simulated.market import VENUES, Market

_BPS: Final = 10_000


class MarketPrices:
    """Prices of the market itself, whatever its feed shows."""

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market = market
        self._clock = clock

    def best_out(self, token_in: Token, token_out: Token, amount_in: int) -> int:
        """Base units that the best venue pays; 0 where none can fill it."""
        best = 0
        for venue in VENUES:
            side = self._market.side(venue, token_in.mint, token_out.mint)
            if side is not None:
                self._market.settle(side.pool, self._clock.now_us())
                best = max(best, side.pool.curve(side.a_to_b).amount_out(amount_in, True))
        return best

    def price(self, token_in: Token, token_out: Token, amount_in: int, better_bps: int) -> str | None:
        """A price for so much, `better_bps` better for who sells `token_in` than the market's; None: there is none."""
        pair = pair_of(token_in, token_out)
        sells_base = pair.base == token_in
        amount_out = self.best_out(token_in, token_out, amount_in)
        price = traded_price(amount_in, amount_out, pair, sells_base=sells_base)
        if not price:
            return None
        return format_price(max(1, price * (_BPS + (better_bps if sells_base else -better_bps)) // _BPS))
