"""The WebSockets: one order's events, or order entry with the events of what was entered."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec

from bestex.api.asgi import Receive, Scope, Send
from bestex.api.execute import OrderEntry, problem_of
from bestex.api.fields import MAX_BODY_BYTES
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
MAX_ORDERS_A_SOCKET: Final = 1_000
"""Orders under way on one order-entry socket."""

REASON_CHARS_MAX: Final = 100
"""A close frame has room for 123 bytes."""

_encoder: Final = msgspec.json.Encoder()


class _History(msgspec.Struct, frozen=True):
    data: list[Update]
    type: str = "history"


class _Live(msgspec.Struct, frozen=True):
    data: Update
    type: str = "update"


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
            code, reason = CLOSE_ARCHIVED_ORDER, str(error)[:REASON_CHARS_MAX]
        except NotFoundError as error:
            code, reason = CLOSE_UNKNOWN_ORDER, str(error)
        except BestexError as error:
            code, reason = CLOSE_UNAVAILABLE, str(error)[:REASON_CHARS_MAX]
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


class EntryStream:
    """WebSocket `GET /api/orders/execute`: orders in, their answers and events out."""

    def __init__(self, entry: OrderEntry, journal: Journal, hub: Hub, streams: OpenStreams) -> None:
        self._entry = entry
        self._journal = journal
        self._hub = hub
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        inbox: asyncio.Queue[str | bytes] = asyncio.Queue(maxsize=1)
        await self._streams.serve(self._serve(scope, inbox, send), _into(inbox, receive))

    async def _serve(self, scope: Scope, inbox: "asyncio.Queue[str | bytes]", send: Send) -> None:
        code, reason = CLOSE_DONE, ""
        try:
            keep = read_query(scope["query_string"]).get("keep") == "true"
            async with asyncio.TaskGroup() as orders:
                under_way: set[asyncio.Task[None]] = set()
                while True:
                    message = await inbox.get()
                    if len(under_way) >= MAX_ORDERS_A_SOCKET:
                        await _send_problem(send, ProblemError("too-many-orders"))
                        continue
                    task = orders.create_task(self._order(message, send))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    if not keep:
                        break
        except ProblemError as error:
            code, reason = CLOSE_MALFORMED_ID, str(error)
        except asyncio.CancelledError:
            code, reason = CLOSE_GOING_AWAY, "the engine is stopping"
        with suppress(OSError, RuntimeError):
            await send({"type": "websocket.close", "code": code, "reason": reason})

    async def _order(self, message: str | bytes, send: Send) -> None:
        with suppress(OSError):  # the client has gone; the order goes on
            await self._enter_and_follow(message, send)

    async def _enter_and_follow(self, message: str | bytes, send: Send) -> None:
        try:
            body = message.encode("utf-8", "surrogatepass") if isinstance(message, str) else message
            if len(body) > MAX_BODY_BYTES:
                raise ProblemError("body-too-large")
            accepted = await self._entry.accept(body, None)
        except BestexError as error:
            await _send_problem(send, problem_of(error))
            return
        await send(_text({"type": "accepted", "data": accepted}))
        await self._push(send, accepted.order_id)

    async def _push(self, send: Send, order_id: str) -> None:
        try:
            async with aclosing(follow_order(self._journal, self._hub, order_id, 0)) as batches:
                async for events in batches:
                    await _send_updates(send, events)
        except BestexError as error:
            await _send_problem(send, problem_of(error))


async def _send_updates(send: Send, events: Sequence[StoredEvent]) -> None:
    for stored in events:
        await send(_text(_Live(update_of(stored.event))))


async def _send_problem(send: Send, error: ProblemError) -> None:
    await send(_text({"type": "error", "data": error.problem}))


def _into(inbox: "asyncio.Queue[str | bytes]", receive: Receive) -> Receive:
    """`receive` that puts what the client says into `inbox` on the way."""

    async def receive_into() -> Any:
        message = await receive()
        if message["type"] == "websocket.receive":
            text = message.get("text")
            await inbox.put(text if text is not None else message.get("bytes") or b"")
        return message

    return receive_into
