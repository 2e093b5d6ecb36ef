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
from itertools import combinations
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import asyncpg
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
from bestex.domain.orders import Order, OrderState
from bestex.domain.terms import Kind, Terms
from bestex.domain.tokens import Token, TokenRegistry, load_tokens
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
                await snipe(url, data, snipers, figures)
            await load(data, orders)
            async with serving(folder, data, "full", tokens) as (serve, url, seconds):
                figures["start with them, s"] = seconds
                figures["memory more than empty, MB"] = (memory_bytes(serve.pid) - empty) / 1e6
                await cross(url, data, min(CROSSED, orders // 2), figures)
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
    pairs = [pair for pair in combinations(tokens, 2) if pair != (sol, usdc)][: PAIRS - 1]
    close = min(CROSSED, orders // 2)
    for number in range(orders):
        token_in, token_out = (sol, usdc) if number < close else pairs[number % len(pairs)]
        price = f"{1_000 + number % 977}.{number % 9_973:04d}" if number < close else str(10**9 + number)
        amount = 10**token_in.decimals // 100 * (1 + number % 7)
        terms = Terms(limit_price=price)
        order = Order(ids.order_id(), Kind.LIMIT, token_in, token_out, amount, 50, clock.now_us(), terms=terms)
        new = NewOrder(order.id, order.kind.value, order.pair.name, "local")
        yield OrderLog(journal, clock, order, OrderState(), 0).draft_new(new)


async def cross(url: str, data: Path, crossed: int, figures: dict[str, float]) -> None:
    """Move the price over the orders that stand close, and wait until all of them are in `routing` or further."""
    postgres = EmbeddedPostgres(data)
    dsn = await running_dsn(postgres)
    connection = await asyncpg.connect(dsn)
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        began_us = SystemClock().now_us()
        answer = await client.post("/api/sim/price", json={"pair": "SOL/USDC", "percent": 2_000})
        if answer.status_code != 200:
            raise BenchError(f"the price cannot be moved: {answer.text}")
        deadline = time.monotonic() + FIRED_SECONDS_MAX
        query = "select count(*) from bestex.events where status = 'routing' and detail::jsonb ? 'trigger'"
        while await connection.fetchval(query) < crossed:
            if time.monotonic() > deadline:
                raise BenchError("the orders did not all fire")
            await asyncio.sleep(0.5)
    last_us = await connection.fetchval(
        "select (extract(epoch from max(at)) * 1000000)::bigint from bestex.events"
        " where status = 'routing' and detail::jsonb ? 'trigger'"
    )
    figures[f"{crossed:,} fired, s"] = (last_us - began_us) / 1e6
    await connection.close()
