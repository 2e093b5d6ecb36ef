"""A real PostgreSQL for tests: the engine's embedded server, one for each test process, with a database per test."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.embedded.process import running_server
from bestex.journal.embedded.socket_dir import choose_socket_dir
from bestex.journal.migrations import migrate

TEMPLATE = "bestex_template"
PATIENCE_S = 30.0
USED_DATABASES_MAX = 20
"""Dropped together: the first drop has to write a checkpoint, and takes as long as all the others."""

# Waits for the end of the process that started it, then ends the server that this one left behind, if any.
_GUARD = """
import os, shutil, signal, sys
from pathlib import Path
sys.stdin.read()
data_dir = Path(sys.argv[1])
pid_file = data_dir / "postgres" / "postmaster.pid"
if pid_file.exists():
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
shutil.rmtree(data_dir, ignore_errors=True)
"""


class PostgresServer:
    """A server that can be stopped and started again, and the databases on it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._postgres = EmbeddedPostgres(data_dir)
        self._names = (f"test_{number}" for number in count(1))
        self._used: list[str] = []

    def dsn(self, database: str) -> str:
        return urlunsplit(urlsplit(self._postgres.dsn)._replace(netloc="bestex@", path=f"/{database}"))

    @property
    def socket(self) -> Path:
        """The Unix socket that the server listens on."""
        return choose_socket_dir(self.data_dir / "postgres") / ".s.PGSQL.5432"

    async def start(self) -> None:
        await self._postgres.start()

    async def stop(self) -> None:
        await self._postgres.stop()
        assert running_server(self.data_dir / "postgres") is None

    async def make_template(self) -> None:
        """Make the migrated database that every test's own is copied from."""
        await self.execute(f"create database {TEMPLATE}")
        await migrate(self.dsn(TEMPLATE))

    @contextlib.asynccontextmanager
    async def database(self, template: str) -> AsyncIterator[str]:
        """The DSN of a new database, a copy of `template`."""
        name = next(self._names)
        await self.execute(f"create database {name} template {template}")
        try:
            yield self.dsn(name)
        finally:
            self._used.append(name)
            await self.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
            if len(self._used) >= USED_DATABASES_MAX:
                await self.execute(*(f"drop database if exists {used} with (force)" for used in self._used))
                self._used.clear()

    async def execute(self, *statements: str) -> None:
        """Run statements as the cluster's owner, each in a transaction of its own."""
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server with its template, gone afterwards whatever the tests or a signal did to this process."""
    data_dir = Path(tempfile.mkdtemp(prefix="bestex-tests-"))
    data_dir.chmod(0o755)
    with _guarded(data_dir):
        server = PostgresServer(data_dir)
        try:
            asyncio.run(server.start())
            asyncio.run(server.make_template())
            yield server
        finally:
            asyncio.run(server.stop())
            shutil.rmtree(server.socket.parent, ignore_errors=True)
            shutil.rmtree(data_dir)


@contextlib.contextmanager
def _guarded(data_dir: Path) -> Iterator[None]:
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, str(data_dir)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        guard.communicate()


async def until(condition: Callable[[], object], *, within_s: float = PATIENCE_S) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)
