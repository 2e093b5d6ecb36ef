"""A process over the journal's database: its place there, its journal, and the head that it publishes."""

import os
import platform
from contextlib import AsyncExitStack
from typing import ClassVar, Final

import asyncpg
import structlog

from bestex.bootstrap.process import Process
from bestex.config import Settings
from bestex.domain.errors import EngineFencedError
from bestex.engine.execution import EngineLimits
from bestex.engine.intake import IntakeLimits
from bestex.engine.landing import LandingLimits
from bestex.engine.rearming import RearmPolicy
from bestex.engine.retry import RetryPolicy
from bestex.journal.connections import LOST
from bestex.journal.engines import Enrolment
from bestex.journal.migrations import has_journal, migrate
from bestex.journal.postgres import PostgresJournal
from bestex.journal.published_head import HeadFile, free_head_file, head_path, why_behind
from bestex.ports import EngineMode, HaltCause, LogHead
from bestex.routing.router import QuoteLimits
from bestex.venues.simulated.world import LOOK_EVERY_S

START_DATABASE_S: Final = 30.0  # for an embedded server that died between its start and its first use
START_POLL_S: Final = 0.1

_log = structlog.get_logger("bestex")


class JournalProcess(Process):
    """A process that reads and writes the journal."""

    mode: ClassVar[EngineMode]
    _head_file: HeadFile
    _has_place = False  # on the database
    _publishes = False  # the log's head

    async def _open_journal(self, dsn: str, exits: AsyncExitStack) -> PostgresJournal:
        """Bring the database to this release's schema, take this process's place on it, and open the journal.

        The caller runs it: `self._start("journal", journal.run(), exits)`.
        """
        about = f"{platform.node()}, process {os.getpid()}"
        enrolment = Enrolment(dsn, self._ids.order_id(), about, self._clock, self.mode)
        if await self._has_journal(dsn):
            await enrolment.wait_for_place()
        await migrate(dsn)
        await enrolment.enrol()
        self._has_place = True
        exits.push_async_callback(enrolment.leave)
        journal = PostgresJournal(dsn, enrolment.engine_id, self._clock)
        self._start("signs of life", enrolment.keep(lambda: self._meet_server(journal)), exits)
        return journal

    async def _halt_if_behind(self, journal: PostgresJournal, exits: AsyncExitStack) -> None:
        """Publish the log's head from now on; halt when the journal is behind what was published."""
        behind = await self._publish_head(journal, exits)
        if behind is not None:
            await journal.halt(behind, HaltCause.JOURNAL_BEHIND)

    async def _publish_head(self, journal: PostgresJournal, exits: AsyncExitStack) -> str | None:
        """Publish the log's head from now on; not when the journal is behind it: then what is wrong with it."""
        self._head_file = self._head_file_of(await journal.log_head())
        behind = await self._what_is_behind(journal)
        journal.on_head(lambda position, row_hash: self._head_file.publish(position, row_hash))
        exits.callback(lambda: self._head_file.close())
        if behind is not None:
            self._head_file.close()  # what stands there is the old history's: whoever reconciles sets it aside
            return behind
        self._begin_publishing(await journal.log_head(), exits)
        return None

    async def _meet_server(self, journal: PostgresJournal) -> None:
        """Look whether another server has all that was published; if not, halt, and begin anew from that.

        `EngineFencedError` then: what this process has in hand is another history's.
        """
        if not self._publishes:  # it has not begun to, or is halted already
            return
        behind = await self._what_is_behind(journal)
        if behind is not None:
            await journal.halt(behind, HaltCause.JOURNAL_BEHIND)
            raise EngineFencedError(f"the database is another now: {behind}")

    async def _what_is_behind(self, journal: PostgresJournal) -> str | None:
        published = self._head_file.read()
        head = await journal.log_head()  # behind it: others commit and publish meanwhile
        row_hash = await journal.hash_at(published.position) if published is not None else None
        return why_behind(published, head, row_hash)

    def _head_file_of(self, head: LogHead) -> HeadFile:
        settings, journal_id = self._settings, head.journal_id
        if settings.head_file is None and self.mode is not EngineMode.INLINE:
            return free_head_file(settings.data_dir, journal_id, self._clock)
        path = settings.head_file or head_path(settings.data_dir, journal_id)
        return HeadFile(path, journal_id, self._clock)

    async def _publish_anew(self, journal: PostgresJournal, exits: AsyncExitStack) -> None:
        """Publish the head of a journal that was behind, now that it is reconciled; the old head is set aside."""
        if self._head_file.is_open:  # it never was behind
            return
        head = await journal.log_head()
        if self._head_file.is_open:  # the operator's word and the look at the halt came together
            return
        aside = self._head_file.set_aside(self._clock.now_us())
        _log.warning("head.superseded", kept_as=str(aside))
        self._head_file = self._head_file_of(head)
        self._begin_publishing(head, exits)

    def _begin_publishing(self, head: LogHead, exits: AsyncExitStack) -> None:
        self._head_file.open()
        self._publishes = True
        self._head_file.publish(head.position, head.hash)
        self._start("published head", self._head_file.run(), exits)

    async def _what_keeps_from_work(self, journal: PostgresJournal) -> str | None:
        """For `/readyz`; raises `JournalUnavailableError`."""
        await journal.head()
        return self._not_ready

    async def _has_journal(self, dsn: str) -> bool:
        """`has_journal`. An embedded server that ends just now is started again by its supervisor: wait for that."""
        patience_until = self._clock.monotonic() + START_DATABASE_S
        while True:
            try:
                return await has_journal(dsn)
            except (asyncpg.CannotConnectNowError, *LOST):
                if self._settings.database_url or self._clock.monotonic() > patience_until:
                    raise
            await self._clock.sleep(START_POLL_S)


def quote_limits(settings: Settings) -> QuoteLimits:
    """The venues' deadlines as the settings have them."""
    return QuoteLimits(settings.quote_timeout_ms / 1000, settings.quote_grace_ms / 1000)


def engine_limits(settings: Settings) -> EngineLimits:
    """The engine's limits as the settings have them."""
    return EngineLimits(
        concurrency=settings.concurrency,
        intake=IntakeLimits(settings.intake, settings.open_orders, settings.watched_orders),
        rearming=RearmPolicy(base_s=settings.rearm_base_ms / 1000, max_s=settings.rearm_max_ms / 1000),
        landing=LandingLimits.looking_every(LOOK_EVERY_S[settings.profile]),
        retry=RetryPolicy(
            attempts=settings.retry_attempts,
            base_s=settings.retry_base_ms / 1000,
            factor=settings.retry_factor,
            max_s=settings.retry_max_ms / 1000,
            jitter=settings.retry_jitter,
        ),
    )
