"""An engine that wrote much and is dead: what a start finds."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from bench.errors import BenchError
from bench.suite import ProgressOf
from bestex.ambient import SystemClock, SystemIds
from bestex.journal.postgres import PostgresJournal
from bestex.journal.queries import QUERIES
from bestex.ports import Append

IN_FLIGHT: Final = 4_000  # appends that wait for their commit


@dataclass(frozen=True)
class DeadEngine:
    """Its journal, and what it knew of the simulated chain."""

    journal: PostgresJournal
    clock: SystemClock
    ids: SystemIds
    wallet_key: bytes
    anchor_us: int
    anchor_slot: int
    slot_us: int

    async def write(self, appends: Iterable[Append], progress: ProgressOf) -> None:
        """Write these rows; `progress` is told how many have been."""
        waiting: list[asyncio.Future[int]] = []
        for number, append in enumerate(appends):
            waiting.append(self.journal.append(append))
            if len(waiting) >= IN_FLIGHT:
                await asyncio.gather(*waiting)
                waiting.clear()
                progress(number)
        await asyncio.gather(*waiting)


@asynccontextmanager
async def dead_engine(dsn: str, mode: str) -> AsyncIterator[DeadEngine]:
    """An engine that may write as long as the block runs, on a database that an engine has set up."""
    clock, ids = SystemClock(), SystemIds()
    connection = await asyncpg.connect(dsn)
    journal = PostgresJournal(dsn, ids.order_id(), clock)
    await connection.execute(QUERIES["enrol_engine"], journal.engine_id, mode, "the benchmark")
    await connection.execute(QUERIES["enrol_writer"], journal.engine_id, mode)
    world = await connection.fetchrow("select wallet_key, anchor_us, anchor_slot, slot_us from sim.world")
    if world is None:
        raise BenchError("the simulated chain's ledger has no row in sim.world")
    writing = asyncio.create_task(journal.run())
    try:
        yield DeadEngine(journal, clock, ids, *world)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await connection.execute(QUERIES["bury_engine"], journal.engine_id)
        # What a database does sooner or later after so many rows: it must not happen while something is measured.
        await connection.execute("vacuum analyze bestex.orders")
        await connection.execute("vacuum analyze bestex.events")
        await connection.execute("checkpoint")
        await connection.close()
        await journal.close()
