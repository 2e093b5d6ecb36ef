"""When the server can be worked with, and the telling of how long that takes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg

from bestex.journal.embedded.errors import ServerStartError
from bestex.journal.embedded.settings import DATABASE, PORT, ROLE

Report = Callable[[str, dict[str, object]], None]

_CONNECT_TIMEOUT_S = 5.0
_PROGRESS_EVERY_S = 2.0


async def accepts_connections(socket_dir: Path) -> bool:
    """Whether the server answers at this socket; creates the engine's database in a new one.

    Raises ServerStartError if the server answers, but will never let the engine in.
    """
    try:
        await _ensure_database(socket_dir)
    except (
        OSError,
        asyncpg.CannotConnectNowError,
        asyncpg.PostgresConnectionError,
        asyncpg.TooManyConnectionsError,
    ):
        return False  # starting up, shutting down, or full: all of them pass
    except asyncpg.PostgresError as error:
        raise ServerStartError(
            f"The PostgreSQL at {socket_dir} runs, but does not let {ROLE!r} use the database {DATABASE!r}: "
            f"{error}. Was the database changed by hand?"
        ) from error
    return True


async def _ensure_database(socket_dir: Path) -> None:
    connection = await asyncpg.connect(
        host=str(socket_dir),
        port=PORT,
        user=ROLE,
        database="postgres",
        ssl=False,
        timeout=_CONNECT_TIMEOUT_S,
    )
    try:
        if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)


class Waiting:
    """Reports a wait as `postgres.waiting`, every two seconds."""

    def __init__(self, report: Report) -> None:
        self._clock = asyncio.get_running_loop()
        self._report = report
        self._began_s = self._clock.time()
        self._next_report_s = self._began_s + _PROGRESS_EVERY_S

    def goes_on(self, reason: str, **fields: object) -> None:
        """To be called at every look; reports when it is time to."""
        now_s = self._clock.time()
        if now_s >= self._next_report_s:
            self._next_report_s += _PROGRESS_EVERY_S
            self._report("postgres.waiting", {"reason": reason, "waited_s": round(now_s - self._began_s, 1), **fields})
