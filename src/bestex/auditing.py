"""Put an audit or an export together and run it: beside `bootstrap`, the only module that knows the adapters."""

import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import msgspec
import uvloop
from pydantic import ValidationError

from bestex.ambient import SystemClock
from bestex.archiving.files import archives_up_to, lines_of, read_archive
from bestex.audit.audit import ProgressListener, audit
from bestex.audit.evidence import UNREADABLE, Counts, Evidence
from bestex.audit.export.read import read_export
from bestex.audit.export.write import write_export
from bestex.audit.findings import Report
from bestex.audit.joined import joined
from bestex.config import Settings
from bestex.domain.errors import JournalConfigurationError
from bestex.domain.events import timestamp_text
from bestex.domain.log_hash import PublishedHead
from bestex.journal.connections import LOST
from bestex.journal.embedded import DataDirError, EmbeddedPostgres, EmbeddedPostgresError
from bestex.journal.embedded.cluster import has_database
from bestex.journal.evidence import PostgresJournalEvidence, check_schema, checkpoint, connect_for_audit, journal_id
from bestex.journal.published_head import head_files, head_path
from bestex.venues.simulated.evidence import PostgresLedgerEvidence, has_ledger

T = TypeVar("T")

HASH_BYTES: Final = 32
LOOKS_MAX: Final = 100


class AuditImpossibleError(Exception):
    """The evidence or the published head cannot be used as it is; the message says why and what to do."""


class DatabaseUnreachableError(AuditImpossibleError):
    """The database is not there, or went away."""


class Verification(msgspec.Struct, frozen=True):
    """An audit's report, and how it came about."""

    report: Report
    seconds: float
    head_file: Path | None  # where the published head was read

    @property
    def events_per_second(self) -> float:
        return self.report.events / self.seconds if self.seconds > 0 else 0.0


def verify_database(
    overrides: dict[str, object], head_file: Path | None, on_progress: ProgressListener, archives: Path | None = None
) -> Verification:
    """Audit the database of the settings, on one snapshot. Raises `AuditImpossibleError`.

    With `archives`, a folder, what was archived is audited with it, as though it were still there; raises
    `ExportError` when an archive is missing or cannot be read.

    Without `head_file` the head is read where the settings have it published; in the data folder there may be none.
    """
    settings = settings_of(overrides)
    head_file = head_file or settings.head_file
    named = _read_head(head_file) if head_file is not None else None

    async def run() -> Verification:
        async with _connected(settings) as connection:
            head, file = named, head_file
            if head is None:
                # Read before the snapshot: an engine that runs publishes a higher one at any moment.
                usual = head_path(settings.data_dir, await journal_id(connection))
                heads = {each: _read_head(each) for each in head_files(usual)}
                file = max(heads, key=lambda each: heads[each].position, default=None)
                head = heads[file] if file is not None else None
            began = SystemClock().monotonic()
            async with _snapshot(connection) as evidence:
                if archives is not None:
                    evidence = _with_archives(evidence, archives)
                report = await audit(evidence, head, on_progress)
            return Verification(report, SystemClock().monotonic() - began, file)

    return run_on(run, settings)


def _with_archives(evidence: Evidence, folder: Path) -> Evidence:
    paths, differing = archives_up_to(folder, evidence.checkpoint)
    opens = [partial(_open_archive, path) for path in paths]
    return joined(evidence, opens, differing)


def _open_archive(path: Path, without_log: bool) -> Evidence:
    return read_archive(path, without_log=without_log)


def verify_export(file: BufferedReader, head_file: Path | None, on_progress: ProgressListener) -> Verification:
    """Audit an export. Raises `ExportError`, and `AuditImpossibleError` for the head's file."""
    head = _read_head(head_file) if head_file is not None else None
    began = SystemClock().monotonic()
    lines = lines_of(file, "the export")
    with _rare_collections():
        report = uvloop.run(audit(read_export(lines), head, on_progress))
    return Verification(report, SystemClock().monotonic() - began, head_file)


