"""The streams of the real server: each event exactly once and in order, whenever a watcher comes, stops or returns."""

import asyncio
import json
import signal
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from functools import partial
from itertools import count

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.sync.client import connect as connect_in_thread

from bestex.api import server as api_server
from bestex.api.following import follow_all, follow_order
from bestex.domain.errors import NotFoundError
from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import Status
from bestex.hub.local import LocalHub
from bestex.ports import Journal
from tests.support.engine import (
    ENDED,
    PATIENCE_S,
    Json,
    Local,
    Served,
    check_database,
    check_updates,
    database_for_module,
    local_engine,
    serving,
    until,
    updates_of,
)
from tests.support.orders import DraftOrder, stored
from tests.support.postgres import PostgresServer

FRONT_END = "https://app.example"
WHOLE_LIFE = ["pending", "routing", "building", "submitted", "confirmed"]
UNKNOWN = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with database_for_module(postgres_server) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def engine(database: str) -> Iterator[Served]:
    with serving(DATABASE_URL=database, CORS_ORIGINS=FRONT_END) as served:
        yield served


def connect(url: str, **options: object) -> websockets.connect:
    return websockets.connect(url, proxy=None, open_timeout=PATIENCE_S, close_timeout=PATIENCE_S, **options)  # type: ignore[arg-type]


def status_url(engine: Served | Local, order_id: str, query: str = "") -> str:
    return f"{engine.ws_url}/api/orders/{order_id}/status{query}"


async def watch(url: str) -> tuple[list[Json], int]:
    """All updates of a status stream until it closes, and the close code."""
    updates: list[Json] = []
    async with connect(url) as stream:
        first = True
        async for message in stream:
            assert isinstance(message, str)
            assert json.loads(message)["type"] == ("history" if first else "update")
            first = False
            updates += updates_of(message)
        code = stream.close_code
    assert code is not None
    return updates, code


# --- One order, subscribed to at every moment of its life


MOMENTS = {"pending": "first", "routing": "quote", "building": "build", "submitted": "send", "confirmed": None}
"""Each status, and the gate at which the order then waits; `first`: behind the gate of another order."""


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_watcher_gets_each_event_once_and_in_order_whenever_it_comes(database_url: str, moment: str) -> None:
    gate = MOMENTS[moment]
    closed = ["quote"] if gate == "first" else [gate] if gate else []
    async with local_engine(database_url, *closed, concurrency=1) as engine:
        if gate == "first":
            await engine.order()
        order_id = await engine.order()
        await engine.until(order_id, moment)
        async with asyncio.TaskGroup() as watchers:
            early = [watchers.create_task(watch(status_url(engine, order_id))) for _ in range(2)]
            if gate is not None:
                await until(partial(_watched_by, engine, 2))
            engine.gates.open()
        async with asyncio.TaskGroup() as watchers:
            late = watchers.create_task(watch(status_url(engine, order_id)))
        for watcher in (*early, late):
            updates, code = watcher.result()
            assert [update["status"] for update in updates] == WHOLE_LIFE
            check_updates(updates)
            assert code == 1000
            assert updates == await engine.history(order_id)


async def _watched_by(engine: Local, watchers: int) -> bool:
    return f"bestex_watchers {watchers}.0" in (await engine.http.get("/metrics")).text


@pytest.mark.parametrize("seq", range(6))
async def test_a_watcher_resumes_behind_any_event_of_an_ended_order(engine: Served, seq: int) -> None:
    order_id = await asyncio.to_thread(engine.order)
    await asyncio.to_thread(engine.until, order_id, "confirmed")
    updates, code = await watch(status_url(engine, order_id, f"?after={seq}"))
    assert [update["seq"] for update in updates] == list(range(seq + 1, 6))
    assert code == 1000


@pytest.mark.parametrize("seq", range(4))
async def test_a_watcher_resumes_behind_any_event_of_a_running_order(database_url: str, seq: int) -> None:
    async with local_engine(database_url, "build") as engine:
        order_id = await engine.order()
        await engine.until(order_id, "building")
        async with connect(status_url(engine, order_id, f"?after={seq}")) as stream:
            history = updates_of(await stream.recv())
            assert [update["seq"] for update in history] == list(range(seq + 1, 4))
            engine.gates.open()
            live = [update async for message in stream for update in updates_of(message)]
        assert [update["seq"] for update in history + live] == list(range(seq + 1, 6))


