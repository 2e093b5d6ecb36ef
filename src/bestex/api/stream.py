"""The WebSocket with one order's events, and what every open stream has in common."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec

from bestex.api.asgi import Receive, Scope, Send
from bestex.api.following import follow_order
from bestex.api.problems import ProblemError
from bestex.api.requests import read_after, read_order_id, read_query, read_until
from bestex.domain.errors import BestexError, NotFoundError, OrderArchivedError
from bestex.domain.events import StoredEvent, Update, update_of
from bestex.ports import Hub, Journal

CLOSE_DONE: Final = 1000
CLOSE_GOING_AWAY: Final = 1001
CLOSE_UNKNOWN_ORDER: Final = 4404
CLOSE_ARCHIVED_ORDER: Final = 4410
CLOSE_MALFORMED_ID: Final = 4422
CLOSE_UNAVAILABLE: Final = 4503

REASON_BYTES_MAX: Final = 123
"""For so many a close frame has room."""

_encoder: Final = msgspec.json.Encoder()


class _History(msgspec.Struct, frozen=True):
    data: list[Update]
    type: str = "history"


class Live(msgspec.Struct, frozen=True, gc=False):
    """An event as it is sent to watchers."""

    data: Update
    type: str = "update"


def _reason(error: Exception) -> str:
    return str(error).encode()[:REASON_BYTES_MAX].decode(errors="ignore")


def _text(message: object) -> dict[str, Any]:
    return {"type": "websocket.send", "text": _encoder.encode(message).decode()}


class OpenStreams:
    """Every open stream of this process, so that a stop can end them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def serve(self, stream: Coroutine[Any, Any, None], receive: Receive) -> None:
        """Run `stream` until it ends, the client goes, or the engine stops. `CancelledError` never leaves here."""
        task = asyncio.ensure_future(stream)
        gone = asyncio.ensure_future(_client_gone(receive))
        self._tasks.add(task)
        try:
            if self.closing:
                task.cancel()
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._tasks.discard(task)
            gone.cancel()
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
                raise error

    def close(self) -> None:
        """End them all."""
        self.closing = True
        for task in list(self._tasks):
            task.cancel()


async def _client_gone(receive: Receive) -> None:
    """Read and drop what a watcher says, until it goes."""
    while (await receive())["type"] not in ("websocket.disconnect", "http.disconnect"):
        pass


class StatusStream:
    """WebSocket `GET /api/orders/{id}/status`."""

    def __init__(self, journal: Journal, hub: Hub, streams: OpenStreams) -> None:
        self._journal = journal
        self._hub = hub
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send, order_id: str) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await self._streams.serve(self._serve(scope, send, order_id), receive)

    async def _serve(self, scope: Scope, send: Send, order_id: str) -> None:
        code, reason = CLOSE_DONE, ""
        try:
            query = read_query(scope["query_string"])
            after, until_settled = read_after(query.get("after")), read_until(query.get("until"))
            await self._push(send, read_order_id(order_id), after or 0, until_settled)
        except ProblemError as error:
            code, reason = CLOSE_MALFORMED_ID, str(error)
        except OrderArchivedError as error:
            code, reason = CLOSE_ARCHIVED_ORDER, _reason(error)
        except NotFoundError as error:
            code, reason = CLOSE_UNKNOWN_ORDER, str(error)
        except BestexError as error:
            code, reason = CLOSE_UNAVAILABLE, _reason(error)
        except asyncio.CancelledError:
            code, reason = CLOSE_GOING_AWAY, "the engine is stopping"
        with suppress(OSError, RuntimeError):
            await send({"type": "websocket.close", "code": code, "reason": reason})

    async def _push(self, send: Send, order_id: str, after: int, until_settled: bool) -> None:
        following = follow_order(self._journal, self._hub, order_id, after, until_settled=until_settled)
        async with aclosing(following) as batches:
            history = await anext(batches)
            await send(_text(_History([update_of(stored.event) for stored in history])))
            async for events in batches:
                await _send_updates(send, events)


async def _send_updates(send: Send, events: Sequence[StoredEvent]) -> None:
    for stored in events:
        await send(_text(Live(update_of(stored.event))))
