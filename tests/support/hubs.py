"""Hubs under test: within one process, and between two whose signals go over PostgreSQL or Redis."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from bestex.ambient import SystemClock
from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import Status
from bestex.hub.follower import LogFollower
from bestex.hub.local import LocalHub
from bestex.hub.postgres import LOG_CHANNEL, PostgresSignals
from bestex.journal.postgres import PostgresJournal
from bestex.ports import EngineMode
from tests.support.journals import OnPostgres
from tests.support.orders import DraftOrder, stored
from tests.support.postgres import until


class HubUnderTest(Protocol):
    """A hub, and a process that commits what it is to push: the same one, or another."""

    hub: LocalHub

    async def commit(self, *steps: tuple[DraftOrder, Sequence[Status]]) -> list[StoredEvent]:
        """Commit these statuses of these orders, in this order; what was committed, once the hub has it."""


class WithinOneProcess:
    """`HubUnderTest` of a `LocalHub` that is given every commit."""

    def __init__(self, queue_events: int) -> None:
        self.hub = LocalHub(queue_events)
        self._head = 0

    async def __aenter__(self) -> "WithinOneProcess":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def commit(self, *steps: tuple[DraftOrder, Sequence[Status]]) -> list[StoredEvent]:
        events = [event for draft, statuses in steps for event in draft.next(*statuses).events]
        published = stored(events, self._head + 1)
        self._head += len(events)
        self.hub.publish(published)
        return published


class AnotherProcess:
    """A process that does not commit: its hub, follower and signals over PostgreSQL."""

    def __init__(self, journal: PostgresJournal, dsn: str, queue_events: int = 256) -> None:
        self.journal = journal
        self.hub = LocalHub(queue_events)
        self.follower = LogFollower(journal, self.hub, SystemClock())
        self.signals = PostgresSignals(dsn, SystemClock())
        self.signals.on(LOG_CHANNEL, self.follower.hear)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.follower.open()
        self._tasks = [asyncio.create_task(self.signals.run()), asyncio.create_task(self.follower.run())]
        async with asyncio.timeout(10):
            await self.signals.listening()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class OverPostgres:
    """`HubUnderTest` of two processes on one database."""

    def __init__(self, dsn: str, queue_events: int = 256) -> None:
        self._dsn = dsn
        self._queue_events = queue_events
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> "OverPostgres":
        self.database = OnPostgres(self._dsn)
        self._exits.push_async_callback(self.database.close)
        self.committing = await self.database.journal(mode=EngineMode.WORKER)
        self.other = await self.process()
        self.hub = self.other.hub
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def process(self) -> AnotherProcess:
        """A further one, running."""
        process = AnotherProcess(await self.database.journal(mode=EngineMode.API), self._dsn, self._queue_events)
        self._exits.push_async_callback(process.stop)
        await process.start()
        return process

    async def commit(self, *steps: tuple[DraftOrder, Sequence[Status]]) -> list[StoredEvent]:
        before = await self.committing.head()
        appended = [self.committing.append(draft.next(*statuses)) for draft, statuses in steps]
        position = max(await asyncio.gather(*appended))
        await until(lambda: self.other.follower.position >= position)
        return await self.committing.feed(before, position - before)