def export_database(
    overrides: dict[str, object], write: Callable[[bytes], object], on_progress: ProgressListener
) -> Counts:
    """Write the database of the settings, as it is at this moment, as JSON Lines. Raises `AuditImpossibleError`."""
    settings = settings_of(overrides)

    def write_or_say(lines: bytes) -> None:
        try:
            write(lines)
        except OSError as error:  # not the database's: a full disk, a reader that went away
            raise AuditImpossibleError(f"the export cannot be written: {error}") from error

    async def run() -> Counts:
        async with _connected(settings) as connection, _snapshot(connection) as evidence:
            return await write_export(evidence, write_or_say, timestamp_text(SystemClock().now_us()), on_progress)

    return run_on(run, settings)


def settings_of(overrides: dict[str, object]) -> Settings:
    try:
        return Settings(**overrides)  # type: ignore[arg-type] # checked by the settings themselves
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        shown = name if name in ("PORT", "DATABASE_URL") else f"BESTEX_{name}"
        raise AuditImpossibleError(f"{shown}: {first['msg']}") from error


def run_on(work: Callable[[], Awaitable[T]], settings: Settings) -> T:
    """Run it, and say of every error what it means."""

    async def awaited() -> T:
        return await work()

    where = settings.database_host if settings.database_url else str(settings.data_dir)
    try:
        with _rare_collections():
            return uvloop.run(awaited())
    except (DataDirError, JournalConfigurationError) as error:
        raise AuditImpossibleError(str(error)) from error
    except EmbeddedPostgresError as error:
        raise DatabaseUnreachableError(str(error)) from error
    except asyncpg.PostgresError as error:
        raise DatabaseUnreachableError(f"the database at {where} cannot be read: {error}") from error
    except LOST as error:
        told = str(error) or type(error).__name__
        raise DatabaseUnreachableError(f"the database at {where} cannot be reached: {told}") from error


@contextmanager
def _rare_collections() -> Iterator[None]:
    """An audit keeps what it makes: looking for garbage among it is in vain."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database that holds a journal of this release."""
    async with database_of(settings) as dsn:
        connection = await connect_for_audit(dsn)
        try:
            await check_schema(connection)
            yield connection
        finally:
            connection.terminate()


@asynccontextmanager
async def database_of(settings: Settings) -> AsyncIterator[str]:
    """The database's address. The embedded server, where it does not run, runs as long as this."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    if not has_database(settings.data_dir / "postgres"):
        raise AuditImpossibleError(
            f"there is no database in {settings.data_dir}: name its folder in BESTEX_DATA_DIR, or its address in"
            " DATABASE_URL"
        )
    started = False

    def on_event(event: str, fields: dict[str, Any]) -> None:
        nonlocal started
        started |= event == "postgres.started"

    user = settings.postgres_user if os.geteuid() == 0 else None
    server = EmbeddedPostgres(settings.data_dir, server_user=user, on_event=on_event)
    await server.start()
    try:
        yield server.dsn
    finally:
        if started and not await _is_used_by_others(server.dsn):  # else an engine or an audit has adopted it meanwhile
            await server.stop()


async def _is_used_by_others(dsn: str) -> bool:
    connection = await connect_for_audit(dsn)
    try:
        others: int = await connection.fetchval(
            "select count(*) from pg_stat_activity where backend_type = 'client backend'"
            " and application_name <> current_setting('application_name')"  # that is this process's
        )
    finally:
        connection.terminate()
    return others > 0


@asynccontextmanager
async def _snapshot(connection: asyncpg.Connection) -> AsyncIterator[Evidence]:
    """All that the database holds at one moment, whatever is written meanwhile."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        ledger = PostgresLedgerEvidence(connection) if await has_ledger(connection) else None
        journal = PostgresJournalEvidence(connection)
        yield Evidence(journal, ledger, checkpoint=await checkpoint(connection), archived=journal.archived)


def _read_head(head_file: Path) -> PublishedHead:
    try:
        head = msgspec.json.decode(_at_rest(head_file), type=PublishedHead)
        if head.position < 0 or len(bytes.fromhex(head.hash)) != HASH_BYTES:
            raise ValueError("position or hash is out of range")
    except OSError as error:
        raise AuditImpossibleError(f"the published head cannot be read: {error}") from error
    except (*UNREADABLE, ValueError) as error:
        raise AuditImpossibleError(f"{head_file} is no published head: {error}") from error
    return head


def _at_rest(file: Path) -> bytes:
    """What stands in a file that an engine may be rewriting: two looks that agree, so that none is of two heads."""
    text = file.read_bytes()
    for _ in range(LOOKS_MAX):
        before, text = text, file.read_bytes()
        if text == before:
            break
    return text
