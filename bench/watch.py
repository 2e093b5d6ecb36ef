"""A watcher of the engine's feed of all orders, in a process of its own: when was each order seen to end?

    python -m bench.watch --port 4000 --orders 20000 --result FILE

Prints `watching` once the feed is open, and ends when as many orders have.
"""

import argparse
import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import Final, cast

import httptools
import msgspec
import uvloop

FEED_PATH: Final = "/api/events"
READY_LINE: Final = "watching"
END_STATUSES: Final = frozenset({"confirmed", "failed", "cancelled", "expired"})

END_OF_EVENT: Final = b"\n\n"
DATA_PREFIX: Final = b"data:"


class Update(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of one update of the feed."""

    order_id: str
    status: str


class Ended(msgspec.Struct, frozen=True):
    """How an order ended, and when the watcher saw it: nanoseconds of the machine's monotonic clock."""

    status: str
    seen_ns: int


class WatchResult(msgspec.Struct, frozen=True):
    ended: dict[str, Ended]  # by order id
    events: int  # all that the feed brought


class WatchError(Exception):
    """The feed answered, or ended, as it should not."""


class Feed(asyncio.Protocol):
    """One server-sent-events response, read as it comes. A note that follows an end is not a second end."""

    def __init__(self, port: int, orders: int) -> None:
        self._port = port
        self._orders = orders
        self._parser = httptools.HttpResponseParser(self)
        self._decoder = msgspec.json.Decoder(Update)
        self._partial = b""
        self._received_ns = 0
        self._ended: dict[str, Ended] = {}
        self._events = 0
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()

    def result(self) -> WatchResult:
        return WatchResult(self._ended, self._events)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        request = f"GET {FEED_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: text/event-stream\r\n\r\n"
        cast(asyncio.Transport, transport).write(request.encode())  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"the feed ended after {self._events} events: {exc or 'end of stream'}")

    def data_received(self, data: bytes) -> None:
        self._received_ns = time.monotonic_ns()
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self.fail(f"expected 200 of {FEED_PATH}, got {status}")
        elif not self.opened.done():
            self.opened.set_result(None)

    def on_body(self, body: bytes) -> None:
        *events, self._partial = (self._partial + body).replace(b"\r\n", b"\n").split(END_OF_EVENT)
        for event in events:
            for line in event.split(b"\n"):
                if line.startswith(DATA_PREFIX):
                    self._on_update(self._decoder.decode(line[len(DATA_PREFIX) :]))

    def _on_update(self, update: Update) -> None:
        self._events += 1
        if update.status in END_STATUSES and update.order_id not in self._ended:
            self._ended[update.order_id] = Ended(update.status, self._received_ns)
            if len(self._ended) == self._orders and not self.finished.done():
                self.finished.set_result(None)

    def fail(self, message: str) -> None:
        for future in (self.opened, self.finished):
            if not future.done():
                future.set_exception(WatchError(message))


async def watch(port: int, orders: int, seconds_max: float) -> WatchResult:
    """See `orders` orders end, within `seconds_max`."""
    loop = asyncio.get_running_loop()
    feed = Feed(port, orders)
    loop.set_exception_handler(lambda _, context: feed.fail(repr(context.get("exception") or context["message"])))
    gc.disable()  # a collection would show as the engine's latency
    async with asyncio.timeout(seconds_max):
        transport, _ = await loop.create_connection(lambda: feed, "127.0.0.1", port)
        try:
            await feed.opened
            print(READY_LINE, flush=True)
            await feed.finished
        finally:
            transport.close()
    return feed.result()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.watch", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--orders", type=int, required=True, help="end when so many orders have")
    parser.add_argument("--seconds-max", type=float, default=600.0, help="give up after this long")
    parser.add_argument("--result", type=Path, required=True, help="the file to write what was seen to, as JSON")
    arguments = parser.parse_args()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(watch(arguments.port, arguments.orders, arguments.seconds_max))
    except WatchError as error:
        print(f"watch: {error}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"watch: not all orders were seen to end within {arguments.seconds_max:.0f} s", file=sys.stderr)
        return 1
    arguments.result.write_bytes(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
