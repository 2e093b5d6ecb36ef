"""The engine under measurement: `bestex serve` with its own PostgreSQL, on a folder of its own."""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import httpx
import msgspec

from bench.errors import BenchError
from bench.processes import (
    READY_POLL_SECONDS,
    STOP_SECONDS_MAX,
    child,
    free_port,
    peak_memory_bytes,
    temporary_directory,
    wait_for_ok,
    with_log_of,
)
from bench.systems import Ends
from bestex.journal.embedded.process import running_server

Profile = Literal["instant", "realistic"]

ENGINE_NAME: Final = "bestex"

READY_SECONDS_MAX: Final = 90.0
REQUEST_SECONDS_MAX: Final = 10.0
BESTEX: Final = Path(sys.executable).parent / "bestex"
ENDED_SAMPLE: Final = re.compile(r'^bestex_orders_ended_total\{.*?status="(\w+)".*?\} (\S+)', re.MULTILINE)
ACCEPTED_SAMPLE: Final = re.compile(r"^bestex_orders_accepted_total (\S+)", re.MULTILINE)

SELL_SOL: Final = "0.25"


class Quote(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of one venue's answer to `GET /api/quotes`."""

    amount_out: str


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    port: int
    pid: int
    bodies: Sequence[str]
    client: httpx.AsyncClient
    folder: Path
    data: Path  # of its database
    name: str = ENGINE_NAME

    @property
    def pids(self) -> Sequence[int]:
        return (self.pid,)

    async def ends(self) -> Ends:
        response = await self.client.get("/metrics")
        response.raise_for_status()
        counts = {status: int(float(count)) for status, count in ENDED_SAMPLE.findall(response.text)}
        return Ends(total=sum(counts.values()), confirmed=counts.get("confirmed", 0))

    async def in_flight(self) -> int:
        """Orders accepted and not ended."""
        response = await self.client.get("/metrics")
        response.raise_for_status()
        accepted = ACCEPTED_SAMPLE.search(response.text)
        ended = ENDED_SAMPLE.findall(response.text)
        return int(float(accepted[1] if accepted else 0)) - sum(int(float(count)) for _, count in ended)

    def peak_memory_bytes(self) -> int:
        return peak_memory_bytes(self.pid)


@contextlib.asynccontextmanager
async def engine(
    profile: Profile,
    *,
    name: str = ENGINE_NAME,
    settings: Mapping[str, str] | None = None,
    kept: Path | None = None,
) -> AsyncIterator[Engine]:
    """An engine, ready for orders, until the block ends: a fresh one, or one on a data folder that is kept."""
    if not BESTEX.exists():
        raise BenchError(f"{BESTEX} does not exist: run the benchmark with the checkout's .venv, made by `make setup`")
    port = free_port()
    with temporary_directory() as folder:
        data = kept or folder / "data"
        data.mkdir(exist_ok=True)
        given = {"PORT": str(port), "BESTEX_DATA_DIR": str(data), "BESTEX_PROFILE": profile, **(settings or {})}
        try:
            async with (
                child("bestex", [BESTEX, "serve"], folder / "bestex.log", given) as serve,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=REQUEST_SECONDS_MAX) as client,
            ):
                await wait_for_ok(serve, f"http://127.0.0.1:{port}/readyz", READY_SECONDS_MAX)
                with with_log_of(serve):
                    yield Engine(port, serve.pid, await balanced_bodies(client), client, folder, data, name)
        finally:
            await end_postgres(data)


async def balanced_bodies(client: httpx.AsyncClient) -> Sequence[str]:
    """To sell SOL and to buy as much of it back: in turn the two leave the pools where they were."""
    response = await client.get("/api/quotes", params={"tokenIn": "SOL", "tokenOut": "USDC", "amount": SELL_SOL})
    response.raise_for_status()
    quotes = msgspec.convert(response.json()["quotes"], type=list[Quote])
    best = max(float(quote.amount_out) for quote in quotes)
    return order_body("SOL", "USDC", SELL_SOL), order_body("USDC", "SOL", f"{best:.2f}")


def order_body(token_in: str, token_out: str, amount: str) -> str:
    """An order as JSON. The amount is a JSON number: the peer takes no other."""
    return f'{{"tokenIn":"{token_in}","tokenOut":"{token_out}","amount":{amount}}}'


async def end_postgres(data: Path) -> None:
    """End the server that an engine left behind, which it does only when it had to be killed."""
    server = running_server(data / "postgres")
    if server is None:
        return
    server.shut_down()
    try:
        async with asyncio.timeout(STOP_SECONDS_MAX):
            while server.alive():
                await asyncio.sleep(READY_POLL_SECONDS)
    except TimeoutError:
        raise BenchError(f"PostgreSQL (process {server.pid}) did not stop") from None
