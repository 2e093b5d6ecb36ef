"""Watchers: 10,000 WebSockets on one API process, while 1,000 orders a second come. `python -m bench.watchers`.

Half of the sockets follow an order each that rests (`GET /api/orders/{id}/status`), half are kept order-entry sockets
(`GET /api/orders/execute?keep=true`), over which orders are entered in turn and get all their updates.
"""

import argparse
import asyncio
import itertools
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import msgspec

from bench.crowd import CONNECTED_LINE, CrowdResult
from bench.engine import Engine, engine
from bench.errors import BenchError
from bench.percentiles import rungs
from bench.processes import child, cpu_seconds, memory_bytes, peak_memory_bytes, wait_for_line
from bench.results import Figures, Findings, Goal, Medians, Reading, Result, median_curve
from bench.suite import Benchmark, ProgressOf, Run, main

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOCKETS: Final = 10_000
RATE: Final = 1_000.0  # orders a second
SECONDS: Final = 15.0
QUICK_SOCKETS: Final = 1_000
QUICK_RATE: Final = 300.0
QUICK_SECONDS: Final = 4.0
IDLE_SECONDS: Final = 3.0
SPARE_FILES: Final = 500
CONNECT_SECONDS_MAX: Final = 180.0
END_SECONDS_MAX: Final = 120.0
POST_AT_ONCE: Final = 32
FAR_PRICE: Final = "100000"  # USDC for 1 SOL: nobody pays that
NS: Final = 1e9

MEMORY: Final = "memory at its peak, MB"
P99: Final = "update to socket p99, ms"
HELD, AT_RATE = "sockets", "orders/s entered"


async def measure(run: Run) -> Findings:
    sockets = run.options.sockets or (QUICK_SOCKETS if run.quick else SOCKETS)
    rate = run.options.rate or (QUICK_RATE if run.quick else RATE)
    seconds = QUICK_SECONDS if run.quick else SECONDS
    require_files(sockets)
    readings = []
    system = f"{sockets:,} watchers"
    for number in range(1, run.rounds + 1):
        async with engine("instant") as started:
            with run.bar(f"round {number} of {run.rounds}: {system}", 4) as progress:
                found, result = await _measure(started, sockets, rate, seconds, progress)
        readings.append(Reading(system, number, found, {"update": result.update}))
        run.say(f"round {number}: {found[MEMORY]:.0f} MB, {P99}: {found.get(P99, 0):.1f}")
    return Findings(
        readings,
        {
            "sockets": f"{sockets // 2:,} follow an order that rests, {sockets - sockets // 2:,} are for order entry",
            "load": f"{rate:,g} orders/s for {seconds:g} s, due at times drawn beforehand, over the latter in turn",
            "an update's latency": "from its timestamp, given before its commit, to its arrival at the client",
        },
    )


