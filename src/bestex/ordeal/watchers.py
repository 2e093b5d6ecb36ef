"""Watchers that resume whenever their stream breaks, and keep what they saw exactly as it came."""

import asyncio
import hashlib
import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from bestex.domain.lifecycle import ENDS, UNFILLED, Status
from bestex.ordeal.doors import Doors
from bestex.ordeal.report import Tally
from bestex.ports import Clock

RESUME_PAUSE_S: Final = (0.05, 0.4)
HANG_UP_CHANCE: Final = 0.05  # after each update: the watcher goes by itself, and comes back
OPEN_TIMEOUT_S: Final = 5.0
FEED_SILENCE_MAX_S: Final = 40.0  # the feed says that it is there every 15 s
REFUSED_FOR_GOOD: Final = (4404, 4422)  # no such order, no such id


class Seen(msgspec.Struct, frozen=True):
    """One update as a client got it."""

    order_id: str
    seq: int
    status: str
    timestamp: str
    signature: str | None  # of the transaction that was signed, or executed
    settles: bool  # whether nothing is left to do for the order after it
    digest: bytes  # of the whole update, however its keys were ordered
    fired_by: str | None = None  # the kind of the trigger that made the order fire


class Logged(msgspec.Struct, frozen=True):
    """One update of the feed."""

    position: int
    seen: Seen


def seen_of(update: dict[str, Any]) -> Seen:
    detail = update["detail"]
    digest = hashlib.blake2b(msgspec.json.encode(update, order="deterministic"), digest_size=16).digest()
    signature = detail.get("txHash") or detail.get("signature")
    status, timestamp = update["status"], update["timestamp"]
    for_good = detail.get("commitment") == "finalized" or detail.get("gone", False)
    settles = status in UNFILLED or (status == Status.CONFIRMED and for_good)
    fired_by = detail.get("trigger", {}).get("kind")
    return Seen(update["orderId"], update["seq"], status, timestamp, signature, settles, digest, fired_by)


class StatusWatcher:
    """Watches one order to its end."""

    def __init__(self, urls: Sequence[str], order_id: str, clock: Clock, chance: random.Random, tally: Tally) -> None:
        self.order_id = order_id
        self.seen: list[Seen] = []
        self.complete = False
        self._doors = Doors(urls, chance.randrange(len(urls)))
        self._clock = clock
        self._chance = chance
        self._tally = tally

    async def run(self) -> None:
        """Return when the order has ended, or the engine denies that there is such an order."""
        while not self.complete:
            with suppress(OSError, TimeoutError, InvalidHandshake, ConnectionClosed):
                await self._watch()
            if self.complete:
                return
            self._tally.reconnects += 1
            await self._clock.sleep(self._chance.uniform(*RESUME_PAUSE_S))

    def saw(self, updates: Sequence[dict[str, Any]]) -> None:
        """Keep these, whatever they are: they are judged in the end."""
        self.seen += [seen_of(update) for update in updates]
        self.complete = self.complete or bool(self.seen and self.seen[-1].status in ENDS)

    async def _watch(self) -> None:
        """One connection, resumed behind what was seen."""
        after = self.seen[-1].seq if self.seen else 0
        async with connect(
            f"{self._doors.next_socket()}/api/orders/{self.order_id}/status?after={after}",
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=1,
            proxy=None,
        ) as socket:
            try:
                async for message in socket:
                    envelope = msgspec.json.decode(message)
                    self.saw(envelope["data"] if envelope["type"] == "history" else [envelope["data"]])
                    if self.complete or self._chance.random() < HANG_UP_CHANCE:
                        return
            finally:
                self._judge_the_close(socket)

    def _judge_the_close(self, socket: ClientConnection) -> None:
        if socket.close_code in REFUSED_FOR_GOOD:
            told = f"the stream of accepted order {self.order_id} was refused: {socket.close_reason}"
            self._tally.findings.that("an accepted order exists", False, told)
            self.complete = True


class FeedWatcher:
    """Watches the events of all orders, from the log's first on."""

    def __init__(self, urls: Sequence[str], clock: Clock, chance: random.Random, tally: Tally) -> None:
        self.seen: list[Logged] = []
        self._doors = Doors(urls, chance.randrange(len(urls)))
        self._clock = clock
        self._chance = chance
        self._tally = tally

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            with suppress(httpx.TransportError):
                async with aclosing(self._connection()) as events:
                    async for event in events:
                        self.seen.append(event)
                        if self._chance.random() < HANG_UP_CHANCE / 20:
                            break
            self._tally.reconnects += 1
            await self._clock.sleep(self._chance.uniform(*RESUME_PAUSE_S))

    async def _connection(self) -> AsyncGenerator[Logged]:
        last = self.seen[-1].position if self.seen else 0
        timeout = httpx.Timeout(OPEN_TIMEOUT_S, read=FEED_SILENCE_MAX_S)
        headers = {"Last-Event-ID": str(last)}
        async with (
            httpx.AsyncClient(trust_env=False, timeout=timeout) as http,
            http.stream("GET", f"{self._doors.next()}/api/events", headers=headers) as answer,
        ):
            if answer.status_code == 422:
                self._tally.findings.that("the feed is the log", False, f"it has no position {last}, which it sent")
            if answer.status_code == 200:
                async with aclosing(_events_in(answer)) as events:
                    async for event in events:
                        yield event


async def _events_in(answer: httpx.Response) -> AsyncGenerator[Logged]:
    """The complete events of a stream; one that was cut off counts for nothing."""
    position: int | None = None
    update: dict[str, Any] | None = None
    async for line in answer.aiter_lines():
        if line.startswith("id: "):
            position = int(line.removeprefix("id: "))
        elif line.startswith("data: "):
            with suppress(msgspec.DecodeError):  # cut off
                update = msgspec.json.decode(line.removeprefix("data: "))
        elif not line and position is not None and update is not None:
            yield Logged(position, seen_of(update))
            position = update = None


async def read_log(url: str, events: int) -> list[Logged]:
    """The first `events` events of the log, as a new client gets them."""
    log: list[Logged] = []
    async with (
        httpx.AsyncClient(trust_env=False, timeout=FEED_SILENCE_MAX_S) as http,
        http.stream("GET", f"{url}/api/events", params={"after": 0}) as answer,
        asyncio.timeout(FEED_SILENCE_MAX_S),
    ):
        answer.raise_for_status()
        async with aclosing(_events_in(answer)) as feed:
            async for event in feed:
                log.append(event)
                if len(log) >= events:
                    break
    return log
