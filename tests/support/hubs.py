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
from bestex.hub.redis import RedisPublisher, RedisSignals, log_channel
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
    """A process that does not commit: its hub, follower and signals."""

    def __init__(self, journal: PostgresJournal, signals: PostgresSignals | RedisSignals, queue_events: int) -> None:
        self.journal = journal
        self.hub = LocalHub(queue_events)
        self.follower = LogFollower(journal, self.hub, SystemClock())
        self.signals = signals
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


class AcrossProcesses:
    """`HubUnderTest` of two processes on one database, whose signals go over PostgreSQL, or over Redis at a URL."""

    def __init__(self, dsn: str, queue_events: int = 256, redis_url: str | None = None) -> None:
        self._dsn = dsn
        self._queue_events = queue_events
        self._redis_url = redis_url
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> "AcrossProcesses":
        self.database = OnPostgres(self._dsn)
        self._exits.push_async_callback(self.database.close)
        self.committing = await self.database.journal(mode=EngineMode.WORKER)
        if self._redis_url is not None:
            await self._publish(self._redis_url)
        self.other = await self.process()
        self.hub = self.other.hub
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def process(self) -> AnotherProcess:
        """A further one, running."""
        journal = await self.database.journal(mode=EngineMode.API)
        signals: PostgresSignals | RedisSignals
        if self._redis_url is None:
            signals, channel = PostgresSignals(self._dsn, SystemClock()), LOG_CHANNEL
        else:
            signals, channel = RedisSignals(self._redis_url, SystemClock()), await self._channel()
        process = AnotherProcess(journal, signals, self._queue_events)
        signals.on(channel, process.follower.hear)
        self._exits.push_async_callback(process.stop)
        await process.start()
        return process

    async def commit(self, *steps: tuple[DraftOrder, Sequence[Status]]) -> list[StoredEvent]:
        before = await self.committing.head()
        appended = [self.committing.append(draft.next(*statuses)) for draft, statuses in steps]
        position = max(await asyncio.gather(*appended))
        await until(lambda: self.other.follower.position >= position)
        return await self.committing.feed(before, position - before)

    async def _channel(self) -> str:
        return log_channel((await self.committing.log_head()).journal_id)

    async def _publish(self, url: str) -> None:
        publisher = RedisPublisher(url, await self._channel(), SystemClock())
        self.committing.on_head(lambda position, _: publisher.publish(position))
        publishing = asyncio.create_task(publisher.run())
        self._exits.push_async_callback(_cancelled, publishing)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
