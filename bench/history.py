"""A long history in a database, in minutes: orders that an engine executed, repeated under new ids.

Some orders are executed by the engine itself. Their rows in the log, in the projection and in the simulated chain's
ledger are then taken as they are stored, column by column, and written again for as many orders as are wanted: with
new ids, positions, times, signatures and a valid hash chain. What the engine's columns are need not be known here.

`bestex verify` finds nothing in it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from bench.copies import (
    HEADER,
    SIGNATURE_START,
    TRAILER,
    Copy,
    EventRows,
    Pattern,
    Row,
    Template,
    copies_of,
    order_rows,
    parse_copy,
    transaction_rows,
)
from bench.errors import BenchError
from bench.suite import ProgressOf
from bestex.domain.tokens import WRAPPED_SOL_MINT
from bestex.journal.embedded import EmbeddedPostgres

TEMPLATES: Final = 16
CHUNK_BYTES: Final = 1 << 20

# The wallet holds what it was given and what the transactions moved.
BALANCES: Final = f"""
with moved (mint, units) as (
    select mint, units from sim.adjustments
    union all select mint_out, sum(amount_out) from sim.transactions group by mint_out
    union all select mint_in, -sum(amount_in) from sim.transactions group by mint_in
    union all select '{WRAPPED_SOL_MINT}', -sum(network_fee) from sim.transactions)
update sim.balances b
   set units = m.units
  from (select mint, sum(units) as units from moved group by mint) m
 where m.mint = b.mint"""


@dataclass(frozen=True)
class Table:
    """A table with rows of orders, and the column that names the order."""

    schema: str
    name: str
    key: str
    order_by: str


EVENTS: Final = Table("bestex", "events", "order_id", "seq")
ORDERS: Final = Table("bestex", "orders", "id", "id")
TRANSACTIONS: Final = Table("sim", "transactions", "order_id", "signature")


@dataclass(frozen=True)
class History:
    """What was loaded."""

    orders: int
    events: int
    database_bytes: int


async def load_history(data: Path, orders: int, progress: ProgressOf) -> History:
    """Replace what the database of a stopped engine holds by `orders` executed orders.

    The engine must have executed some, and settled them. `progress` is called with orders written.
    """
    server = EmbeddedPostgres(data)
    await server.start()
    connection = await asyncpg.connect(server.dsn)
    try:
        # A table that is filled in the transaction that emptied it needs no write-ahead log at this level.
        await connection.execute("alter system set wal_level = minimal")
        await connection.execute("alter system set max_wal_senders = 0")
    finally:
        await connection.close()
    await server.stop()
    await server.start()
    connection = await asyncpg.connect(server.dsn)
    try:
        history = await _load(connection, orders, progress)
        await connection.execute("alter system reset all")
    finally:
        await connection.close()
        await server.stop()
    for published in (data / "heads").glob("*.json"):  # of the log that was replaced
        published.unlink()
    return history


async def _load(connection: asyncpg.Connection, orders: int, progress: ProgressOf) -> History:
    columns = {table: await _columns(connection, table) for table in (EVENTS, ORDERS, TRANSACTIONS)}
    templates = await _templates(connection, columns)
    writer = EventRows(templates, columns[EVENTS])
    async with connection.transaction():
        for table in columns:
            await connection.execute(f"truncate {table.schema}.{table.name}")
        for table, rows in (
            (EVENTS, writer.rows(copies_of(orders), progress)),
            (ORDERS, order_rows(templates, writer.lengths_us, copies_of(orders))),
            (TRANSACTIONS, transaction_rows(templates, copies_of(orders))),
        ):
            await connection.copy_to_table(
                table.name, schema_name=table.schema, source=_chunks(rows), format="binary", freeze=True
            )
        await connection.execute("update bestex.log_head set position = $1, hash = $2", writer.position, writer.hash)
    await connection.execute(BALANCES)
    for table in columns:
        await connection.execute(f"vacuum analyze {table.schema}.{table.name}")
    await connection.execute("checkpoint")
    size = await connection.fetchval("select pg_database_size(current_database())")
    return History(orders, writer.position, size)


async def _columns(connection: asyncpg.Connection, table: Table) -> list[str]:
    rows = await connection.fetch(
        "select column_name from information_schema.columns where table_schema = $1 and table_name = $2 "
        "and is_generated = 'NEVER' order by ordinal_position",
        table.schema,
        table.name,
    )
    return [row["column_name"] for row in rows]


async def _templates(connection: asyncpg.Connection, columns: dict[Table, list[str]]) -> list[Template]:
    found = await connection.fetch(
        "select o.id::text as id, t.signature from bestex.orders o join sim.transactions t on t.order_id = o.id::text "
        "where o.status = 'confirmed' and o.settled and t.error is null order by o.id limit $1",
        TEMPLATES,
    )
    if not found:
        raise BenchError("no order in the database was executed and settled: there is nothing to make a history of")

    async def patterns(table: Table, template: Copy) -> list[Pattern]:
        rows = await _stored_rows(connection, table, columns[table], template.id_text.decode())
        return [Pattern(row, template) for row in rows]

    templates = []
    for each in found:
        id_bytes = bytes.fromhex(each["id"].replace("-", ""))
        itself = Copy(each["id"].encode(), id_bytes, each["signature"][:SIGNATURE_START].encode(), 0)
        templates.append(Template(*[await patterns(table, itself) for table in (EVENTS, ORDERS, TRANSACTIONS)]))
    return templates


async def _stored_rows(
    connection: asyncpg.Connection, table: Table, columns: Sequence[str], order_id: str
) -> list[Row]:
    """The order's rows, field by field, as they are stored."""
    received = bytearray()

    async def take(data: bytes) -> None:
        received.extend(data)

    names = ", ".join(f'"{column}"' for column in columns)
    await connection.copy_from_query(
        f"select {names} from {table.schema}.{table.name} where {table.key}::text = $1 order by {table.order_by}",
        order_id,
        output=take,
        format="binary",
    )
    return list(parse_copy(bytes(received)))


async def _chunks(rows: Iterator[bytearray]) -> AsyncIterator[bytes]:
    """A binary COPY in chunks of about a megabyte."""
    chunk: list[bytes | bytearray] = [HEADER]
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row)
        if size >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    yield b"".join([*chunk, TRAILER])
