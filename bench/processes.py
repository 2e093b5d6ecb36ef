"""Child processes that never outlive the benchmark, and what can be asked of them from outside."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from bench.errors import BenchError, UnavailableError

STOP_SECONDS_MAX: Final = 20.0
READY_POLL_SECONDS: Final = 0.05
LOG_TAIL_LINES: Final = 20
REPOSITORY: Final = Path(__file__).resolve().parent.parent

# Settings of the person's own engine must not leak into the one that is measured.
FOREIGN_SETTINGS: Final = re.compile(r"BESTEX_.*|DATABASE_URL|REDIS_URL|PORT|PERSIST|CONCURRENCY|PG.*")


@dataclass(frozen=True)
class Child:
    """A running child process."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def require_alive(self) -> None:
        if self.process.returncode is not None:
            raise self.error(f"ended with {self.process.returncode}")

    def require_not_failed(self) -> None:
        if self.process.returncode:
            self.require_alive()

    def error(self, what: str) -> BenchError:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return BenchError("\n".join([f"{self.name} {what}; its log ends:", *lines]))

    async def require_success(self, seconds_max: float) -> None:
        """Wait for its end, which must be a good one."""
        try:
            async with asyncio.timeout(seconds_max):
                await self.process.wait()
        except TimeoutError:
            raise self.error(f"did not end within {seconds_max:.0f} s") from None
        self.require_not_failed()


@contextlib.asynccontextmanager
async def child(
    name: str, command: Sequence[str | Path], log: Path, settings: Mapping[str, str], cwd: Path = REPOSITORY
) -> AsyncIterator[Child]:
    """Run a command in a session of its own (Ctrl-C reaches the benchmark alone) until the block ends."""
    environment = {key: value for key, value in os.environ.items() if not FOREIGN_SETTINGS.fullmatch(key)}
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**environment, **settings},
            start_new_session=True,
        )
    try:
        yield Child(name, process, log)
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL for the whole session when that is not enough."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS_MAX):
            await process.wait()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@contextlib.contextmanager
def with_log_of(started: Child) -> Iterator[None]:
    """What goes wrong in the block is told together with the end of the child's log."""
    try:
        yield
    except UnavailableError:
        raise  # nothing went wrong
    except (BenchError, httpx.HTTPError) as error:
        state = "runs" if started.process.returncode is None else f"ended with {started.process.returncode}"
        raise BenchError(f"{error or repr(error)}\n{started.error(state)}") from error


async def wait_for_ok(started: Child, url: str, seconds_max: float) -> None:
    """Until a GET of `url` answers 200."""
    deadline = time.monotonic() + seconds_max
    async with httpx.AsyncClient() as client:
        while True:
            started.require_alive()
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            if time.monotonic() > deadline:
                raise started.error(f"did not answer 200 on {url} within {seconds_max:.0f} s")
            await asyncio.sleep(READY_POLL_SECONDS)


async def wait_for_line(started: Child, line: str, seconds_max: float) -> None:
    """Until the child has printed `line`."""
    deadline = time.monotonic() + seconds_max
    while line not in started.log.read_text(errors="replace").splitlines():
        started.require_alive()
        if time.monotonic() > deadline:
            raise started.error(f"did not print {line!r} within {seconds_max:.0f} s")
        await asyncio.sleep(READY_POLL_SECONDS)


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """A folder that other users may enter: under root, PostgreSQL runs as an unprivileged one."""
    path = Path(tempfile.mkdtemp(prefix="bestex-bench-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def peak_memory_bytes(pid: int) -> int:
    """The most resident memory that the process has had (`VmHWM`)."""
    match = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if match is None:
        raise BenchError(f"/proc/{pid}/status has no VmHWM")
    return int(match[1]) * 1024


def memory_bytes(pid: int) -> int:
    """The resident memory that the process has now (`VmRSS`)."""
    match = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if match is None:
        raise BenchError(f"/proc/{pid}/status has no VmRSS")
    return int(match[1]) * 1024


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family_cpu_seconds() -> float:
    """User and system time of all living processes that this one started, and theirs, and of their ended children."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))
    family, generation = set[int](), {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        family |= generation
    return sum(ticks[pid] for pid in family) / os.sysconf("SC_CLK_TCK")
