"""How a process answers clients before it has started, and how it stops answering them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bestex.api.asgi import App
from bestex.api.server import HttpServer
from bestex.api.stream import OpenStreams
from bestex.bootstrap.process import STOP_ANSWERS_S, STOP_HTTP_S
from bestex.engine.intake import Intake


async def stop_serving(server: HttpServer, serving: "asyncio.Task[None]", intake: Intake) -> None:
    """Take no more connections, and answer those that still wait with what is known."""
    await server.stop()
    await asyncio.wait((serving,), timeout=STOP_HTTP_S)
    intake.answer_open()
    await asyncio.wait((serving,), timeout=STOP_ANSWERS_S)
    serving.cancel()


@asynccontextmanager
async def answering(app: App, listener: socket.socket) -> AsyncIterator[None]:
    """Have `app` answer on a socket for a while, without closing the socket."""
    server = HttpServer(app, listener.dup(), OpenStreams())
    serving = asyncio.create_task(server.run(), name="early server")
    try:
        yield
    finally:
        await server.stop()
        await asyncio.wait((serving,), timeout=STOP_HTTP_S)
        serving.cancel()
