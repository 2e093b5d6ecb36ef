"""Which process is the server of which database folder.

A pid proves nothing: the file postmaster.pid outlives a killed server, and its number may by then belong to
anything. A process counts as the server of a folder only if it is a postgres, runs under the folder's owner,
and works on that folder. Linux tells this through /proc, other systems through `ps`.
"""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bestex.journal.embedded.errors import AccountError

PROC = Path("/proc")
_PID_FILE = "postmaster.pid"
_PID_FILE_BYTES_MAX = 8 * 1024


@dataclass(frozen=True)
class PidFile:
    """What a server wrote about itself."""

    pid: int
    status: str  # "starting", "ready", "stopping"; empty before it is written


@dataclass(frozen=True)
class ServerProcess:
    """A running postmaster. `child` is set if this process started it and must therefore collect its exit."""

    pid: int
    birth: str  # tells the process from a later one with the same pid
    child: "subprocess.Popen[bytes] | None" = None

    def alive(self) -> bool:
        """Whether it still runs; collects the exit of a child, so that no zombie is left."""
        if self.child is not None:
            return self.child.poll() is None
        return _birth(self.pid) == self.birth

    def shut_down(self) -> None:
        """Ask for a fast shutdown: sessions are ended, a checkpoint is written."""
        if not self.alive():
            return
        try:
            os.kill(self.pid, signal.SIGINT)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise AccountError(
                f"PostgreSQL (process {self.pid}) runs under another account and may not be signalled. "
                "Stop it as that account or as root, or grant CAP_KILL."
            ) from error


def child_process(child: "subprocess.Popen[bytes]") -> ServerProcess:
    """The server that this process has just started."""
    return ServerProcess(pid=child.pid, birth=_birth(child.pid) or "", child=child)


def read_pid_file(pgdata: Path) -> PidFile | None:
    """What postmaster.pid says; None if there is none or it cannot be understood."""
    try:
        fd = os.open(pgdata / _PID_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        lines = file.read(_PID_FILE_BYTES_MAX).decode(errors="replace").split("\n")
    try:
        pid = abs(int(lines[0]))  # negative: a single-user server
    except ValueError:
        return None
    if not 1 < pid < 2**31:
        return None
    # 1 pid, 2 data folder, 3 start time, 4 port, 5 socket folder, 6 TCP address, 7 shared memory, 8 status
    return PidFile(pid, status=lines[7].strip() if len(lines) > 7 else "")


def remove_pid_file(pgdata: Path) -> bool:
    """Remove postmaster.pid; True if there was one."""
    try:
        (pgdata / _PID_FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def running_server(pgdata: Path) -> ServerProcess | None:
    """The living server of this database folder, found through its pid file and verified."""
    pid_file = read_pid_file(pgdata)
    if pid_file is None:
        return None
    birth = _birth(pid_file.pid)
    if birth is None or not _is_postmaster_of(pid_file.pid, pgdata):
        return None
    return ServerProcess(pid=pid_file.pid, birth=birth)


def _birth(pid: int) -> str | None:
    """When the process began, in the system's own notation; None if there is none, or only its zombie."""
    if not PROC.is_dir():
        state_and_start = _ps(pid, "stat=,lstart=")
        return None if not state_and_start or state_and_start.startswith("Z") else state_and_start.split(None, 1)[-1]
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field, in parentheses, is the name, which may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    return None if state in "ZX" else start_ticks


def _is_postmaster_of(pid: int, pgdata: Path) -> bool:
    owner_uid = pgdata.stat().st_uid
    if not PROC.is_dir():
        uid_and_command = _ps(pid, "uid=,command=").split(None, 1)
        return (
            len(uid_and_command) == 2
            and uid_and_command[0] == str(owner_uid)
            and "postgres" in uid_and_command[1]
            and f" -D {pgdata} " in uid_and_command[1] + " "
        )
    process = PROC / str(pid)
    try:
        arguments = [os.fsdecode(argument) for argument in (process / "cmdline").read_bytes().split(b"\0")]
        status = (process / "status").read_text(errors="replace")
    except OSError:
        return False
    effective_uid = next((line.split()[2] for line in status.splitlines() if line.startswith("Uid:")), "")
    # Its children call themselves "postgres: checkpointer" and the like.
    if Path(arguments[0]).name != "postgres" or effective_uid != str(owner_uid):
        return False
    # The links can be closed to us: a container's root, for one, may not look at another account's processes.
    executable = _link(process / "exe")
    if executable is not None and not executable.name.startswith("postgres"):
        return False
    folder = _link(process / "cwd")
    if folder is None and "-D" in arguments[:-1]:
        folder = Path(arguments[arguments.index("-D") + 1])
    try:
        return folder is not None and folder.samefile(pgdata)
    except OSError:
        return False


def _link(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:
        return None


def _ps(pid: int, columns: str) -> str:
    result = subprocess.run(
        ["/bin/ps", "-ww", "-o", columns, "-p", str(pid)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return result.stdout.strip()
