"""Latency under an open loop, at 10, 50 and 80 % of the maximum rate. `python -m bench.latency`.

The maximum is measured first, in the same round, with a closed loop. Then orders come at times drawn beforehand, as
from many clients that know nothing of each other, and every latency counts from the time the order was due: a system
that stalls is not spared the orders that would have come meanwhile (no coordinated omission).
"""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from bench.drive import WIDTHS, drive
from bench.engine import Engine, engine
from bench.percentiles import Ladder, rungs
from bench.results import Figures, Findings, Goal, Medians, Reading, Result, median_curve
from bench.suite import Benchmark, ProgressOf, Run, main

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES: Final = (10, 50, 80)  # percent of the maximum rate
SECONDS: Final = 15.0
QUICK_SECONDS: Final = 3.0
MAXIMUM_SECONDS: Final = 6.0
WARM_UP_SECONDS: Final = 2.0
CONNECTIONS: Final = 256
FOLLOWED: Final = 20  # one order in so many is entered over a WebSocket and followed to `confirmed`
PERCENTILES: Final = ("50", "99", "99.9")


async def measure(run: Run) -> Findings:
    seconds = run.options.seconds or (QUICK_SECONDS if run.quick else SECONDS)
    readings: list[Reading] = []
    for number in range(1, run.rounds + 1):
        async with engine("instant") as started:
            with run.bar(f"round {number} of {run.rounds}: the maximum rate", MAXIMUM_SECONDS) as progress:
                await drive(started, WIDTHS["post"], WARM_UP_SECONDS, lambda _: None)
                maximum = (await drive(started, WIDTHS["post"], MAXIMUM_SECONDS, progress)).completed_per_second
            run.say(f"round {number}: at most {maximum:,.0f} orders/s")
            for share in SHARES:
                with run.bar(f"round {number} of {run.rounds}: {share} % of it", seconds) as progress:
                    reading = await _at(started, number, share, maximum, seconds, progress)
                readings.append(reading)
                run.say(f"  {share} %: accept p99 {reading.figures.get('accept p99, ms', 0):.1f} ms")
    readings.sort(key=lambda reading: (SHARES.index(int(reading.figures["share, %"])), reading.round))
    return Findings(
        readings,
        {
            "a round": f"{seconds:g} s at each rate, on one engine, after {MAXIMUM_SECONDS:g} s at the maximum",
            "arrivals": f"Poisson, over at most {CONNECTIONS} connections",
            "followed to `confirmed`": f"one order in {FOLLOWED}, entered over a kept WebSocket",
        },
    )


async def _at(
    started: Engine, number: int, share: int, maximum: float, seconds: float, progress: ProgressOf
) -> Reading:
    rate = maximum * share / 100
    arguments = ("--connections", str(CONNECTIONS), "--rate", str(rate), "--followed", str(FOLLOWED))
    driven = await drive(started, (*arguments, "--seed", str(number)), seconds, progress)
    load = driven.load
    found: Figures = {
        "share, %": share,
        "maximum, orders/s": maximum,
        "accepted/s": driven.accepted_per_second,
        "not confirmed": driven.not_confirmed,
        "answers 503": load.busy_answers,
        "others' part of the cores, %": driven.others_share * 100,
        **_percentiles("accept", load.accept),
        **_percentiles("accept to confirmed", load.confirm),
        **_percentiles("sent late", load.late),
    }
    return Reading(system_of(share), number, found, {"accept": load.accept, "confirm": load.confirm})


def system_of(share: int) -> str:
    return f"{share} % of the maximum"


def _percentiles(what: str, of: Ladder) -> Figures:
    return {f"{what} p{rung}, ms": of[rung] for rung in PERCENTILES if rung in of}


def _at_half(figure: str, middle: Medians) -> float | None:
    return middle.get(system_of(50), {}).get(figure)


GOALS: Final = (
    Goal(
        "accept p99 at half the maximum rate, open loop",
        15,
        " ms",
        lambda middle: _at_half("accept p99, ms", middle),
        at_least=False,
    ),
    Goal(
        "accept to confirmed p99 at half the maximum rate (`instant`)",
        30,
        " ms",
        lambda middle: _at_half("accept to confirmed p99, ms", middle),
        at_least=False,
    ),
)


def draw(result: Result) -> "Figure":
    from bench.charts import figure, tails, title

    made, axes = figure(columns=2)
    curves = (("accept", "from due to accepted"), ("confirm", "from accepted to confirmed"))
    for panel, (curve, what) in zip(axes, curves, strict=True):
        tails(panel, {name: rungs(median_curve(result.readings, name, curve)) for name in result.medians}, "ms")
        title(panel, what)
    return made


def describe(result: Result) -> str:
    return (
        "One process, single POSTs, profile `instant`. An open loop: orders are due at times drawn beforehand, and a "
        "latency counts from the time the order was due, whatever held it up, the generator's own lateness included "
        "(`sent late` in the JSON). Accepted is the 202 at the client, which is sent after the commit. One order in "
        f"{FOLLOWED} is entered over a kept WebSocket and followed to `confirmed`. Curves are medians of the rounds."
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, help=f"at each rate (default: {SECONDS:g})")


BENCHMARK: Final = Benchmark(
    name="latency",
    title="Latency",
    measure=measure,
    draw=draw,
    describe=describe,
    alt="Latency over percentile at three rates: from due to accepted, and from accepted to confirmed",
    goals=GOALS,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
