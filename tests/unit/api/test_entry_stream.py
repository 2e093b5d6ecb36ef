"""Order entry by WebSocket: many orders on one socket, or in one message, and what each is told, in order."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from bestex.api import entry_stream
from bestex.api.entry_stream import EntryStream
from bestex.api.execute import OrderEntry
from bestex.api.stream import OpenStreams
from bestex.domain.errors import JournalUnavailableError
from bestex.hub.local import LocalHub
from tests.support.journals import holding
from tests.support.small_engine import PATIENCE_S, TOKENS, SmallEngine, small_engine

ORDER: Final = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}
HAPPY: Final = ["pending", "routing", "building", "submitted", "confirmed"]
Json = dict[str, Any]


class Client:
    """One order-entry socket."""

    def __init__(self, small: SmallEngine, hub: LocalHub, query: bytes) -> None:
        self.small = small
        self.said: asyncio.Queue[Json] = asyncio.Queue()
        self.told: asyncio.Queue[Json] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.say_raw({"type": "websocket.connect"})
        entry = OrderEntry(small.engine.intake, TOKENS, small.clock)
        stream = EntryStream(entry, small.journal, hub, OpenStreams())
        self.serving = asyncio.create_task(stream({"query_string": query}, self.said.get, self._send))

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self.told.put_nowait(message)

    def say_raw(self, message: Json) -> None:
        self.said.put_nowait(message)

    def say(self, value: object) -> None:
        self.say_raw({"type": "websocket.receive", "text": json.dumps(value)})

    async def hear(self) -> Json:
        """The next message; what closes the socket has its code."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.told.get()
        if message["type"] == "websocket.accept":
            return await self.hear()
        found: Json = json.loads(message["text"]) if "text" in message else {"type": "close", "code": message["code"]}
        return found

    async def hear_until(self, ended: int) -> list[Json]:
        """The messages up to the end of so many orders, while the engine's clock goes on."""
        heard: list[Json] = []
        while ended:
            await self.small.until(lambda: not self.told.empty())
            heard.append(await self.hear())
            ended -= heard[-1]["type"] == "update" and heard[-1]["data"]["status"] == "confirmed"
        return heard


@asynccontextmanager
async def client(query: bytes = b"keep=true", queue_events: int = 256) -> AsyncIterator[Client]:
    async with small_engine() as small:
        hub = LocalHub(queue_events)
        small.journal.listen(hub.publish)
        opened = Client(small, hub, query)
        try:
            yield opened
        finally:
            opened.say_raw({"type": "websocket.disconnect"})
            async with asyncio.timeout(PATIENCE_S):
                await opened.serving
            assert hub.watchers == 0


def by_order(heard: list[Json]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for message in heard:
        if message["type"] == "update":
            found[message["data"]["orderId"]].append(message["data"]["status"])
    return found


async def test_many_orders_of_one_message_are_answered_by_one_and_followed_to_their_ends() -> None:
    async with client() as opened:
        opened.say([ORDER, {**ORDER, "amount": "0"}, ORDER, 5])
        heard = await opened.hear_until(ended=2)
        assert heard[0]["type"] == "results"
        first, bad, second, worse = heard[0]["data"]
        ids = [first["accepted"]["orderId"], second["accepted"]["orderId"]]
        assert [bad["problem"]["status"], worse["problem"]["status"]] == [422, 422]
        assert [message["type"] for message in heard[1:]] == ["update"] * 10
        assert by_order(heard) == dict.fromkeys(ids, HAPPY)


async def test_no_update_of_an_order_comes_before_its_answer() -> None:
    async with client() as opened:
        for _ in range(20):
            opened.say(ORDER)
        accepted: set[str] = set()
        for message in await opened.hear_until(ended=20):
            if message["type"] == "accepted":
                accepted.add(message["data"]["orderId"])
            else:
                assert message["data"]["orderId"] in accepted
        assert len(accepted) == 20


async def test_a_repetition_is_followed_from_the_beginning_of_the_order_that_it_repeats() -> None:
    async with client() as opened:
        mine = {**ORDER, "clientOrderId": "mine"}
        opened.say(mine)
        first = await opened.hear_until(ended=1)
        opened.say(mine)
        again = await opened.hear_until(ended=1)
        assert again == first


async def test_what_did_not_come_is_read_from_the_journal() -> None:
    async with client(queue_events=0) as opened:  # nothing at all comes
        opened.say([ORDER] * 3)
        heard = await opened.hear_until(ended=3)
        assert list(by_order(heard).values()) == [HAPPY] * 3


async def test_a_journal_that_cannot_be_read_ends_the_updates_with_a_problem() -> None:
    async with client(queue_events=0) as opened:

        async def lost(*_: object) -> list[Any]:
            raise JournalUnavailableError("it is away")

        opened.small.journal.events = lost  # type: ignore[method-assign, assignment]
        opened.say(ORDER)
        heard = [await opened.hear(), await opened.hear()]
        assert {message["type"] for message in heard} == {"accepted", "error"}
        assert [each["data"]["status"] for each in heard if each["type"] == "error"] == [503]


async def test_more_orders_than_a_socket_may_have_under_way_are_refused_each_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entry_stream, "MAX_ORDERS_A_SOCKET", 2)
    async with client() as opened:
        opened.say([ORDER] * 3)
        [*accepted, refused] = (await opened.hear())["data"]
        assert ["accepted" in each for each in accepted] == [True, True]
        assert refused["problem"]["type"] == "/problems/too-many-orders"


@pytest.mark.parametrize("text", ["[", "[]", "[1,]"])
async def test_an_array_that_is_none_is_an_error_and_the_socket_stays(text: str) -> None:
    async with client() as opened:
        opened.say_raw({"type": "websocket.receive", "text": text})
        assert (await opened.hear())["type"] == "error"
        opened.say(ORDER)
        assert (await opened.hear())["type"] == "accepted"


async def test_without_keep_an_array_is_no_order() -> None:
    async with client(b"") as opened:
        opened.say([ORDER])
        assert [(await opened.hear())["type"], await opened.hear()] == ["error", {"type": "close", "code": 1000}]


async def test_a_client_that_does_not_read_is_not_listened_to_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_stream, "MAX_UNSENT", 5)
    async with client() as opened:
        opened.reads.clear()
        for _ in range(50):
            opened.say({})
        await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        assert opened.said.qsize() >= 40
        opened.reads.set()
        for _ in range(50):
            assert (await opened.hear())["type"] == "error"


async def test_an_order_is_executed_though_its_socket_has_gone() -> None:
    async with client() as opened:
        store = holding(opened.small.journal)
        store.hold()
        opened.say(ORDER)
        await store.arrived()
        opened.say_raw({"type": "websocket.disconnect"})
        async with asyncio.timeout(PATIENCE_S):
            await opened.serving
        store.release()
        [order_id] = [merged.first.order_id for rows in store.commits for merged in rows]
        await opened.small.until_status(order_id)
