"""The embedded PostgreSQL's processes: found, shot at, and in the end stopped."""

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.embedded.file_lock import try_lock
from bestex.journal.embedded.process import ServerProcess, running_server
from bestex.journal.embedded.socket_dir import choose_socket_dir
from bestex.ports import Clock

POLL_S: Final = 0.02
APPEARS_MAX_S: Final = 30.0
STOP_MAX_S: Final = 30.0
LEFTOVERS_MAX_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 3.0

_SESSIONS: Final = """
    select pid from pg_stat_activity where application_name like 'bestex%' and backend_type = 'client backend'
"""


class DatabaseProcess:
    """The server of one data folder, whoever started it."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._pgdata = data_dir / "postgres"
        self._dsn = EmbeddedPostgres(data_dir).dsn
        self._clock = clock

    async def kill(self) -> None:
        """SIGKILL of the postmaster; its children find out by themselves."""
        _send(await self._living(), signal.SIGKILL)

    async def restart(self) -> None:
        """A fast shutdown: sessions are ended. Starting it again is the engine's task."""
        _send(await self._living(), signal.SIGINT)

    async def restart_slowly(self, patience_s: float) -> None:
        """Take no new sessions, then end those that stay."""
        server = await self._living()
        _send(server, signal.SIGTERM)
        await self._clock.sleep(patience_s)
        _send(server, signal.SIGINT)

    async def freeze(self, seconds: float) -> None:
        """Its sessions neither answer nor end for a while; new ones are served."""
        pids = await self._sessions()
        try:
            for pid in pids:
                _send_to(pid, signal.SIGSTOP)
            await self._clock.sleep(seconds)
        finally:
            for pid in pids:
                _send_to(pid, signal.SIGCONT)

    async def stop(self) -> None:
        """Return when no process of it is left."""
        server = running_server(self._pgdata)
        if server is not None:
            _send(server, signal.SIGINT)
            if not await self._gone(server, STOP_MAX_S):
                _send(server, signal.SIGKILL)
                await self._gone(server, STOP_MAX_S)
        await self._until_no_process_is_left()
        shutil.rmtree(choose_socket_dir(self._pgdata), ignore_errors=True)

    async def _living(self) -> ServerProcess:
        async with asyncio.timeout(APPEARS_MAX_S):
            while (server := running_server(self._pgdata)) is None:
                await self._clock.sleep(POLL_S)
        return server

    async def _sessions(self) -> list[int]:
        """The processes that serve the engine; none while the server is not there."""
        try:
            connection = await asyncpg.connect(self._dsn, timeout=CONNECT_TIMEOUT_S)
            try:
                return [row["pid"] for row in await connection.fetch(_SESSIONS)]
            finally:
                connection.terminate()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return []

    async def _gone(self, server: ServerProcess, within_s: float) -> bool:
        deadline_s = self._clock.monotonic() + within_s
        while server.alive():
            if self._clock.monotonic() > deadline_s:
                return False
            await self._clock.sleep(POLL_S)
        return True

    async def _until_no_process_is_left(self) -> None:
        """Each of the server's processes holds a lock on the database's folder."""
        try:
            folder_fd = os.open(self._pgdata, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            deadline_s = self._clock.monotonic() + LEFTOVERS_MAX_S
            while not try_lock(folder_fd) and self._clock.monotonic() < deadline_s:
                await self._clock.sleep(POLL_S)
        finally:
            os.close(folder_fd)


def _send_to(pid: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, what)


def _send(server: ServerProcess, what: signal.Signals) -> None:
    if server.alive():
        _send_to(server.pid, what)
