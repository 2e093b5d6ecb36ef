"""Connections to the journal's database, and what the driver's errors mean."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from bestex.domain.errors import JournalUnavailableError
from bestex.journal.queries import QUERIES

CONNECT_TIMEOUT_S: Final = 3.0
COMMIT_TIMEOUT_S: Final = 60.0
READ_TIMEOUT_S: Final = 15.0

LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says when the server hangs up at certain moments
    asyncpg.PostgresConnectionError,
)
"""What the driver raises when a connection is cut or cannot be had."""

_SERVER_STATES: Final = ("08", "28", "3D", "40", "53", "55", "57", "58")
"""Classes of errors that are the server's state, not the question's fault."""


async def connect(dsn: str, application: str, **settings: str) -> asyncpg.Connection:
    """A connection set up as the journal needs it, with further server settings."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMIT_TIMEOUT_S,
        server_settings=_settings(application) | settings,
    )


class ConnectionPool:
    """A few connections, opened when they are first needed. Every method raises `JournalUnavailableError`."""

    def __init__(self, dsn: str, application: str, connections: int, **settings: str) -> None:
        """With further server settings."""
        self._settings = _settings(application) | {"enable_seqscan": "off"} | settings
        self._dsn = dsn
        self._connections = connections
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of a named query."""
        async with self.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(QUERIES[query], *arguments, timeout=READ_TIMEOUT_S)
            return rows

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        try:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self._dsn,
                        min_size=0,
                        max_size=self._connections,
                        timeout=CONNECT_TIMEOUT_S,
                        # Without sequential scans: plans are kept, also those made while the tables were small.
                        server_settings=self._settings,
                        reset=_leave,
                    )
            connection = await self._pool.acquire(timeout=READ_TIMEOUT_S)
            try:
                yield connection
            finally:
                await _released(self._pool, connection)
        except LOST as error:
            raise JournalUnavailableError(f"the database cannot be read: {error or type(error).__name__}") from error
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "").startswith(_SERVER_STATES):
                raise JournalUnavailableError(f"the database cannot be read: {error}") from error
            raise

    def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()


async def _leave(_: object) -> None:
    """Nothing that is asked here leaves anything behind: setting back what it may have would cost as much again."""


async def _released(pool: asyncpg.Pool, connection: Any) -> None:
    """Give the connection back. Who is cancelled meanwhile does not wait for it, and nor for its error."""
    releasing = asyncio.ensure_future(pool.release(connection))
    releasing.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.shield(releasing)


def _settings(application: str) -> dict[str, str]:
    return {"application_name": application, "synchronous_commit": "on", "TimeZone": "UTC"}
