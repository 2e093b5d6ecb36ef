"""Signals between processes over Redis or Valkey: publish and subscribe.

A process publishes the log's last position after its commits, as PostgreSQL notifies it. Redis carries nothing else:
while it is away, news is only late.
"""

import asyncio
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bestex.hub.signals import RECONNECT_PAUSES_S, Signals
from bestex.ports import Clock

TIMEOUT_S: Final = 3.0
"""For a connection or an answer."""
PROBE_EVERY_S: Final = 5.0

_LOST: Final = (RedisError, OSError, TimeoutError)

_log = structlog.get_logger(__name__)


def log_channel(journal_id: str) -> str:
    """Where the positions of a log are published: several databases may share one Redis."""
    return f"bestex:{journal_id}:log"


class RedisSignals(Signals):
    """Signals by publish and subscribe."""

    lost = _LOST

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(clock)
        self._url = url

    async def _listen(self) -> None:
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
                            self._connected()
                    elif message["type"] == "message":
                        self._hear(message["channel"], message["data"])
        finally:
            await client.aclose()


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
