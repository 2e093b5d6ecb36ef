"""Order entry read straight from the connection: the same answers as by the general way, and what it leaves to that."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from uvicorn.server import ServerState

from bestex.api.app import Application
from bestex.api.direct_entry import DirectEntry
from bestex.api.execute import OrderEntry
from bestex.api.guard import Guard
from bestex.api.server import HttpProtocol, HttpServer
from bestex.api.stream import OpenStreams
from bestex.domain.lifecycle import Status
from bestex.ports import HaltCause
from tests.support.journals import HeldStore, holding
from tests.support.small_engine import PATIENCE_S, TOKENS, SmallEngine, small_engine

ORDER: Final = '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5"}'
HEAD: Final = (
    "POST /api/orders/execute HTTP/1.1",
    "Host: 127.0.0.1:4000",
    "User-Agent: a bot",
    "Accept: */*",
    "Connection: keep-alive",
    "Content-Type: application/json",
)
GENERAL: Final = "Via: 1.0 fred"
"""A header that is nothing to the engine."""


def request(body: str | bytes = ORDER, *headers: str, head: tuple[str, ...] = HEAD) -> bytes:
    raw = body if isinstance(body, bytes) else body.encode()
    return "\r\n".join([*head, f"Content-Length: {len(raw)}", *headers, "", ""]).encode("latin-1") + raw


def generally(sent: bytes) -> bytes:
    """The same request, as the general way takes it."""
    return sent.replace(b"\r\n", b"\r\nTE: trailers\r\n", 1)


class Wire(asyncio.Transport):
    """The client's end of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.received = b""
        self.closed = False
        self.reads = True

    def write(self, data: Any) -> None:
        self.received += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    async def answers(self, count: int = 1) -> list[tuple[bytes, dict[str, str], bytes]]:
        """Status line, headers and body of the next answers."""
        async with asyncio.timeout(PATIENCE_S):
            found: list[tuple[bytes, dict[str, str], bytes]] = []
            while len(found) < count:
                head, end, rest = self.received.partition(b"\r\n\r\n")
                status, *lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines) if end else {}
                size = int(headers.get("content-length", 0))
                if not end or len(rest) < size:
                    await asyncio.sleep(0)
                    continue
                self.received = rest[size:]
                found.append((status.encode(), headers, rest[:size]))
            return found


class Server:
    """A server without a socket, over a small engine."""

    def __init__(self, small: SmallEngine) -> None:
        self.small = small
        entry = OrderEntry(small.engine.intake, TOKENS, small.clock)
        guard = Guard(Application(entry, None, None, None, None), ("front.example",), ())  # type: ignore[arg-type]
        self.direct = DirectEntry(entry, guard)
        server = HttpServer(guard, None, OpenStreams(), self.direct)  # type: ignore[arg-type] # it does not listen
        server.config.load()
        self.config = server.config
        self.state = ServerState()

    def connect(self) -> tuple[Wire, HttpProtocol]:
        wire = Wire()
        protocol: HttpProtocol = self.config.http_protocol_class(self.config, self.state, {})  # type: ignore[call-arg, assignment]
        protocol.connection_made(wire)
        return wire, protocol

    async def ask(self, sent: bytes) -> tuple[bytes, dict[str, str], bytes]:
        wire, protocol = self.connect()
        protocol.data_received(sent)
        [answer] = await wire.answers()
        return answer

    def takes(self, sent: bytes) -> bool:
        """Whether the request goes the direct way."""
        head = self.direct.head(sent)
        return head is not None and head.size == len(sent)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    async with small_engine() as small:
        yield Server(small)


async def test_an_order_is_answered_with_202_once_it_is_on_disk() -> None:
    async with serving() as server:
        store = holding(server.small.journal)
        store.hold()
        wire, protocol = server.connect()
        assert server.takes(request())
        protocol.data_received(request())
        await store.arrived()
        assert wire.received == b""
        store.release()
        [(status, headers, body)] = await wire.answers()
        told = json.loads(body)
        assert status == b"HTTP/1.1 202 Accepted"
        assert headers["location"] == f"/api/orders/{told['orderId']}"
        assert headers["content-type"] == "application/json"
        assert (await server.small.until_status(told["orderId"], Status.CONFIRMED)).amount == "1.5"


