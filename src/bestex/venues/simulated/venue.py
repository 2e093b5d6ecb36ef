"""The simulated venues: quotes from the market's pools, and paper transactions against them."""

import random  # noqa: TID251 - only as a type: a seeded generator is passed in
from typing import Final

from bestex.domain.errors import (
    InsufficientFundsError,
    NoRouteError,
    SlippageExceededError,
    VenueDownError,
)
from bestex.domain.events import SignedTransaction
from bestex.domain.money import format_amount
from bestex.domain.route import Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import Token
from bestex.ports import Clock
from bestex.venues.simulated.books import Books
from bestex.venues.simulated.chain import NETWORK_FEE, SimulatedChain
from bestex.venues.simulated.curves import MAX_IMPACT_BPS
from bestex.venues.simulated.faults import Faults
from bestex.venues.simulated.market import SOL_MINT, Market, Side
from bestex.venues.simulated.pools import Swap
from bestex.venues.simulated.slots import last_valid_height
from bestex.venues.simulated.transaction import Message, sign

QUOTE_LIFE_US: Final = 2_000_000


class SimulatedVenue:
    """`Venue` over the market's pools of one name. Times are in seconds; 0 means without suspending at all."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        market: Market,
        chain: SimulatedChain,
        books: Books,
        faults: Faults,
        nature: random.Random,
        key: bytes,
        quote_s: tuple[float, float],
        build_s: float,
    ) -> None:
        """`quote_s`: the shortest and the longest time a quote takes."""
        self.name = name
        self._clock = clock
        self._market = market
        self._chain = chain
        self._books = books
        self._faults = faults
        self._nature = nature
        self._key = key
        self._quote_s = quote_s
        self._build_s = build_s

    def quote_at_once(self, request: QuoteRequest) -> Quote | None:
        """A quote where quotes take no time; with faults about they may."""
        if self._faults.any or self._quote_s[1]:
            return None
        return self._quote(request)

    async def quote(self, request: QuoteRequest) -> Quote:
        if self._faults.any:
            self._check_up()
            if self._faults.strikes("quote_timeout"):
                await self._clock.sleep(self._faults.size("quote_timeout_s"))
                raise VenueDownError(f"simulated: {self.name} did not answer in time")
        if self._quote_s[1]:
            await self._clock.sleep(self._nature.uniform(*self._quote_s))
        return self._quote(request)

    def _quote(self, request: QuoteRequest) -> Quote:
        now_us = self._clock.now_us()
        side, swap = self._swap(request.token_in, request.token_out, request.amount_in, now_us)
        impact_bps = side.pool.impact_bps(request.amount_in, swap, side.a_to_b)
        if impact_bps > MAX_IMPACT_BPS:
            raise NoRouteError(self._too_large(request.token_in, request.token_out, request.amount_in))
        return Quote(
            venue=self.name,
            pool=side.pool.address,
            amount_in=request.amount_in,
            amount_out=swap.amount_out,
            fee=swap.fee,
            fee_token=request.token_in if swap.fee_on_input else request.token_out,
            price_impact_bps=impact_bps,
            network_fee=NETWORK_FEE,
            network_fee_out=self._market.lamports_in(request.token_out, NETWORK_FEE, now_us),
            quoted_us=now_us,
            stale_us=now_us + QUOTE_LIFE_US,
        )

    def build_at_once(self, request: SwapRequest) -> SignedTransaction | None:
        """A transaction where building takes no time."""
        return None if self._build_s else self._build(request)

    async def build(self, request: SwapRequest) -> SignedTransaction:
        if self._build_s:
            await self._clock.sleep(self._build_s)
        return self._build(request)

    def _build(self, request: SwapRequest) -> SignedTransaction:
        jump = jump_later = False
        if self._faults.any:
            self._check_up()
            if self._faults.strikes("price_jump"):
                jump_later = self._faults.coin()
                jump = not jump_later
        blockhash, slot = self._chain.blockhash(request.expires_us)
        pool_address = self._simulate(request, jump)
        message = Message(
            order_id=request.order_id,
            attempt=request.attempt,
            venue=self.name,
            pool=pool_address,
            mint_in=request.token_in.mint,
            mint_out=request.token_out.mint,
            amount_in=request.amount_in,
            min_amount_out=request.min_amount_out,
            blockhash=blockhash,
            blockhash_slot=slot,
        )
        signature, raw = sign(message, self._key)
        if jump_later:
            self._chain.jump_before(signature)
        return SignedTransaction(signature, raw, blockhash, slot, last_valid_height(slot))

    def _simulate(self, request: SwapRequest, jump: bool) -> str:
        """Raise what the swap would fail with now; the pool's address when it would succeed."""
        token_in, token_out = request.token_in, request.token_out
        if jump and (jumping := self._market.side(self.name, token_in.mint, token_out.mint)):
            self._market.settle(jumping.pool, self._clock.now_us())
            self._market.jump(jumping.pool, jumping.a_to_b, self._faults.size("price_jump_bps"))
        if not self._books.can_pay(token_in.mint, request.amount_in, NETWORK_FEE):
            raise InsufficientFundsError(self._funds_message(token_in, request.amount_in))
        side, swap = self._swap(token_in, token_out, request.amount_in, self._clock.now_us())
        if swap.amount_out < request.min_amount_out:
            pays = format_amount(swap.amount_out, token_out.decimals)
            least = format_amount(request.min_amount_out, token_out.decimals)
            raise SlippageExceededError(
                f"{self.name} would pay {pays} {token_out.symbol} now, less than the least accepted {least}"
            )
        return side.pool.address

    def _swap(self, token_in: Token, token_out: Token, amount_in: int, now_us: int) -> tuple[Side, Swap]:
        side = self._market.side(self.name, token_in.mint, token_out.mint)
        if side is None:
            raise NoRouteError(f"{self.name} has no pool for {token_in.symbol} and {token_out.symbol}")
        self._market.settle(side.pool, now_us)
        try:
            swap = side.pool.swap(amount_in, side.a_to_b)
        except ValueError as error:
            raise NoRouteError(self._too_large(token_in, token_out, amount_in)) from error
        if swap.amount_out <= 0:
            amount = format_amount(amount_in, token_in.decimals)
            raise NoRouteError(f"{amount} {token_in.symbol} is too little to buy any {token_out.symbol} at {self.name}")
        return side, swap

    def _too_large(self, token_in: Token, token_out: Token, amount_in: int) -> str:
        amount = format_amount(amount_in, token_in.decimals)
        return f"{amount} {token_in.symbol} is too large for {self.name}'s pool of {token_out.symbol}"

    def _check_up(self) -> None:
        if self._faults.strikes(f"{self.name}_down") or self._faults.strikes("venue_down"):
            raise VenueDownError(f"simulated: {self.name} is down")

    def _funds_message(self, token: Token, amount_in: int) -> str:
        held = self._books.balances.get(token.mint, 0)
        message = (
            f"the wallet holds {format_amount(held, token.decimals)} {token.symbol}, "
            f"the swap needs {format_amount(amount_in, token.decimals)}"
        )
        if token.mint == SOL_MINT:
            return f"{message} and {format_amount(NETWORK_FEE, 9)} SOL for the network"
        if held >= amount_in:
            sol = self._books.balances.get(SOL_MINT, 0)
            return f"the wallet holds {format_amount(sol, 9)} SOL, the network fee is {format_amount(NETWORK_FEE, 9)}"
        return message
