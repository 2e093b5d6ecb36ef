"""Resting orders: what a million of them cost, and how fast ten thousand fire. `python -m bench.resting`.

Limit orders rest over 50 pairs when the engine starts; ten thousand of them are then crossed at once. Before, snipers
are entered through the door, and a launch comes that some of them want. `python -m bench.books`: the books alone.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import combinations
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

import httpx

from bench.dead_engine import dead_engine
from bench.engine import BESTEX, READY_SECONDS_MAX, end_postgres
from bench.errors import BenchError
from bench.processes import Child, child, free_port, memory_bytes, temporary_directory, wait_for_ok
from bench.results import Figures, Findings, Reading, Result
from bench.suite import Benchmark, ProgressOf, Run, main
from bestex.ambient import SystemClock, SystemIds
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.terms import Kind, Terms
from bestex.domain.tokens import Token, TokenRegistry, load_tokens, pair_of
from bestex.engine.order_log import OrderLog
from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.postgres import PostgresJournal
from bestex.ports import Append, NewOrder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES: Final = (250_000, 1_000_000)
QUICK_SIZES: Final = (5_000, 20_000)
QUICK_SNIPERS: Final = 1_000
PAIRS: Final = 50
CROSSED: Final = 10_000
SNIPERS: Final = 10_000
MATCHING: Final = 100
FIRED_SECONDS_MAX: Final = 60.0
POST_AT_ONCE: Final = 64
POLL_SECONDS: Final = 0.02
RESTING, START, MEMORY, FIRED = "orders resting", "start, s", "memory more than empty, MB", "fired and durable, s"
_FAR_MINTS: Final = 3  # tokens beside the built-in ones: nobody makes a price for them


def registry() -> TokenRegistry:
    """The built-in tokens and some more: enough for 50 pairs."""
    more = [Token(f"FAR{number}", "1" * 31 + "234"[number], 6) for number in range(_FAR_MINTS)]
    return TokenRegistry([*load_tokens(), *more])


@asynccontextmanager
async def serving(folder: Path, data: Path, name: str, tokens: Path) -> AsyncIterator[tuple[Child, str, float]]:
    """A running engine, its address, and the seconds that its start took."""
    port = free_port()
    settings = {
        "PORT": str(port),
        "BESTEX_DATA_DIR": str(data),
        "BESTEX_LOG_JSON": "true",
        "BESTEX_PROFILE": "instant",
        "BESTEX_TOKENS_FILE": str(tokens),
    }
    began = time.monotonic()
    async with child(name, [BESTEX, "serve"], folder / f"{name}.log", settings) as serve:
        url = f"http://127.0.0.1:{port}"
        await wait_for_ok(serve, f"{url}/readyz", READY_SECONDS_MAX)
        yield serve, url, time.monotonic() - began


async def measure(run: Run) -> Findings:
    sizes, snipers = (QUICK_SIZES, QUICK_SNIPERS) if run.quick else (SIZES, SNIPERS)
    readings: list[Reading] = []
    for number in range(1, run.rounds + 1):
        for size in sizes:
            found = await _figures(run, size, snipers)
            readings.append(Reading(system_of(size), number, found))
            run.say(f"round {number}: {size:,} resting: start {found[START]:.1f} s, fired in {found[FIRED]:.2f} s")
    readings.sort(key=lambda reading: (reading.figures[RESTING], reading.round))
    return Findings(
        readings,
        {
            "orders": f"limit orders over {PAIRS} pairs, written through the journal by an engine that is dead then",
            "crossed": f"{CROSSED:,} orders (or half of them) by one jump of the price",
            "snipers": f"{snipers:,}, of which {min(MATCHING, snipers)} want the pool that is launched",
        },
    )


async def _figures(run: Run, orders: int, snipers: int) -> Figures:
    figures: Figures = {RESTING: orders}
    with temporary_directory() as folder:
        data = folder / "data"
        data.mkdir()
        tokens = folder / "tokens.json"
        tokens.write_text(
            json.dumps([{"symbol": each.symbol, "mint": each.mint, "decimals": each.decimals} for each in registry()])
        )
        try:
            async with serving(folder, data, "empty", tokens) as (serve, url, _):
                empty = memory_bytes(serve.pid)
                with run.bar(f"entering {snipers:,} snipers", snipers) as progress:
                    await snipe(url, snipers, figures, progress)
            with run.bar(f"writing {orders:,} resting orders", orders) as progress:
                await load(data, orders, progress)
            async with serving(folder, data, "full", tokens) as (serve, url, seconds):
                figures[START] = seconds
                figures[MEMORY] = (memory_bytes(serve.pid) - empty) / 1e6
                figures["bytes an order"] = (memory_bytes(serve.pid) - empty) / orders
                await cross(url, min(CROSSED, orders // 2), figures)
        finally:
            await end_postgres(data)
    return figures


async def load(data: Path, orders: int, progress: ProgressOf) -> None:
    """Write the resting orders as an engine that is dead then."""
    postgres = EmbeddedPostgres(data)
    await postgres.start()
    async with dead_engine(postgres.dsn, "inline") as dead:
        await dead.write(drafts(orders, dead.journal, dead.clock, dead.ids), progress)
    await postgres.stop()


def drafts(orders: int, journal: PostgresJournal, clock: SystemClock, ids: SystemIds) -> Iterator[Append]:
    """Sells of all pairs, above the market; of SOL for USDC, `CROSSED` stand close above it."""
    tokens = registry()
    sol, usdc = tokens.get("SOL"), tokens.get("USDC")
    pairs = [pair_of(*two) for two in combinations(tokens, 2) if two != (sol, usdc)][: PAIRS - 1]
    close = min(CROSSED, orders // 2)
    for number in range(orders):
        pair = pair_of(sol, usdc) if number < close else pairs[number % len(pairs)]
        token_in, token_out = pair.base, pair.quote
        price = f"{1_000 + number % 977}.{number % 9_973:04d}" if number < close else str(10**9 + number)
        amount = 10**token_in.decimals // 100 * (1 + number % 7)
        terms = Terms(limit_price=price)
        order = Order(ids.order_id(), Kind.LIMIT, token_in, token_out, amount, 50, clock.now_us(), terms=terms)
        new = NewOrder(order.id, order.kind.value, order.pair.name, "local")
        yield OrderLog(journal, clock, order, OrderState(), 0).draft_new(new)


async def cross(url: str, crossed: int, figures: Figures) -> None:
    """Move the price over the orders that stand close; until the firing of all of them has been committed."""
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        began = time.monotonic()
        await _post(client, "/api/sim/price", {"pair": "SOL/USDC", "percent": 2_000})
        deadline = began + FIRED_SECONDS_MAX
        while await _committed(client, "routing") < crossed:
            if time.monotonic() > deadline:
                raise BenchError("the orders did not all fire")
            await asyncio.sleep(POLL_SECONDS)
        figures["crossed orders"] = crossed
        figures[FIRED] = time.monotonic() - began


async def snipe(url: str, snipers: int, figures: Figures, progress: ProgressOf) -> None:
    """Enter snipers of whom a few want what is launched then; from its listing to their signed transactions."""
    matching = min(MATCHING, snipers)
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        bodies = [
            _sniper(number, wants=number * matching // snipers != (number - 1) * matching // snipers)
            for number in range(snipers)
        ]
        for start in range(0, snipers, POST_AT_ONCE):
            progress(start)
            posts = (_post(client, "/api/orders/execute", body) for body in bodies[start : start + POST_AT_ONCE])
            await asyncio.gather(*posts)
        await asyncio.sleep(1.0)
        launch = await _post(client, "/api/sim/launch", {"liquidity": "500"})
        deadline = time.monotonic() + FIRED_SECONDS_MAX
        while len(bought := await _bought(client)) < matching:
            if time.monotonic() > deadline:
                raise BenchError(f"{len(bought)} of {matching} snipers bought")
            await asyncio.sleep(POLL_SECONDS)
        latencies_ms = []
        for order in bought:
            history = (await client.get(f"/api/orders/{order['orderId']}/history")).json()["data"]
            signed = next(update for update in history if update["status"] == "submitted")
            latencies_ms.append(_milliseconds(launch["listedAt"], signed["timestamp"]))
        figures["snipers that fired"] = len(latencies_ms)
        figures["listing to signed, p50 ms"] = quantiles(latencies_ms, n=100)[49]
        figures["listing to signed, p99 ms"] = quantiles(latencies_ms, n=100)[98]


async def _bought(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await client.get("/api/orders", params={"kind": "sniper", "limit": 500, "status": "confirmed"})
    orders: list[dict[str, Any]] = answer.json()["data"]
    return orders


def _sniper(number: int, *, wants: bool) -> dict[str, Any]:
    """One that wants any pool, or one of a hundred kinds that want more liquidity than comes."""
    least = "1" if wants else str(1_000 + number % 100)
    return {"kind": "sniper", "tokenIn": "SOL", "amount": "0.01", "filters": {"minLiquidity": least}}


async def _post(client: httpx.AsyncClient, path: str, body: object) -> Any:
    answer = await client.post(path, json=body)
    if not answer.is_success:
        raise BenchError(f"{path}: {answer.status_code} {answer.text}")
    return answer.json()


async def _committed(client: httpx.AsyncClient, status: str) -> float:
    """How many events of a status the engine has committed since its start."""
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith(f'bestex_events_total{{status="{status}"}}'):
            return float(line.rpartition(" ")[2])
    return 0.0


def _milliseconds(before: str, after: str) -> float:
    return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds() * 1000


def system_of(size: int) -> str:
    return f"{size:,} resting"


def draw(result: Result) -> "Figure":
    from bench.charts import figure, line, title

    made, axes = figure(columns=3, height_in=2.6)
    middle = list(result.medians.values())
    for panel, (name, unit, what) in zip(
        axes,
        ((START, "s", "start"), (MEMORY, "MB", "memory more than empty"), (FIRED, "s", "fired and durable")),
        strict=True,
    ):
        line(panel, [(each[RESTING], each[name]) for each in middle], "orders resting", unit)
        title(panel, what)
    return made


def describe(result: Result) -> str:
    return (
        "One process under the profile `instant` starts over orders that rest, and answers when their books are "
        "loaded. Then the price jumps over those that stand close, and the time runs until the last of their firings "
        "is committed. Snipers are entered on an engine without resting orders; their latency is from the pool's "
        "listing to the signed transaction, durable before its first send."
    )


BENCHMARK: Final = Benchmark(
    name="resting",
    title="Resting orders",
    measure=measure,
    draw=draw,
    describe=describe,
    alt="Seconds of a start, memory, and seconds until all crossed orders have fired, over the orders resting",
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
