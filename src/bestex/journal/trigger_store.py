"""What triggers keep on disk beside the log: on PostgreSQL, and in memory for tests and simulation.

A pair's marks are a staircase: each later one is worse than the one before it, for whoever it serves.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from bestex.domain.price import parse_price
from bestex.journal.connections import ConnectionPool
from bestex.journal.queries import QUERIES
from bestex.ports import DeadMan, HighWater, LaunchRecord

CONNECTIONS: Final = 2
_END_OF_TIME_US: Final = 2**63 - 1

_record_encoder: Final = msgspec.json.Encoder()
_record_decoder: Final = msgspec.json.Decoder(LaunchRecord)


class PostgresTriggerStore:
    """`TriggerStore` in the journal's database. What it was given is on disk once a method returns."""

    def __init__(self, dsn: str) -> None:
        self._pool = ConnectionPool(dsn, "bestex triggers", CONNECTIONS)

    def close(self) -> None:
        self._pool.close()

    async def keep_high_waters(self, marks: Sequence[HighWater]) -> None:
        kept: list[HighWater] = []
        for mark in marks:
            kept = _with_mark(kept, mark)
        columns = (
            [mark.pair for mark in kept],
            [mark.sells_base for mark in kept],
            [mark.at_us for mark in kept],
            [mark.price for mark in kept],
        )
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(QUERIES["forget_high_waters"], *columns)
            await connection.execute(QUERIES["keep_high_waters"], *columns)

    async def high_waters(self) -> list[HighWater]:
        return [HighWater(*row) for row in await self._pool.fetch("high_waters")]

    async def keep_launch(self, record: LaunchRecord) -> None:
        launch = record.launch
        text = _record_encoder.encode(record).decode()
        await self._pool.fetch("keep_launch", launch.token.mint, launch.pool, record.seen_us, text)

    async def launches(self, limit: int, before_us: int | None, mint: str | None) -> list[LaunchRecord]:
        before = _END_OF_TIME_US if before_us is None else before_us
        if mint is None:
            rows = await self._pool.fetch("launches", before, limit)
        else:
            rows = await self._pool.fetch("launches_of_mint", before, limit, mint)
        return [_record_decoder.decode(row["record"]) for row in rows]

    async def set_dead_man(self, switch: DeadMan) -> None:
        await self._pool.fetch("set_dead_man", switch.caller, switch.due_us, switch.keeps_stops)

    async def drop_dead_man(self, caller: str, due_us: int | None = None) -> None:
        await self._pool.fetch("drop_dead_man", caller, due_us)

    async def dead_men(self) -> list[DeadMan]:
        return [DeadMan(*row) for row in await self._pool.fetch("dead_men")]


class TriggerTables:
    """What the engines' stores in memory share; it outlives them as a database does."""

    def __init__(self) -> None:
        self.high_waters: list[HighWater] = []
        self.launches: dict[tuple[str, str], LaunchRecord] = {}  # by mint and pool
        self.dead_men: dict[str, DeadMan] = {}  # by caller


class MemoryTriggerStore:
    """`TriggerStore` over `TriggerTables`. Its methods never wait."""

    def __init__(self, tables: TriggerTables) -> None:
        self._tables = tables

    async def keep_high_waters(self, marks: Sequence[HighWater]) -> None:
        for mark in marks:
            self._tables.high_waters = _with_mark(self._tables.high_waters, mark)

    async def high_waters(self) -> list[HighWater]:
        return sorted(self._tables.high_waters, key=lambda mark: (mark.at_us, mark.pair, mark.sells_base))

    async def keep_launch(self, record: LaunchRecord) -> None:
        self._tables.launches[record.launch.token.mint, record.launch.pool] = record

    async def launches(self, limit: int, before_us: int | None, mint: str | None) -> list[LaunchRecord]:
        found = [
            record
            for record in sorted(self._tables.launches.values(), key=lambda record: record.seen_us, reverse=True)
            if (before_us is None or record.seen_us < before_us) and (mint is None or record.launch.token.mint == mint)
        ]
        return [
            record for place, record in enumerate(found) if place < limit or record.seen_us == found[limit - 1].seen_us
        ]

    async def set_dead_man(self, switch: DeadMan) -> None:
        self._tables.dead_men[switch.caller] = switch

    async def drop_dead_man(self, caller: str, due_us: int | None = None) -> None:
        switch = self._tables.dead_men.get(caller)
        if switch is not None and due_us in (None, switch.due_us):
            del self._tables.dead_men[caller]

    async def dead_men(self) -> list[DeadMan]:
        return [self._tables.dead_men[caller] for caller in sorted(self._tables.dead_men)]


def _with_mark(marks: list[HighWater], mark: HighWater) -> list[HighWater]:
    """`marks` with one more, unless a later one is no worse; without the earlier ones that are no better."""
    if any(other.at_us >= mark.at_us and _is_no_worse(other, mark) for other in marks):
        return marks
    return [*(other for other in marks if other.at_us > mark.at_us or not _is_no_worse(mark, other)), mark]


def _is_no_worse(mark: HighWater, other: HighWater) -> bool:
    """Whether `mark` is of the same pair and side, and its price at least as good for that side."""
    if (mark.pair, mark.sells_base) != (other.pair, other.sells_base):
        return False
    price, other_price = parse_price(mark.price), parse_price(other.price)
    return price >= other_price if mark.sells_base else price <= other_price
