"""What supervisors and Prometheus ask of a process that takes no orders, or none yet."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from bestex.api.asgi import Receive, Scope, Send, send_answer, send_problem
from bestex.api.problems import ProblemError
from bestex.domain.errors import BestexError

_PATHS: Final = ("/healthz", "/readyz", "/metrics")
_JSON: Final = (b"content-type", b"application/json")
_PROMETHEUS: Final = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class HealthApp:
    """A bare ASGI application."""

    def __init__(
        self, not_ready: Callable[[], Awaitable[str | None]], metrics: Callable[[], bytes], otherwise: str = "not-found"
    ) -> None:
        """`not_ready` says what keeps the process from its work, or None; `otherwise` is the problem of other paths."""
        self._not_ready = not_ready
        self._metrics = metrics
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            return
        path = scope["path"]
        if path not in _PATHS:
            await send_problem(send, ProblemError(self._otherwise))
            return
        if scope["method"] not in ("GET", "HEAD"):
            await send_problem(send, ProblemError("method-not-allowed"))
            return
        match path:
            case "/healthz":
                await send_answer(send, 200, [_JSON], _status("alive", None))
            case "/readyz":
                reason = await self._reason()
                body = _status("ready" if reason is None else "not ready", reason)
                await send_answer(send, 200 if reason is None else 503, [_JSON], body)
            case _:
                await send_answer(send, 200, [_PROMETHEUS], self._metrics())

    async def _reason(self) -> str | None:
        try:
            return await self._not_ready()
        except BestexError as error:
            return str(error)


def _status(status: str, reason: str | None) -> bytes:
    return msgspec.json.encode({"status": status} | ({"reason": reason} if reason else {}))
