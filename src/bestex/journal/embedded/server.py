"""The embedded PostgreSQL server: start or adopt it, keep it running, stop it.

What holds at every moment:
- One server at most works on a database. Engines take turns through the lock of `postgres.lock`, and every
  process of a server holds a lock on the database folder itself. That lock ends with the last of them, so it
  also tells of leftovers that no pid file names, and of a server in another container.
- The server outlives the engine. An engine killed with -9 finds its server again and adopts it.
- A process is signalled or adopted only after it was verified to be the server of this folder.
- While the server lives it is waited for, however long its recovery takes.
"""

import asyncio
import os
from pathlib import Path
from urllib.parse import quote

from bestex.journal.embedded.account import Launcher, launcher_for, server_account
from bestex.journal.embedded.cluster import (
    Binaries,
    clear_unfinished,
    create_database,
    find_binaries,
    has_database,
    secure_database,
)
from bestex.journal.embedded.errors import DataDirError, ServerStartError
from bestex.journal.embedded.file_lock import locked_file, try_lock
from bestex.journal.embedded.process import (
    ServerProcess,
    child_process,
    read_pid_file,
    remove_pid_file,
    running_server,
)
from bestex.journal.embedded.readiness import Report, Waiting, accepts_connections
from bestex.journal.embedded.server_log import ServerLog
from bestex.journal.embedded.settings import DATABASE, PORT, ROLE, server_arguments
from bestex.journal.embedded.socket_dir import (
    choose_socket_dir,
    clear_socket,
    has_socket,
    prepare_socket_dir,
)

_POLL_S = 0.01
_DEATH_POLL_S = 0.2
_SOCKET_LOST_AFTER_S = 3.0
# A server whose pid file was removed notices within a minute, and then ends by itself.
_LEFTOVERS_MAX_S = 90.0
_RESTART_DELAY_MIN_S = 0.1
_RESTART_DELAY_MAX_S = 30.0
_STABLE_AFTER_S = 60.0


def _no_report(event: str, fields: dict[str, object]) -> None:
    """Report to nobody."""


