"""One round: drive a running system until all its orders have ended, and take its figures."""

import asyncio
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.errors import BenchError
from bench.load import LoadResult
from bench.processes import Child, child, cpu_seconds
from bench.systems import System

LOAD_SECONDS_MAX: Final = 600.0
STALL_SECONDS_MAX: Final = 30.0  # without one more order ended

# How often the system is asked how many orders have ended. The finer rhythm, used towards the end, bounds the
# error of the time of the last end; the coarser one keeps the asking from weighing on what is measured.
POLL_SECONDS: Final = 0.25
FINE_POLL_SECONDS: Final = 0.05
FINE_POLL_FROM: Final = 0.9  # the part of the orders that have ended

NS_PER_SECOND: Final = 1e9
NS_PER_MS: Final = 1e6

ProgressOf = Callable[[int], None]  # called with the number of orders ended so far


@dataclass(frozen=True)
class Work:
    """How much is sent, and how."""

    orders: int
    connections: int
    warm_up_orders: int  # sent first and not counted


class Round(msgspec.Struct, frozen=True, rename="camel"):
    """The figures of one round."""

    system: str
    orders: int
    connections: int
    accepted_per_second: float
    completed_per_second: float  # orders by the time from the first POST to the last end
    accept_p50_ms: float
    accept_p99_ms: float
    accept_max_ms: float
    not_confirmed: int  # ended otherwise
    busy_answers: int  # 503, waited for and repeated
    peak_memory_mb: float
    cpu_ms_per_order: float  # of the system's own processes
    load_cpu_ms_per_order: float  # of the load generator
    confirmed_p50_ms: float | None = None  # from accepted to confirmed, where it was watched
    confirmed_p99_ms: float | None = None
    confirmed_max_ms: float | None = None


@dataclass(frozen=True)
class Driven:
    """What one drive of a system showed."""

    load: LoadResult
    last_ended_ns: int
    not_confirmed: int
    cpu_seconds: float


async def drive(system: System, orders: int, connections: int, progress: ProgressOf) -> Driven:
    """Send `orders` orders and wait until all have ended."""
    before = await system.ends()
    cpu_before = sum(map(cpu_seconds, system.pids))
    result = system.folder / f"load-{time.monotonic_ns()}.json"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "bench.load",
        "--port",
        str(system.port),
        "--result",
        result,
    ]
    command += [
        "--orders",
        str(orders),
        "--connections",
        str(connections),
        "--seconds-max",
        str(LOAD_SECONDS_MAX),
    ]
    for body in system.bodies:
        command += ["--body", body]
    async with child("the load generator", command, system.folder / "load.log", {}) as generator:
        last_ended_ns = await _until_ended(system, before.total, orders, generator, progress)
        await generator.require_success(STALL_SECONDS_MAX)
    after = await system.ends()
    return Driven(
        load=msgspec.json.decode(result.read_bytes(), type=LoadResult),
        last_ended_ns=last_ended_ns,
        not_confirmed=orders - (after.confirmed - before.confirmed),
        cpu_seconds=sum(map(cpu_seconds, system.pids)) - cpu_before,
    )


async def _until_ended(system: System, before: int, orders: int, generator: Child, progress: ProgressOf) -> int:
    """The time at which all were seen to have ended: at most one fine poll late."""
    seen, seen_at = 0, time.monotonic()
    while True:
        ended = (await system.ends()).total - before
        now_ns = time.monotonic_ns()
        progress(ended)
        if ended >= orders:
            return now_ns
        if ended > seen:
            seen, seen_at = ended, time.monotonic()
        generator.require_not_failed()
        if time.monotonic() - seen_at > STALL_SECONDS_MAX:
            raise BenchError(
                f"{system.name}: {ended} of {orders} orders ended, then none for {STALL_SECONDS_MAX:.0f} s"
            )
        await asyncio.sleep(FINE_POLL_SECONDS if ended >= FINE_POLL_FROM * orders else POLL_SECONDS)


async def measure(system: System, work: Work, progress: ProgressOf) -> tuple[Round, Driven]:
    """Warm the system up, then take one round's figures."""
    if work.warm_up_orders:
        await drive(system, work.warm_up_orders, work.connections, lambda _: None)
    driven = await drive(system, work.orders, work.connections, progress)
    load = driven.load
    accept_ns = sorted(load.accept_latencies_ns())
    figures = Round(
        system=system.name,
        orders=work.orders,
        connections=work.connections,
        accepted_per_second=work.orders / (load.last_accepted_ns - load.first_sent_ns) * NS_PER_SECOND,
        completed_per_second=work.orders / (driven.last_ended_ns - load.first_sent_ns) * NS_PER_SECOND,
        accept_p50_ms=percentile(accept_ns, 50) / NS_PER_MS,
        accept_p99_ms=percentile(accept_ns, 99) / NS_PER_MS,
        accept_max_ms=accept_ns[-1] / NS_PER_MS,
        not_confirmed=driven.not_confirmed,
        busy_answers=load.busy_answers,
        peak_memory_mb=system.peak_memory_bytes() / 1e6,
        cpu_ms_per_order=driven.cpu_seconds / work.orders * 1e3,
        load_cpu_ms_per_order=load.cpu_seconds / work.orders * 1e3,
    )
    return figures, driven


def percentile(ascending: Sequence[int], percent: int) -> int:
    """The nearest-rank percentile."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]
