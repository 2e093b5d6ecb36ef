"""Signals between processes over PostgreSQL's LISTEN and NOTIFY."""

import asyncio
from typing import Final

import asyncpg

from bestex.hub.signals import Signals
from bestex.ports import Clock
from bestex.waiting import sleep_or

LOG_CHANNEL: Final = "bestex_log"
"""Told the log's last position after every commit of a process that shares its database."""
HALT_CHANNEL: Final = "bestex_halt"
"""Told when the engine is halted or resumed."""

CONNECT_TIMEOUT_S: Final = 3.0
PROBE_EVERY_S: Final = 5.0
"""How often the connection is asked whether it lives: a peer that vanished says nothing."""
PROBE_TIMEOUT_S: Final = 5.0


class PostgresSignals(Signals):
    """Signals by NOTIFY."""

    lost = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError)

    def __init__(self, dsn: str, clock: Clock) -> None:
        super().__init__(clock)
        self._dsn = dsn

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=PROBE_TIMEOUT_S,
            server_settings={"application_name": "bestex signals"},
        )
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            for channel in self._listeners:
                await connection.add_listener(channel, self._heard)
            self._connected()
            while True:
                await sleep_or(self._clock, PROBE_EVERY_S, lost)
                if lost.is_set():
                    raise ConnectionResetError("the connection has ended")
                await connection.execute("select")
        finally:
            connection.terminate()

    def _heard(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        self._hear(channel, str(payload))