class EmbeddedPostgres:
    """A PostgreSQL server for one data folder.

    The database is `data_dir/postgres`; beside it lie `postgres.lock`, `postgres.log` and `postgres.log.1`.
    Nothing else in `data_dir` is touched, and no mode or owner but these is changed.

    `server_user` is the account the server runs under when this process is root; by default the owner of an
    existing database, else `nobody`. `on_event` is told what happens: a name like `postgres.started`, and
    its fields.
    """

    def __init__(self, data_dir: Path, *, server_user: str | None = None, on_event: Report = _no_report) -> None:
        self._data_dir = Path(os.path.realpath(data_dir))
        self._pgdata = self._data_dir / "postgres"
        self._socket_dir = choose_socket_dir(self._pgdata)
        self._log = ServerLog(self._data_dir / "postgres.log")
        self._server_user = server_user
        self._report = on_event
        self._server: ServerProcess | None = None
        self._stopping = False
        self._bringing_up = asyncio.Lock()

    @property
    def dsn(self) -> str:
        """Where to connect, for asyncpg and psql alike; the same for the same data folder at every start."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self._socket_dir))}&port={PORT}"

    async def start(self) -> None:
        """Return when the server accepts connections: a new one, one started again, or one that was still
        running.

        Waits as long as the server needs to recover. Raises EmbeddedPostgresError.
        """
        self._stopping = False
        await self._bring_up()

    async def supervise(self) -> None:
        """Start the server again whenever it dies, until stop() is called.

        Where it dies soon after a start, or does not start, the next try waits: 0.1 s, doubling to 30 s.
        Failures are reported, never raised.
        """
        clock = asyncio.get_running_loop()
        delay_s = 0.0
        while not self._stopping:
            up_since_s = clock.time()
            if self._server is not None:
                await self._until_dead(self._server)
                if self._stopping:
                    return
                self._report("postgres.died", {"pid": self._server.pid, "log": self._log.tail()})
                self._server = None
            if clock.time() - up_since_s >= _STABLE_AFTER_S:
                delay_s = 0.0
            await asyncio.sleep(delay_s)
            delay_s = min(max(2 * delay_s, _RESTART_DELAY_MIN_S), _RESTART_DELAY_MAX_S)
            try:
                await self._bring_up()
            except Exception as error:  # noqa: BLE001  it may pass: a full disk, a lost folder
                if not self._stopping:
                    self._report("postgres.start_failed", {"error": str(error), "next_try_in_s": delay_s})

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Shut the server down: sessions are ended at once, then a checkpoint is written.

        Returns after `timeout_s` seconds at the latest. PostgreSQL then finishes by itself, and the next
        start waits for it.
        """
        self._stopping = True
        server = self._server
        if server is None or not server.alive():
            return
        self._report("postgres.stopping", {"pid": server.pid})
        server.shut_down()
        if await self._until_dead(server, timeout_s):
            self._report("postgres.stopped", {"pid": server.pid})
        else:
            self._report("postgres.still_stopping", {"pid": server.pid, "waited_s": timeout_s})

    async def _bring_up(self) -> None:
        async with self._bringing_up:
            try:
                await self._start_or_adopt()
            except OSError as error:
                raise DataDirError(
                    f"PostgreSQL's files in {self._data_dir} cannot be used: {error}. Check that the folder "
                    "is writable and has free space, or choose another data folder."
                ) from error

    async def _start_or_adopt(self) -> None:
        binaries = find_binaries()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        async with locked_file(self._data_dir / "postgres.lock", self._report) as lock_fd:
            self._refuse_when_stopping()
            launcher = self._launcher(binaries)
            clear_unfinished(self._data_dir)
            if not has_database(self._pgdata):
                self._report("postgres.creating", {"folder": str(self._pgdata), "account": launcher.account.name})
                await create_database(self._pgdata, binaries, launcher, lock_fd)
            secure_database(self._pgdata, launcher.account)
            prepare_socket_dir(self._socket_dir, launcher.account)
            while not await self._adopt():
                if await self._start_server(binaries, launcher):
                    return

    def _launcher(self, binaries: Binaries) -> Launcher:
        account = server_account(self._pgdata, self._server_user)
        launcher = launcher_for(
            account,
            folders=[self._pgdata, self._socket_dir],
            binary=binaries.postgres,
            files=[binaries.catalog],
        )
        if launcher.capability is not None:
            self._report("postgres.capability", {"account": account.name, "capability": launcher.capability})
        return launcher

    async def _adopt(self) -> bool:
        """Adopt the server that is running; False if there is none, or none any more."""
        server = running_server(self._pgdata)
        if server is None:
            return False
        if self._server is None or self._server.pid != server.pid:  # else our child, whose exit is ours to collect
            self._server = server
        if not await self._until_ready(self._server):
            self._server = None
            return False
        self._report("postgres.adopted", {"pid": server.pid})
        return True

    async def _start_server(self, binaries: Binaries, launcher: Launcher) -> bool:
        """Start a server; False if a running one turned up instead. Raises ServerStartError if it ends."""
        clock = asyncio.get_running_loop()
        folder_fd = os.open(self._pgdata, os.O_RDONLY)
        try:
            if not await self._leftovers_gone(folder_fd):
                return False
            self._refuse_when_stopping()
            began_s = clock.time()
            self._server = self._spawn(binaries, launcher, folder_fd)
            self._report("postgres.starting", {"pid": self._server.pid, "account": launcher.account.name})
        finally:
            os.close(folder_fd)
        if not await self._until_ready(self._server):
            self._server = None
            raise ServerStartError(
                f"PostgreSQL ended while starting on {self._pgdata}. "
                f"The last lines of {self._log.path}:\n{self._log.tail()}"
            )
        self._report("postgres.started", {"pid": self._server.pid, "took_s": round(clock.time() - began_s, 3)})
        return True

    async def _leftovers_gone(self, folder_fd: int) -> bool:
        """Take the database folder's lock, which processes of a dead server may hold for a while.

        False if a living server turned up meanwhile. Raises ServerStartError if they stay.
        """
        clock = asyncio.get_running_loop()
        waiting = Waiting(self._report)
        deadline_s = clock.time() + _LEFTOVERS_MAX_S
        while not try_lock(folder_fd):
            if running_server(self._pgdata) is not None:
                return False
            if clock.time() >= deadline_s:
                raise ServerStartError(
                    f"For {_LEFTOVERS_MAX_S:.0f} s, {self._pgdata} has been in use by processes of an "
                    "earlier server, or by a server in another container. End them (`fuser -v "
                    f"{self._pgdata}` lists them), then start again."
                )
            waiting.goes_on("processes of an earlier PostgreSQL still use the database")
            await asyncio.sleep(_POLL_S)
        return True

    def _spawn(self, binaries: Binaries, launcher: Launcher, folder_fd: int) -> ServerProcess:
        # The folder's lock is ours, so whoever these files name is no server of this folder. PostgreSQL
        # itself would refuse to start for as long as any process has the pid that they name.
        if remove_pid_file(self._pgdata):
            self._report("postgres.stale_pid_file_removed", {"folder": str(self._pgdata)})
        clear_socket(self._socket_dir)
        self._log.keep_bounded()
        log_fd = self._log.open_for_start()
        try:
            command = [str(binaries.postgres), *server_arguments(self._pgdata, self._socket_dir)]
            return child_process(launcher.launch(command, output=log_fd, inherit_fds=[folder_fd]))
        finally:
            os.close(log_fd)

    async def _until_ready(self, server: ServerProcess) -> bool:
        """Wait until the server accepts connections; False if it ended instead."""
        clock = asyncio.get_running_loop()
        waiting = Waiting(self._report)
        reachable_s = clock.time()
        while server.alive():
            pid_file = read_pid_file(self._pgdata)
            ready = pid_file is not None and pid_file.pid == server.pid and pid_file.status == "ready"
            if ready and await accepts_connections(self._socket_dir):
                return True
            if not ready or has_socket(self._socket_dir):
                reachable_s = clock.time()
            elif clock.time() - reachable_s > _SOCKET_LOST_AFTER_S:
                # Someone removed the socket, moved the data, or started the server by hand with another
                # socket. One that we cannot reach serves nobody here, and blocks the one that would.
                self._report("postgres.socket_lost", {"pid": server.pid, "folder": str(self._socket_dir)})
                server.shut_down()
                await self._until_dead(server)
                return False
            shutting_down = pid_file is not None and pid_file.status == "stopping"
            waiting.goes_on(
                "PostgreSQL is shutting down" if shutting_down else "PostgreSQL is recovering",
                pid=server.pid,
                log=self._log.tail(lines_max=1),
            )
            await asyncio.sleep(_POLL_S)
        return False

    async def _until_dead(self, server: ServerProcess, timeout_s: float = float("inf")) -> bool:
        """Wait until the server has ended; False if it has not after `timeout_s`."""
        clock = asyncio.get_running_loop()
        deadline_s = clock.time() + timeout_s
        poll_s = _POLL_S if self._stopping else _DEATH_POLL_S
        while server.alive():
            if clock.time() >= deadline_s:
                return False
            self._log.keep_bounded()
            await asyncio.sleep(max(0.0, min(poll_s, deadline_s - clock.time())))
        return True

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise ServerStartError("PostgreSQL was told to stop while it was starting.")
