"""Growth: throughput over a long history beside an empty database. `python -m bench.growth`.

The history is bulk-loaded (`bench/history.py`): executed orders with a valid hash chain; `bestex verify` accepts it.
"""

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.drive import WIDTHS, drive, figures
from bench.engine import engine
from bench.errors import BenchError
from bench.history import load_history
from bench.processes import temporary_directory
from bench.results import Figures, Findings, Goal, Medians, Reading, Result, ratio
from bench.suite import Benchmark, Run, main, rotated
from bestex.journal.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDERS: Final = 5_000_000
QUICK_ORDERS: Final = 50_000
BYTES_AN_ORDER: Final = 6_000  # on disk, with indexes, and a margin
SECONDS: Final = 10.0
QUICK_SECONDS: Final = 2.0
WARM_UP_SECONDS: Final = 3.0

HISTORY: Final = "orders in the history"
EMPTY: Final = "empty"
FULL: Final = "with history"
COMPLETED: Final = "completed/s"


async def measure(run: Run) -> Findings:
    orders = run.options.orders or (QUICK_ORDERS if run.quick else ORDERS)
    seconds = QUICK_SECONDS if run.quick else SECONDS
    readings: list[Reading] = []
    with temporary_directory() as folder:
        require_space(folder, orders)
        full = folder / "full"
        history = await _load(run, full, orders)
        run.say(f"{history.orders:,} orders, {history.events:,} events loaded in {history.seconds:,.0f} s")
        for number in range(1, run.rounds + 1):
            for system in rotated((EMPTY, FULL), number):
                what = f"round {number} of {run.rounds}: {system}"
                reading = await _figures(run, what, full if system == FULL else None, seconds)
                reading[HISTORY] = history.orders if system == FULL else 0
                readings.append(Reading(system, number, reading))
                run.say(f"round {number}: {system}: {reading[COMPLETED]:,.0f} orders/s")
    readings.sort(key=lambda reading: (reading.system != EMPTY, reading.round))
    return Findings(
        readings,
        {
            "the history": f"{history.orders:,} executed orders, {history.events:,} events, "
            f"{history.database_bytes / 1e9:.1f} GB with indexes, loaded in {history.seconds:,.0f} s",
            "a round": f"{seconds:g} s of load after {WARM_UP_SECONDS:g} s of warm-up, on an engine started for it",
        },
    )


def require_space(folder: Path, orders: int) -> None:
    free, needed = shutil.disk_usage(folder).free, orders * BYTES_AN_ORDER
    if free < needed:
        raise BenchError(
            f"a history of {orders:,} orders needs {needed / 1e9:.0f} GB in {folder}, which has {free / 1e9:.0f} GB: "
            "choose fewer with --orders, or another folder with TMPDIR"
        )


@dataclass(frozen=True)
class Loaded:
    """The history as it is in the database."""

    orders: int
    events: int
    database_bytes: int
    seconds: float  # that the loading took


async def _load(run: Run, data: Path, orders: int) -> Loaded:
    async with engine("instant", kept=data):
        pass  # the database and the chain are there now, and nobody uses them
    server = EmbeddedPostgres(data)
    await server.start()
    try:
        began = time.monotonic()
        with run.bar(f"loading {orders:,} orders", orders) as progress:
            await load_history(server.dsn, orders, progress)
        seconds = time.monotonic() - began
        connection = await asyncpg.connect(server.dsn)
        events = await connection.fetchval("select position from bestex.log_head")
        size = await connection.fetchval("select pg_database_size(current_database())")
        await connection.close()
    finally:
        await server.stop()
    return Loaded(orders, events, size, seconds)


async def _figures(run: Run, what: str, kept: Path | None, seconds: float) -> Figures:
    began = time.monotonic()
    async with engine("instant", kept=kept) as started:
        start_s = time.monotonic() - began
        with run.bar(what, seconds) as progress:
            await drive(started, WIDTHS["post"], WARM_UP_SECONDS, lambda _: None)
            driven = await drive(started, WIDTHS["post"], seconds, progress)
        return {**figures(started, driven), "start, s": start_s}


def ratios(middle: Medians) -> Figures:
    times = ratio(middle, FULL, EMPTY, COMPLETED)
    return {} if times is None else {f"{FULL} / {EMPTY}": times}


def _share(middle: Medians) -> float | None:
    """Only over a history as long as the goal speaks of."""
    times = ratio(middle, FULL, EMPTY, COMPLETED)
    return None if times is None or middle[FULL][HISTORY] < ORDERS else times * 100


GOALS: Final = (Goal("throughput with 5,000,000 orders in the history, of that without", 90, " %", _share),)


def draw(result: Result) -> "Figure":
    from bench.charts import bars, figure

    made, (axes,) = figure(height_in=1.8)
    rounds = {
        system: [reading.figures[COMPLETED] for reading in result.readings if reading.system == system]
        for system in result.medians
    }
    bars(axes, {name: its[COMPLETED] for name, its in result.medians.items()}, rounds, "completed orders a second")
    return made


def describe(result: Result) -> str:
    return (
        "One process, single POSTs, profile `instant`, over an empty database and over one with a history. The history "
        "is bulk-loaded, as executed orders with a valid hash chain in the log, the projection and the simulated "
        "chain's ledger, one order a millisecond; `bestex verify` accepts it. "
        "`start` includes PostgreSQL's own."
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=int, help=f"in the history (default: {ORDERS:,}; quick: {QUICK_ORDERS:,})")


BENCHMARK: Final = Benchmark(
    name="growth",
    title="Growth with history",
    measure=measure,
    draw=draw,
    describe=describe,
    alt="Completed orders a second over an empty database and over one with a history",
    goals=GOALS,
    ratios=ratios,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
