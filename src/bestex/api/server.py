"""Serve the application on a socket, with the stop in our own hands."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from bestex.api.asgi import App
from bestex.api.direct_entry import DirectEntry
from bestex.api.execute import AcceptedBody
from bestex.api.fields import MAX_BODY_BYTES
from bestex.api.problems import ProblemError
from bestex.api.stream import OpenStreams
from bestex.domain.errors import BestexError

PING_EVERY_S: Final = 20.0
KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 4_096
MAX_CONNECTIONS: Final = 20_000
"""Open connections and requests under way; beyond, uvicorn answers 503."""
MAX_HEAD_BYTES: Final = 64 * 1024
"""The request line and all headers of one request."""


class ListenError(BestexError):
    """The address cannot be listened on."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: they ignore a second SIGTERM and wait for open streams."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _CorkedTransport:
    """A transport that writes once a turn of the loop: an answer's head and body go out in one system call."""

    __slots__ = ("_loop", "_parts", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def write_now(self, data: bytes) -> None:
        """Write without waiting for the end of the turn."""
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._flush()
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            if not self._transport.is_closing():  # else the client went before the turn ended: nobody gets it
                self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol on a corked transport, and the WebSockets that connections are upgraded to.

    The head of a request has an end here: httptools itself reads and keeps headers of any length.
    """

    _head_bytes = 0  # received of a head that is not complete; the rest of a packet with it counts too
    _head_open = True
    _in_message = False  # the parser has begun a request and not come to its end
    _entering = False  # an order that was read straight from the connection has not been answered
    _kept = b""  # what came meanwhile; or such an order, as far as it has come
    _used_at = 0.0  # when such an order was answered last, by the loop's time
    _closes = False  # once it is answered

    def __init__(self, direct: DirectEntry | None, *args: Any, **named: Any) -> None:
        """`direct`: order entry, where it may be read straight from the connection."""
        super().__init__(*args, **named)
        self._direct = direct

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._corked = _CorkedTransport(transport)
        super().connection_made(self._corked)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._kept:
            data, self._kept = self._kept + data, b""
        if self._entering:
            self._kept = data
            self.flow.pause_reading()
            return
        if self._is_free() and self._enter(data):
            return
        if self._head_open or len(data) > MAX_HEAD_BYTES:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_open and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        self._head_open = self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._head_bytes > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")  # answered as a bad request
        self._head_open = False
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # --- Orders that are read straight from the connection

    def _is_free(self) -> bool:
        """Whether no request is under way, nor an answer, and another may be taken."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            not self._in_message
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and len(self.connections) < MAX_CONNECTIONS
        )

    def _enter(self, data: bytes) -> bool:
        """Take a request for an order; False when it has to go the general way."""
        if self._direct is None or (head := self._direct.head(data)) is None or len(data) > head.size:
            return False
        if len(data) < head.size:
            self._kept = data  # its body is to come
            self._unset_keepalive_if_required()
        else:
            self._entering = True
            self._direct.enter(head, data, self._answer)
        return True

    def _answer(self, told: AcceptedBody | ProblemError) -> None:
        """Answer the order that was taken, and go on with what came meanwhile."""
        self._entering = False
        direct = self._direct
        if direct is None or self._transport.is_closing():
            return
        status, headers, body = direct.answer_bytes(told)
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        if self._closes:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        parts.append(body)
        self._corked.write_now(b"".join(parts))
        self.server_state.total_requests += 1
        if self._closes:
            self.transport.close()
            return
        self._used_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._close_when_idle(self.timeout_keep_alive)
        if self._kept:
            self.flow.resume_reading()
            self.data_received(b"")

    def _close_when_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless orders came over it meanwhile: they set no timer, each being so short."""
        left = self._used_at + self.timeout_keep_alive - self.loop.time()
        if self._entering or left > 0:
            self._close_when_idle(max(left, 1.0))
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        if self._entering:
            self._closes = True
        else:
            super().shutdown()


class HttpServer:
    """The engine's HTTP and WebSocket server."""

    def __init__(
        self, app: App, listener: socket.socket, streams: OpenStreams, direct: DirectEntry | None = None
    ) -> None:
        self._listener = listener
        self._streams = streams
        self.config = uvicorn.Config(
            app,
            loop="none",
            http=partial(HttpProtocol, direct),  # type: ignore[arg-type] # it is only called
            ws="websockets-sansio",
            ws_max_size=MAX_BODY_BYTES,
            ws_ping_interval=PING_EVERY_S,
            ws_ping_timeout=PING_EVERY_S,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            backlog=BACKLOG,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(self.config)

    async def run(self) -> None:
        """Answer until `stop`."""
        await self._server.serve(sockets=[self._listener])

    async def stop(self) -> None:
        """Take no more connections, end the streams, and let answers under way finish, for a moment."""
        self._server.should_exit = True
        self._streams.close()
        await asyncio.sleep(0)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address, before anything slow is begun; `ListenError` says who may have it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: else asyncio leaves it to the kernel to hold small messages back.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # now: until someone listens, others may bind the same address
    except OSError as error:
        listener.close()
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror}. Is another engine running? PORT names another port."
        ) from error
    listener.setblocking(False)
    return listener
