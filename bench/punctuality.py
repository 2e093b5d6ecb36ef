"""Punctuality: how orders keep their simulated times when many are under way at once. `python -m bench.punctuality`.

Under the profile `realistic` an order waits for its slower quote, its build and its landing, and for nothing else that
it could help. What it waited beyond these three is told by the journal's times and the moments the chain landed it.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.drive import drive
from bench.engine import Engine, engine
from bench.percentiles import Ladder, ladder, rungs
from bench.results import Figures, Findings, Goal, Medians, Reading, Result, median_curve
from bench.suite import Benchmark, ProgressOf, Run, main
from bestex.journal.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDERS: Final = 1_000
QUICK_ORDERS: Final = 200
SECONDS_MAX: Final = 30.0  # to enter them
BUILD_MS: Final = 400  # the simulated build's time
LATEST: Final = "latest beyond its own times, ms"

# Of each order, milliseconds: from accepted to confirmed, and what of it was beyond its own simulated times.
TIMES: Final = f"""
select extract(epoch from confirmed.at - pending.at)::float8 * 1000 as whole_ms,
       (extract(epoch from confirmed.at - pending.at) * 1000
        - (select max((q ->> 'latencyMs')::numeric) from json_array_elements(building.detail::json -> 'quotes') q)
        - {BUILD_MS}
        - (landed.landed_us / 1000.0 - extract(epoch from submitted.at) * 1000))::float8 as beyond_ms
  from bestex.events pending
  join bestex.events building on building.order_id = pending.order_id and building.status = 'building'
  join bestex.events submitted on submitted.order_id = pending.order_id and submitted.status = 'submitted'
  join bestex.events confirmed on confirmed.order_id = pending.order_id and confirmed.status = 'confirmed'
  join sim.transactions landed on landed.signature = submitted.detail::json ->> 'signature'
 where pending.status = 'pending'
   and not exists (select from bestex.events earlier where earlier.order_id = confirmed.order_id
                      and earlier.status = 'confirmed' and earlier.seq < confirmed.seq)"""


async def measure(run: Run) -> Findings:
    orders = run.options.orders or (QUICK_ORDERS if run.quick else ORDERS)
    readings = []
    for number in range(1, run.rounds + 1):
        async with engine("realistic") as started:
            with run.bar(f"round {number} of {run.rounds}: {orders:,} orders at once", SECONDS_MAX) as progress:
                found, curve = await _measure(started, orders, progress)
        readings.append(Reading(system_of(orders), number, found, {"beyond": curve}))
        run.say(f"round {number}: the latest was {found[LATEST]:.0f} ms beyond its own times")
    return Findings(readings, {"load": f"{orders:,} orders as fast as they are accepted, over 64 connections"})


async def _measure(started: Engine, orders: int, progress: ProgressOf) -> tuple[Figures, Ladder]:
    arguments = ("--connections", "64", "--orders", str(orders))
    driven = await drive(started, arguments, SECONDS_MAX, progress)
    connection = await asyncpg.connect(EmbeddedPostgres(started.data).dsn)
    try:
        rows = await connection.fetch(TIMES)
    finally:
        await connection.close()
    whole = ladder([int(row["whole_ms"] * 1e6) for row in rows])
    beyond = ladder([int(row["beyond_ms"] * 1e6) for row in rows])
    found: Figures = {
        "orders": driven.load.accepted,
        "not confirmed": driven.not_confirmed,
        "accepted to confirmed p50, ms": whole["50"],
        "accepted to confirmed, longest, ms": whole["100"],
        "beyond its own times p50, ms": beyond["50"],
        LATEST: beyond["100"],
    }
    return found, beyond


def system_of(orders: int) -> str:
    return f"{orders:,} orders at once"


def _latest(middle: Medians) -> float | None:
    return middle.get(system_of(ORDERS), {}).get(LATEST)


GOALS: Final = (
    Goal(
        "latest of 1,000 orders at once beyond its simulated times (`realistic`)", 250, " ms", _latest, at_least=False
    ),
)


def draw(result: Result) -> "Figure":
    from bench.charts import figure, tails

    made, (axes,) = figure(height_in=2.6)
    tails(
        axes,
        {system: rungs(median_curve(result.readings, system, "beyond")) for system in result.medians},
        "ms beyond its own times",
    )
    return made


def describe(result: Result) -> str:
    return (
        "Orders under the profile `realistic`, all under way at once in one process. What an order waits beyond its "
        "slower quote, its build and its landing is the engine's doing: commits, scheduling, looking for the landing."
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=int, help=f"at once (default: {ORDERS:,}; quick: {QUICK_ORDERS:,})")


BENCHMARK: Final = Benchmark(
    name="punctuality",
    title="Punctuality",
    measure=measure,
    draw=draw,
    describe=describe,
    alt="What orders wait beyond their own simulated times, over percentile",
    goals=GOALS,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
