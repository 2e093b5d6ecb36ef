"""How a process that answers clients stops."""

import asyncio

from bestex.api.server import HttpServer
from bestex.bootstrap.process import STOP_ANSWERS_S, STOP_HTTP_S
from bestex.engine.intake import Intake


async def stop_serving(server: HttpServer, serving: "asyncio.Task[None]", intake: Intake) -> None:
    """Take no more connections, and answer those that still wait with what is known."""
    await server.stop()
    await asyncio.wait((serving,), timeout=STOP_HTTP_S)
    intake.answer_open()
    await asyncio.wait((serving,), timeout=STOP_ANSWERS_S)
    serving.cancel()
