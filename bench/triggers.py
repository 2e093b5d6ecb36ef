"""Watched orders: memory, start, firing, and snipers. `python -m bench.triggers`.

A million limit orders rest over 50 pairs when the engine starts; ten thousand of them are then crossed at once. Snipers
are entered through the door, and a launch comes that some of them want.
"""

import argparse
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
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.books import measure_books
from bench.dead_engine import dead_engine
from bench.engine import BESTEX, READY_SECONDS_MAX, end_postgres
from bench.errors import BenchError
from bench.processes import Child, child, free_port, memory_bytes, temporary_directory, wait_for_ok
from bestex.ambient import SystemClock, SystemIds
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.terms import Kind, Terms
from bestex.domain.tokens import Token, TokenRegistry, load_tokens, pair_of
from bestex.engine.order_log import OrderLog
from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.postgres import PostgresJournal
from bestex.ports import Append, NewOrder

ORDERS: Final = 1_000_000
PAIRS: Final = 50
CROSSED: Final = 10_000
SNIPERS: Final = 10_000
MATCHING: Final = 100
FIRED_SECONDS_MAX: Final = 60.0
POST_AT_ONCE: Final = 64
POLL_SECONDS: Final = 0.02
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


async def run(orders: int, snipers: int) -> dict[str, float]:
    figures: dict[str, float] = dict(measure_books())
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
                await snipe(url, snipers, figures)
            await load(data, orders)
            async with serving(folder, data, "full", tokens) as (serve, url, seconds):
                figures["start with them, s"] = seconds
                figures["memory more than empty, MB"] = (memory_bytes(serve.pid) - empty) / 1e6
                await cross(url, min(CROSSED, orders // 2), figures)
        finally:
            await end_postgres(data)
    return figures


async def load(data: Path, orders: int) -> None:
    """Write the resting orders as an engine that is dead then."""
    postgres = EmbeddedPostgres(data)
    await postgres.start()
    async with dead_engine(postgres.dsn, "inline") as dead:
        await dead.write(drafts(orders, dead.journal, dead.clock, dead.ids), orders)
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


async def cross(url: str, crossed: int, figures: dict[str, float]) -> None:
    """Move the price over the orders that stand close; until the firing of all of them has been committed."""
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        began = time.monotonic()
        await _post(client, "/api/sim/price", {"pair": "SOL/USDC", "percent": 2_000})
        deadline = began + FIRED_SECONDS_MAX
        while await _committed(client, "routing") < crossed:
            if time.monotonic() > deadline:
                raise BenchError("the orders did not all fire")
            await asyncio.sleep(POLL_SECONDS)
        figures[f"{crossed:,} fired and durable, s"] = time.monotonic() - began


async def snipe(url: str, snipers: int, figures: dict[str, float]) -> None:
    """Enter snipers of whom a few want what is launched then; from its listing to their signed transactions."""
    matching = min(MATCHING, snipers)
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        bodies = [
            _sniper(number, wants=number * matching // snipers != (number - 1) * matching // snipers)
            for number in range(snipers)
        ]
        for start in track(range(0, snipers, POST_AT_ONCE), "entering snipers"):
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.triggers", description=__doc__)
    parser.add_argument("--orders", type=int, default=ORDERS, help="resting orders (default: %(default)s)")
    parser.add_argument("--snipers", type=int, default=SNIPERS, help="waiting snipers (default: %(default)s)")
    options = parser.parse_args()
    try:
        figures = asyncio.run(run(options.orders, options.snipers))
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    table = Table(box=None)
    table.add_column("watched orders")
    table.add_column("", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3g}" if value < 100 else f"{value:,.0f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
