"""The simulated chain's ledger as an audit reads it: on one snapshot of PostgreSQL, or from memory."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

import asyncpg

from bestex.audit.evidence import LedgerAdjustment, LedgerBalance, LedgerTransaction
from bestex.venues.simulated.ledger import MemoryLedger

BATCH_ROWS: Final = 2_000

# numeric goes as text: the driver's Decimal costs more.
_TRANSACTIONS: Final = """
    select signature, slot, order_id, attempt, venue, mint_in, mint_out, amount_in::text, amount_out::text,
           network_fee, error
      from sim.transactions"""
_ADJUSTMENTS: Final = "select number, mint, units::text, reason from sim.adjustments order by number"
_BALANCES: Final = "select mint, units::text from sim.balances order by mint"

T = TypeVar("T")


async def has_ledger(connection: asyncpg.Connection) -> bool:
    """Whether the database holds the ledger of a simulated chain."""
    found: bool = await connection.fetchval("select to_regclass('sim.transactions') is not null")
    return found


class PostgresLedgerEvidence:
    """`LedgerEvidence` of the snapshot that the connection's transaction has."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    def transactions(self) -> AsyncIterator[Sequence[LedgerTransaction]]:
        return self._batches(_TRANSACTIONS, _transaction)

    def adjustments(self) -> AsyncIterator[Sequence[LedgerAdjustment]]:
        return self._batches(_ADJUSTMENTS, _adjustment)

    def balances(self) -> AsyncIterator[Sequence[LedgerBalance]]:
        return self._batches(_BALANCES, _balance)

    async def _batches(self, query: str, make: Callable[[asyncpg.Record], T]) -> AsyncIterator[Sequence[T]]:
        cursor = await self._connection.cursor(query)
        while rows := await cursor.fetch(BATCH_ROWS):
            yield [make(row) for row in rows]


class MemoryLedgerEvidence:
    """`LedgerEvidence` of a ledger in memory, as it is when it is read."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    async def transactions(self) -> AsyncIterator[Sequence[LedgerTransaction]]:
        yield [
            LedgerTransaction(
                signature=row.signature,
                slot=row.slot,
                order_id=row.order_id,
                attempt=row.attempt,
                venue=row.venue,
                mint_in=row.mint_in,
                mint_out=row.mint_out,
                amount_in=row.amount_in,
                amount_out=row.amount_out,
                network_fee=row.network_fee,
                error=row.error,
            )
            for row in await self._ledger.since(0)
        ]

    async def adjustments(self) -> AsyncIterator[Sequence[LedgerAdjustment]]:
        yield [LedgerAdjustment(each.number, each.mint, each.units, each.reason) for each in self._ledger.adjustments]

    async def balances(self) -> AsyncIterator[Sequence[LedgerBalance]]:
        yield [LedgerBalance(mint, units) for mint, units in self._ledger.balances.items()]


def _transaction(row: asyncpg.Record) -> LedgerTransaction:
    signature, slot, order_id, attempt, venue, mint_in, mint_out, amount_in, amount_out, network_fee, error = row
    return LedgerTransaction(
        signature,
        slot,
        order_id,
        attempt,
        venue,
        mint_in,
        mint_out,
        int(amount_in),
        int(amount_out),
        network_fee,
        error,
    )


def _adjustment(row: asyncpg.Record) -> LedgerAdjustment:
    return LedgerAdjustment(row[0], row[1], int(row[2]), row[3])


def _balance(row: asyncpg.Record) -> LedgerBalance:
    return LedgerBalance(row[0], int(row[1]))
