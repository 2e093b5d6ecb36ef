"""Dispatch over PostgreSQL: the journal's functions notify, in the commit itself, and workers listen.

Nothing is sent from here. A notification that is lost, with a connection for instance, only delays: workers look by
themselves, too.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg
import structlog

from bestex.ports import Clock, RingListener, UnheldOrder

CHANNEL: Final = "bestex_work"
CONNECT_TIMEOUT_S: Final = 3.0
PING_EVERY_S: Final = 5.0  # a connection that was cut without a word is found by this
PING_TIMEOUT_S: Final = 3.0
RECONNECT_PAUSE_S: Final = 0.5

_LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_log = structlog.get_logger(__name__)


class PostgresDispatcher:
    """`Dispatcher` over the database that the journal is in."""

    def __init__(self, dsn: str, clock: Clock) -> None:
        self._dsn = dsn
        self._clock = clock
        self._listeners: list[RingListener] = []
        self.reconnects = 0  # since the start

    def ring(self, orders: Sequence[UnheldOrder]) -> None:
        """The function that stored them, or let go of them, has notified already."""

    def on_ring(self, listener: RingListener) -> None:
        self._listeners.append(listener)

    def taken(self, order_ids: Sequence[str]) -> None:
        """Notifications name no orders: nothing is to be answered."""

    async def stop_listening(self) -> None:
        self._listeners.clear()

    async def run(self) -> None:
        if not self._listeners:
            await asyncio.Event().wait()
        while True:
            try:
                await self._listen()
            except _LOST as error:
                _log.warning("dispatch.connection_lost", error=str(error) or type(error).__name__)
            self.reconnects += 1
            await self._clock.sleep(RECONNECT_PAUSE_S)

    async def _listen(self) -> None:
        """Pass notifications on until the connection is lost."""
        connection = await asyncpg.connect(
            self._dsn, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": "bestex dispatch"}
        )
        try:
            await connection.add_listener(CHANNEL, self._notified)
            self._tell()  # what was notified while nobody listened
            while True:
                await self._clock.sleep(PING_EVERY_S)
                await connection.execute("select 1", timeout=PING_TIMEOUT_S)
        finally:
            connection.terminate()

    def _notified(self, *_notification: object) -> None:
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener(())
