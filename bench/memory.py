"""Memory: what an order in flight takes, under the profile `realistic`. `python -m bench.memory`.

Orders are entered faster than they land, until so many are under way; the process's resident memory is read then.
The chain is slow and lands every transaction late, by up to 140 s, so that as many are under way at once whatever this
machine's speed is.
"""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

from bench.engine import Engine, engine
from bench.errors import BenchError
from bench.processes import child, memory_bytes
from bench.results import Figures, Findings, Goal, Medians, Reading, Result
from bench.suite import Benchmark, ProgressOf, Run, main

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS: Final = (5_000, 10_000, 15_000, 20_000)
QUICK_LEVELS: Final = (500, 1_000, 2_000)
FIRST_ORDERS: Final = 500  # executed and ended before the memory is read for the first time
SECONDS_MAX: Final = 180.0
POLL_SECONDS: Final = 0.1
FAULTS: Final = {"late_landing": 1, "late_landing_slots": 140}
SLOT_MS: Final = 1_000
ROOM: Final = "100000"  # more than are ever entered

IN_FLIGHT, BYTES = "in flight", "bytes an order"


async def measure(run: Run) -> Findings:
    levels = QUICK_LEVELS if run.quick else LEVELS
    settings = {"BESTEX_SIM_SLOT_MS": str(SLOT_MS), "BESTEX_CONCURRENCY": ROOM, "BESTEX_INTAKE": ROOM}
    settings["BESTEX_OPEN_ORDERS"] = ROOM
    readings: list[Reading] = []
    for number in range(1, run.rounds + 1):
        async with engine("realistic", settings=settings) as started:
            with run.bar(f"round {number} of {run.rounds}: {levels[-1]:,} orders in flight", levels[-1]) as progress:
                for level, found in zip(levels, await _ramp(started, levels, progress), strict=True):
                    readings.append(Reading(system_of(level), number, found))
                    run.say(f"round {number}: {found[IN_FLIGHT]:,.0f} in flight: {found[BYTES]:,.0f} bytes an order")
    readings.sort(key=lambda reading: (reading.figures[IN_FLIGHT], reading.round))
    return Findings(
        readings,
        {
            "landing": "slots of 1 s, every transaction up to 140 of them late, so that enough are under way at once",
            "memory": f"resident, above that of the same process after its first {FIRST_ORDERS} orders have ended",
        },
    )


async def _ramp(started: Engine, levels: tuple[int, ...], progress: ProgressOf) -> list[Figures]:
    """Enter orders until the last level is reached; the figures at each."""
    found: list[Figures] = []
    async with child("the load generator", _command(started, FIRST_ORDERS), started.folder / "first.log", {}) as first:
        await first.require_success(SECONDS_MAX)
    await _ended(started)
    base = memory_bytes(started.pid)
    (await started.client.patch("/api/sim/faults", json=FAULTS)).raise_for_status()
    most = 0
    async with child("the load generator", _command(started, None), started.folder / "more.log", {}) as generator:
        deadline = time.monotonic() + SECONDS_MAX
        while len(found) < len(levels):
            in_flight, memory = await started.in_flight(), memory_bytes(started.pid)
            progress(in_flight)
            most = max(most, in_flight)
            if in_flight >= levels[len(found)]:
                bytes_an_order = (memory - base) / in_flight
                found.append({IN_FLIGHT: in_flight, BYTES: bytes_an_order, "memory, MB": memory / 1e6})
            generator.require_not_failed()
            if time.monotonic() > deadline:
                raise BenchError(f"only {most:,} of {levels[-1]:,} orders were ever in flight at once")
            await asyncio.sleep(POLL_SECONDS)
    return found


def _command(started: Engine, orders: int | None) -> list[str]:
    """Enter so many orders, or as many as there is time for."""
    command = [sys.executable, "-m", "bench.generator", "--port", str(started.port), "--seconds", str(SECONDS_MAX)]
    command += ["--result", str(started.folder / "load.json")]
    command += ["--way", "batch", "--connections", "2"] if orders is None else ["--orders", str(orders)]
    for body in started.bodies:
        command += ["--body", body]
    return command


async def _ended(started: Engine) -> None:
    """Until nothing is in flight."""
    async with asyncio.timeout(SECONDS_MAX):
        while await started.in_flight():
            await asyncio.sleep(POLL_SECONDS)


def system_of(level: int) -> str:
    return f"{level:,} in flight"


def _bytes_at_most(middle: Medians) -> float | None:
    """At the highest level, when that is the one that is asked for."""
    found = middle.get(system_of(LEVELS[-1]))
    return None if found is None else found[BYTES] / 1e3


GOALS: Final = (
    Goal("memory an order, 20,000 in flight in one process (`realistic`)", 10, " KB", _bytes_at_most, at_least=False),
)


def draw(result: Result) -> "Figure":
    from bench.charts import figure, line, title

    made, (left, right) = figure(columns=2, height_in=2.8)
    middle = list(result.medians.values())
    line(left, [(each[IN_FLIGHT], each["memory, MB"]) for each in middle], "orders in flight", "MB")
    title(left, "resident memory of the process")
    line(right, [(each[IN_FLIGHT], each[BYTES] / 1e3) for each in middle], "orders in flight", "KB")
    title(right, "of it, an order in flight")
    return made


def describe(result: Result) -> str:
    return (
        "Resident memory of one process that accepts and executes under the profile `realistic`, by the number of "
        "orders accepted and not ended. Every transaction lands late, so that as many are under way at once as are "
        "asked for, on any machine; most of them wait for their landing, as they do in life."
    )


BENCHMARK: Final = Benchmark(
    name="memory",
    title="Memory of orders in flight",
    measure=measure,
    draw=draw,
    describe=describe,
    alt="Memory of the process, and of it each order's part, over the number of orders in flight",
    goals=GOALS,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
