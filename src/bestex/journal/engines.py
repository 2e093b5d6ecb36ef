"""Which engine lives on a database: enrolment, signs of life, and taking a dead one's place.

An inline engine does everything and has its database for itself; apis, workers and watchers share one. An engine is
dead when it has been silent for `ENGINE_TTL`, or at once when the connection that gave its signs of life is gone from
a server that has not restarted since.

Behind the same address there may be another server all of a sudden: one with a restored backup, or a replica that was
behind when it took over. It is told by when it started; before an engine gives it a sign of life, and by that may claim
orders there, it looks whether that server's journal has all that was published.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from bestex.domain.errors import EngineFencedError, JournalError, JournalUnavailableError
from bestex.journal.connections import LOST, connect
from bestex.journal.postgres import ENGINE_TTL
from bestex.journal.queries import QUERIES
from bestex.ports import Clock, EngineMode

SIGN_OF_LIFE_EVERY_S: Final = 1.0
LEAVE_S: Final = 0.2
_LOOK_AGAIN_S: Final = 0.2
_LOCK: Final = 0x656E67696E65  # "engine": one enrolment at a time over a database

_log = structlog.get_logger(__name__)


class EngineAlreadyRunningError(JournalError):
    """A living engine has the database."""


class Enrolment:
    """This engine's place on the database."""

    def __init__(
        self, dsn: str, engine_id: str, about: str, clock: Clock, mode: EngineMode = EngineMode.INLINE
    ) -> None:
        self._dsn = dsn
        self.engine_id = engine_id
        self._about = about
        self._clock = clock
        self._mode = mode
        self._shares = mode is not EngineMode.INLINE
        self._connection: asyncpg.Connection | None = None
        self._server_started: datetime | None = None  # of the server that has its place

    async def wait_for_place(self) -> None:
        """Wait, at most `ENGINE_TTL`, until no engine stands in the way; those found dead are buried.

        Raises `EngineAlreadyRunningError` when one that does gives a sign of life.
        """
        await self._when_clear(enrol=False)

    async def enrol(self) -> None:
        """Take the place, as `wait_for_place` does."""
        await self._when_clear(enrol=True)

    async def _when_clear(self, *, enrol: bool) -> None:
        if self._connection is None:
            self._connection = await connect(self._dsn, "bestex life")
        connection = self._connection
        first_seen: dict[str, object] = {}
        while True:
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
                living = []
                for row in await connection.fetch(QUERIES["engines"], ENGINE_TTL):
                    if self._shares and row["mode"] != EngineMode.INLINE:
                        continue
                    if row["silent"] or row["disconnected"]:
                        _log.info("engine.place_taken", of=str(row["id"]), about=row["about"])
                        await connection.execute(QUERIES["bury_engine"], row["id"])
                    else:
                        living.append(row)
                if not living:
                    if enrol:
                        await connection.execute(QUERIES["enrol_engine"], self.engine_id, self._mode, self._about)
                        await connection.execute(QUERIES["enrol_writer"], self.engine_id, self._mode)
                        self._server_started = await connection.fetchval(QUERIES["server_started"])
                    return
            for row in living:
                if first_seen.setdefault(str(row["id"]), row["seen_at"]) != row["seen_at"]:
                    self._drop()
                    raise EngineAlreadyRunningError(
                        f"another engine runs on this database ({row['mode']}: {row['about']}). An inline one shares"
                        " it with no other: stop one of them, or give this one another BESTEX_DATA_DIR or DATABASE_URL."
                    )
            await self._clock.sleep(_LOOK_AGAIN_S)

    async def keep(self, meet: Callable[[], Awaitable[None]]) -> None:
        """Give signs of life for ever. Ends by `EngineFencedError` when the place is another's.

        `meet` looks at the journal of a server that has started since the last sign, before it gets one; it raises
        `EngineFencedError` if that is not to be gone on with.
        """
        while True:
            try:
                await self._sign(meet)
            except (asyncpg.PostgresError, JournalUnavailableError, *LOST) as error:
                _log.warning("engine.sign_of_life_failed", error=str(error) or type(error).__name__)
                self._drop()
            await self._clock.sleep(SIGN_OF_LIFE_EVERY_S)

    async def leave(self) -> None:
        """Give the place up at a clean exit, so that the next engine need not wait."""
        try:
            async with asyncio.timeout(LEAVE_S):
                if self._connection is not None:
                    await self._connection.execute(QUERIES["bury_engine"], self.engine_id)
        except (asyncpg.PostgresError, *LOST) as error:
            _log.warning("engine.leave_failed", error=str(error) or type(error).__name__)
        self._drop()

    async def _sign(self, meet: Callable[[], Awaitable[None]]) -> None:
        if self._connection is None:
            self._connection = await connect(self._dsn, "bestex life")
        started = await self._connection.fetchval(QUERIES["server_started"], timeout=10)
        if started != self._server_started:
            await meet()
            self._server_started = started
        done = await self._connection.execute(QUERIES["sign_of_life"], self.engine_id, timeout=10)
        if done == "UPDATE 0":
            raise EngineFencedError("another engine took this one's place on the database")

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
