"""The journal as an audit reads it: rows as they are stored, on one snapshot of PostgreSQL or from memory."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

import asyncpg
import msgspec

from bestex.audit.evidence import Checkpoint, JournalHead, LogRow, OrderImage
from bestex.domain.errors import JournalConfigurationError
from bestex.domain.events import StoredEvent, encode_detail
from bestex.domain.lifecycle import UNFILLED
from bestex.journal.connections import connect
from bestex.journal.memory import MemoryDatabase
from bestex.journal.migrations import latest_version
from bestex.journal.queries import QUERIES

BATCH_ROWS: Final = 2_000

T = TypeVar("T")


async def connect_for_audit(dsn: str) -> asyncpg.Connection:
    """A connection whose one transaction may last as long as it takes. Raises what the driver raises."""
    return await connect(
        dsn,
        f"bestex audit {os.getpid()}",
        default_transaction_read_only="on",
        transaction_timeout="0",
        statement_timeout="0",
        idle_in_transaction_session_timeout="0",
        jit="off",
    )


async def check_schema(connection: asyncpg.Connection) -> None:
    """Raise `JournalConfigurationError` unless the database holds a journal of this release's schema."""
    if not await connection.fetchval("select to_regclass('bestex.migrations') is not null"):
        raise JournalConfigurationError("the database holds no journal: no engine has run on it")
    found, needed = await connection.fetchval(QUERIES["schema_version"]) or 0, latest_version()
    if found < needed:
        raise JournalConfigurationError(
            f"the database's schema is of an older release (version {found}, this release needs {needed}):"
            " start this release's engine on it once"
        )
    if found > needed:
        raise JournalConfigurationError(
            f"the database's schema is of a later release (version {found}, this release knows {needed}):"
            " use that release"
        )


async def journal_id(connection: asyncpg.Connection) -> str:
    """Which log the database holds. `JournalConfigurationError` when its head has been lost."""
    return (await PostgresJournalEvidence(connection).head()).journal_id


async def checkpoint(connection: asyncpg.Connection) -> Checkpoint | None:
    """Where the last archive of the log ends."""
    row = await connection.fetchrow(QUERIES["last_checkpoint"])
    return Checkpoint(*row) if row is not None else None


class PostgresJournalEvidence:
    """`JournalEvidence` of the snapshot that the connection's transaction has."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def head(self) -> JournalHead:
        row = await self._connection.fetchrow(QUERIES["head"])
        if row is None:
            raise JournalConfigurationError("the table bestex.log_head has lost its row: which log this is, is unknown")
        return JournalHead(str(row["journal_id"]), row["position"], row["hash"])

    def log(self) -> AsyncIterator[Sequence[LogRow]]:
        return self._batches("audit_log", LogRow)

    def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        return self._batches("audit_orders", OrderImage)

    async def archived(self) -> AsyncIterator[Sequence[str]]:
        """The ids of orders that were archived."""
        cursor = await self._connection.cursor(QUERIES["audit_archived"])
        while rows := await cursor.fetch(BATCH_ROWS):
            yield [row[0] for row in rows]

    async def _batches(self, query: str, make: Callable[..., T]) -> AsyncIterator[Sequence[T]]:
        cursor = await self._connection.cursor(QUERIES[query])
        while rows := await cursor.fetch(BATCH_ROWS):
            yield [make(*row) for row in rows]


class MemoryJournalEvidence:
    """`JournalEvidence` of a journal in memory, as it is when it is read."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def head(self) -> JournalHead:
        database = self._database
        return JournalHead(database.journal_id, len(database.log), database.head_hash)

    async def log(self) -> AsyncIterator[Sequence[LogRow]]:
        database = self._database
        yield [_log_row(stored, link) for stored, link in zip(database.log, database.hashes, strict=True)]

    async def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        yield [
            OrderImage(
                order_id,
                view.kind,
                view.pair,
                view.client_order_id,
                order.status.value,
                order.seq,
                view.attempt,
                view.status if view.status in UNFILLED else None,
                order.settled,
                msgspec.json.encode(view),
                order.resting,
                order.parent_id,
            )
            for order_id, order in self._database.orders.items()
            if (view := order.view) is not None and order.status is not None
        ]


def _log_row(stored: StoredEvent, stored_hash: bytes) -> LogRow:
    event = stored.event
    return LogRow(
        stored.position,
        event.order_id,
        event.seq,
        event.status.value,
        event.attempt,
        event.at_us,
        encode_detail(event.detail),
        event.sealed,
        stored_hash,
    )
