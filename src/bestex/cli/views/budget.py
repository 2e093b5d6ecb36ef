"""The latency budget: every stage of an order as a bar on one line of time."""

from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bestex.cli.answers import Receipt
from bestex.cli.views.text import clean, milliseconds_text

BAR_WIDTH: Final = 40
FINE_MS: Final = 10.0
"""Below this, fractions of a millisecond are told."""


def budget_view(receipt: Receipt) -> RenderableType:
    """Stages from top to bottom, each where it lies in the order's time; with several attempts, one after the other."""
    rows = _rows(receipt)
    whole = sum(spent for _, spent, _ in rows)
    watched = receipt.latency_ms.get("watch")
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    behind = 0.0
    for name, spent, notes in rows:
        table.add_row(Text(clean(name)), Text(_spent_text(spent)), _bar(behind, spent, whole))
        for note in notes:
            table.add_row(Text(f"  {clean(note)}", style="dim"), "", "")
        behind += spent
        if name == "queue" and watched is not None:  # not drawn: it may be days
            table.add_row(Text("watch"), Text(_spent_text(watched)), Text("until it fired", style="dim"))
    total = receipt.latency_ms.get("total")
    if total is not None:
        table.add_row(Text("total", style="bold"), Text(_spent_text(total), style="bold"), "")
    finalize = receipt.latency_ms.get("finalize")
    if finalize is not None:
        table.add_row(Text("until final", style="dim"), Text(_spent_text(finalize), style="dim"), "")
    return table


def _rows(receipt: Receipt) -> list[tuple[str, float, list[str]]]:
    """Name, milliseconds and notes of each stage, in order."""
    rows: list[tuple[str, float, list[str]]] = []
    for name in ("accept", "queue"):
        spent = receipt.latency_ms.get(name)
        if spent is not None:
            rows.append((name, spent, []))
    several = len(receipt.attempts) > 1
    for attempt in receipt.attempts:
        for name, spent in attempt.latency_ms.items():
            if spent is None:
                continue
            notes = []
            if name == "route":
                notes = [f"{quote.venue} {_spent_text(quote.latency_ms)}" for quote in attempt.quotes]
            rows.append((f"{attempt.attempt}. {name}" if several else name, spent, notes))
    return rows


def _spent_text(spent_ms: float) -> str:
    return f"{spent_ms:.2f} ms" if spent_ms < FINE_MS else milliseconds_text(spent_ms)


def _bar(behind: float, spent: float, whole: float) -> Text:
    if whole <= 0:
        return Text("")
    start = round(behind / whole * BAR_WIDTH)
    length = max(1, round((behind + spent) / whole * BAR_WIDTH) - start)
    return Text(" " * start + "━" * length, style="cyan")
