"""Quotes for routing tests: selling SOL for USDC."""

from bestex.domain.route import Quote, QuoteRequest
from bestex.domain.tokens import load_tokens

TOKENS = load_tokens()
SOL, USDC = TOKENS.get("SOL"), TOKENS.get("USDC")
REQUEST = QuoteRequest(SOL, USDC, 1_500_000_000)
LIFETIME_US = 5_000_000


def a_quote(
    venue: str = "raydium",
    amount_out: int = 151_000_000,
    *,
    network_fee_out: int = 700,
    price_impact_bps: int = 3,
    quoted_us: int = 0,
    stale_us: int | None = None,
) -> Quote:
    return Quote(
        venue=venue,
        pool=f"the pool of {venue}",
        amount_in=REQUEST.amount_in,
        amount_out=amount_out,
        fee=3_750_000,
        fee_token=SOL,
        price_impact_bps=price_impact_bps,
        network_fee=5_000,
        network_fee_out=network_fee_out,
        quoted_us=quoted_us,
        stale_us=quoted_us + LIFETIME_US if stale_us is None else stale_us,
    )
