"""Signals between processes over PostgreSQL's LISTEN and NOTIFY."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import asyncpg
import structlog

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
RECONNECT_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

_LOST: Final = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError)

_log = structlog.get_logger(__name__)

SignalListener = Callable[[str | None], None]
"""Called with what a signal says; with None when signals may have been lost."""


class PostgresSignals:
    """Listens on a connection of its own, which it opens again for ever."""

    def __init__(self, dsn: str, clock: Clock) -> None:
        self._dsn = dsn
        self._clock = clock
        self._listeners: dict[str, list[SignalListener]] = {}
        self._listens = asyncio.Event()

    @property
    def listens(self) -> bool:
        """Whether signals reach this process now, as far as is known."""
        return self._listens.is_set()

    async def listening(self) -> None:
        """Wait until signals reach this process."""
        await self._listens.wait()

    def on(self, channel: str, listener: SignalListener) -> None:
        """Have `listener` called with each signal of a channel, and after each connecting. To be set before `run`."""
        self._listeners.setdefault(channel, []).append(listener)

    async def run(self) -> None:
        """Listen for ever. Every connecting is a signal: what came before it was lost."""
        failures = 0
        while True:
            try:
                await self._listen()
            except _LOST as error:
                if failures == 0:
                    _log.warning("hub.signals_lost", error=str(error) or type(error).__name__)
                failures = 0 if self.listens else failures + 1
            finally:
                self._listens.clear()
            await self._clock.sleep(RECONNECT_PAUSES_S[min(failures, len(RECONNECT_PAUSES_S) - 1)])

    async def _listen(self) -> None:
        """Listen until the connection is lost, which raises."""
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
            self._listens.set()
            _log.debug("hub.listening", channels=sorted(self._listeners))
            for listeners in self._listeners.values():
                tell(listeners, None)
            while True:
                await sleep_or(self._clock, PROBE_EVERY_S, lost)
                if lost.is_set():
                    raise ConnectionResetError("the connection has ended")
                await connection.execute("select")
        finally:
            connection.terminate()

    def _heard(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        tell(self._listeners.get(channel, ()), str(payload))


def tell(listeners: Iterable[SignalListener], payload: str | None) -> None:
    """Call each with what a signal says."""
    for listener in listeners:
        try:
            listener(payload)
        except Exception:  # noqa: BLE001 -- what listens must not stop what hears
            _log.exception("hub.listener_broke")
