"""Quotes, and what a swap did. Amounts are integers of base units."""

import msgspec

from bestex.domain.tokens import Token


class QuoteRequest(msgspec.Struct, frozen=True, gc=False):
    token_in: Token
    token_out: Token
    amount_in: int  # base units of token_in


class Quote(msgspec.Struct, frozen=True, gc=False):
    """One venue's offer for a request."""

    venue: str  # "raydium", "meteora"
    pool: str  # the pool's address, base58
    amount_in: int  # base units of the input token
    amount_out: int  # base units of the output token, after the venue's fee
    fee: int  # the venue's fee, base units of fee_token
    fee_token: Token
    price_impact_bps: int  # how much worse than the pool's spot price, fee excluded; rounded up
    network_fee: int  # expected cost of landing the transaction, lamports
    network_fee_out: int  # the same in base units of the output token, rounded up; 0 where there is no price
    quoted_us: int  # Unix time when the venue answered, microseconds
    stale_us: int  # Unix time from which it may not be used

    @property
    def net_amount_out(self) -> int:
        """The output after all that landing costs: what routes are compared by."""
        return self.amount_out - self.network_fee_out


class SwapRequest(msgspec.Struct, frozen=True, gc=False):
    """What a venue makes a transaction of."""

    order_id: str
    attempt: int  # goes into the memo with the order's id: no two attempts have the same bytes
    token_in: Token
    token_out: Token
    amount_in: int  # base units, exact
    min_amount_out: int  # base units; the chain enforces it
    quote: Quote
    expires_us: int | None = None  # Unix microseconds: the transaction must not be able to land after it


class Fill(msgspec.Struct, frozen=True, gc=False):
    """What an executed swap did, read from the transaction."""

    amount_in: int  # base units
    amount_out: int  # base units
    fee_paid: int  # network fee, lamports
