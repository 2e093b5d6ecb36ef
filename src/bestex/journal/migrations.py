"""Bring a database to this release's schema: numbered files in order, then the functions and the lifecycle guard."""

from importlib import resources
from typing import Final

import asyncpg

from bestex.domain.errors import JournalConfigurationError
from bestex.domain.lifecycle import FIRST, NEXT
from bestex.journal.connections import CONNECT_TIMEOUT_S, connect
from bestex.journal.queries import APPEND, FUNCTIONS, named_append, sql_text

MINIMUM_SERVER: Final = 17
_PATIENCE_S: Final = 86_400.0
"""A file may have a whole log to rewrite: broken off and rolled back, it would only have to begin again."""
_LOCK: Final = 0x62657374_6578  # "bestex": one migration at a time over a database


def transitions() -> set[tuple[str, str]]:
    """Every (before, after) that the lifecycle allows; '' stands for "no event yet"."""
    allowed = {(before.value, after.value) for before, followers in NEXT.items() for after in followers}
    return allowed | {("", FIRST.value)}


async def has_journal(dsn: str) -> bool:
    """Whether the database holds a journal of any release."""
    connection = await connect(dsn, "bestex migration")
    try:
        found: bool = await connection.fetchval("select to_regclass('bestex.writers') is not null")
    finally:
        await connection.close()
    return found


def latest_version() -> int:
    """The schema's version that this release needs: the number of its last file."""
    return max(int(name[:4]) for name in _migration_files())


async def migrate(dsn: str) -> None:
    """Check the server's settings and apply what is missing. `JournalConfigurationError` says what is wrong."""
    await _check_server(dsn)
    connection = await connect(dsn, "bestex migration")
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", _LOCK, timeout=_PATIENCE_S)
            await _apply(connection)
    finally:
        await connection.close()


async def _check_server(dsn: str) -> None:
    # What connections get by themselves: ours ask for synchronous_commit, but an operator's must have it too.
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        await _check_settings(connection)
    finally:
        await connection.close()


async def _check_settings(connection: asyncpg.Connection) -> None:
    version: int = int(await connection.fetchval("select current_setting('server_version_num')")) // 10_000
    if version < MINIMUM_SERVER:
        raise JournalConfigurationError(f"PostgreSQL {version} is too old: {MINIMUM_SERVER} or later is needed")
    encoding = await connection.fetchval("select current_setting('server_encoding')")
    if encoding != "UTF8":
        raise JournalConfigurationError(f"the database's encoding is {encoding}: UTF8 is needed")
    for setting in ("fsync", "synchronous_commit"):
        value = await connection.fetchval("select current_setting($1)", setting)
        if value == "off":
            raise JournalConfigurationError(
                f"PostgreSQL runs with {setting} = off: an accepted order could be lost. Set it to on."
            )


async def _apply(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """create schema if not exists bestex;
           create table if not exists bestex.migrations (
               version integer primary key, name text not null,
               applied_at timestamptz not null default clock_timestamp())"""
    )
    applied: set[int] = {row[0] for row in await connection.fetch("select version from bestex.migrations")}
    files = {int(name[:4]): name for name in _migration_files()}
    if unknown := applied - files.keys():
        raise JournalConfigurationError(
            f"the database has migration {max(unknown)} of a later release; this one knows up to {max(files)}"
        )
    for version in sorted(files.keys() - applied):
        await connection.execute(sql_text(files[version]), timeout=_PATIENCE_S)
        await connection.execute(
            "insert into bestex.migrations (version, name) values ($1, $2)", version, files[version]
        )
    await _replace_append(connection)
    allowed = sorted(transitions())
    await connection.execute(
        "delete from bestex.lifecycle where (before, after) not in (select * from unnest($1::text[], $2::text[]))",
        [before for before, _ in allowed],
        [after for _, after in allowed],
    )
    await connection.executemany(
        "insert into bestex.lifecycle (before, after) values ($1, $2) on conflict do nothing", allowed
    )


async def _replace_append(connection: asyncpg.Connection) -> None:
    """Make this release's append function, and drop those that no process calls any more."""
    await connection.execute(named_append(FUNCTIONS))
    obsolete = await connection.fetch(
        """select oid::regprocedure::text from pg_proc
            where pronamespace = 'bestex'::regnamespace and proname like 'append%' and proname <> $1
              and proname not in (select append_function from bestex.engines)""",
        APPEND,
    )
    for (signature,) in obsolete:
        await connection.execute(f"drop function {signature}")


def _migration_files() -> list[str]:
    names = (entry.name for entry in resources.files("bestex.journal").joinpath("sql").iterdir())
    return sorted(name for name in names if name[:4].isdigit() and name.endswith(".sql"))
