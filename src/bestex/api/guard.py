"""Who may call: the Host must be this engine's, the Origin its own page's or a named front end's.

Without this, any page that a person opens in a browser could trade the local wallet.
"""

from collections.abc import Iterable
from typing import Final

from bestex.api.asgi import App, Headers, Message, Receive, Scope, Send, header, send_answer, send_problem
from bestex.api.problems import ProblemError

LOCAL_HOSTS: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
    (b"access-control-allow-headers", b"content-type, idempotency-key, last-event-id"),
    (b"access-control-max-age", b"600"),
]
_EXPOSED: Final = (b"access-control-expose-headers", b"location, retry-after")


class Guard:
    """Refuses foreign hosts and origins in front of an ASGI application, and answers for CORS."""

    def __init__(self, app: App, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = LOCAL_HOSTS | {host.lower().encode() for host in hosts}
        self._origins = frozenset(origin.rstrip("/").encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        refusal = self._refusal(host, origin)
        if refusal is not None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)})
            else:
                await send_problem(send, refusal)
        elif origin is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "OPTIONS":
            asked = header(scope, b"access-control-request-method") is not None
            await send_answer(send, 204, [*_allow(origin), *(_PREFLIGHT if asked else [])], b"")
        else:
            await self._app(scope, receive, _with_headers(send, [*_allow(origin), _EXPOSED]))

    def knows_host(self, host: bytes) -> bool:
        """Whether a Host header is this engine's."""
        return _without_port(host).lower() in self._hosts

    def _refusal(self, host: bytes | None, origin: bytes | None) -> ProblemError | None:
        if not self.knows_host(host or b""):
            return ProblemError("foreign-host", f"this engine does not answer for the host {_shown(host)}")
        if origin is None or origin in self._origins:
            return None
        if origin in (b"http://" + (host or b""), b"https://" + (host or b"")):
            return None  # the engine's own page
        return ProblemError("foreign-origin", f"pages from {_shown(origin)} may not call this engine")


def _without_port(host: bytes) -> bytes:
    if host.startswith(b"["):
        return host[: host.find(b"]") + 1]
    return host.partition(b":")[0]


def _shown(value: bytes | None) -> str:
    return "(none)" if value is None else value[:100].decode("latin-1")


def _allow(origin: bytes) -> Headers:
    return [(b"access-control-allow-origin", origin), (b"vary", b"origin")]


def _with_headers(send: Send, headers: Headers) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return send_with_headers
