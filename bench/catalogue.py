"""Every benchmark of the suite, in the order in which it runs and is shown."""

from typing import Final

from bench import growth, latency, memory, punctuality, recovery, resting, throughput, watchers
from bench.suite import Benchmark

BENCHMARKS: Final[tuple[Benchmark, ...]] = (
    throughput.BENCHMARK,
    latency.BENCHMARK,
    punctuality.BENCHMARK,
    watchers.BENCHMARK,
    resting.BENCHMARK,
    recovery.BENCHMARK,
    growth.BENCHMARK,
    memory.BENCHMARK,
)
