"""Choose the best of the venues' answers. Pure: the same answers and time give the same choice and reasons."""

from collections.abc import Sequence

import msgspec

from bestex.domain.errors import (
    FailureCode,
    NoRouteError,
    OrderError,
    QuotesUnavailableError,
    StaleQuoteError,
    VenueDownError,
)
from bestex.domain.events import QuoteRecord
from bestex.domain.money import format_amount
from bestex.domain.route import Quote
from bestex.domain.tokens import Token


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one venue said, and how long it took: a quote, or why there is none."""

    venue: str
    latency_ms: float
    quote: Quote | None = None
    error: FailureCode | None = None
    message: str | None = None


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """The winning quote, and every answer with its reason as the receipt keeps it."""

    quote: Quote
    records: tuple[QuoteRecord, ...]


class NotChosen(msgspec.Struct, frozen=True, gc=False):
    """Why there is no quote to use, and every answer with its reason."""

    error: OrderError
    records: tuple[QuoteRecord, ...]


def choose(answers: Sequence[Answer], token_out: Token, now_us: int) -> Chosen | NotChosen:
    """The fresh quote with the highest net output; then the lower price impact, then the first asked.

    Net output is what the swap pays after the venue's fee and its price impact, less the network fee at its worth
    in `token_out`.
    """
    best: Quote | None = None
    for answer in answers:
        quote = answer.quote
        if quote is None or quote.stale_us <= now_us:
            continue
        if best is None or _score(quote) > _score(best):
            best = quote
    records = tuple(_record(answer, best, token_out, now_us) for answer in answers)
    return Chosen(best, records) if best is not None else NotChosen(_error(answers), records)


def _score(quote: Quote) -> tuple[int, int]:
    return quote.amount_out - quote.network_fee_out, -quote.price_impact_bps


def _record(answer: Answer, best: Quote | None, token_out: Token, now_us: int) -> QuoteRecord:
    quote = answer.quote
    if quote is None:
        return QuoteRecord(venue=answer.venue, latency_ms=answer.latency_ms, error=answer.error, reason=answer.message)
    decimals = token_out.decimals
    chosen = quote is best
    return QuoteRecord(
        venue=answer.venue,
        latency_ms=answer.latency_ms,
        pool=quote.pool,
        amount_out=format_amount(quote.amount_out, decimals),
        fee=format_amount(quote.fee, quote.fee_token.decimals),
        fee_token=quote.fee_token.symbol,
        price_impact_bps=quote.price_impact_bps,
        net_amount_out=_signed_amount(quote.net_amount_out, decimals),
        chosen=chosen,
        reason=None if chosen else _why_lost(quote, best, token_out, now_us),
    )


def _why_lost(quote: Quote, best: Quote | None, token_out: Token, now_us: int) -> str:
    if quote.stale_us <= now_us:
        return f"stale for {(now_us - quote.stale_us) / 1000:.0f} ms"
    if best is None:  # a fresh quote is never without a winner
        return "not chosen"
    less = best.net_amount_out - quote.net_amount_out
    if less == 0:
        return f"the same net output as {best.venue}, not the lower impact"
    percent = less * 100 / best.net_amount_out if best.net_amount_out > 0 else 100.0
    return f"pays {format_amount(less, token_out.decimals)} {token_out.symbol} less ({percent:.2f} %)"


def _signed_amount(units: int, decimals: int) -> str:
    return format_amount(units, decimals) if units >= 0 else f"-{format_amount(-units, decimals)}"


def _error(answers: Sequence[Answer]) -> OrderError:
    """Why there is no route: what may pass (a timeout, a venue down) before what will not (no pool)."""
    said = "; ".join(f"{answer.venue}: {answer.message or 'quote went stale'}" for answer in answers)
    errors = {answer.error for answer in answers if answer.quote is None}
    if any(answer.quote is not None for answer in answers):
        return StaleQuoteError(f"every quote went stale before it could be used ({said})")
    if FailureCode.QUOTE_TIMEOUT in errors:
        return QuotesUnavailableError(f"no venue answered in time ({said})")
    if errors - {FailureCode.NO_ROUTE}:
        return VenueDownError(f"no venue could quote ({said})")
    return NoRouteError(f"no venue has a route ({said})" if said else "no venue is configured")
