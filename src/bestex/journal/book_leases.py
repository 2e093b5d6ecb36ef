"""Who owns which book: on PostgreSQL, and in memory for tests and simulation."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

import asyncpg

from bestex.domain.errors import JournalUnavailableError
from bestex.journal.connections import ConnectionPool
from bestex.journal.memory import BookRow, MemoryDatabase
from bestex.ports import BOOK_LEASE_S, BookLease, BookStanding, Clock

_CONNECTIONS: Final = 1  # a watcher asks one thing after the other
_LEASE: Final = timedelta(seconds=BOOK_LEASE_S)
_LEASE_US: Final = round(BOOK_LEASE_S * 1e6)


class PostgresBookLeases:
    """`BookLeases` in the journal's database, by its clock."""

    def __init__(self, dsn: str, engine_id: str) -> None:
        self._engine_id = engine_id
        self._pool = ConnectionPool(dsn, "bestex books", _CONNECTIONS)

    def close(self) -> None:
        self._pool.close()

    async def renew(self) -> BookStanding:
        try:
            async with asyncio.timeout(BOOK_LEASE_S):  # an answer that comes later renews nothing
                [row] = await self._pool.fetch("renew_books", self._engine_id, _LEASE)
        except TimeoutError as error:
            raise JournalUnavailableError(f"leases were not renewed within {BOOK_LEASE_S} s") from error
        mine = tuple(BookLease(key, epoch) for key, epoch in zip(row["keys"], row["epochs"], strict=True))
        return BookStanding(mine, row["others"] + 1)

    async def claim(self, keys: Sequence[str], limit: int) -> list[BookLease]:
        await self._pool.fetch("bury_watchers")
        wanted = list(keys)
        taken = await self._pool.fetch("claim_books", self._engine_id, _LEASE, wanted, limit)
        if len(taken) < limit:
            taken += await self._pool.fetch("claim_new_books", self._engine_id, _LEASE, wanted, limit - len(taken))
        return _sorted(taken)

    async def let_go(self, keys: Sequence[str]) -> None:
        await self._pool.fetch("let_go_of_books", self._engine_id, list(keys))

    async def drop(self, keys: Sequence[str]) -> None:
        await self._pool.fetch("drop_books", self._engine_id, list(keys))

    async def leave(self) -> None:
        await self._pool.fetch("leave_books", self._engine_id)


def _sorted(rows: Iterable[asyncpg.Record]) -> list[BookLease]:
    return sorted((BookLease(row["key"], row["epoch"]) for row in rows), key=lambda lease: lease.key)


class MemoryBookLeases:
    """`BookLeases` over a `MemoryDatabase`, by the given clock. Its methods never wait."""

    def __init__(self, database: MemoryDatabase, engine_id: str, clock: Clock) -> None:
        self._database = database
        self._engine_id = engine_id
        self._clock = clock

    async def renew(self) -> BookStanding:
        now_us = self._clock.now_us()
        self._database.watchers[self._engine_id] = now_us + _LEASE_US
        mine = sorted((key, row) for key, row in self._database.books.items() if row.owner == self._engine_id)
        for _, row in mine:
            row.until_us = now_us + _LEASE_US
        watchers = sum(until_us > now_us for until_us in self._database.watchers.values())
        return BookStanding(tuple(BookLease(key, row.epoch) for key, row in mine), watchers)

    async def claim(self, keys: Sequence[str], limit: int) -> list[BookLease]:
        now_us = self._clock.now_us()
        taken: list[BookLease] = []
        for key in sorted(keys):
            row = self._database.books.setdefault(key, BookRow())
            if len(taken) < limit and (row.owner is None or row.until_us < now_us):
                row.owner, row.epoch, row.until_us = self._engine_id, row.epoch + 1, now_us + _LEASE_US
                taken.append(BookLease(key, row.epoch))
        return taken

    async def let_go(self, keys: Sequence[str]) -> None:
        for key in keys:
            row = self._database.books.get(key)
            if row is not None and row.owner == self._engine_id:
                row.owner = None

    async def drop(self, keys: Sequence[str]) -> None:
        rested_in = self._database.resting_pairs()
        for key in keys:
            row = self._database.books.get(key)
            if row is not None and row.owner == self._engine_id and key not in rested_in:
                del self._database.books[key]

    async def leave(self) -> None:
        self._database.watchers.pop(self._engine_id, None)
        await self.let_go(list(self._database.books))
