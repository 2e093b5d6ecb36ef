"""Put an archive together and run it on the database of the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from bestex.ambient import SystemClock
from bestex.archiving.archiver import Archiver, Outcome, Plan
from bestex.audit.audit import ProgressListener
from bestex.auditing import AuditImpossibleError, database_of, run_on, settings_of
from bestex.config import Settings
from bestex.journal.archive import PostgresArchive, connect_for_archive
from bestex.journal.evidence import check_schema


def plan_archive(overrides: dict[str, object], before_us: int, folder: Path) -> Plan:
    """What `archive_database` would archive. Raises `AuditImpossibleError`."""
    settings = settings_of(overrides)

    async def run() -> Plan:
        async with _archiver(settings, folder, lambda _: None) as archiver:
            return await archiver.plan(before_us)

    return run_on(run, settings)


def archive_database(
    overrides: dict[str, object],
    before_us: int,
    folder: Path,
    keys_kept_for: timedelta | None,
    on_progress: ProgressListener,
) -> Outcome:
    """Archive what is older than a time, Unix microseconds, into files of a folder, and remove it.

    Raises `ArchiveError`, `ExportError`, `AuditImpossibleError`.
    """
    settings = settings_of(overrides)
    if not folder.is_dir():
        raise AuditImpossibleError(f"{folder} is no folder: make it first, on a disk of its own where there is one")

    async def run() -> Outcome:
        async with _archiver(settings, folder, on_progress) as archiver:
            return await archiver.run(before_us, keys_kept_for)

    return run_on(run, settings)


@asynccontextmanager
async def _archiver(settings: Settings, folder: Path, on_progress: ProgressListener) -> AsyncIterator[Archiver]:
    async with database_of(settings) as dsn:
        connection = await connect_for_archive(dsn)
        try:
            await check_schema(connection)
            yield Archiver(PostgresArchive(connection), folder, SystemClock(), on_progress)
        finally:
            connection.terminate()
