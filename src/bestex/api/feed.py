"""Server-sent events: the feed of all orders. An event's id is its position; `Last-Event-ID` or `?after=` resumes."""

import asyncio
from contextlib import aclosing
from typing import Final

import msgspec

from bestex.api.asgi import Receive, Scope, Send, header, send_problem
from bestex.api.execute import problem_of
from bestex.api.following import follow_all
from bestex.api.problems import FieldProblem, ProblemError
from bestex.api.requests import read_after, read_query
from bestex.api.stream import OpenStreams
from bestex.domain.errors import BestexError
from bestex.domain.events import update_of
from bestex.ports import Clock, Hub, Journal

KEEP_ALIVE_S: Final = 15.0
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_encoder: Final = msgspec.json.Encoder()


class Feed:
    """`GET /api/events`."""

    def __init__(self, journal: Journal, hub: Hub, streams: OpenStreams, clock: Clock) -> None:
        self._journal = journal
        self._hub = hub
        self._streams = streams
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            last_id = header(scope, b"last-event-id")
            resume = last_id.decode("latin-1") if last_id is not None else None
            after = read_after(resume or read_query(scope["query_string"]).get("after"))
            head = await self._journal.log_head()  # an unreachable journal is a problem document, not a broken stream
            if after is not None and after > head.position:
                what = f"is beyond the log's end, {head.position}: it is not of this log"
                raise ProblemError("validation", "1 parameter is bad", (FieldProblem(what, parameter="after"),))
            if after is not None and after < head.archived_to:
                raise ProblemError("log-archived", f"positions up to {head.archived_to} were archived")
        except BestexError as error:
            await send_problem(send, problem_of(error))
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._streams.serve(self._serve(send, after), receive)

    async def _serve(self, send: Send, after: int | None) -> None:
        lock = asyncio.Lock()
        alive = asyncio.ensure_future(self._keep_alive(send, lock))
        try:
            async with aclosing(follow_all(self._journal, self._hub, after)) as batches:
                async for events in batches:
                    parts = [
                        b"id: %d\ndata: %b\n\n" % (each.position, _encoder.encode(update_of(each.event)))
                        for each in events
                    ]
                    async with lock:
                        await send(_chunk(b"".join(parts)))
        except (BestexError, asyncio.CancelledError):
            pass  # the client resumes behind the last id it has
        finally:
            alive.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, send: Send, lock: asyncio.Lock) -> None:
        while True:
            async with lock:
                await send(_chunk(b": still here\n\n"))
            await self._clock.sleep(KEEP_ALIVE_S)


def _chunk(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}
