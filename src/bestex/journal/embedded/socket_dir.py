"""The folder of the server's Unix socket.

Whoever can enter it is trusted as the database's superuser, so only the server's account (and root) can. It
lies in the database folder; where that path is too long for a socket address, in the system's folder for
temporary files, named after the database folder.
"""

import hashlib
import os
import stat
import sys
from pathlib import Path

from bestex.journal.embedded.account import Account
from bestex.journal.embedded.errors import DataDirError
from bestex.journal.embedded.settings import PORT

SOCKET_NAME = f".s.PGSQL.{PORT}"
_TEMPORARY_FILES = Path("/tmp")  # noqa: S108  our folder in it is checked
SOCKET_PATH_BYTES_MAX = 107 if sys.platform == "linux" else 103


def choose_socket_dir(pgdata: Path) -> Path:
    """The folder for the database in `pgdata`: always the same, so that a running server is found again."""
    within = pgdata / "socket"
    # Clients and server take a comma for the end of one folder and the beginning of the next.
    if len(os.fsencode(within / SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX and "," not in str(within):
        return within
    # Not TMPDIR: it may be another at the next start.
    return _TEMPORARY_FILES / f"bestex-{hashlib.sha256(os.fsencode(pgdata)).hexdigest()[:16]}"


def prepare_socket_dir(folder: Path, account: Account) -> None:
    """Create the folder, or check that the one there is real, the account's and closed to all others."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        if account.uid != os.geteuid():
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    found = folder.lstat()
    closed = stat.S_IMODE(found.st_mode) & 0o077 == 0
    if not (stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid and closed):
        raise DataDirError(
            f"{folder} is no safe place for PostgreSQL's socket: expected a folder of {account.name} with "
            f"mode 0700, found {stat.filemode(found.st_mode)} of uid {found.st_uid}. Remove it."
        )


def has_socket(folder: Path) -> bool:
    """Whether a server's socket is there."""
    return (folder / SOCKET_NAME).is_socket()


def clear_socket(folder: Path) -> None:
    """Remove a dead server's; PostgreSQL would trust the pid in its lock file, whoever has that pid now."""
    for name in (SOCKET_NAME, SOCKET_NAME + ".lock"):
        (folder / name).unlink(missing_ok=True)