async def test_a_watcher_that_comes_back_again_and_again_misses_nothing(engine: Served) -> None:
    order_id = await asyncio.to_thread(engine.order)
    updates: list[Json] = []
    while not updates or updates[-1]["status"] not in ENDED:
        async with connect(status_url(engine, order_id, f"?after={len(updates)}")) as stream:
            try:
                while not (fresh := updates_of(await stream.recv())):
                    pass
            except websockets.ConnectionClosed:
                continue
            updates += fresh[:1]  # the connection breaks behind the first new event
    check_updates(updates)
    assert [update["status"] for update in updates] == WHOLE_LIFE


async def test_watchers_that_come_at_random_moments_all_get_the_same(engine: Served) -> None:
    async with httpx.AsyncClient(base_url=engine.url, trust_env=False, timeout=PATIENCE_S) as http:

        async def order_and_watch(number: int) -> None:
            body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"}
            order_id = (await http.post("/api/orders/execute", json=body)).json()["orderId"]
            await asyncio.sleep(number % 10 / 1000)  # not to wait for anything: to come at another moment
            watchers = [watch(status_url(engine, order_id)) for _ in range(2)]
            for updates, code in await asyncio.gather(*watchers):
                check_updates(updates)
                # One that comes late finds the note that the swap is final in the history.
                assert list(dict.fromkeys(update["status"] for update in updates)) == WHOLE_LIFE
                assert code == 1000

        await asyncio.gather(*(order_and_watch(number) for number in range(60)))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/api/orders/{UNKNOWN}/status", 4404),
        (f"/api/orders/{UNKNOWN.upper()}/status", 4404),
        (f"/api/orders/{UNKNOWN}/status?after=3", 4404),
        ("/api/orders/x/status", 4422),
        ("/api/orders/status", 4422),
        ("/api/orders//status", 4422),
        (f"/api/orders/{UNKNOWN}x/status", 4422),
        (f"/api/orders/{UNKNOWN}/status/status", 4422),
        ("/api/orders/%00/status", 4422),
        (f"/api/orders/{UNKNOWN}/status?after=-1", 4422),
        (f"/api/orders/{UNKNOWN}/status?after=x", 4422),
        (f"/api/orders/{UNKNOWN}/status?after=1&after=2", 4422),
        (f"/api/orders/{UNKNOWN}/status?" + "&".join(f"p{number}=1" for number in range(99)), 4422),
        ("/api/orders/execute?keep=true&keep=true", 4422),
    ],
)
async def test_what_cannot_be_watched_is_closed_with_its_code(engine: Served, path: str, code: int) -> None:
    async with connect(engine.ws_url + path) as stream:
        assert await _closed_with(stream) == code
        assert stream.close_reason


