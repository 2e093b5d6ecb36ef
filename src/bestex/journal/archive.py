"""Taking old orders out of the journal on PostgreSQL: what may leave, recording that it is in a file, and removing it.

Rows leave by whole orders, never by the row: an order is here with all its events or not at all. What makes an order
leave stands in `sql/archive.sql`.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, TypeVar

import asyncpg
import msgspec

from bestex.audit.archives import KeptRows
from bestex.audit.evidence import Checkpoint, Evidence, JournalHead, LogRow, OrderImage
from bestex.domain.errors import JournalConfigurationError
from bestex.journal.connections import connect
from bestex.journal.evidence import BATCH_ROWS, journal_id
from bestex.journal.queries import QUERIES

FAMILIES_A_BATCH: Final = 200
"""Orders, with those that belong to them, that are removed in one statement."""
KEYS_A_BATCH: Final = 5_000
"""Orders that are forgotten in one statement."""
DISORDER_ROWS: Final = 10_000
"""So far before its place in time may a row stand in the log: clocks differ, and commits overtake each other."""

_PATIENCE_S: Final = 86_400.0
_LOCK: Final = 0x62657374_6172  # "bestar": one archive at a time over a database

T = TypeVar("T")


class Removed(msgspec.Struct, frozen=True):
    """What a batch removed."""

    orders: int
    events: int


class Leaving(msgspec.Struct, frozen=True):
    """Of the log up to a position: what leaves, and what stays there."""

    orders: int
    events: int
    staying_orders: int
    staying_events: int


async def connect_for_archive(dsn: str) -> asyncpg.Connection:
    """A connection to archive with. Raises what the driver raises, and `JournalConfigurationError` for a second one."""
    connection = await connect(dsn, "bestex archive", jit="off")
    if not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
        connection.terminate()
        raise JournalConfigurationError("another archive of this database is under way")
    return connection


class PostgresArchive:
    """The journal's side of an archive; one at a time over a database."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def journal_id(self) -> str:
        return await journal_id(self._connection)

    async def last(self) -> Checkpoint | None:
        """Where the last archive ends."""
        row = await self._connection.fetchrow(QUERIES["last_checkpoint"])
        return Checkpoint(*row) if row is not None else None

    async def head(self) -> int:
        """The position of the log's last row."""
        head: int = await self._connection.fetchval("select position from bestex.log_head")
        return head

    async def end_of(self, after: int, to: int, before_us: int) -> int:
        """The last position behind one and up to another before which every row is older than a time; else `after`."""
        low, high = after, to
        while low < high:  # rows stand nearly in the order of their times
            middle = (low + high + 1) // 2
            if await self.at_us(middle) < before_us:
                low = middle
            else:
                high = middle - 1
        younger = await self._connection.fetchval(
            QUERIES["first_younger"], max(after, low - DISORDER_ROWS), low, before_us
        )
        return low if younger is None else int(younger) - 1

    async def at_us(self, position: int) -> int:
        """A row's time, Unix microseconds."""
        [row] = await _row_at(self._connection, position)
        at_us: int = row["at_us"]
        return at_us

    async def head_at(self, position: int) -> JournalHead:
        """The log's head as it was when it ended at a position."""
        return await _head_at(self._connection, position)

    @asynccontextmanager
    async def stretch(self, before: Checkpoint | None, to: int) -> AsyncIterator[Evidence]:
        """The log behind a checkpoint up to a position as an archive has it, on one snapshot."""
        async with self._connection.transaction(isolation="repeatable_read"):
            await self._find_leaving(to)
            yield Evidence(_Stretch(self._connection, before, to), checkpoint=before, is_archive=True)
        await self._drop_found()

    async def leaving(self, to: int) -> Leaving:
        """What an archive up to a position would take, and what would stay."""
        async with self._connection.transaction(isolation="repeatable_read"):
            await self._find_leaving(to)
            [row] = await self._connection.fetch(QUERIES["leaving"], timeout=_PATIENCE_S)
            await self._drop_found()
        return Leaving(*row)

    async def record(self, checkpoint: Checkpoint) -> None:
        """Say that a file is whole and on disk. Nothing is removed before."""
        values = (checkpoint.number, checkpoint.position, checkpoint.hash, checkpoint.at_us)
        about_file = (checkpoint.file, checkpoint.size, checkpoint.digest)
        await self._connection.execute(QUERIES["record_checkpoint"], *values, *about_file)

    async def remove(self, checkpoint: Checkpoint) -> AsyncIterator[Removed]:
        """Remove what is in the file, batch by batch. May be broken off anywhere, and begun again."""
        connection = self._connection
        await self._find_leaving(checkpoint.position)
        # Where an order's keys will be looked for must be known to every append before the first order is gone: they
        # are listed, and then the head is locked once, behind the append that is under way.
        await connection.execute(QUERIES["keep_keys"], checkpoint.number, timeout=_PATIENCE_S)
        await connection.execute(QUERIES["archived_to"], checkpoint.position)
        # What is not removed because the server crashed is removed when the archive is taken up again.
        await self._set(synchronous_commit="off", enable_seqscan="off", enable_hashjoin="off", enable_mergejoin="off")
        last = "00000000-0000-0000-0000-000000000000"
        while True:
            row = await connection.fetchrow(QUERIES["remove_orders"], checkpoint.number, last, FAMILIES_A_BATCH)
            if row is None or row["last"] is None:
                break
            last = row["last"]
            yield Removed(row["orders"], row["events"])
        await self._set(synchronous_commit="on", enable_seqscan="on", enable_hashjoin="on", enable_mergejoin="on")
        await connection.execute(QUERIES["forget_keys_of_stayed"], checkpoint.number, timeout=_PATIENCE_S)
        await self._drop_found()

    async def finish(self, checkpoint: Checkpoint) -> int:
        """Write down what has stayed; how many rows that are."""
        kept = KeptRows(checkpoint)
        async with self._connection.transaction(isolation="repeatable_read"):
            async for rows in _batches(self._connection, LogRow, QUERIES["kept_rows"], checkpoint.position):
                kept.feed(rows)
            await self._connection.execute(QUERIES["finish_checkpoint"], checkpoint.number, kept.rows, kept.hash)
        return kept.rows

    async def removed(self, number: int) -> Removed:
        """What has left with an archive so far."""
        statement = "select orders, events from bestex.checkpoints where number = $1"
        row = await self._connection.fetchrow(statement, number)
        return Removed(row["orders"], row["events"]) if row is not None else Removed(0, 0)

    async def forget(self, kept_for: timedelta) -> int:
        """Forget the orders whose archives were made so long ago, with their keys; how many there were."""
        forgotten = 0
        for (number,) in await self._connection.fetch(QUERIES["forgettable"], kept_for):
            while count := await self._connection.fetchval(QUERIES["forget_keys"], number, KEYS_A_BATCH):
                forgotten += count
            await self._connection.execute(QUERIES["all_forgotten"], number)
        return forgotten

    async def _find_leaving(self, to: int) -> None:
        execute = self._connection.execute
        await self._drop_found()
        await execute(QUERIES["orders_told"].format(position=int(to)), timeout=_PATIENCE_S)
        await execute("create unique index on told (order_id); analyze told", timeout=_PATIENCE_S)
        await self._until_nothing_changes("families")
        await execute(QUERIES["orders_leaving"], timeout=_PATIENCE_S)
        await execute("create unique index on leaving (order_id); analyze leaving", timeout=_PATIENCE_S)
        await self._until_nothing_changes("families_stay")
        await execute("create index on leaving (family); analyze leaving", timeout=_PATIENCE_S)

    async def _until_nothing_changes(self, query: str) -> None:
        while not (await self._connection.execute(QUERIES[query], timeout=_PATIENCE_S)).endswith(" 0"):
            pass  # once for each generation of a family

    async def _drop_found(self) -> None:
        await self._connection.execute("drop table if exists pg_temp.told, pg_temp.leaving")

    async def _set(self, **settings: str) -> None:
        for name, value in settings.items():
            await self._connection.execute(f"set {name} = {value}")


