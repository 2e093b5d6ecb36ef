"""The little of ASGI that the hot routes need: read a bounded body, send an answer."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from bestex.api.problems import ProblemError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_body(receive: Receive, limit: int) -> bytes:
    """The request's body, at most `limit` bytes. `ProblemError` body-too-large beyond that."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise ProblemError("body-too-large")
        return body
    parts = bytearray(body)
    while True:
        if len(parts) > limit:
            raise ProblemError("body-too-large")
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts += message.get("body", b"")
        if not message.get("more_body", False):
            if len(parts) > limit:
                raise ProblemError("body-too-large")
            return bytes(parts)


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    start_headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": start_headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, error: ProblemError, extra: Iterable[tuple[bytes, bytes]] = ()) -> None:
    await send_answer(send, error.status, [*error.headers(), *extra], error.body())