def require_files(sockets: int) -> None:
    """Raise this process's limit of open files, which its children inherit, as far as it goes."""
    needed = sockets + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(
            f"{sockets:,} sockets need {needed:,} open files a process, and {hard:,} are allowed here: "
            "choose fewer with --sockets, or raise the limit (`ulimit -Hn`)"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def _measure(
    started: Engine, sockets: int, rate: float, seconds: float, progress: ProgressOf
) -> tuple[Figures, CrowdResult]:
    followed = started.folder / "followed"
    followed.write_text("\n".join(await _resting_orders(started, sockets // 2)))
    progress(1)
    before = memory_bytes(started.pid)
    result = started.folder / "crowd.json"
    command: list[str | Path] = [sys.executable, "-m", "bench.crowd", "--port", str(started.port), "--result", result]
    command += ["--followed", followed, "--entering", str(sockets - sockets // 2), "--idle", str(IDLE_SECONDS)]
    command += ["--rate", str(rate), "--seconds", str(seconds), *_bodies(started)]
    async with child("the crowd", command, started.folder / "crowd.log", {}) as crowd:
        await wait_for_line(crowd, CONNECTED_LINE, CONNECT_SECONDS_MAX)
        await asyncio.sleep(IDLE_SECONDS / 2)
        progress(2)
        idle = memory_bytes(started.pid)
        cpu_before = cpu_seconds(started.pid)
        await crowd.require_success(END_SECONDS_MAX + seconds)
        progress(4)
    saw = msgspec.json.decode(result.read_bytes(), type=CrowdResult)
    entered_per_second = (saw.entered - 1) / (saw.last_sent_ns - saw.first_sent_ns) * NS
    found: Figures = {
        HELD: saw.sockets,
        AT_RATE: entered_per_second,
        "updates": saw.updates,
        "not confirmed": saw.ended_otherwise,
        "errors": saw.errors,
        "never seen to end": saw.entered - saw.confirmed - saw.ended_otherwise,
        "memory without watchers, MB": before / 1e6,
        "memory with idle watchers, MB": idle / 1e6,
        "a watcher, KB": (idle - before) / saw.sockets / 1e3,
        MEMORY: peak_memory_bytes(started.pid) / 1e6,
        "engine's CPU an order, ms": (cpu_seconds(started.pid) - cpu_before) / saw.entered * 1e3,
        "clients' CPU an order, ms": saw.cpu_seconds / saw.entered * 1e3,
    }
    found |= {f"update to socket p{rung}, ms": saw.update[rung] for rung in ("50", "99", "99.9") if rung in saw.update}
    return found, saw


def _bodies(started: Engine) -> list[str]:
    return list(itertools.chain.from_iterable(("--body", body) for body in started.bodies))


async def _resting_orders(started: Engine, count: int) -> list[str]:
    """The ids of so many limit orders that wait for a price that does not come."""
    body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.01", "kind": "limit", "limitPrice": FAR_PRICE}
    at_once = asyncio.Semaphore(POST_AT_ONCE)

    async def post(client: httpx.AsyncClient) -> str:
        async with at_once:
            answer = await client.post("/api/orders/execute", json=body)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise BenchError(f"a limit order was answered {answer.status_code} {answer.text}")
        return str(answer.json()["orderId"])

    return list(await asyncio.gather(*(post(started.client) for _ in range(count))))


def _when_full(middle: Medians, figure: str) -> float | None:
    """Only of as many watchers, at such a rate, as the goals speak of."""
    for found in middle.values():
        if found[HELD] >= SOCKETS and found[AT_RATE] >= RATE * 0.95:
            return found.get(figure)
    return None


GOALS: Final = (
    Goal(
        "memory of one API process with 10,000 WebSocket watchers, at 1,000 orders/s",
        400,
        " MB",
        lambda middle: _when_full(middle, MEMORY),
        at_least=False,
    ),
    Goal("update to socket p99, the same", 250, " ms", lambda middle: _when_full(middle, P99), at_least=False),
)


def draw(result: Result) -> "Figure":
    from bench.charts import bars, figure, tails, title

    made, (left, right) = figure(columns=2, height_in=3.0)
    (system, middle), *_ = result.medians.items()
    shown = {"without": "memory without watchers, MB", "idle": "memory with idle watchers, MB", "loaded": MEMORY}
    bars(
        left,
        {name: middle[figure_name] for name, figure_name in shown.items()},
        {name: [reading.figures[figure_name] for reading in result.readings] for name, figure_name in shown.items()},
        "MB",
    )
    title(left, f"memory of the process, {system}")
    tails(right, {"update": rungs(median_curve(result.readings, system, "update"))}, "ms")
    title(right, f"update to socket at {middle[AT_RATE]:,.0f} orders/s")
    return made


def describe(result: Result) -> str:
    return (
        "One process that accepts, executes (profile `instant`) and serves all watchers; the clients are in a process "
        "of their own. Half of the WebSockets follow an order each that rests; the others are kept order-entry "
        "sockets, and get every update of the orders that are entered over them in turn. Memory is resident, latency "
        "is from the event's timestamp, which it got before its commit, to its arrival at the client."
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sockets", type=int, help=f"watchers (default: {SOCKETS:,}; quick: {QUICK_SOCKETS:,})")
    parser.add_argument("--rate", type=float, help=f"orders a second (default: {RATE:,g}; quick: {QUICK_RATE:,g})")


BENCHMARK: Final = Benchmark(
    name="watchers",
    title="Watchers",
    measure=measure,
    draw=draw,
    describe=describe,
    alt="Memory of the process without watchers, with idle ones and under load, and the latency of updates",
    goals=GOALS,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
