"""Serve the application on a socket, with the stop in our own hands."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn

from bestex.api.asgi import App
from bestex.api.requests import MAX_BODY_BYTES
from bestex.api.stream import OpenStreams
from bestex.domain.errors import BestexError

PING_EVERY_S: Final = 20.0
KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 4_096


class ListenError(BestexError):
    """The address cannot be listened on."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: they ignore a second SIGTERM and wait for open streams."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """The engine's HTTP and WebSocket server."""

    def __init__(self, app: App, listener: socket.socket, streams: OpenStreams) -> None:
        self._listener = listener
        self._streams = streams
        self._server = _Server(
            uvicorn.Config(
                app,
                loop="none",
                http="httptools",
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
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
            )
        )

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
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror}. Is another engine running? PORT names another port."
        ) from error
    listener.setblocking(False)
    return listener
