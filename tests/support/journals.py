"""Journals under test: engines on one database, in memory or in PostgreSQL, and hands on their commits."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Protocol

import asyncpg

from bestex.ambient import SystemClock
from bestex.journal.connections import connect
from bestex.journal.memory import BookRow, MemoryDatabase, MemoryJournal
from bestex.journal.postgres import PostgresJournal
from bestex.journal.queries import QUERIES
from bestex.journal.writer import MergedRows, Store, Verdict
from bestex.ports import BookLease, EngineMode

AnyJournal = MemoryJournal | PostgresJournal


class Writers:
    """The running writers of some journals."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, journal: AnyJournal) -> None:
        self._tasks[journal.engine_id] = asyncio.create_task(journal.run())

    def of(self, journal: AnyJournal) -> "asyncio.Task[None]":
        return self._tasks[journal.engine_id]

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


class JournalDatabase(Protocol):
    """A database with engines on it."""

    writers: Writers

    async def journal(self, mode: EngineMode = EngineMode.INLINE) -> AnyJournal:
        """The journal of a new engine, enrolled, its writer running."""

    async def bury(self, journal: AnyJournal) -> None:
        """Declare an engine dead."""

    async def silence(self, journal: AnyJournal) -> None:
        """Have an engine's signs of life stop: its writer goes on, its leases do not."""

    async def give_sign_of_life(self, journal: AnyJournal) -> None:
        """Have it go on."""

    async def own_book(self, journal: AnyJournal, lease: BookLease) -> None:
        """Have the engine own a book, whoever did."""

    async def close(self) -> None: ...


class InMemory:
    """`JournalDatabase` of this process."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.writers = Writers()

    async def journal(self, mode: EngineMode = EngineMode.INLINE) -> MemoryJournal:
        journal = MemoryJournal(self.database, str(uuid.uuid4()), SystemClock(), mode)
        self.writers.start(journal)
        return journal

    async def bury(self, journal: AnyJournal) -> None:
        self.database.bury(journal.engine_id)

    async def silence(self, journal: AnyJournal) -> None:
        self.database.silence(journal.engine_id)

    async def give_sign_of_life(self, journal: AnyJournal) -> None:
        self.database.give_sign_of_life(journal.engine_id)

    async def own_book(self, journal: AnyJournal, lease: BookLease) -> None:
        row = self.database.books.setdefault(lease.key, BookRow())
        row.owner, row.epoch = journal.engine_id, lease.epoch

    async def close(self) -> None:
        await self.writers.stop()


class OnPostgres:
    """`JournalDatabase` of a real server; `dsn` may lead through a proxy."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.writers = Writers()
        self._journals: list[PostgresJournal] = []
        self._life: asyncpg.Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def journal(self, mode: EngineMode = EngineMode.INLINE, *, through: str | None = None) -> PostgresJournal:
        journal = PostgresJournal(through or self.dsn, str(uuid.uuid4()), SystemClock())
        life = await self.life()
        await life.execute(QUERIES["enrol_engine"], journal.engine_id, mode, "a test's engine")
        await life.execute(QUERIES["enrol_writer"], journal.engine_id, mode)
        self._journals.append(journal)
        self.writers.start(journal)
        return journal

    async def bury(self, journal: AnyJournal) -> None:
        await self._execute(QUERIES["bury_engine"], journal.engine_id)

    async def silence(self, journal: AnyJournal) -> None:
        statement = "update bestex.engines set seen_at = clock_timestamp() - interval '1 minute' where id = $1"
        await self._execute(statement, journal.engine_id)

    async def give_sign_of_life(self, journal: AnyJournal) -> None:
        await self._execute(QUERIES["sign_of_life"], journal.engine_id)

    async def own_book(self, journal: AnyJournal, lease: BookLease) -> None:
        statement = (
            "insert into bestex.book_leases values ($1, $2, $3, 'infinity')"
            " on conflict (key) do update set owner = excluded.owner, epoch = excluded.epoch"
        )
        await self._execute(statement, lease.key, journal.engine_id, lease.epoch)

    async def _execute(self, statement: str, *arguments: object) -> None:
        life = await self.life()
        async with self._one_at_a_time:
            await life.execute(statement, *arguments)

    async def life(self) -> asyncpg.Connection:
        """A connection beside those under test."""
        if self._life is None or self._life.is_closed():
            self._life = await connect(self.dsn, "a test's own")
        return self._life

    async def close(self) -> None:
        await self.writers.stop()
        for journal in self._journals:
            await journal.close()
        if self._life is not None:
            self._life.terminate()


class HeldStore:
    """A journal's store whose commits wait while they are held. Remembers what each was given."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._free = asyncio.Event()
        self._free.set()
        self._arrived = asyncio.Event()
        self.commits: list[list[MergedRows]] = []

    def hold(self) -> None:
        self._free.clear()
        self._arrived.clear()

    def release(self) -> None:
        self._free.set()

    async def let_one_pass(self) -> None:
        """Let the held commit go on, and wait until the next one is held."""
        self._free.set()
        self.hold()
        await self.arrived()

    async def arrived(self) -> None:
        """Wait until a commit is held."""
        async with asyncio.timeout(10):
            await self._arrived.wait()

    async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
        self.commits.append(list(rows))
        self._arrived.set()
        await self._free.wait()
        return await self._store.commit(number, rows)


def holding(journal: AnyJournal) -> HeldStore:
    """Put a `HeldStore` between the journal's writer and its store."""
    held = HeldStore(journal.writer._store)
    journal.writer._store = held
    return held
