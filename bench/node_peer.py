"""The peer under measurement: Fastify, BullMQ and Redis on Node.js, as `bench/peer/README.md` runs them."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import msgspec

from bench.backends import postgres, valkey
from bench.engine import order_body
from bench.errors import BenchError
from bench.processes import (
    child,
    free_port,
    peak_memory_bytes,
    temporary_directory,
    wait_for_line,
    wait_for_ok,
    with_log_of,
)
from bench.systems import Ends

SOURCE: Final = Path(__file__).parent / "peer"
INSTALLED: Final = SOURCE / "node_modules" / ".package-lock.json"  # npm writes it last

PEER_NAME: Final = "peer"
PEER_WITH_HISTORY_NAME: Final = "peer with history"

INSTALL_SECONDS_MAX: Final = 300.0
READY_SECONDS_MAX: Final = 30.0
REQUEST_SECONDS_MAX: Final = 10.0
WORKER_CONCURRENCY: Final = 50

# It has no market: these are of the same shape and size as the engine's orders.
BODIES: Final = (order_body("SOL", "USDC", "0.25"), order_body("USDC", "SOL", "37.50"))


class Stats(msgspec.Struct, frozen=True):
    """The answer of `GET /stats`."""

    terminal: int  # orders confirmed or failed; its lifecycle, as it stands, never fails


@dataclass(frozen=True)
class Peer:
    """A running peer."""

    name: str
    port: int
    pids: Sequence[int]
    client: httpx.AsyncClient
    folder: Path
    bodies: Sequence[str] = BODIES

    async def ends(self) -> Ends:
        response = await self.client.get("/stats")
        response.raise_for_status()
        terminal = msgspec.json.decode(response.content, type=Stats).terminal
        return Ends(total=terminal, confirmed=terminal)

    def peak_memory_bytes(self) -> int:
        return sum(map(peak_memory_bytes, self.pids))


async def reason_to_skip() -> str | None:
    """Why the peer cannot run here, if it cannot. When it can, its packages are there afterwards."""
    missing = next((program for program in ("node", "npm") if shutil.which(program) is None), None)
    if missing is not None:
        return f"the peer, because {missing} is not installed"
    try:
        await install()
    except BenchError as error:
        return f"the peer, because its packages could not be installed: {error}"
    return None


async def install() -> None:
    """Its packages, in the versions of `package-lock.json`, which stays as it is on any platform."""
    lock = SOURCE / "package-lock.json"
    if INSTALLED.exists() and INSTALLED.stat().st_mtime >= lock.stat().st_mtime:
        return
    with temporary_directory() as folder:
        command = ["npm", "install", "--no-save", "--no-audit", "--no-fund"]
        async with child("npm install", command, folder / "npm.log", {}, cwd=SOURCE) as npm:
            await npm.require_success(INSTALL_SECONDS_MAX)


@contextlib.asynccontextmanager
async def peer(*, with_history: bool) -> AsyncIterator[Peer]:
    """A fresh peer, ready for orders, until the block ends."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_directory())
        settings = {"REDIS_URL": await stack.enter_async_context(valkey(folder / "valkey"))}
        if with_history:
            settings |= {
                "PERSIST": "pg",
                "DATABASE_URL": await stack.enter_async_context(postgres(folder / "postgres")),
            }
        api = await stack.enter_async_context(
            child(
                "the peer's api",
                ["node", "api.js"],
                folder / "api.log",
                {**settings, "PORT": str(port)},
                cwd=SOURCE,
            )
        )
        worker_settings = {**settings, "CONCURRENCY": str(WORKER_CONCURRENCY)}
        worker = await stack.enter_async_context(
            child("the peer's worker", ["node", "worker.js"], folder / "worker.log", worker_settings, cwd=SOURCE)
        )
        await wait_for_ok(api, f"{url}/stats", READY_SECONDS_MAX)
        await wait_for_line(worker, "worker ready", READY_SECONDS_MAX)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=REQUEST_SECONDS_MAX))
        name = PEER_WITH_HISTORY_NAME if with_history else PEER_NAME
        with with_log_of(api), with_log_of(worker):
            yield Peer(name, port, (api.pid, worker.pid), client, folder)
