"""Venues side by side."""

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bestex.cli.answers import Quotes
from bestex.cli.views.text import clean, milliseconds_text, plain_table, styled
from bestex.domain.events import QuoteRecord

_NUMBERS: Final = frozenset({"amount out", "fee", "impact", "net out", "took"})


def quotes_view(quotes: Quotes) -> RenderableType:
    """`bestex quote`: the table, then a line on each venue that is not the best."""
    title = Text.assemble(
        ("quotes", "bold"), f"  {clean(quotes.amount)} {clean(quotes.token_in)} → {clean(quotes.token_out)}"
    )
    if quotes.pair:
        title.append(f"  {clean(quotes.pair)}", style="dim")
    if not quotes.quotes:
        return Group(title, Text("no venue is configured", style="yellow"))
    parts: list[RenderableType] = [title, Text(), quote_table(quotes.quotes, quotes.best)]
    parts += [Text(), *quote_reasons(quotes.quotes, quotes.best)]
    return Group(*parts)


def quote_table(quotes: Sequence[QuoteRecord], best: str | None = None, *, net: bool = True) -> Table:
    """One row for each venue, amounts in the output token; the best is `best`, or the one chosen.

    `net`: also what remains after the network's fee.
    """
    columns = ["", "venue", "amount out", "fee", "impact", *(["net out"] if net else []), "took"]
    table = plain_table(*columns, numbers=_NUMBERS, folding=frozenset({"fee"}))
    for quote in quotes:
        is_best = _is_best(quote, best)
        has_quote = quote.amount_out is not None
        cells = [
            Text("✔" if is_best else " " if has_quote else "✘"),
            styled(quote.venue),
            styled(quote.amount_out or "no quote"),
            styled(f"{quote.fee} {quote.fee_token or ''}".rstrip() if quote.fee is not None else ""),
            Text(f"{quote.price_impact_bps} bps" if quote.price_impact_bps is not None else ""),
            *([styled(quote.net_amount_out or "")] if net else []),
            Text(milliseconds_text(quote.latency_ms)),
        ]
        table.add_row(*cells, style="green" if is_best else "" if has_quote else "red")
    return table


def quote_reasons(quotes: Sequence[QuoteRecord], best: str | None = None) -> list[Text]:
    """Which is best, and why each other one is not."""
    lines = []
    for quote in quotes:
        if _is_best(quote, best):
            line = Text.assemble((clean(quote.venue), "green"), " is the best")
        else:
            reason = quote.reason or quote.error or "not chosen"
            line = Text.assemble((clean(quote.venue), "dim"), " ", clean(reason))
            if quote.error is not None and quote.error != reason:
                line.append(clean(f" ({quote.error})"), style="red")
        lines.append(line)
    return lines


def _is_best(quote: QuoteRecord, best: str | None) -> bool:
    return quote.chosen or (best is not None and quote.venue == best)
