"""The WebSocket for order entry: orders in, their answers and their events out, without a task for each order."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from bestex.api.asgi import Receive, Scope, Send
from bestex.api.batch import read_array, verdict_of
from bestex.api.execute import AcceptedBody, OrderEntry, problem_of
from bestex.api.fields import MAX_BODY_BYTES
from bestex.api.problems import ProblemError
from bestex.api.requests import read_query
from bestex.api.stream import CLOSE_DONE, CLOSE_GOING_AWAY, CLOSE_MALFORMED_ID, Live, OpenStreams
from bestex.domain.errors import BestexError
from bestex.domain.events import StoredEvent, update_of
from bestex.domain.lifecycle import ENDS
from bestex.ports import Hub, Journal

MAX_ORDERS_A_SOCKET: Final = 1_000
"""Orders under way on one order-entry socket."""
MAX_UNSENT: Final = 4_000
"""Messages that wait for a client to read them; beyond, nothing more is taken from it."""

_encoder: Final = msgspec.json.Encoder()
_Told = AcceptedBody | ProblemError


class _Followed:
    """An order of one socket."""

    __slots__ = ("early", "ended", "order_id", "seq", "told")

    def __init__(self) -> None:
        self.order_id = ""  # once it is on its way to disk
        self.seq = 0  # of the last event that was taken
        self.told = False  # whether it is known what became of it
        self.ended = False
        self.early: list[str] | None = []  # updates that go out behind its answer; None once that is out


_Answer = Callable[[_Followed, _Told], None]


class _Socket:
    """One client: the orders whose events it gets, and what it is to be told, in order."""

    def __init__(self, entry: OrderEntry, journal: Journal, hub: Hub, *, keep: bool) -> None:
        """`keep`: it may enter many orders."""
        self._entry = entry
        self._journal = journal
        self._keep = keep
        self._took_one = False
        self._subscription = hub.watch_orders()
        self._orders: dict[str, _Followed] = {}
        self._behind: set[str] = set()  # orders of which events are in the journal that did not come
        self._unsent: list[str] = []
        self._may_talk = asyncio.Event()
        self._may_talk.set()

    async def run(self, send: Send) -> None:
        """Tell the client what it is to be told: for ever, or until its one order has ended."""
        try:
            while True:
                while self._unsent:
                    unsent, self._unsent = self._unsent, []
                    for text in unsent:
                        await send({"type": "websocket.send", "text": text})
                    self._may_talk.set()
                if self._took_one and not self._keep and not self._orders:
                    return
                events = await self._subscription.next()
                if events is None:
                    self._behind.update(self._orders)
                else:
                    for stored in events:
                        self._take_event(stored)
                for order_id in tuple(self._behind):
                    await self._catch_up(order_id)
        finally:
            self._subscription.close()

    # --- What the client says

    async def take(self, message: str | bytes) -> None:
        """Enter the order, or the orders, of a message; waits while the client does not read."""
        if self._took_one and not self._keep:
            await asyncio.Event().wait()  # no more is taken, until the socket is closed
        self._took_one = True
        body = message.encode("utf-8", "surrogatepass") if isinstance(message, str) else message
        if len(body) > MAX_BODY_BYTES:
            self._tell_problem(ProblemError("body-too-large"))
        elif self._keep and body.lstrip()[:1] == b"[":
            self._enter_many(body)
        else:
            self._enter(body, self._answer)
        if len(self._unsent) >= MAX_UNSENT:
            self._may_talk.clear()
            await self._may_talk.wait()

    def _enter(self, item: bytes, answer: _Answer) -> None:
        """Enter an order, and follow it from before its first event is stored."""
        followed = _Followed()
        if len(self._orders) >= MAX_ORDERS_A_SOCKET:
            answer(followed, ProblemError("too-many-orders"))
            return
        order_id = self._entry.enter(item, None, partial(self._told, followed, answer))
        if order_id is not None and not followed.told:
            self._follow(followed, order_id)

    def _enter_many(self, body: bytes) -> None:
        """Enter the orders of an array; one message answers for all."""
        try:
            items = read_array(body)
        except ProblemError as problem:
            self._tell_problem(problem)
            return
        verdicts: list[tuple[_Followed, _Told] | None] = [None] * len(items)
        left = len(items)

        def answer(number: int, followed: _Followed, told: _Told) -> None:
            nonlocal left
            verdicts[number] = followed, told
            left -= 1
            if left:
                return
            known = [each for each in verdicts if each is not None]
            self._tell({"type": "results", "data": [verdict_of(each) for _, each in known]})
            for each, _ in known:
                self._release(each)

        for number, item in enumerate(items):
            self._enter(item, partial(answer, number))

    # --- What becomes of its orders

    def _told(self, followed: _Followed, answer: _Answer, told: _Told) -> None:
        """It is known what became of an order that was entered."""
        followed.told = True
        if isinstance(told, ProblemError):
            self._drop(followed)
        elif told.order_id != followed.order_id:  # a repetition: the order it repeats is followed from its beginning
            self._drop(followed)
            followed = self._orders.get(told.order_id) or _Followed()
            if not followed.order_id:
                followed.told = True
                self._follow(followed, told.order_id)
                self._behind.add(told.order_id)
        answer(followed, told)

    def _answer(self, followed: _Followed, told: _Told) -> None:
        if isinstance(told, ProblemError):
            self._tell_problem(told)
        else:
            self._tell({"type": "accepted", "data": told})
            self._release(followed)

    def _follow(self, followed: _Followed, order_id: str) -> None:
        followed.order_id = order_id
        self._orders[order_id] = followed
        self._subscription.watch(order_id)

    def _release(self, followed: _Followed) -> None:
        """The order's answer is out: its updates may be."""
        self._unsent += followed.early or ()
        followed.early = None
        if followed.ended:
            self._drop(followed)

    def _drop(self, followed: _Followed) -> None:
        if self._orders.pop(followed.order_id, None) is not None:
            self._behind.discard(followed.order_id)
            self._subscription.forget(followed.order_id)

    def _take_event(self, stored: StoredEvent) -> None:
        event = stored.event
        followed = self._orders.get(event.order_id)
        if followed is None or event.seq <= followed.seq or followed.ended:
            return
        if event.seq != followed.seq + 1:
            self._behind.add(event.order_id)
            return
        followed.seq = event.seq
        text = _encoder.encode(Live(update_of(event))).decode()
        (self._unsent if followed.early is None else followed.early).append(text)
        if event.status in ENDS:
            followed.ended = True
            if followed.early is None:
                self._drop(followed)

    async def _catch_up(self, order_id: str) -> None:
        """Read the events of an order that did not come."""
        self._behind.discard(order_id)
        followed = self._orders.get(order_id)
        if followed is None:
            return
        try:
            events = await self._journal.events(order_id, followed.seq)
        except BestexError as error:
            self._drop(followed)
            self._tell_problem(problem_of(error))
            return
        for stored in events:
            self._take_event(stored)

    # --- What the client is told

    def _tell(self, message: dict[str, Any]) -> None:
        self._unsent.append(_encoder.encode(message).decode())
        self._subscription.wake()

    def _tell_problem(self, error: ProblemError) -> None:
        self._tell({"type": "error", "data": error.problem})


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
        try:
            keep = read_query(scope["query_string"]).get("keep") == "true"
        except ProblemError as error:
            with suppress(OSError, RuntimeError):
                await send({"type": "websocket.close", "code": CLOSE_MALFORMED_ID, "reason": str(error)})
            return
        socket = _Socket(self._entry, self._journal, self._hub, keep=keep)
        await self._streams.serve(_serve(socket, send), _into(socket, receive))


async def _serve(socket: _Socket, send: Send) -> None:
    code, reason = CLOSE_DONE, ""
    try:
        await socket.run(send)
    except asyncio.CancelledError:
        code, reason = CLOSE_GOING_AWAY, "the engine is stopping"
    with suppress(OSError, RuntimeError):
        await send({"type": "websocket.close", "code": code, "reason": reason})


def _into(socket: _Socket, receive: Receive) -> Receive:
    """`receive` that hands what the client says to `socket` on the way."""

    async def receive_into() -> Any:
        message = await receive()
        if message["type"] == "websocket.receive":
            text = message.get("text")
            await socket.take(text if text is not None else message.get("bytes") or b"")
        return message

    return receive_into
