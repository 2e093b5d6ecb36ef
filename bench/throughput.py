"""Throughput: completed orders a second, beside what a user would otherwise build. `python -m bench.throughput`.

Every system runs alone, from nothing, once a round; the rounds interleave, and each begins with another system.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from bench import node_peer
from bench.cluster import cluster
from bench.drive import WIDTHS, drive, figures
from bench.engine import ENGINE_NAME, engine
from bench.errors import UnavailableError
from bench.generator import Way
from bench.node_peer import PEER_NAME, PEER_WITH_HISTORY_NAME
from bench.results import Figures, Findings, Goal, Medians, Reading, Result, ratio
from bench.suite import Benchmark, Run, main, rotated
from bench.systems import System

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPLETED: Final = "completed/s"
TIMES: Final = " times"
SECONDS: Final = 8.0
WARM_UP_SECONDS: Final = 2.0
QUICK_SECONDS: Final = 2.0
QUICK_WARM_UP_SECONDS: Final = 1.0

BATCHES, WEBSOCKET = "bestex, batches of 100", "bestex, WebSocket entry"
ONE_WORKER, TWO_WORKERS, FOUR_WORKERS = (
    "api + 1 worker, PostgreSQL",
    "api + 2 workers, PostgreSQL",
    "api + 4 workers, PostgreSQL",
)
BULLMQ: Final = "api + 2 workers, BullMQ"
BY_POSTGRESQL: Final = (ONE_WORKER, TWO_WORKERS, FOUR_WORKERS)


@dataclass(frozen=True)
class Contender:
    """A system, and how orders are entered."""

    name: str
    start: Callable[[], AbstractAsyncContextManager[System]]
    way: Way = "post"


CONTENDERS: Final = (
    Contender(PEER_NAME, lambda: node_peer.peer(with_history=False)),
    Contender(ENGINE_NAME, lambda: engine("instant")),
    Contender(BATCHES, lambda: engine("instant", name=BATCHES), "batch"),
    Contender(WEBSOCKET, lambda: engine("instant", name=WEBSOCKET), "websocket"),
    Contender(ONE_WORKER, lambda: cluster(ONE_WORKER, workers=1)),
    Contender(TWO_WORKERS, lambda: cluster(TWO_WORKERS, workers=2)),
    Contender(FOUR_WORKERS, lambda: cluster(FOUR_WORKERS, workers=4)),
    Contender(BULLMQ, lambda: cluster(BULLMQ, workers=2, queue="bullmq")),
    Contender(PEER_WITH_HISTORY_NAME, lambda: node_peer.peer(with_history=True)),
)


async def measure(run: Run) -> Findings:
    seconds = run.options.seconds or (QUICK_SECONDS if run.quick else SECONDS)
    warm_up = QUICK_WARM_UP_SECONDS if run.quick else WARM_UP_SECONDS
    contenders = [each for each in CONTENDERS if not run.options.only or run.options.only in each.name]
    reason = await node_peer.reason_to_skip() if any(_is_peer(each) for each in contenders) else None
    if reason is not None:
        run.skipped.append(reason)
        contenders = [each for each in contenders if not _is_peer(each)]
    readings: list[Reading] = []
    unavailable: set[str] = set()
    for number in range(1, run.rounds + 1):
        for contender in rotated(contenders, number):
            if contender.name in unavailable:
                continue
            try:
                found = await _figures(run, contender, number, seconds, warm_up)
            except UnavailableError as error:
                unavailable.add(contender.name)
                run.skipped.append(str(error))
                continue
            readings.append(Reading(contender.name, number, found))
            run.say(f"round {number}: {contender.name}: {found[COMPLETED]:,.0f} orders/s")
    order = [contender.name for contender in CONTENDERS]
    readings.sort(key=lambda reading: (order.index(reading.system), reading.round))
    return Findings(
        readings,
        {
            "a round": f"{seconds:g} s of load after {warm_up:g} s of warm-up, on a fresh system",
            "single POSTs": "64 keep-alive connections, each with one request under way",
            "batches": "4 connections, each with one batch of 100 orders under way",
            "WebSocket entry": "8 sockets, each with 32 orders that have not ended",
        },
    )


async def _figures(run: Run, contender: Contender, number: int, seconds: float, warm_up: float) -> Figures:
    arguments: Sequence[str] = ("--way", contender.way, *WIDTHS[contender.way])
    async with contender.start() as system:
        with run.bar(f"round {number} of {run.rounds}: {contender.name}", seconds) as progress:
            if contender.way == "batch" and not await _takes_batches(system):
                raise UnavailableError(f"{contender.name}, because this checkout's API takes none")
            await drive(system, arguments, warm_up, lambda _: None)
            return figures(system, await drive(system, arguments, seconds, progress))


async def _takes_batches(system: System) -> bool:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{system.port}/api/orders/batch", json={"orders": []})
    return answer.status_code not in (404, 405)


def _is_peer(contender: Contender) -> bool:
    return contender.name.startswith(PEER_NAME)


def ratios(middle: Medians) -> Figures:
    """Every system's rate by that of the peer, without and with a history."""
    found: Figures = {}
    for system in middle:
        for peer in (PEER_NAME, PEER_WITH_HISTORY_NAME):
            times = ratio(middle, system, peer, COMPLETED)
            if times is not None and system != peer:
                found[f"{system} / {peer}"] = times
    return found


