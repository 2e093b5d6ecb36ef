"""The engine in several processes: `bestex simnet`, `bestex api`, any number of `bestex worker`, over one PostgreSQL.

The queue is PostgreSQL itself, or BullMQ on a Valkey that keeps nothing on disk. PostgreSQL is the embedded server's,
with the embedded server's settings: fsync is on.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import httpx

from bench.backends import postgres, valkey
from bench.engine import BESTEX, ENDED_SAMPLE, READY_SECONDS_MAX, REQUEST_SECONDS_MAX, Profile, balanced_bodies
from bench.errors import UnavailableError
from bench.processes import Child, child, free_port, peak_memory_bytes, temporary_directory, wait_for_ok, with_log_of
from bench.systems import Ends

Queue = Literal["postgres", "bullmq"]

ROLES: Final = ("api", "worker", "simnet")
HELP_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True)
class Cluster:
    """Running processes that are one engine."""

    name: str
    port: int  # of the api
    pids: Sequence[int]
    health_ports: Sequence[int]  # of the workers: they count the orders that end
    bodies: Sequence[str]
    client: httpx.AsyncClient
    folder: Path

    async def ends(self) -> Ends:
        """Summed over the workers, each of which counts what it ended."""
        answers = await asyncio.gather(*(self.client.get(_url(port, "/metrics")) for port in self.health_ports))
        total = confirmed = 0
        for answer in answers:
            answer.raise_for_status()
            for status, count in ENDED_SAMPLE.findall(answer.text):
                total += int(float(count))
                confirmed += int(float(count)) if status == "confirmed" else 0
        return Ends(total, confirmed)

    def peak_memory_bytes(self) -> int:
        return sum(map(peak_memory_bytes, self.pids))


async def missing_roles() -> list[str]:
    """The commands that this checkout's `bestex` does not have."""
    process = await asyncio.create_subprocess_exec(
        BESTEX, "--help", stdout=asyncio.subprocess.PIPE, env={**os.environ, "TERM": "dumb", "COLUMNS": "200"}
    )
    output, _ = await asyncio.wait_for(process.communicate(), HELP_SECONDS_MAX)
    text = output.decode()
    return [role for role in ROLES if re.search(rf"^\W*{role}\s", text, re.MULTILINE) is None]


@contextlib.asynccontextmanager
async def cluster(
    name: str, *, workers: int, queue: Queue = "postgres", profile: Profile = "instant"
) -> AsyncIterator[Cluster]:
    """A fresh cluster with one api, ready for orders, until the block ends. `UnavailableError` where it cannot be."""
    if missing := await missing_roles():
        raise UnavailableError(f"{name}, because this checkout's bestex has no command {' and no '.join(missing)}")
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_directory())
        simnet_port, api_port = free_port(), free_port()
        settings = {
            "DATABASE_URL": await stack.enter_async_context(postgres(folder / "postgres")),
            "BESTEX_PROFILE": profile,
            "BESTEX_QUEUE": queue,
            "BESTEX_SIMNET_URL": _url(simnet_port, ""),
        }
        if queue == "bullmq":
            settings["REDIS_URL"] = await stack.enter_async_context(valkey(folder / "valkey"))

        async def start(role: str, number: int, port: int, more: Mapping[str, str]) -> Child:
            what = f"{role}-{number}"
            command = [str(BESTEX), role]
            own = {"BESTEX_DATA_DIR": str(folder / what), **more}  # where it publishes the head that it knows
            started = await stack.enter_async_context(
                child(f"bestex {what}", command, folder / f"{what}.log", {**settings, **own})
            )
            await wait_for_ok(started, _url(port, "/readyz"), READY_SECONDS_MAX)
            stack.enter_context(with_log_of(started))
            return started

        simnet = await start("simnet", 1, simnet_port, {"PORT": str(simnet_port)})
        api = await start("api", 1, api_port, {"PORT": str(api_port)})
        health_ports = [free_port() for _ in range(workers)]
        started = [
            await start("worker", number, port, {"BESTEX_HEALTH_PORT": str(port)})
            for number, port in enumerate(health_ports, start=1)
        ]
        base_url = _url(api_port, "")
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=base_url, timeout=REQUEST_SECONDS_MAX))
        pids = [each.pid for each in (simnet, api, *started)]
        yield Cluster(name, api_port, pids, health_ports, await balanced_bodies(client), client, folder)


def _url(port: int, path: str) -> str:
    return f"http://127.0.0.1:{port}{path}"
