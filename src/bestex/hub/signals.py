"""Signals from other processes: what PostgreSQL and Redis have in common as their carriers."""

import asyncio
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

import structlog

from bestex.ports import Clock

RECONNECT_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

_log = structlog.get_logger(__name__)

SignalListener = Callable[[str | None], None]
"""Called with what a signal says; with None when signals may have been lost."""


class Signals:
    """Listens on a connection of its own, which it opens again for ever."""

    lost: ClassVar[tuple[type[Exception], ...]]
    """What a carrier raises when its connection is lost, or cannot be had."""

    def __init__(self, clock: Clock) -> None:
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
            except self.lost as error:
                if failures == 0:
                    _log.warning("hub.signals_lost", error=str(error) or type(error).__name__)
                failures = 0 if self.listens else failures + 1
            finally:
                self._listens.clear()
            await self._clock.sleep(RECONNECT_PAUSES_S[min(failures, len(RECONNECT_PAUSES_S) - 1)])

    async def _listen(self) -> None:
        """Listen until the connection is lost, which raises. Calls `_connected` and `_hear`."""
        raise NotImplementedError

    def _connected(self) -> None:
        """All channels are listened to from now on."""
        self._listens.set()
        for listeners in self._listeners.values():
            _tell(listeners, None)

    def _hear(self, channel: str, payload: str) -> None:
        _tell(self._listeners.get(channel, ()), payload)


def _tell(listeners: Iterable[SignalListener], payload: str | None) -> None:
    for listener in listeners:
        try:
            listener(payload)
        except Exception:  # noqa: BLE001 -- what listens must not stop what hears
            _log.exception("hub.listener_broke")