class _Stretch:
    """`JournalEvidence` of what an archive has."""

    def __init__(self, connection: asyncpg.Connection, before: Checkpoint | None, to: int) -> None:
        self._connection = connection
        self._after = before.position if before is not None else 0
        self._to = to

    async def head(self) -> JournalHead:
        return await _head_at(self._connection, self._to)

    async def log(self) -> AsyncIterator[Sequence[LogRow]]:
        async for rows in _batches(self._connection, LogRow, QUERIES["archive_carried"], self._after):
            yield rows
        async for rows in _batches(self._connection, LogRow, QUERIES["archive_log"], self._after, self._to):
            yield rows

    async def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        async for images in _batches(self._connection, OrderImage, QUERIES["archive_orders"]):
            yield images


async def _head_at(connection: asyncpg.Connection, position: int) -> JournalHead:
    [row] = await _row_at(connection, position)
    return JournalHead(await journal_id(connection), position, row["hash"])


async def _row_at(connection: asyncpg.Connection, position: int) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await connection.fetch(QUERIES["row_at"], position)
    if not rows:
        raise JournalConfigurationError(f"the log has no row {position}: run `bestex verify`")
    return rows


async def _batches(
    connection: asyncpg.Connection, make: Callable[..., T], query: str, *arguments: object
) -> AsyncIterator[Sequence[T]]:
    cursor = await connection.cursor(query, *arguments)
    while rows := await cursor.fetch(BATCH_ROWS):
        yield [make(*row) for row in rows]
