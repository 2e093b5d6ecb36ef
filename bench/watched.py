"""What takes a watcher of the engine's feed: the time to `confirmed`, and how real times are kept."""

import contextlib
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from bench.engine import Engine, engine
from bench.load import LoadResult
from bench.measure import (
    LOAD_SECONDS_MAX,
    NS_PER_MS,
    STALL_SECONDS_MAX,
    ProgressOf,
    Round,
    Work,
    drive,
    measure,
    percentile,
)
from bench.processes import child, wait_for_line
from bench.watch import READY_LINE, WatchResult
from bestex.journal.embedded import EmbeddedPostgres

WATCH_READY_SECONDS_MAX: Final = 10.0

# The longest simulated times of the `realistic` profile: quotes, building, landing.
BUILD_MS: Final = 400
SIMULATED_MS_MAX: Final = 360 + BUILD_MS + 2_600

# Everything that an order waited for beside its slower quote, its build and its landing.
BEYOND_OWN_TIMES: Final = f"""
select max(extract(epoch from confirmed.at - pending.at) * 1000
           - (select max((q ->> 'latencyMs')::numeric) from json_array_elements(building.detail::json -> 'quotes') q)
           - {BUILD_MS}
           - (landed.landed_us / 1000.0 - extract(epoch from submitted.at) * 1000))
  from bestex.events pending
  join bestex.events building on building.order_id = pending.order_id and building.status = 'building'
  join bestex.events submitted on submitted.order_id = pending.order_id and submitted.status = 'submitted'
  join bestex.events confirmed on confirmed.order_id = pending.order_id and confirmed.status = 'confirmed'
  join sim.transactions landed on landed.signature = submitted.detail::json ->> 'signature'
 where pending.status = 'pending'"""


class Punctuality(msgspec.Struct, frozen=True, rename="camel"):
    """How orders of the `realistic` profile kept their simulated times, all under way at once."""

    orders: int
    under_way_at_once: int
    not_confirmed: int
    confirmed_p50_ms: float  # from accepted to confirmed
    confirmed_max_ms: float
    latest_beyond_own_ms: float  # of any order, beyond its own simulated times: its slower quote, building, landing
    latest_beyond_longest_ms: float  # beyond the longest that they can be; negative: none took so long
    peak_memory_mb: float


async def measure_watched(work: Work, progress: ProgressOf) -> Round:
    """One more round of the engine, with a watcher of every event beside the load generator."""
    async with engine("instant") as started, watcher(started, work.warm_up_orders + work.orders) as watching:
        figures, driven = await measure(started, work, progress)
        elapsed_ns = accepted_to_confirmed_ns(driven.load, await watching())
    return msgspec.structs.replace(
        figures,
        system="bestex, watched",
        confirmed_p50_ms=percentile(elapsed_ns, 50) / NS_PER_MS,
        confirmed_p99_ms=percentile(elapsed_ns, 99) / NS_PER_MS,
        confirmed_max_ms=elapsed_ns[-1] / NS_PER_MS,
    )


async def measure_punctuality(orders: int, connections: int, progress: ProgressOf) -> Punctuality:
    """Put `orders` orders under way at once, under the `realistic` profile."""
    async with engine("realistic") as started, watcher(started, orders) as watching:
        driven = await drive(started, orders, connections, progress)
        seen = await watching()
        peak_memory_mb = started.peak_memory_bytes() / 1e6
        latest_beyond_own_ms = await beyond_own_times_ms(started)
    elapsed_ns = accepted_to_confirmed_ns(driven.load, seen)
    return Punctuality(
        orders=orders,
        under_way_at_once=under_way_at_once(driven.load, seen),
        not_confirmed=driven.not_confirmed,
        confirmed_p50_ms=percentile(elapsed_ns, 50) / NS_PER_MS,
        confirmed_max_ms=elapsed_ns[-1] / NS_PER_MS,
        latest_beyond_own_ms=latest_beyond_own_ms,
        latest_beyond_longest_ms=elapsed_ns[-1] / NS_PER_MS - SIMULATED_MS_MAX,
        peak_memory_mb=peak_memory_mb,
    )


async def beyond_own_times_ms(started: Engine) -> float:
    """How late the latest order was, by the journal's times and the moments the simulated chain landed them."""
    connection = await asyncpg.connect(EmbeddedPostgres(started.folder / "data").dsn)
    try:
        latest = await connection.fetchval(BEYOND_OWN_TIMES)
    finally:
        await connection.close()
    return float(latest)


@contextlib.asynccontextmanager
async def watcher(started: Engine, orders: int) -> AsyncIterator[Callable[[], Awaitable[WatchResult]]]:
    """A watcher process of `orders` orders. What it yields waits for their ends and tells what was seen."""
    file = started.folder / "watch.json"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "bench.watch",
        "--port",
        str(started.port),
        "--result",
        file,
    ]
    command += ["--orders", str(orders), "--seconds-max", str(LOAD_SECONDS_MAX)]
    async with child("the watcher", command, started.folder / "watch.log", {}) as process:
        await wait_for_line(process, READY_LINE, WATCH_READY_SECONDS_MAX)

        async def result() -> WatchResult:
            await process.require_success(STALL_SECONDS_MAX)
            return msgspec.json.decode(file.read_bytes(), type=WatchResult)

        yield result


def accepted_to_confirmed_ns(load: LoadResult, seen: WatchResult) -> Sequence[int]:
    """Ascending: from the 202 at the load generator to `confirmed` at the watcher, of each order executed."""
    ends = ((accepted_ns, seen.ended[order_id]) for order_id, accepted_ns in accepted(load))
    return sorted(end.seen_ns - accepted_ns for accepted_ns, end in ends if end.status == "confirmed")


def under_way_at_once(load: LoadResult, seen: WatchResult) -> int:
    """The most orders that were accepted and not yet ended at one moment."""
    steps = [(accepted_ns, 1) for _, accepted_ns in accepted(load)]
    steps += [(seen.ended[order_id].seen_ns, -1) for order_id, _ in accepted(load)]
    return max(itertools.accumulate(step for _, step in sorted(steps)))


def accepted(load: LoadResult) -> Iterable[tuple[str, int]]:
    return zip(load.order_ids, load.accepted_ns, strict=True)
