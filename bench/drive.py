"""Drive a running system with the load generator until all that it accepted has ended, and take the figures."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.errors import BenchError
from bench.generator import Load, Way
from bench.machine import cpu_ticks
from bench.processes import Child, child, cpu_seconds, family_cpu_seconds
from bench.results import Figures
from bench.suite import ProgressOf
from bench.systems import System

NS: Final = 1e9
STALL_SECONDS_MAX: Final = 30.0  # without one more order ended

# How often the system is asked how many orders have ended: seldom while it is loaded, which costs it half a
# millisecond of CPU time each; often when the generator is done, which bounds the error of the time of the last end.
POLL_SECONDS: Final = 0.5
FINE_POLL_SECONDS: Final = 0.02

# How many orders wait for an answer at once: 64 connections; 4 with 100 orders each; 8 WebSockets with 32 each.
WIDTHS: Final[dict[Way, Sequence[str]]] = {
    "post": ("--connections", "64"),
    "batch": ("--connections", "4", "--batch", "100"),
    "websocket": ("--connections", "8", "--window", "32"),
}


@dataclass(frozen=True)
class Driven:
    """What one drive of a system showed."""

    load: Load
    last_ended_ns: int
    not_confirmed: int
    cpu_seconds: float  # of the system's own processes
    family_cpu_seconds: float  # of its databases and queues too
    others_share: float  # of all cores, 0 to 1: what neither the system nor the benchmark used while it was driven

    @property
    def accepted_per_second(self) -> float:
        return self.load.accepted / (self.load.last_accepted_ns - self.load.first_sent_ns) * NS

    @property
    def completed_per_second(self) -> float:
        """Orders by the time from the first sending to the last end."""
        return self.load.accepted / (self.last_ended_ns - self.load.first_sent_ns) * NS


async def drive(system: System, arguments: Sequence[str], seconds: float, progress: ProgressOf) -> Driven:
    """Run the generator with these arguments for so long, and wait until all orders that it entered have ended."""
    before = await system.ends()
    cpu_before, family_before = sum(map(cpu_seconds, system.pids)), family_cpu_seconds()
    own_before, ticks_before = time.process_time(), cpu_ticks()
    result = system.folder / f"load-{time.monotonic_ns()}.json"
    command: list[str | Path] = [sys.executable, "-m", "bench.generator", "--port", str(system.port)]
    command += ["--seconds", str(seconds), "--result", result, *arguments]
    for body in system.bodies:
        command += ["--body", body]
    async with child("the load generator", command, system.folder / "generator.log", {}) as generator:
        began = time.monotonic()
        while generator.process.returncode is None:
            progress(min(time.monotonic() - began, seconds))
            await _ended_or(generator, POLL_SECONDS)
        await generator.require_success(STALL_SECONDS_MAX)
    load = msgspec.json.decode(result.read_bytes(), type=Load)
    last_ended_ns = await _until_ended(system, before.total, load.accepted)
    family = family_cpu_seconds() - family_before  # the generator has ended: it is not in it
    measured = family + load.cpu_seconds + time.process_time() - own_before
    after = await system.ends()
    return Driven(
        load=load,
        last_ended_ns=last_ended_ns,
        not_confirmed=load.accepted - (after.confirmed - before.confirmed),
        cpu_seconds=sum(map(cpu_seconds, system.pids)) - cpu_before,
        family_cpu_seconds=family,
        others_share=others_share(ticks_before, cpu_ticks(), measured),
    )


def others_share(before: tuple[int, int], after: tuple[int, int], measured_seconds: float) -> float:
    """The part of all cores that was used by what is not measured: 0 to 1."""
    total = after[0] - before[0]
    busy = total - (after[1] - before[1])
    return max(0.0, busy - measured_seconds * os.sysconf("SC_CLK_TCK")) / total if total else 0.0


async def _ended_or(generator: Child, seconds: float) -> None:
    """Until the generator ends, or so long."""
    try:
        async with asyncio.timeout(seconds):
            await generator.process.wait()
    except TimeoutError:
        return


async def _until_ended(system: System, before: int, orders: int) -> int:
    """The time at which all were seen to have ended: at most one poll late."""
    seen, seen_at = -1, time.monotonic()
    while True:
        ended = (await system.ends()).total - before
        now_ns = time.monotonic_ns()
        if ended >= orders:
            return now_ns
        if ended > seen:
            seen, seen_at = ended, time.monotonic()
        elif time.monotonic() - seen_at > STALL_SECONDS_MAX:
            raise BenchError(
                f"{system.name}: {ended} of {orders} orders ended, then none for {STALL_SECONDS_MAX:.0f} s"
            )
        await asyncio.sleep(FINE_POLL_SECONDS)


def figures(system: System, driven: Driven) -> Figures:
    """What a closed loop shows."""
    load = driven.load
    return {
        "completed/s": driven.completed_per_second,
        "accepted/s": driven.accepted_per_second,
        "accept p50, ms": load.accept.get("50", 0.0),
        "accept p99, ms": load.accept.get("99", 0.0),
        "CPU an order, ms": driven.cpu_seconds / load.accepted * 1e3,
        "with its servers, ms": driven.family_cpu_seconds / load.accepted * 1e3,
        "generator's CPU an order, ms": load.cpu_seconds / load.accepted * 1e3,
        "peak memory, MB": system.peak_memory_bytes() / 1e6,
        "answers 503": load.busy_answers,
        "not confirmed": driven.not_confirmed,
        "others' part of the cores, %": driven.others_share * 100,
    }