@pytest.mark.parametrize("path", ["/", "/api/orders", "/nowhere", "/api/events"])
async def test_there_is_no_websocket_elsewhere(engine: Served, path: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(engine.ws_url + path)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", ["/api/orders/execute", f"/api/orders/{UNKNOWN}/status"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{FRONT_END}:1"])
async def test_a_foreign_page_opens_no_websocket(engine: Served, path: str, origin: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(engine.ws_url + path, origin=origin)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("origin", ["own", FRONT_END])
async def test_the_own_page_and_named_front_ends_open_websockets(engine: Served, origin: str) -> None:
    allowed = engine.url if origin == "own" else origin
    async with connect(f"{engine.ws_url}/api/orders/execute", origin=allowed) as stream:
        await stream.send("{}")
        assert json.loads(await stream.recv())["type"] == "error"


async def test_what_a_watcher_says_is_not_listened_to(database_url: str) -> None:
    async with local_engine(database_url, "build") as engine:
        order_id = await engine.order()
        async with connect(status_url(engine, order_id)) as stream:
            await stream.recv()
            words: list[str | bytes] = ["hello", b"\0\1", "{}", ""]
            for word in words * 50:
                await stream.send(word)
            engine.gates.open()
            updates = [update async for message in stream for update in updates_of(message)]
            assert updates[-1]["status"] == "confirmed"
            assert stream.close_code == 1000


def test_the_connection_of_the_post_becomes_the_stream(engine: Served) -> None:
    body = json.dumps({"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"}).encode()
    with socket.create_connection(("127.0.0.1", engine.port), timeout=PATIENCE_S) as connection:
        accepted: Json = {}
        for _ in range(3):  # one connection, several requests before the upgrade
            connection.sendall(
                b"POST /api/orders/execute HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            answer = connection.recv(65_536)
            while not answer.endswith(b"}"):
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 202 ")
            accepted = json.loads(answer.partition(b"\r\n\r\n")[2])
        with connect_in_thread(engine.ws_url + accepted["statusEndpoint"], sock=connection, proxy=None) as stream:
            updates = [update for message in stream for update in updates_of(message)]
            assert stream.protocol.close_code == 1000
    assert [update["status"] for update in updates] == WHOLE_LIFE


# --- Orders entered by WebSocket


def order_text(**fields: object) -> str:
    return json.dumps({"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"} | fields)


@pytest.mark.parametrize("binary", [False, True])
async def test_an_order_by_websocket_is_answered_and_followed_to_its_end(engine: Served, binary: bool) -> None:
    async with connect(f"{engine.ws_url}/api/orders/execute") as stream:
        await stream.send(order_text().encode() if binary else order_text())
        messages = [json.loads(message) async for message in stream]
        assert stream.close_code == 1000
    assert messages[0]["type"] == "accepted"
    accepted = messages[0]["data"]
    assert accepted.keys() == {"orderId", "statusEndpoint", "createdAt", "status"}
    assert {message["type"] for message in messages[1:]} == {"update"}
    updates = [message["data"] for message in messages[1:]]
    assert [update["status"] for update in updates] == WHOLE_LIFE
    check_updates(updates)
    assert updates == await asyncio.to_thread(engine.history, accepted["orderId"])


@pytest.mark.parametrize(
    ("message", "code", "pointer"),
    [
        ("{}", "validation", "/tokenIn"),
        (order_text(amount="-1"), "validation", "/amount"),
        (order_text(tokenIn="\ud800"), "validation", "/tokenIn"),
        ("[]", "validation", ""),
        ("not JSON", "malformed-json", None),
        ("", "malformed-json", None),
        (b"", "malformed-json", None),
        (b"\xff\xfe", "malformed-json", None),
        ("[" * 50_000, "malformed-json", None),
        (order_text(amount=1.0).replace("1.0", "1e999999"), "validation", "/amount"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_bad_order_by_websocket_gets_its_problem(
    engine: Served, message: str | bytes, code: str, pointer: str | None
) -> None:
    async with connect(f"{engine.ws_url}/api/orders/execute") as stream:
        await stream.send(message)
        messages = [json.loads(answer) async for answer in stream]
        assert stream.close_code == 1000
    [error] = messages
    assert error["type"] == "error"
    assert error["data"]["type"] == f"/problems/{code}"
    if pointer is not None:
        assert pointer in [problem["pointer"] for problem in error["data"]["errors"]]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("path", ["/api/orders/execute", "/api/orders/execute?keep=true", "the status of an order"])
async def test_an_oversized_message_closes_the_socket(database_url: str, path: str, binary: bool) -> None:
    async with local_engine(database_url, "build") as engine:
        url = engine.ws_url + path if path.startswith("/") else status_url(engine, await engine.order())
        async with connect(url) as stream:
            text = order_text(clientOrderId="x" * 70_000)
            await stream.send(text.encode() if binary else text)
            assert await _closed_with(stream) == 1009
        engine.gates.open()


async def _closed_with(stream: ClientConnection) -> int | None:
    """Read until the stream closes; its close code."""
    async with asyncio.timeout(PATIENCE_S):
        async for _ in _messages(stream):
            pass
    return stream.close_code


async def _messages(stream: ClientConnection) -> AsyncIterator[str | bytes]:
    """What comes until the stream closes, whatever it closes with."""
    with suppress(websockets.ConnectionClosed):
        while True:
            yield await stream.recv()


async def test_an_oversized_message_in_fragments_closes_the_socket(engine: Served) -> None:
    async with connect(f"{engine.ws_url}/api/orders/execute") as stream:
        with suppress(websockets.ConnectionClosed):
            await stream.send(["x" * 1_000] * 66)
        assert await _closed_with(stream) == 1009


async def test_an_order_in_fragments_is_read(engine: Served) -> None:
    async with connect(f"{engine.ws_url}/api/orders/execute") as stream:
        await stream.send(list(order_text()))
        assert json.loads(await stream.recv())["type"] == "accepted"


async def test_invalid_utf8_in_a_text_message_closes_the_socket(database_url: str) -> None:
    async with local_engine(database_url) as engine, connect(f"{engine.ws_url}/api/orders/execute") as stream:
        await stream.send(b"\xff\xfe\xfd", text=True)
        assert await _closed_with(stream) == 1007


async def read_orders(stream: ClientConnection, orders: int) -> dict[str, list[Json]]:
    """The updates of so many accepted orders on one socket, by order, until all have ended."""
    updates: dict[str, list[Json]] = {}
    ended = 0
    while ended < orders:
        message = json.loads(await stream.recv())
        data = message["data"]
        if message["type"] == "accepted":
            assert data["orderId"] not in updates
            updates[data["orderId"]] = []
        else:
            assert message["type"] == "update", message
            updates[data["orderId"]].append(data)
            ended += data["status"] in ENDED
    return updates


async def test_one_socket_carries_many_orders_interleaved(engine: Served) -> None:
    async with connect(f"{engine.ws_url}/api/orders/execute?keep=true") as stream:
        for _ in range(50):
            await stream.send(order_text())
        updates = await read_orders(stream, 50)
        await stream.send("{}")
        assert json.loads(await stream.recv())["type"] == "error"
        await stream.send(order_text())  # an error does not end it
        updates |= await read_orders(stream, 1)
    assert len(updates) == 51
    for of_order in updates.values():
        check_updates(of_order)
        assert [update["status"] for update in of_order] == WHOLE_LIFE


async def test_more_orders_than_one_socket_may_carry_are_refused(database_url: str) -> None:
    async with (
        local_engine(database_url, "quote") as engine,
        connect(f"{engine.ws_url}/api/orders/execute?keep=true", max_queue=None) as stream,
    ):
        for _ in range(1_001):
            await stream.send(order_text())
        async for text in stream:
            message = json.loads(text)
            if message["type"] == "error":
                assert message["data"]["type"] == "/problems/too-many-orders"
                break
        engine.gates.open()


async def test_an_order_goes_on_when_its_socket_breaks(database_url: str) -> None:
    async with local_engine(database_url, "build") as engine:
        async with connect(f"{engine.ws_url}/api/orders/execute") as stream:
            await stream.send(order_text())
            order_id = json.loads(await stream.recv())["data"]["orderId"]
            stream.transport.abort()
        await until(partial(_watched_by, engine, 0))
        engine.gates.open()
        assert (await engine.until(order_id))["status"] == "confirmed"


async def test_a_client_that_only_talks_is_not_kept_in_memory(database_url: str) -> None:
    """One order is taken from a socket without `keep`: what comes behind it must stop the sender, not fill memory."""
    async with local_engine(database_url, "quote") as engine:
        reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
        await _upgrade(reader, writer, "/api/orders/execute")
        writer.write(_frame(order_text().encode()))
        taken = 0
        while taken < 500 and await _goes_out(writer, _frame(b"x" * 60_000)):
            taken += 1
        assert taken < 500
        writer.transport.abort()
        engine.gates.open()


async def _upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")


async def _goes_out(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Whether the other side still takes what is written."""
    writer.write(data)
    try:
        async with asyncio.timeout(0.5):
            await writer.drain()
    except TimeoutError:
        return False
    return True


def _frame(payload: bytes) -> bytes:
    """A client's text frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


# --- Slow watchers


async def test_a_watcher_that_stops_reading_is_caught_up_and_slows_nobody(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads nothing while its queue overflows many times over, then everything: from the journal."""
    monkeypatch.setattr("bestex.bootstrap.inline.LocalHub", partial(LocalHub, 1))
    orders = 400
    async with (
        local_engine(database_url) as engine,
        _stalled(engine.port, "/api/events?after=0") as stalled,
        connect(f"{engine.ws_url}/api/orders/execute?keep=true", max_queue=None) as stream,
    ):
        for _ in range(orders):
            await stream.send(order_text())
        async with asyncio.timeout(PATIENCE_S):
            updates = await read_orders(stream, orders)
        assert len(updates) == orders
        for of_order in updates.values():
            check_updates(of_order)

        seen: dict[str, list[int]] = defaultdict(list)
        positions = count(1)
        async for position, update in _sse(stalled):
            assert position == next(positions)
            seen[update["orderId"]].append(update["seq"])
            if position == 5 * orders:
                break
        assert seen == {order_id: [1, 2, 3, 4, 5] for order_id in updates}
    assert await check_database(database_url) == {"confirmed": orders}


async def test_an_order_socket_that_stops_reading_misses_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bestex.bootstrap.inline.LocalHub", partial(LocalHub, 1))
    orders = 300
    async with local_engine(database_url) as engine:
        reader, writer = await _small_connection(engine.port)
        await _upgrade(reader, writer, "/api/orders/execute?keep=true")
        for _ in range(orders):
            writer.write(_frame(order_text().encode()))
        await until(partial(_confirmed, engine, orders))  # while nothing is read
        updates: dict[str, list[int]] = defaultdict(list)
        ended = 0
        async with asyncio.timeout(PATIENCE_S):
            while ended < orders:
                message = json.loads(await _read_frame(reader))
                if message["type"] == "update":
                    updates[message["data"]["orderId"]].append(message["data"]["seq"])
                    ended += message["data"]["status"] in ENDED
        assert len(updates) == orders
        assert {tuple(seqs) for seqs in updates.values()} == {(1, 2, 3, 4, 5)}
        writer.close()


async def _confirmed(engine: Local, orders: int) -> bool:
    page = (await engine.http.get("/api/orders", params={"status": "confirmed", "limit": 500})).json()
    return len(page["data"]) == orders


async def _small_connection(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose client side takes little that nobody reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=connection, limit=2_048)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    assert head[0] == 0x81, head
    size = head[1]
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    return await reader.readexactly(size)


class _stalled:  # noqa: N801 - used as a function
    """An open SSE response of which nothing has been read behind its head."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path

    async def __aenter__(self) -> asyncio.StreamReader:
        reader, self._writer = await _small_connection(self._port)
        self._writer.write(f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        return reader

    async def __aexit__(self, *error: object) -> None:
        self._writer.transport.abort()


async def _sse(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, Json]]:
    """Position and update of each event in a chunked SSE response."""
    text = b""
    while size := int(await reader.readline(), 16):
        text += await reader.readexactly(size)
        await reader.readexactly(2)
        *events, text = text.split(b"\n\n")
        for event in events:
            lines = dict(line.split(b": ", 1) for line in event.splitlines() if not line.startswith(b":"))
            if lines:
                assert lines.keys() == {b"id", b"data"}
                yield int(lines[b"id"]), json.loads(lines[b"data"])


# --- The feed


class Feed:
    """A client of `/api/events`."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE_S)

    async def __aenter__(self) -> "Feed":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def read(
        self, events: int, *, after: int | None = None, last_id: int | None = None, opened: asyncio.Event | None = None
    ) -> list[tuple[int, Json]]:
        """So many events, then break the connection."""
        headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
        params = {} if after is None else {"after": str(after)}
        read: list[tuple[int, Json]] = []
        position = None
        async with self._http.stream("GET", "/api/events", headers=headers, params=params) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if opened is not None:
                    opened.set()
                name, _, value = line.partition(": ")
                if name == "id":
                    position = int(value)
                elif name == "data":
                    assert position is not None
                    read.append((position, json.loads(value)))
                    if len(read) >= events:
                        return read
        return read


async def test_the_feed_resumes_without_a_gap_or_a_repetition(database_url: str) -> None:
    """Read by three events at a time over ever new connections, while orders run."""
    orders = 40
    async with local_engine(database_url) as engine, Feed(engine.url) as feed:

        async def enter() -> None:
            for _ in range(orders):
                await engine.order()

        entering = asyncio.create_task(enter())
        read = await feed.read(3, after=0)
        while len(read) < 5 * orders:
            read += await feed.read(min(3, 5 * orders - len(read)), last_id=read[-1][0])
        await entering
        assert [position for position, _ in read] == list(range(1, 5 * orders + 1))
        by_order: dict[str, list[Json]] = defaultdict(list)
        for _, update in read:
            by_order[update["orderId"]].append(update)
        assert len(by_order) == orders
        for updates in by_order.values():
            check_updates(updates)


async def test_the_feed_begins_now_unless_told_otherwise(database_url: str) -> None:
    async with local_engine(database_url) as engine, Feed(engine.url) as feed:
        await engine.until(await engine.order())
        opened = asyncio.Event()
        reading = asyncio.create_task(feed.read(5, opened=opened))
        await opened.wait()
        await until(partial(_watched_by, engine, 1))
        second = await engine.order()
        read = await reading
        assert {update["orderId"] for _, update in read} == {second}
        assert [position for position, _ in read] == [6, 7, 8, 9, 10]
        assert [position for position, _ in await feed.read(10, after=0)] == list(range(1, 11))
        assert [position for position, _ in await feed.read(3, after=7)] == [8, 9, 10]
        assert [position for position, _ in await feed.read(2, after=3, last_id=8)] == [9, 10]  # the header goes first


async def test_the_feed_spans_more_than_a_page(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bestex.api.following.FEED_PAGE", 7)
    async with local_engine(database_url) as engine, Feed(engine.url) as feed:
        for number in range(7):
            await engine.until(await engine.order())
            expected = list(range(1, 5 * (number + 1) + 1))
            assert [position for position, _ in await feed.read(len(expected), after=0)] == expected


# --- The hand-over from history to live, at every point between two events


class StagedJournal:
    """The reads of a journal, each with something that happens just before and just after it looks."""

    def __init__(self, hub: LocalHub) -> None:
        self._hub = hub
        self.log: list[StoredEvent] = []
        self.before: list[Sequence[StoredEvent]] = []  # committed before the next reads look
        self.behind: list[Sequence[StoredEvent]] = []  # committed after they looked, before they answer

    def commit(self, events: Sequence[StoredEvent]) -> None:
        self.log.extend(events)
        self._hub.publish(events)

    async def _around(self) -> list[StoredEvent]:
        await asyncio.sleep(0)
        if self.before:
            self.commit(self.before.pop(0))
        seen = list(self.log)
        if self.behind:
            self.commit(self.behind.pop(0))
        await asyncio.sleep(0)
        return seen

    async def archived(self, order_id: str) -> None:
        """Nothing has been archived."""

    async def events(self, order_id: str, after_seq: int = 0) -> list[StoredEvent]:
        seen = await self._around()
        return [each for each in seen if each.event.order_id == order_id and each.event.seq > after_seq]

    async def feed(self, after_position: int, limit: int) -> list[StoredEvent]:
        return [each for each in await self._around() if each.position > after_position][:limit]

    async def head(self) -> int:
        seen = await self._around()
        return seen[-1].position if seen else 0


def life(order_id: str = UNKNOWN) -> list[StoredEvent]:
    order = DraftOrder(order_id)
    for status in (Status.PENDING, Status.ROUTING, Status.BUILDING, Status.SUBMITTED, Status.CONFIRMED):
        order.next(status)
    return stored(order.events)


def as_journal(journal: StagedJournal) -> Journal:
    return journal  # type: ignore[return-value] # the reads are all that following needs


@pytest.mark.parametrize("queue", [1, 2, 256])
@pytest.mark.parametrize("split", [(a, b, c) for a in range(1, 6) for b in range(a, 6) for c in range(b, 6)])
async def test_no_event_falls_between_history_and_live(split: tuple[int, int, int], queue: int) -> None:
    """Some events before the watcher comes, some before its read looks, some after it looked, the rest live."""
    come, looks, answers = split
    whole = life()
    hub = LocalHub(queue)
    journal = StagedJournal(hub)
    journal.commit(whole[:come])
    journal.before, journal.behind = [whole[come:looks]], [whole[looks:answers]]
    got: list[StoredEvent] = []
    async with aclosing(follow_order(as_journal(journal), hub, UNKNOWN, 0)) as batches:
        got += await anext(batches)
        for event in whole[answers:]:
            journal.commit([event])
        async with asyncio.timeout(5):
            async for batch in batches:
                got += batch
    assert got == whole
    assert hub.watchers == 0


@pytest.mark.parametrize("queue", [1, 256])
@pytest.mark.parametrize("after", [None, 0, 1, 3, 7])
async def test_no_event_falls_between_the_log_and_the_feed(after: int | None, queue: int) -> None:
    events = [
        StoredEvent(position, each.event)
        for position, each in enumerate((each for number in range(4) for each in life(f"order {number}")), 1)
    ]
    hub = LocalHub(queue)
    journal = StagedJournal(hub)
    journal.commit(events[:4])
    journal.before = [events[4:6], events[6:6], events[6:7]]
    journal.behind = [events[7:7], events[7:9]]
    got: list[StoredEvent] = []
    async with asyncio.timeout(5), aclosing(follow_all(as_journal(journal), hub, after)) as pages:
        reading = asyncio.ensure_future(anext(pages))
        for _ in range(10):
            await asyncio.sleep(0)
        while not got or got[-1].position < len(events):
            if not reading.done() and len(journal.log) < len(events):
                missing = len(journal.log)
                assert missing >= 4
                journal.commit(events[missing : missing + 3])
            got += await reading
            if got[-1].position < len(events):
                reading = asyncio.ensure_future(anext(pages))
                await asyncio.sleep(0)
    first = got[0].position
    assert first == (after or 0) + 1 if after is not None else first <= 7
    assert [each.position for each in got] == list(range(first, len(events) + 1))


async def test_an_unknown_order_leaves_no_subscription_behind() -> None:
    hub = LocalHub()
    with pytest.raises(NotFoundError):
        await anext(follow_order(as_journal(StagedJournal(hub)), hub, UNKNOWN, 0))
    assert hub.watchers == 0


async def test_streams_that_end_leave_nothing_behind(database_url: str) -> None:
    async with local_engine(database_url, "build") as engine:
        order_id = await engine.order()
        async with AsyncExitStack() as streams:
            for _ in range(20):
                await streams.enter_async_context(connect(status_url(engine, order_id)))
            feed = await streams.enter_async_context(Feed(engine.url))
            reading = asyncio.create_task(feed.read(1_000))
            await until(partial(_watched_by, engine, 21))
            reading.cancel()
        await until(partial(_watched_by, engine, 0))
        engine.gates.open()
        await engine.until(order_id)
        assert "bestex_streams 0.0" in (await engine.http.get("/metrics")).text


# --- Stopping


def test_watchers_are_pinged_every_20_seconds() -> None:
    assert api_server.PING_EVERY_S == 20.0


async def test_sigterm_ends_every_stream_properly_and_the_process_within_two_seconds(database_url: str) -> None:
    with serving(DATABASE_URL=database_url, SIM_FAULTS="quote_timeout=1", QUOTE_TIMEOUT_MS=60_000) as engine:
        async with AsyncExitStack() as streams, httpx.AsyncClient(base_url=engine.url, trust_env=False) as http:
            order_id = await asyncio.to_thread(engine.order)
            watchers = [await streams.enter_async_context(connect(status_url(engine, order_id))) for _ in range(50)]
            entries = [
                await streams.enter_async_context(
                    connect(f"{engine.ws_url}/api/orders/execute" + ("?keep=true" if number % 2 else ""))
                )
                for number in range(50)
            ]
            for entry in entries[:25]:
                await entry.send(order_text())
                assert json.loads(await entry.recv())["type"] == "accepted"
            feeds = [
                await streams.enter_async_context(http.stream("GET", "/api/events?after=0", timeout=PATIENCE_S))
                for _ in range(50)
            ]
            await asyncio.to_thread(_until_streams, engine, 150)

            took_s = asyncio.create_task(asyncio.to_thread(engine.terminate))
            for stream in watchers + entries:
                assert await _closed_with(stream) == 1001
            for feed in feeds:
                async for _ in feed.aiter_bytes():
                    pass  # an end in the middle of a chunk would be an error
            assert await took_s < 2.0
            assert engine.process.returncode == 0


def _until_streams(engine: Served, streams: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while engine.gauge("bestex_streams") < streams:
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_sigterm_does_not_wait_for_watchers_that_stopped_reading(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        async with AsyncExitStack() as streams:
            for _ in range(5):
                await streams.enter_async_context(_stalled(engine.port, "/api/events?after=0"))
            await asyncio.to_thread(_many_orders, engine, 300)
            assert await asyncio.to_thread(engine.terminate) < 2.0
        assert engine.process.returncode == 0


async def test_a_second_sigterm_ends_the_process_at_once(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        async with AsyncExitStack() as streams:
            for _ in range(3):
                await streams.enter_async_context(_stalled(engine.port, "/api/events?after=0"))
            await asyncio.to_thread(_many_orders, engine, 300)
            engine.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(_until_stopping, engine)
            took_s = await asyncio.to_thread(engine.terminate)
            assert engine.process.returncode != 0
            assert took_s < 0.3


def _until_stopping(engine: Served) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while "engine.stopping" not in engine.log:
        assert time.monotonic() < deadline


def _many_orders(engine: Served, orders: int) -> None:
    for order_id in [engine.order() for _ in range(orders)]:
        engine.until(order_id)
