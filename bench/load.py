"""The load generator: a closed loop of keep-alive connections, in a process of its own.

    python -m bench.load --port 4000 --orders 20000 --connections 64 --body '{"tokenIn": ...}' --result FILE

Each connection sends one order, waits for its answer and sends the next. The bodies are used in turn. A 503
is counted, waited for as its `Retry-After` says, and sent again; any other answer than 202 ends the run.

It shares the machine with what it measures, so it does little: requests are made once, and of an answer only
the status, the length and the order's id are read.
"""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import msgspec
import uvloop

EXECUTE_PATH: Final = "/api/orders/execute"

ACCEPTED: Final = b"HTTP/1.1 202"
BUSY: Final = b"HTTP/1.1 503"
END_OF_HEAD: Final = b"\r\n\r\n"
ORDER_ID_KEY: Final = b'"orderId":"'

CONNECT_SECONDS_MAX: Final = 10.0
RETRY_AFTER_SECONDS_MAX: Final = 5.0


class LoadResult(msgspec.Struct, frozen=True):
    """What the generator saw. The lists run in parallel, a place for each order, as they were accepted.

    Times are nanoseconds of the machine's monotonic clock, which all its processes share.
    """

    order_ids: list[str]
    sent_ns: list[int]  # of the request that was accepted, not of one answered 503 before it
    accepted_ns: list[int]
    busy_answers: int  # 503, each waited for and repeated
    cpu_seconds: float  # of this process, while it drove

    @property
    def first_sent_ns(self) -> int:
        return min(self.sent_ns)

    @property
    def last_accepted_ns(self) -> int:
        return self.accepted_ns[-1]

    def accept_latencies_ns(self) -> list[int]:
        """Of each order, from its request's write to its 202."""
        return [accepted - sent for sent, accepted in zip(self.sent_ns, self.accepted_ns, strict=True)]


class LoadError(Exception):
    """The system answered, or behaved, as it should not."""


class Load:
    """One run: what is still to be sent, and what was accepted."""

    def __init__(self, requests: Sequence[bytes], orders: int) -> None:
        self._requests = requests
        self._orders = orders
        self._taken = 0
        self._order_ids: list[str] = []
        self._sent_ns: list[int] = []
        self._accepted_ns: list[int] = []
        self.busy_answers = 0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self) -> bytes | None:
        """The next order's request; nothing when all have been taken."""
        if self._taken == self._orders:
            return None
        request = self._requests[self._taken % len(self._requests)]
        self._taken += 1
        return request

    def accepted(self, order_id: str, sent_ns: int, accepted_ns: int) -> None:
        self._order_ids.append(order_id)
        self._sent_ns.append(sent_ns)
        self._accepted_ns.append(accepted_ns)
        if len(self._order_ids) == self._orders and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, message: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(LoadError(message))

    def result(self, cpu_seconds: float) -> LoadResult:
        if len(set(self._order_ids)) != self._orders:
            raise LoadError(f"{self._orders} orders were accepted under {len(set(self._order_ids))} ids")
        return LoadResult(self._order_ids, self._sent_ns, self._accepted_ns, self.busy_answers, cpu_seconds)


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._request: bytes | None = None
        self._sent_ns = 0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._load.fail(f"the server closed a connection: {exc or 'end of stream'}")

    def send_next(self) -> None:
        self._request = self._load.take()
        self._send()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _send(self) -> None:
        if self._request is not None and self._transport is not None:
            self._sent_ns = time.monotonic_ns()
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        answer = self._received + data if self._received else data
        end_of_head = answer.find(END_OF_HEAD)
        if end_of_head < 0 or len(answer) < end_of_head + len(END_OF_HEAD) + content_length(answer, end_of_head):
            self._received = answer
            return
        self._received = b""
        if answer.startswith(ACCEPTED):
            self._load.accepted(order_id(answer, end_of_head), self._sent_ns, now_ns)
            self.send_next()
        elif answer.startswith(BUSY):
            self._load.busy_answers += 1
            asyncio.get_running_loop().call_later(retry_after_seconds(answer, end_of_head), self._send)
        else:
            self._load.fail(f"expected 202, got {answer.decode(errors='replace')}")


def content_length(answer: bytes, end_of_head: int) -> int:
    value = header(answer, end_of_head, b"\r\ncontent-length:")
    if value is None:
        raise LoadError(f"an answer without Content-Length: {answer[:end_of_head].decode(errors='replace')}")
    return int(value)


def retry_after_seconds(answer: bytes, end_of_head: int) -> float:
    value = header(answer, end_of_head, b"\r\nretry-after:")
    return min(float(value or 1), RETRY_AFTER_SECONDS_MAX)


def header(answer: bytes, end_of_head: int, name: bytes) -> bytes | None:
    """The value of a header; `name` in lower case with the line break before it and the colon after it."""
    head = answer[:end_of_head].lower()
    start = head.find(name)
    if start < 0:
        return None
    start += len(name)
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else end_of_head]


def order_id(answer: bytes, end_of_head: int) -> str:
    start = answer.find(ORDER_ID_KEY, end_of_head)
    if start < 0:
        raise LoadError(f"a 202 without an orderId: {answer.decode(errors='replace')}")
    start += len(ORDER_ID_KEY)
    return answer[start : answer.index(b'"', start)].decode()


def request(port: int, body: str) -> bytes:
    payload = body.encode()
    head = (
        f"POST {EXECUTE_PATH} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


async def drive(port: int, bodies: Sequence[str], orders: int, connections: int, seconds_max: float) -> LoadResult:
    """Have `orders` accepted over `connections` connections, within `seconds_max`."""
    load = Load([request(port, body) for body in bodies], orders)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: load.fail(repr(context.get("exception") or context["message"])))
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        opened = [
            await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
            for _ in range(min(connections, orders))
        ]
    gc.disable()  # nothing here makes cycles, and a collection would show as the system's latency
    cpu_seconds_before = time.process_time()
    for _, connection in opened:
        connection.send_next()
    try:
        async with asyncio.timeout(seconds_max):
            await load.finished
    finally:
        cpu_seconds = time.process_time() - cpu_seconds_before
        for _, connection in opened:
            connection.close()
    return load.result(cpu_seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--body", action="append", required=True, help="an order as JSON; several are used in turn")
    parser.add_argument("--seconds-max", type=float, default=600.0, help="give up after this long")
    parser.add_argument("--result", type=Path, required=True, help="the file to write what was seen to, as JSON")
    arguments = parser.parse_args()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(
                drive(
                    arguments.port,
                    arguments.body,
                    arguments.orders,
                    arguments.connections,
                    arguments.seconds_max,
                )
            )
    except LoadError as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"load: not all orders were accepted within {arguments.seconds_max:.0f} s", file=sys.stderr)
        return 1
    arguments.result.write_bytes(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
