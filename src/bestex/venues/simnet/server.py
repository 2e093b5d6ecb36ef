"""The simulated world's server: one WebSocket a client, and what says whether it is well, over HTTP."""

import asyncio
import socket
from typing import Final

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bestex.domain.tokens import TokenRegistry
from bestex.ports import Clock
from bestex.venues.simnet import wire
from bestex.venues.simnet.broadcast import Broadcast
from bestex.venues.simnet.session import BEYOND_BOUNDS, Message, Receive, Send, Session
from bestex.venues.simulated.world import SimulatedWorld

MAX_CLIENTS: Final = 256
"""Processes that are connected at once."""
MAX_CONNECTIONS: Final = 1_000
"""Open connections of all kinds; beyond, uvicorn answers 503."""
MAX_REQUEST_BYTES: Final = 64 * 1024
"""Of one HTTP request, body and all."""
PING_EVERY_S: Final = 20.0
STOP_S: Final = 0.3  # for the connections to end

_STATUS: Final = {200: b"ok\n", 404: b"there is nothing here\n", 405: b"GET only\n", 503: b"not ready\n"}

_log = structlog.get_logger(__name__)


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with an end to what a request may be long; WebSockets are none of its business."""

    _request_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._request_bytes += len(data)
        if self._request_bytes > MAX_REQUEST_BYTES:
            self.transport.close()
        else:
            super().data_received(data)

    def on_message_complete(self) -> None:
        self._request_bytes = 0
        super().on_message_complete()


class SimnetServer:
    """Serves a simulated world, whose `run` runs beside."""

    def __init__(self, world: SimulatedWorld, tokens: TokenRegistry, listener: socket.socket, clock: Clock) -> None:
        """`tokens`: the world's registry. `listener`: bound and listening."""
        self._world = world
        self._tokens = tokens
        self._clock = clock
        self._listener = listener
        self._broadcast: Broadcast | None = None  # while it runs
        self._state = ServerState()
        self._config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            ws="websockets-sansio",
            ws_max_size=wire.MAX_MESSAGE_BYTES,
            ws_ping_interval=PING_EVERY_S,
            ws_ping_timeout=PING_EVERY_S,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
        )
        self._config.load()

    @property
    def clients(self) -> int:
        return 0 if self._broadcast is None else len(self._broadcast)

    async def run(self) -> None:
        """Serve until cancelled, then end all connections."""
        profile = (await self._world.control.status()).profile
        self._broadcast = Broadcast(self._world, self._tokens, self._clock, profile)
        server = await asyncio.get_running_loop().create_server(self._protocol, sock=self._listener)
        try:
            await self._broadcast.run()
        finally:
            self._broadcast = None
            server.close()
            for connection in list(self._state.connections):
                connection.shutdown()
            if tasks := list(self._state.tasks):
                await asyncio.wait(tasks, timeout=STOP_S)

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(self._config, self._state, {})

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._serve_client(scope, receive, send)
            return
        status = 200
        if scope["path"] not in ("/healthz", "/readyz"):
            status = 404
        elif scope["method"] not in ("GET", "HEAD"):
            status = 405
        elif scope["path"] == "/readyz" and self._broadcast is None:
            status = 503
        body = _STATUS[status]
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _serve_client(self, scope: Message, receive: Receive, send: Send) -> None:
        broadcast = self._broadcast
        if scope["path"] != wire.PATH or broadcast is None or _has_origin(scope):
            await send({"type": "websocket.close"})  # before it is accepted: status 403
            return
        await receive()
        await send({"type": "websocket.accept"})
        if len(broadcast) >= MAX_CLIENTS:
            _log.warning("simnet.too_many_clients", clients=len(broadcast))
            await send({"type": "websocket.close", "code": BEYOND_BOUNDS, "reason": "too many clients"})
            return
        session = Session(self._world, self._tokens, broadcast)
        broadcast.join(session)
        try:
            await session.serve(receive, send)
        finally:
            broadcast.leave(session)


def _has_origin(scope: Message) -> bool:
    """Whether it comes from a web page: none has any business here."""
    return any(name == b"origin" for name, _ in scope["headers"])
