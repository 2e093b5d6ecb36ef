"""What every benchmark of the suite has in common: options, progress, a clean stop, JSON and a chart.

Each is a module with a `BENCHMARK` and a command: `python -m bench.throughput --help` shows its options.
`BENCH_QUICK=1`, or `--quick`, makes a short pass that shows that all of it works; its figures are rough.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.errors import BenchError
from bench.machine import machine
from bench.processes import REPOSITORY
from bench.results import Figures, Findings, Goal, Medians, Result, medians, rows_of, save

if TYPE_CHECKING:  # it takes a second to load, and a benchmark needs it at its end only
    from matplotlib.figure import Figure

CHARTS: Final = REPOSITORY / "docs" / "explanation" / "performance"
INTERRUPTED: Final = 130
BUSY_BEFORE_MAX: Final = 0.1
ROUNDS: Final = 3

T = TypeVar("T")

ProgressOf = Callable[[float], None]  # called with what is done so far
Bar = Callable[[str, float], contextlib.AbstractContextManager[ProgressOf]]


@dataclass(frozen=True)
class Run:
    """What a benchmark is given."""

    quick: bool
    rounds: int
    bar: Bar
    console: Console
    options: argparse.Namespace
    skipped: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark."""

    name: str  # of its module, its JSON and its chart
    title: str
    measure: Callable[[Run], Awaitable[Findings]]
    draw: Callable[[Result], "Figure"]
    describe: Callable[[Result], str]  # two or three sentences for the page: what was measured, and how
    alt: str  # what the chart shows, for who cannot see it
    goals: tuple[Goal, ...] = ()
    ratios: Callable[[Medians], Figures] = lambda middle: {}
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def bars(console: Console) -> Bar:
    """Progress bars, one at a time."""

    @contextlib.contextmanager
    def bar(what: str, total: float) -> Iterator[ProgressOf]:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as shown:
            task = shown.add_task(what, total=total)
            yield lambda done: shown.update(task, completed=done)

    return bar


def rotated(systems: Sequence[T], round_number: int) -> list[T]:
    """The systems, beginning with another one each round: what drifts during a round falls on all of them."""
    start = (round_number - 1) % len(systems) if systems else 0
    return [*systems[start:], *systems[:start]]


async def _run(benchmark: Benchmark, options: argparse.Namespace, console: Console) -> Result:
    facts = machine()
    run = Run(options.quick, options.rounds, bars(console), console, options)
    found = await benchmark.measure(run)
    middle = medians(found.readings)
    return Result(
        benchmark=benchmark.name,
        taken_at=datetime.now(UTC),
        quick=options.quick,
        machine=facts,
        settings=found.settings,
        readings=found.readings,
        medians=middle,
        ratios=benchmark.ratios(middle),
        skipped=[*found.skipped, *run.skipped],
    )


async def _until_signalled(benchmark: Benchmark, options: argparse.Namespace, console: Console) -> Result | None:
    """The result; nothing when Ctrl-C or SIGTERM came first. Either way every child process has ended."""
    task = asyncio.create_task(_run(benchmark, options, console))
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, lambda: task.cancel() if not task.cancelling() else None)
    try:
        return await task
    except asyncio.CancelledError:
        return None


def parse(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m bench.{benchmark.name}", description=benchmark.title)
    parser.add_argument("--quick", action="store_true", default=os.environ.get("BENCH_QUICK", "0") not in ("", "0"))
    parser.add_argument("--rounds", type=int, help=f"rounds of each system (default: {ROUNDS}; 1 when quick)")
    benchmark.add_options(parser)
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.quick else ROUNDS
    return options


def main(benchmark: Benchmark) -> int:
    """The command of a benchmark."""
    options = parse(benchmark)
    console = Console()
    if sys.platform != "linux":
        console.print("The benchmarks read /proc and so run on Linux only.")
        return 1
    console.print(f"[bold]{benchmark.title}[/bold]")
    try:
        result = asyncio.run(_until_signalled(benchmark, options, console))
    except BenchError as error:
        console.print(str(error), markup=False, highlight=False)
        return 1
    if result is None:
        console.print("Interrupted; every process and temporary folder of the benchmark is gone.")
        return INTERRUPTED
    show(benchmark, result, console)
    chart = draw(benchmark, result)
    console.print(f"Saved as {os.path.relpath(save(result))} and {os.path.relpath(chart)}")
    return 0


def draw(benchmark: Benchmark, result: Result, folder: Path = CHARTS) -> Path:
    """Draw the chart of what was found."""
    from bench.charts import write

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{benchmark.name}.svg"
    write(benchmark.draw(result), path)
    return path


COLUMNS_ACROSS: Final = 5
"""That a terminal of 80 characters has room for; more go into another table below."""


def show(benchmark: Benchmark, result: Result, console: Console) -> None:
    """The medians as a table, and the goals."""
    (_, *across), *rows = rows_of(result.medians)
    for start in range(0, len(across), COLUMNS_ACROSS):
        part = slice(start, start + COLUMNS_ACROSS)
        table = Table("medians")
        for column in across[part]:
            table.add_column(escape(column), justify="right")
        for name, *figures in rows:
            table.add_row(escape(name), *map(escape, figures[part]))
        console.print(table)
    for goal in benchmark.goals:
        measured = goal.read(result.medians)
        console.print(f"{goal.what}, {goal.wanted}: {goal.verdict(measured)}", highlight=False)
    for skipped in result.skipped:
        console.print(f"[bold]Skipped[/bold]: {escape(skipped)}")
    if result.machine.busy_before > BUSY_BEFORE_MAX:
        console.print(
            f"[bold]The machine was busy[/bold]: {result.machine.busy_before:.0%} of its cores were in use "
            "before the benchmark began. Doubt these figures."
        )
