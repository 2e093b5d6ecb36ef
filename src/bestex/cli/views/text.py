"""Words, times and colours that several views share."""

from typing import Final

from rich.table import Table
from rich.text import Text

STATUS_STYLES: Final = {
    "pending": "dim",
    "watching": "blue",
    "routing": "cyan",
    "building": "blue",
    "submitted": "magenta",
    "confirmed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "expired": "yellow",
}

STATUS_MARKS: Final = {"confirmed": "✔", "failed": "✘", "cancelled": "■", "expired": "■"}


def clean(text: str) -> str:
    """`text` without anything that could command the terminal: it may come from any client of the engine."""
    return "".join(sign if sign.isprintable() else "�" for sign in text)


def styled(text: str, style: str = "") -> Text:
    return Text(clean(text), style=style)


def status_text(status: str) -> Text:
    return styled(status, STATUS_STYLES.get(status, ""))


def duration_text(us: int) -> str:
    """Microseconds for people, three digits or so: `351 ms`, `2.14 s`, `3 min 05 s`."""
    ms = round(us / 1000)
    if ms < 1000:
        return f"{ms} ms"
    if ms < 59_950:
        return f"{ms / 1000:.2f} s" if ms < 9_995 else f"{ms / 1000:.1f} s"
    seconds = round(us / 1_000_000)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def age_text(us: int) -> str:
    """How long ago, in at most four characters or so: `12s`, `5m`, `3h`, `40d`."""
    seconds = max(us, 0) // 1_000_000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def milliseconds_text(ms: float) -> str:
    return duration_text(round(ms * 1000))


def slippage_text(slippage_bps: float) -> str:
    """A fill against its quote."""
    if slippage_bps == 0:
        return "exactly as quoted"
    return f"{abs(slippage_bps):.2f} bps {'worse' if slippage_bps > 0 else 'better'} than quoted"


def price_text(executed_price: str, pair: str | None) -> str:
    """A price with its tokens: `152.27 USDC per SOL`."""
    base, slash, quote = (pair or "").partition("/")
    return f"{executed_price} {quote} per {base}" if slash else executed_price


def plain_table(*columns: str, numbers: frozenset[str] = frozenset(), folding: frozenset[str] = frozenset()) -> Table:
    """A table without lines; the columns in `numbers` stand to the right, those in `folding` may take more lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        right = column in numbers
        folds = column in folding
        table.add_column(column, justify="right" if right else "left", no_wrap=not folds, overflow="fold")
    return table


def facts_table() -> Table:
    """Names on the left, what they are on the right."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table