BODIES: Final = [
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":1.5,"slippageBps":10,"clientOrderId":"a:b","kind":"market"}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","kind":"limit","limitPrice":"1"}',
    "",
    "null",
    "[]",
    "{",
    '{"tokenIn":"SOL"}',
    '{"tokenIn":"SOL","tokenOut":"SOL","amount":"1.5"}',
    '{"tokenIn":"SOL","tokenOut":"XYZ","amount":"1.5"}',
    '{"tokenIn":"SOL","tokenIn":"SOL","tokenOut":"USDC","amount":"1.5"}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","amount":"2"}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"0"}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":-1}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":null}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":{}}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1e999999"}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","slippageBps":50.0}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","slippageBps":"50"}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","slippageBps":10001}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","clientOrderId":""}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","clientOrderId":null}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"1.5","what":1}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":"\\u0031"}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":NaN}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":01}',
    '{"tokenIn":"SOL","tokenOut":"USDC","amount":' + "[" * 50_000,
    b'{"tokenIn":"SOL","tokenOut":"\xff","amount":"1"}'.decode("latin-1"),
]


@pytest.mark.parametrize("body", BODIES)
async def test_both_ways_say_the_same_of_a_body(body: str) -> None:
    async with serving() as server:
        raw = body.encode("latin-1") if "\xff" in body else body.encode()
        sent = request(raw)
        assert server.takes(sent)
        assert not server.takes(generally(sent))
        answers = [await server.ask(each) for each in (sent, generally(sent))]
        [direct, general] = [
            (status, {name: value for name, value in headers.items() if name not in ("date", "location")}, told)
            for status, headers, told in answers
        ]
        if direct[0].endswith(b"202 Accepted") and general[0] == direct[0]:
            assert json.loads(direct[2]).keys() == json.loads(general[2]).keys()
        else:
            assert direct == general


LEFT: Final = {
    "another path": request().replace(b"/execute", b"/exEcute"),
    "a query": request().replace(b"/execute ", b"/execute?a=b "),
    "another method": request().replace(b"POST", b"GET"),
    "HTTP/1.0": request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a foreign host": request().replace(b"127.0.0.1", b"10.0.0.1"),
    "no host": request(head=tuple(line for line in HEAD if not line.startswith("Host"))),
    "two hosts": request(ORDER, "Host: localhost"),
    "an origin": request(ORDER, "Origin: https://front.example"),
    "another media type": request().replace(b"application/json", b"text/plain"),
    "two media types": request(ORDER, "content-type: application/json"),
    "an upgrade": request(ORDER, "Upgrade: websocket").replace(b"keep-alive", b"upgrade"),
    "a close": request().replace(b"keep-alive", b"close"),
    "chunks": request(ORDER, "Transfer-Encoding: chunked"),
    "an expectation": request(ORDER, "Expect: 100-continue"),
    "a length that is none": request().replace(b"Content-Length: ", b"Content-Length: +"),
    "two lengths": request(ORDER, "Content-Length: 1"),
    "too long a body": request("x" * 65_537),
    "a folded line": request(ORDER, "X: a\r\n b"),
    "a bare line feed": request(ORDER, "X: a\nY: b"),
    "a null": request(ORDER, "X: a\0b"),
    "a space before the colon": request(ORDER, "X : a"),
    "two keys": request(ORDER, "Idempotency-Key: a", "Idempotency-Key: b"),
    "a key that is none": request(ORDER, "Idempotency-Key: \xe4"),
    "a long head": request(ORDER, f"X: {'a' * 5_000}"),
    "two requests": request() + request(),
}


@pytest.mark.parametrize("sent", LEFT.values(), ids=LEFT.keys())
async def test_whatever_is_unusual_goes_the_general_way(sent: bytes) -> None:
    async with serving() as server:
        assert not server.takes(sent)


