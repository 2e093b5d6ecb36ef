"""What the figures say: medians, ratios, targets; printed as tables and kept as JSON."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median, median_low
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.engine import ENGINE_NAME
from bench.machine import Machine
from bench.measure import Round
from bench.node_peer import PEER_NAME, PEER_WITH_HISTORY_NAME
from bench.watched import Punctuality

RESULTS: Final = Path(__file__).parent / "results"

RATIO_WITHOUT_HISTORY_MIN: Final = 0.6
RATIO_WITH_HISTORY_MIN: Final = 2.0
ACCEPT_P99_MS_MAX: Final = 50.0
PEAK_MEMORY_MB_MAX: Final = 300.0
BEYOND_SIMULATED_MS_MAX: Final = 250.0

BUSY_BEFORE_MAX: Final = 0.1


class Target(msgspec.Struct, frozen=True, rename="camel"):
    """A figure that the project set itself."""

    what: str
    wanted: str
    figure: float
    met: bool


class Results(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Everything one run of the benchmark found."""

    taken_at: datetime
    machine: Machine
    rounds: list[Round]
    medians: list[Round]  # of each system, figure by figure
    watched: Round | None
    realistic: Punctuality | None
    skipped: list[str]  # what was not measured, and why
    targets: list[Target]


def medians(rounds: Iterable[Round]) -> list[Round]:
    """Of each system, in their order: the median of each figure over its rounds."""
    by_system: dict[str, list[Round]] = {}
    for figures in rounds:
        by_system.setdefault(figures.system, []).append(figures)
    return [median_round(of_system) for of_system in by_system.values()]


def median_round(rounds: Sequence[Round]) -> Round:
    first, *_ = rounds
    columns = {name: [getattr(figures, name) for figures in rounds] for name in Round.__struct_fields__}
    middle = {
        name: median_low(values) if isinstance(values[0], int) else median(values)
        for name, values in columns.items()
        if isinstance(values[0], int | float)
    }
    return msgspec.structs.replace(first, **middle)


def targets(middle: Sequence[Round], every: Sequence[Round], realistic: Punctuality | None) -> list[Target]:
    """The targets these figures can be held against: the medians, every round, and the real times."""
    by_system = {figures.system: figures for figures in middle}
    engine = by_system.get(ENGINE_NAME)
    found = []
    for name, least in (
        (PEER_NAME, RATIO_WITHOUT_HISTORY_MIN),
        (PEER_WITH_HISTORY_NAME, RATIO_WITH_HISTORY_MIN),
    ):
        peer = by_system.get(name)
        if engine is not None and peer is not None:
            ratio = engine.completed_per_second / peer.completed_per_second
            found.append(Target(f"completed/s, times that of {name}", f"at least {least}", ratio, ratio >= least))
    if engine is not None:
        found.append(below("accept p99, ms", engine.accept_p99_ms, ACCEPT_P99_MS_MAX))
    if realistic is not None:
        what = f"latest of {realistic.orders:,}, ms beyond its simulated times"
        found.append(below(what, realistic.latest_beyond_own_ms, BEYOND_SIMULATED_MS_MAX))
    peaks_mb = [figures.peak_memory_mb for figures in every if figures.system.startswith(ENGINE_NAME)]
    peaks_mb += [realistic.peak_memory_mb] if realistic is not None else []
    if peaks_mb:
        found.append(below("peak memory, MB", max(peaks_mb), PEAK_MEMORY_MB_MAX))
    return found


def below(what: str, figure: float, limit: float) -> Target:
    return Target(what, f"under {limit:.0f}", figure, figure < limit)


# What is printed of a round, and how.
FIGURES: Final[dict[str, Callable[[Round], str]]] = {
    "completed/s": lambda figures: f"{figures.completed_per_second:,.0f}",
    "accepted/s": lambda figures: f"{figures.accepted_per_second:,.0f}",
    "accept p50, ms": lambda figures: f"{figures.accept_p50_ms:.1f}",
    "accept p99, ms": lambda figures: f"{figures.accept_p99_ms:.1f}",
    "accept max, ms": lambda figures: f"{figures.accept_max_ms:.1f}",
    "peak memory, MB": lambda figures: f"{figures.peak_memory_mb:.0f}",
    "CPU, ms an order": lambda figures: f"{figures.cpu_ms_per_order:.3f}",
    "503 answers": lambda figures: f"{figures.busy_answers:,}",
    "not confirmed": lambda figures: f"{figures.not_confirmed:,}",
}


def print_rounds(console: Console, title: str, rounds: Sequence[Round]) -> None:
    """The rounds side by side."""
    console.print(title, style="bold")
    table = Table("")
    for figures in rounds:
        table.add_column(figures.system, justify="right")
    for name, show in FIGURES.items():
        table.add_row(name, *map(show, rounds))
    console.print(table)


def print_watched(console: Console, watched: Round) -> None:
    print_rounds(console, "With a watcher of every event beside the load", [watched])
    console.print(
        f"Accepted to confirmed: p50 {watched.confirmed_p50_ms:.1f} ms, "
        f"p99 {watched.confirmed_p99_ms:.1f} ms, max {watched.confirmed_max_ms:.1f} ms."
    )


def print_realistic(console: Console, realistic: Punctuality) -> None:
    console.print(
        f"Real times: {realistic.orders:,} orders, {realistic.under_way_at_once:,} under way at once, "
        f"{realistic.not_confirmed} not confirmed. Accepted to confirmed: "
        f"p50 {realistic.confirmed_p50_ms:,.0f} ms, max {realistic.confirmed_max_ms:,.0f} ms; the latest "
        f"{realistic.latest_beyond_own_ms:+,.0f} ms beyond its own simulated times, "
        f"{realistic.latest_beyond_longest_ms:+,.0f} ms beyond the longest. "
        f"Peak memory {realistic.peak_memory_mb:.0f} MB."
    )


def print_summary(console: Console, results: Results) -> None:
    if results.medians:
        print_rounds(console, "Medians", results.medians)
    if results.targets:
        table = Table(f"{ENGINE_NAME}'s targets", "wanted")
        table.add_column("found", justify="right")
        table.add_column()
        for target in results.targets:
            verdict = "met" if target.met else "[bold]missed[/bold]"
            table.add_row(target.what, target.wanted, f"{target.figure:,.2f}", verdict)
        console.print(table)
    for skipped in results.skipped:
        console.print(f"[bold]Skipped[/bold]: {escape(skipped)}")
    if results.machine.busy_before > BUSY_BEFORE_MAX:
        console.print(
            f"[bold]The machine was busy[/bold]: {results.machine.busy_before:.0%} of its cores were in use "
            "before the benchmark began. Doubt these figures."
        )


def save(results: Results) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{results.taken_at:%Y-%m-%dT%H-%M-%SZ}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")
    return path