def best(middle: Medians, systems: Sequence[str], peer: str) -> float | None:
    """The best of several systems' rates by the peer's."""
    times = [each for system in systems if (each := ratio(middle, system, peer, COMPLETED)) is not None]
    return max(times, default=None)


GOALS: Final = (
    Goal(
        "completed orders/s, one process, single POSTs, by the peer's without history",
        1.2,
        TIMES,
        lambda middle: best(middle, [ENGINE_NAME], PEER_NAME),
    ),
    Goal(
        "the same by the peer's with history",
        4,
        TIMES,
        lambda middle: best(middle, [ENGINE_NAME], PEER_WITH_HISTORY_NAME),
    ),
    Goal(
        "batches of 100 or WebSocket entry, by the peer's without history",
        2.5,
        TIMES,
        lambda middle: best(middle, [BATCHES, WEBSOCKET], PEER_NAME),
    ),
    Goal(
        "api and workers in separate processes over PostgreSQL, by the peer's without history",
        1,
        TIMES,
        lambda middle: best(middle, BY_POSTGRESQL, PEER_NAME),
    ),
    Goal(
        "BullMQ on Valkey, by the peer's with history",
        1,
        TIMES,
        lambda middle: best(middle, [BULLMQ], PEER_WITH_HISTORY_NAME),
    ),
)


def draw(result: Result) -> "Figure":
    from bench.charts import bars, figure

    made, (axes,) = figure(height_in=0.9 + 0.36 * max(4, len(result.medians)))
    rounds: dict[str, list[float]] = {}
    for reading in result.readings:
        rounds.setdefault(reading.system, []).append(reading.figures[COMPLETED])
    bars(
        axes,
        {name: figures[COMPLETED] for name, figures in result.medians.items()},
        rounds,
        "completed orders a second",
    )
    return made


def describe(result: Result) -> str:
    return (
        "Orders that were accepted and executed to their end under the profile `instant`, by the time from the first "
        "order's sending to the last order's end. The peer is Fastify, BullMQ and Redis on Node.js, two processes, "
        "with the simulated delays at zero, without and with a row in PostgreSQL for each status "
        "(`bench/peer/README.md`). Without them it acknowledges orders that are on no disk; bestex answers after its "
        "commit, in every row. Bars are medians, ticks the rounds."
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, help=f"of load in a round (default: {SECONDS:g})")
    parser.add_argument("--only", metavar="WORDS", help="only systems with these words in their name")


BENCHMARK: Final = Benchmark(
    name="throughput",
    title="Throughput",
    measure=measure,
    draw=draw,
    describe=describe,
    alt="Completed orders a second of each system",
    goals=GOALS,
    ratios=ratios,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