async def test_an_idempotency_key_counts_and_is_not_remembered_with_the_head() -> None:
    async with serving() as server:
        asked = [request(ORDER, f"Idempotency-Key: {key}") for key in ("one", "two", "one")]
        assert all(server.takes(each) for each in asked)
        first, second, again = [json.loads((await server.ask(each))[2])["orderId"] for each in asked]
        assert first == again != second


async def test_a_refusal_of_the_engine_is_a_problem_document() -> None:
    async with serving() as server:
        await server.small.journal.halt("stop", HaltCause.OPERATOR)
        server.small.engine.gate.halt = await server.small.journal.halted()
        assert server.takes(request())
        status, headers, body = await server.ask(request())
        assert status == b"HTTP/1.1 503 Service Unavailable"
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body)["type"] == "/problems/halted"


@pytest.mark.parametrize("at", [100, len(request()) - len(ORDER), len(request()) - 1], ids=["head", "between", "body"])
async def test_a_request_in_two_packets_is_answered_like_one(at: int) -> None:
    async with serving() as server:
        wire, protocol = server.connect()
        protocol.data_received(request()[:at])
        await asyncio.sleep(0)
        protocol.data_received(request()[at:])
        [(status, _, _)] = await wire.answers()
        assert status == b"HTTP/1.1 202 Accepted"


async def held(server: Server) -> tuple[Wire, HttpProtocol, HeldStore]:
    """A connection whose order is on its way to disk."""
    store = holding(server.small.journal)
    store.hold()
    wire, protocol = server.connect()
    protocol.data_received(request())
    await store.arrived()
    return wire, protocol, store


async def test_what_is_sent_before_the_answer_waits_and_is_answered_in_order() -> None:
    async with serving() as server:
        wire, protocol, store = await held(server)
        bad = request('{"tokenIn":1}')
        protocol.data_received(bad)
        assert not wire.reads
        protocol.data_received(request()[:50])
        store.release()
        [first, second] = await wire.answers(2)
        assert [first[0][9:12], second[0][9:12]] == [b"202", b"422"]
        assert wire.reads
        protocol.data_received(request()[50:])
        [third] = await wire.answers()
        assert third[0][9:12] == b"202"


async def test_the_two_ways_follow_each_other_on_one_connection() -> None:
    async with serving() as server:
        wire, protocol = server.connect()
        for sent in (request(), generally(request()), request(), generally(request())):
            protocol.data_received(sent)
            [(status, _, _)] = await wire.answers()
            assert status == b"HTTP/1.1 202 Accepted"
        assert server.state.total_requests == 4


async def test_an_order_is_executed_though_its_client_has_gone() -> None:
    async with serving() as server:
        wire, protocol, store = await held(server)
        wire.closed = True
        protocol.connection_lost(None)
        store.release()
        [order_id] = [merged.first.order_id for rows in store.commits for merged in rows]
        await server.small.until_status(order_id, Status.CONFIRMED)
        assert wire.received == b""


async def test_a_server_that_shuts_down_answers_first_and_then_closes() -> None:
    async with serving() as server:
        wire, protocol, store = await held(server)
        protocol.shutdown()
        assert not wire.closed
        store.release()
        [(status, headers, _)] = await wire.answers()
        assert (status, headers["connection"]) == (b"HTTP/1.1 202 Accepted", "close")
        assert wire.closed


async def test_a_connection_over_which_no_more_orders_come_is_closed_in_the_end() -> None:
    async with serving() as server:
        wire, protocol = server.connect()
        protocol.data_received(request())
        await wire.answers()
        protocol.timeout_keep_alive_handler()
        assert not wire.closed, "it was used just now"
        protocol._used_at -= protocol.timeout_keep_alive
        protocol.timeout_keep_alive_handler()
        assert wire.closed


async def test_with_more_connections_than_may_be_the_general_way_refuses() -> None:
    async with serving() as server:
        wire, protocol = server.connect()
        server.state.connections.update(object() for _ in range(20_000))  # type: ignore[misc]
        protocol.data_received(request())
        [(status, _, _)] = await wire.answers()
        assert status == b"HTTP/1.1 503 Service Unavailable"
