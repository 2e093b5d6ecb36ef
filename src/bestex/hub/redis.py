"""Signals between processes over Redis or Valkey: publish and subscribe.

A process publishes the log's last position after its commits, as PostgreSQL notifies it. Redis carries nothing else:
while it is away, news is only late.
"""

import asyncio
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bestex.hub.postgres import RECONNECT_PAUSES_S, SignalListener, tell
from bestex.ports import Clock

TIMEOUT_S: Final = 3.0
"""For a connection or an answer."""
PROBE_EVERY_S: Final = 5.0

_LOST: Final = (RedisError, OSError, TimeoutError)

_log = structlog.get_logger(__name__)


def log_channel(journal_id: str) -> str:
    """Where the positions of a log are published: several databases may share one Redis."""
    return f"bestex:{journal_id}:log"


class RedisSignals:
    """Subscribes on a connection of its own, which it opens again for ever."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
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
        """Have `listener` called with each signal of a channel, and after each subscribing. To be set before `run`."""
        self._listeners.setdefault(channel, []).append(listener)

    async def run(self) -> None:
        """Listen for ever. Every subscribing is a signal: what came before it was lost."""
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
        client = _client(self._url)
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(*self._listeners)
                left = len(self._listeners)
                while True:
                    message = await subscription.get_message(timeout=PROBE_EVERY_S)
                    if message is None:
                        await subscription.ping()  # a peer that vanished says nothing: its answer is read next
                    elif message["type"] == "subscribe":
                        left -= 1
                        if left == 0:
                            self._subscribed()
                    elif message["type"] == "message":
                        tell(self._listeners.get(message["channel"], ()), message["data"])
        finally:
            await client.aclose()

    def _subscribed(self) -> None:
        self._listens.set()
        for listeners in self._listeners.values():
            tell(listeners, None)


class RedisPublisher:
    """Publishes this process's last position. Never waits, never fails: what cannot be published is late."""

    def __init__(self, url: str, channel: str, clock: Clock) -> None:
        self._url = url
        self._channel = channel
        self._clock = clock
        self._position = 0
        self._wake = asyncio.Event()

    def publish(self, position: int) -> None:
        """Have the position published; one that a later one overtakes is not."""
        self._position = position
        self._wake.set()

    async def run(self) -> None:
        """Publish for ever."""
        client = _client(self._url)
        failures = 0
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                try:
                    await client.publish(self._channel, str(self._position))
                except _LOST as error:
                    if failures == 0:
                        _log.warning("hub.not_published", error=str(error) or type(error).__name__)
                    failures += 1
                    self._wake.set()
                    await self._clock.sleep(RECONNECT_PAUSES_S[min(failures, len(RECONNECT_PAUSES_S)) - 1])
                else:
                    failures = 0
        finally:
            await client.aclose()


def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        retry=None,
        client_name="bestex-hub",
    )
