"""The operating-system account the server runs under, and how a process gets there.

PostgreSQL refuses to run as root. Started by root, the server runs under an unprivileged account. Where a
parent folder is closed to that account (0700 and owned by root, as `mktemp -d` makes them), no mode is
changed: the process keeps one capability of root's, the right to read and pass such folders.
"""

import errno
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bestex.journal.embedded.errors import AccountError

DEFAULT_SERVER_USER = "nobody"

# The engine's environment holds secrets that the server's account has no business reading.
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_READ, _EXECUTE = 4, 1
_CAPABILITY_BITS = {"dac_override": 1, "dac_read_search": 2, "setpcap": 8}  # linux/capability.h


@dataclass(frozen=True)
class Account:
    """An operating-system account."""

    name: str
    uid: int
    gid: int


class DetachedProcess(subprocess.Popen[bytes]):
    """A process that is meant to outlive this one."""

    def __del__(self) -> None:
        """Not a leak: Popen would warn that the process still runs."""


@dataclass(frozen=True)
class Launcher:
    """Starts processes under the account, in a session of their own: Ctrl-C in the terminal spares them."""

    account: Account
    capability: str | None = None

    def launch(
        self, command: Sequence[str], *, output: int | IO[bytes], inherit_fds: Sequence[int] = ()
    ) -> DetachedProcess:
        """Start `command`, both its outputs going to `output`. Raises AccountError."""
        account = self.account
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"}
        switch = os.geteuid() != account.uid
        if self.capability is not None:
            command = [*_setpriv(account, self.capability), *command]
            switch = False
        try:
            return DetachedProcess(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                start_new_session=True,
                pass_fds=inherit_fds,
                user=account.uid if switch else None,
                group=account.gid if switch else None,
                extra_groups=[] if switch else None,
            )
        except OSError as error:
            if error.errno not in (
                errno.EPERM,
                errno.EACCES,
                errno.EINVAL,
            ):  # EINVAL: an account unknown to the container
                raise
            raise AccountError(
                f"Cannot run {command[0]} as {account.name}: {error}. Root needs CAP_SETUID and CAP_SETGID "
                "for that, and the file must be executable. Otherwise run the engine as an ordinary user."
            ) from error


def server_account(pgdata: Path, server_user: str | None) -> Account:
    """The account for the database in `pgdata`, which need not exist yet.

    An ordinary user is always itself. Root takes `server_user` if given, else the owner of an existing
    database, else `nobody`.
    """
    if os.geteuid() != 0:
        me = _account(os.geteuid())
        if server_user not in (None, me.name):
            raise AccountError(
                f"PostgreSQL is to run as {server_user!r}, but only root can switch accounts and this is "
                f"{me.name!r}. Unset the server's user, or start as root."
            )
        return me
    if server_user is None and pgdata.is_dir() and (owner := pgdata.stat().st_uid) != 0:
        return _account(owner)
    try:
        entry = pwd.getpwnam(server_user or DEFAULT_SERVER_USER)
    except KeyError as error:
        raise AccountError(
            f"There is no user {server_user or DEFAULT_SERVER_USER!r} to run PostgreSQL as. Name an "
            "existing, unprivileged one (BESTEX_POSTGRES_USER)."
        ) from error
    if entry.pw_uid == 0:
        raise AccountError(f"PostgreSQL refuses to run as root ({entry.pw_name}). Name an unprivileged user.")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def launcher_for(account: Account, *, folders: Sequence[Path], binary: Path, files: Sequence[Path]) -> Launcher:
    """A launcher whose processes can reach `folders`' parents, run `binary` and read `files`.

    Gives them a capability only if they could not otherwise. Raises AccountError, naming what is in the way,
    if root has none to give.
    """
    if os.geteuid() == account.uid:
        return Launcher(account)
    obstacles = [_closed_parent(path, account) for path in (*folders, binary, *files)]
    obstacles += [path for path in files if not _permitted(path, account, _READ)]
    obstacle = next((path for path in obstacles if path is not None), None)
    executable = _permitted(binary, account, _READ | _EXECUTE)
    if obstacle is None and executable:
        return Launcher(account)
    # Reading and passing is enough, unless the binary itself is closed: running it takes the stronger right.
    useful = ("dac_read_search", "dac_override") if executable else ("dac_override",)
    held = _held_capabilities()
    capability = next((name for name in useful if name in held), None)
    if capability is None or shutil.which("setpriv") is None:
        missing = "the program setpriv (util-linux)" if capability else "the capability " + " or ".join(useful).upper()
        raise AccountError(
            f"PostgreSQL has to run as {account.name}, who cannot pass {obstacle or binary}, and {missing} "
            f"is missing to let it pass anyway. Open that path to {account.name}, choose a data folder "
            "elsewhere, or run as an ordinary user."
        )
    return Launcher(account, capability)


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container's user often has no name
        return Account(str(uid), uid, os.getegid())
    return Account(entry.pw_name, uid, entry.pw_gid)


def _setpriv(account: Account, capability: str) -> list[str]:
    return [
        shutil.which("setpriv") or "setpriv",
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        "--clear-groups",
        f"--inh-caps=+{capability}",
        f"--ambient-caps=+{capability}",
        *_heeded_by_access(),
        "--",
    ]


def _heeded_by_access() -> list[str]:
    """What has access(2) heed the capability, as opening does: PostgreSQL asks it whether it can run its own files.

    Without, it answers for a process that has none unless its user is root. Taking it needs a capability of its own.
    """
    return ["--securebits=+no_setuid_fixup"] if "setpcap" in _held_capabilities() else []


def _closed_parent(path: Path, account: Account) -> Path | None:
    """The outermost parent folder of `path` that the account may not pass."""
    for folder in reversed(path.parents):
        if folder.exists() and not _permitted(folder, account, _EXECUTE):
            return folder
    return None


def _permitted(path: Path, account: Account, wanted: int) -> bool:
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == account.uid:
        granted = mode >> 6
    elif found.st_gid == account.gid:
        granted = mode >> 3
    else:
        granted = mode
    return granted & wanted == wanted


def _held_capabilities() -> set[str]:
    """Those of them that this process may hand on; none where the system does not know capabilities."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return set()
    masks = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith("Cap"))
    mask = int(masks["CapPrm"], 16) & int(masks["CapBnd"], 16)
    return {name for name, bit in _CAPABILITY_BITS.items() if mask >> bit & 1}
