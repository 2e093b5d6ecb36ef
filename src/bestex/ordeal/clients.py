"""Clients that place orders and do as a careful client does: repeat each under the same key until it is definite."""

import asyncio
import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

import httpx
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from bestex.ordeal.doors import Doors
from bestex.ordeal.report import Tally
from bestex.ordeal.watchers import OPEN_TIMEOUT_S, StatusWatcher
from bestex.ordeal.wishes import Body, Wishes
from bestex.ordeal.world import World
from bestex.ports import Clock

PAUSE_S: Final = (0.0, 0.4)  # between two orders of a client
REPEAT_PAUSE_S: Final = (0.05, 0.4)  # before an order is repeated; shorter than Retry-After asks for
CANCEL_AFTER_S: Final = (0.0, 1.5)
ANSWER_TIMEOUT_S: Final = 20.0
OWN_ID_CHANCE: Final = 0.3  # that an order has a clientOrderId beside its Idempotency-Key
SOCKET_CHANCE: Final = 0.2  # that an order goes by WebSocket
WATCH_CHANCE: Final = 0.5
CANCEL_CHANCE: Final = 0.1
CHANGE_CHANCE: Final = 0.2  # that a watched order is changed
REPLAY_CHANCE: Final = 0.1  # that an accepted order is posted again
ABANDON_CHANCE: Final = 0.3  # that an order of which nothing was stored is given up
WATCHERS_MAX: Final = 200  # at the same time
STAY_ON_SOCKET_S: Final = 3.0
"""Of a client who ordered by WebSocket: what its order waits for may be long in coming."""


class Outcome(Enum):
    """What an answer says about the order."""

    ACCEPTED = auto()
    NOTHING_STORED = auto()
    UNKNOWN = auto()
    REFUSED = auto()  # it cannot be accepted, and was not before


NOTHING_STORED_CODES: Final = ("unavailable", "intake-full")
UNKNOWN_CODES: Final = ("outcome-unknown", "key-under-way")


@dataclass
class Intent:
    """One order that a client wants, and what it was told about it."""

    body: Body
    key: str | None  # the Idempotency-Key; else the body's clientOrderId is the key
    may_exist_since_us: int | None = None  # when the first request was sent that may have stored it
    order_ids: set[str] = field(default_factory=set)  # told by a 202
    created_at: str = ""  # as the 202 said
    client_order_id: str | None = None
    abandoned: bool = False
    cancelled: bool = False  # a DELETE was answered with 200
    change: Body = field(default_factory=dict)  # what a PATCH changed that was answered with 200

    @property
    def name(self) -> str:
        return self.key or self.client_order_id or ""


