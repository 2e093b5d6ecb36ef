"""The command line: which parts to measure, in which order. `python -m bench --help` shows it."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import node_peer
from bench.engine import engine
from bench.errors import BenchError
from bench.machine import machine
from bench.measure import ProgressOf, Round, Work, measure
from bench.report import (
    Results,
    medians,
    print_realistic,
    print_rounds,
    print_summary,
    print_watched,
    save,
    targets,
)
from bench.systems import System
from bench.watched import Punctuality, measure_punctuality, measure_watched

DESCRIPTION: Final = """\
Measures bestex on this machine: orders accepted and completed a second, latencies, peak memory. Where
Node.js is present, a Fastify and BullMQ stack is measured beside it, without and with a history in
PostgreSQL, in interleaved rounds. Quote the ratios of one run, never the figures of two. Linux only.
"""

INTERRUPTED: Final = 130
REALISTIC_ORDERS: Final = 1_000

StartSystem = Callable[[], AbstractAsyncContextManager[System]]


@dataclass(frozen=True)
class Options:
    engine: bool
    peer: bool
    realistic: bool
    rounds: int
    work: Work


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=positive, default=20_000, help="orders a round (default: %(default)s)")
    parser.add_argument(
        "--connections", type=positive, default=64, help="the closed loop's width (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="rounds of each system (default: %(default)s)")
    parser.add_argument(
        "--warm-up",
        type=int,
        default=2_000,
        metavar="ORDERS",
        help="sent before each round, not counted (default: %(default)s)",
    )
    parser.add_argument("--only", choices=("engine", "peer", "realistic"), help="measure this part alone")
    parser.add_argument("--realistic", action="store_const", const="realistic", dest="only", help="as --only realistic")
    given = parser.parse_args(arguments)
    return Options(
        engine=given.only in (None, "engine"),
        peer=given.only in (None, "peer"),
        realistic=given.only in (None, "realistic"),
        rounds=given.rounds,
        work=Work(given.orders, given.connections, given.warm_up),
    )


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


async def run(options: Options, console: Console) -> Results:
    """Measure what the options ask for, printing each part's figures as they come."""
    facts = machine()
    reason_to_skip = await node_peer.reason_to_skip() if options.peer else None
    systems = systems_of_a_round(options, with_peer=options.peer and reason_to_skip is None)
    rounds: list[Round] = []
    watched: Round | None = None
    realistic: Punctuality | None = None
    with bars(console) as bar:
        for number in range(1, options.rounds + 1 if systems else 1):
            for start in systems:
                async with start() as system:
                    with bar(f"round {number} of {options.rounds}: {system.name}", options.work.orders) as progress:
                        figures, _ = await measure(system, options.work, progress)
                rounds.append(figures)
            print_rounds(console, f"Round {number} of {options.rounds}", rounds[-len(systems) :])
        if options.engine:
            with bar("bestex, watched", options.work.orders) as progress:
                watched = await measure_watched(options.work, progress)
            print_watched(console, watched)
        if options.realistic:
            with bar("bestex, realistic times", REALISTIC_ORDERS) as progress:
                realistic = await measure_punctuality(REALISTIC_ORDERS, options.work.connections, progress)
            print_realistic(console, realistic)
    middle = medians(rounds)
    every = [*rounds, watched] if watched is not None else rounds
    return Results(
        taken_at=datetime.now(UTC),
        machine=facts,
        rounds=rounds,
        medians=middle,
        watched=watched,
        realistic=realistic,
        skipped=[reason_to_skip] if reason_to_skip else [],
        targets=targets(middle, every, realistic),
    )


def systems_of_a_round(options: Options, *, with_peer: bool) -> Sequence[StartSystem]:
    """The peer on both sides of the engine: what drifts during a round falls on both."""
    systems: list[StartSystem] = [lambda: engine("instant")] if options.engine else []
    if with_peer:
        systems.insert(0, lambda: node_peer.peer(with_history=False))
        systems.append(lambda: node_peer.peer(with_history=True))
    return systems


Bar = Callable[[str, int], contextlib.AbstractContextManager[ProgressOf]]


@contextlib.contextmanager
def bars(console: Console) -> Iterator[Bar]:
    """Progress bars, one at a time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:

        @contextlib.contextmanager
        def bar(what: str, total: int) -> Iterator[ProgressOf]:
            task = shown.add_task(what, total=total)
            try:
                yield lambda done: shown.update(task, completed=done)
            finally:
                shown.remove_task(task)

        yield bar


async def run_until_signalled(options: Options, console: Console) -> Results | None:
    """The results; nothing when Ctrl-C or SIGTERM came first. Either way every child process has ended."""
    task = asyncio.create_task(run(options, console))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: task.cancel() if not task.cancelling() else None)
    try:
        return await task
    except asyncio.CancelledError:
        return None


def main() -> int:
    options = parse()
    console = Console()
    if sys.platform != "linux":
        console.print("The benchmark reads /proc and so runs on Linux only.")
        return 1
    try:
        results = asyncio.run(run_until_signalled(options, console))
    except BenchError as error:
        console.print(str(error), markup=False, highlight=False)
        return 1
    if results is None:
        console.print("Interrupted; every process and temporary folder of the benchmark is gone.")
        return INTERRUPTED
    print_summary(console, results)
    console.print(f"Saved as {os.path.relpath(save(results))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