class Clients:
    """What the clients share, and what they leave behind."""

    def __init__(
        self, urls: Sequence[str], seed: int, orders_max: int, clock: Clock, tally: Tally, world: World
    ) -> None:
        self.urls = urls
        self.world = world
        self.seed = seed
        self.clock = clock
        self.tally = tally
        self.intents: list[Intent] = []
        self.watchers: list[StatusWatcher] = []
        self.closing = False
        self._orders_max = orders_max
        self._watching: set[asyncio.Task[None]] = set()

    async def run(self, count: int) -> None:
        """Place orders with `count` clients until `closing`; returns when all they began is definite."""
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(Client(self, number).run())

    async def watched(self) -> None:
        """Return when every watcher has seen its order's end."""
        while self._watching:
            await asyncio.wait(self._watching)

    def stop(self) -> None:
        for task in self._watching:
            task.cancel()

    @property
    def may_order(self) -> bool:
        return not self.closing and len(self.intents) < self._orders_max

    @property
    def may_watch(self) -> bool:
        return len(self._watching) < WATCHERS_MAX

    def watch(self, watcher: StatusWatcher) -> None:
        """Let it watch to the order's end, from where it stands."""
        self.watchers.append(watcher)
        task = asyncio.create_task(watcher.run(), name=f"watcher of {watcher.order_id}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)


class Client:
    def __init__(self, clients: Clients, number: int) -> None:
        self._all = clients
        self._name = f"{clients.seed}-{number}"
        self._clock = clients.clock
        self._tally = clients.tally
        self._chance = random.Random(f"{clients.seed} client {number}")  # noqa: S311 - needs repetition, not secrecy
        self._http = httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=OPEN_TIMEOUT_S))
        self._doors = Doors(clients.urls, number)
        self._wishes = Wishes(self._chance)
        self._placed = 0

    async def run(self) -> None:
        async with self._http:
            while self._all.may_order:
                by_socket = self._chance.random() < SOCKET_CHANCE
                intent = self._next_intent(by_socket=by_socket)
                self._all.intents.append(intent)
                await self._place(intent, by_socket=by_socket)
                if not intent.abandoned:
                    await self._afterwards(intent)
                await self._pause(PAUSE_S)

    def _next_intent(self, *, by_socket: bool) -> Intent:
        self._placed += 1
        body = self._wishes.order(self._all.world.price, self._clock.now_us())
        name = f"{self._name}-{self._placed}"
        has_id = (
            by_socket or "expiresAt" in body or self._chance.random() < OWN_ID_CHANCE
        )  # to be known by when refused
        own_id = name if has_id else None
        if own_id is not None:
            body["clientOrderId"] = own_id
        key = None if by_socket else f"key-{name}"  # a WebSocket has no header for it: its orders go by their own id
        return Intent(body, key, client_order_id=own_id)

    async def _place(self, intent: Intent, *, by_socket: bool) -> None:
        """Until it is accepted, or given up when surely nothing was stored."""
        while True:
            sent_us = self._clock.now_us()
            outcome = await (self._by_socket(intent) if by_socket else self._by_post(intent))
            if outcome is not Outcome.NOTHING_STORED and intent.may_exist_since_us is None:
                intent.may_exist_since_us = sent_us
            if outcome is Outcome.ACCEPTED:
                return
            if outcome is Outcome.REFUSED:
                intent.abandoned = True
                return
            if intent.may_exist_since_us is None and self._chance.random() < ABANDON_CHANCE:
                intent.abandoned = True
                return
            await self._pause(REPEAT_PAUSE_S)

    async def _by_post(self, intent: Intent) -> Outcome:
        headers = {"Idempotency-Key": intent.key} if intent.key is not None else {}
        try:
            answer = await self._http.post(
                f"{self._doors.next()}/api/orders/execute", json=intent.body, headers=headers
            )
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return self._not_connected()
        except httpx.TransportError:
            return self._no_answer()
        return self._judge(intent, answer.status_code, _object_in(answer.content))

    async def _by_socket(self, intent: Intent) -> Outcome:
        """Order by WebSocket and stay: its updates are a watcher's, who goes on when the socket breaks."""
        address = f"{self._doors.next_socket()}/api/orders/execute"
        try:
            socket = await connect(address, open_timeout=OPEN_TIMEOUT_S, close_timeout=1, proxy=None)
        except (OSError, TimeoutError, InvalidHandshake):
            return self._not_connected()
        async with socket:
            try:
                await socket.send(msgspec.json.encode(intent.body).decode())
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = msgspec.json.decode(await socket.recv())
            except (ConnectionClosed, OSError, TimeoutError):
                return self._no_answer()
            body = answer["data"]
            outcome = self._judge(intent, 202 if answer["type"] == "accepted" else body.get("status", 0), body)
            if outcome is Outcome.ACCEPTED and self._all.may_watch:
                watcher = StatusWatcher(self._all.urls, body["orderId"], self._clock, self._chance, self._tally)
                with suppress(ConnectionClosed, TimeoutError):
                    while not watcher.complete and self._chance.random() < 0.9:
                        async with asyncio.timeout(STAY_ON_SOCKET_S):
                            message = msgspec.json.decode(await socket.recv())
                        if message["type"] != "update":
                            break  # the engine cannot read the order now
                        watcher.saw([message["data"]])
                self._all.watch(watcher)
            return outcome

    def _judge(self, intent: Intent, status: int, body: dict[str, Any]) -> Outcome:
        if status == 202:
            self._tally.answers["202"] += 1
            self._tally.findings.that("answers are as documented", True, "")
            if not intent.order_ids:
                self._tally.order_accepted(self._clock.monotonic())
            intent.order_ids.add(body["orderId"])
            intent.created_at = body["createdAt"]
            return Outcome.ACCEPTED
        code = str(body.get("type", "")).rpartition("/")[2] or "without a problem"
        self._tally.answers[f"{status} {code}"] += 1
        if status == 503 and code in NOTHING_STORED_CODES:
            return Outcome.NOTHING_STORED
        if status == 422 and code == "validation" and "expiresAt" in intent.body:
            return Outcome.REFUSED  # the engine was away until its time was up
        if code not in UNKNOWN_CODES:
            told = f"order {intent.name} was answered with {status} {code}: {body}"
            self._tally.findings.that("answers are as documented", False, told)
        return Outcome.UNKNOWN

    def _not_connected(self) -> Outcome:
        self._tally.answers["not connected"] += 1
        return Outcome.NOTHING_STORED

    def _no_answer(self) -> Outcome:
        self._tally.answers["no answer"] += 1
        return Outcome.UNKNOWN

    async def _afterwards(self, intent: Intent) -> None:
        [order_id, *_] = intent.order_ids
        if self._chance.random() < REPLAY_CHANCE:
            await self._by_post(intent)
        if self._chance.random() < WATCH_CHANCE and self._all.may_watch:
            self._all.watch(StatusWatcher(self._all.urls, order_id, self._clock, self._chance, self._tally))
        change = self._wishes.change(intent.body, self._all.world.price)
        if change is not None and self._chance.random() < CHANGE_CHANCE:
            await self._change(intent, order_id, change)
        if self._chance.random() < CANCEL_CHANCE:
            await self._pause(CANCEL_AFTER_S)
            await self._cancel(intent, order_id)

    async def _cancel(self, intent: Intent, order_id: str) -> None:
        """Once; what became of an answer that was lost shows in the order's history."""
        try:
            answer = await self._http.delete(f"{self._doors.next()}/api/orders/{order_id}")
        except httpx.TransportError:
            self._tally.cancels["no answer"] += 1
            return
        self._tally.cancels[str(answer.status_code)] += 1
        intent.cancelled = answer.status_code == 200
        told = f"the cancel of order {order_id} was answered with {answer.status_code}: {answer.text[:500]}"
        self._tally.findings.that("answers are as documented", answer.status_code in (200, 202, 409, 503), told)

    async def _change(self, intent: Intent, order_id: str, change: Body) -> None:
        """Once; what became of an answer that was lost shows in the order's history."""
        try:
            answer = await self._http.patch(f"{self._doors.next()}/api/orders/{order_id}", json=change)
        except httpx.TransportError:
            self._tally.changes["no answer"] += 1
            return
        self._tally.changes[str(answer.status_code)] += 1
        if answer.status_code == 200:
            intent.change = change
        told = f"the change of order {order_id} was answered with {answer.status_code}: {answer.text[:500]}"
        self._tally.findings.that("answers are as documented", answer.status_code in (200, 409, 503), told)

    async def _pause(self, range_s: tuple[float, float]) -> None:
        await self._clock.sleep(self._chance.uniform(*range_s))


def _object_in(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
