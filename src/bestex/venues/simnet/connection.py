"""The one connection of a client: calls that find their answers, and connecting anew, for ever."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import structlog

from bestex.domain.errors import BestexError, ChainUnreachableError
from bestex.domain.events import SignedTransaction
from bestex.ports import Clock
from bestex.venues.simnet import wire
from bestex.venues.simnet.faults import error_of
from bestex.venues.simnet.link import Link, uri_of
from bestex.venues.simnet.outbox import Outbox
from bestex.waiting import sleep_or

MAX_CALLS: Final = 10_000
"""Calls that wait for their answers; one more is refused."""
CALL_S: Final = 5.0
"""For the answer to any call; after that nobody knows what became of it."""
OPEN_S: Final = 5.0
"""For a connection to be made, and for the server's first message."""
SILENCE_S: Final = 4.0
"""A connection on which nothing comes for so long is broken: there is a beat each second."""
CHECK_EVERY_S: Final = 0.25
"""Calls and silences may last so much longer."""
BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Between tries to connect; the last one repeats."""

_log = structlog.get_logger(__name__)


class AnotherWorldError(BestexError):
    """The server's wallet is not the one that it was: what was sent before is not known there."""


class _Waiting:
    """A call without an answer."""

    __slots__ = ("due", "future", "lost")

    def __init__(self, future: "asyncio.Future[Any]", lost: type[BestexError], due: float) -> None:
        self.future = future
        self.lost = lost
        self.due = due


class Connection:
    """Calls to one server, whatever becomes of the sockets to it."""

    def __init__(self, url: str, clock: Clock) -> None:
        """`ValueError` for a bad address."""
        self._url = url
        self._uri = uri_of(url)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None  # from the server's hello on
        self._opening: Link | None = None
        self._why_not = "it has not been reached yet"
        self._outbox = Outbox()
        self._flush_is_due = False
        self._numbers = count(1)
        self._waiting: dict[int, _Waiting] = {}  # by the call's number, the oldest first
        self._failure: BaseException | None = None
        self.hello: wire.Hello | None = None  # the first one
        self.has_met = asyncio.Event()  # set with the first hello
        self.news: Callable[[wire.News], None] = lambda _: None
        self.on_connect: list[Callable[[], None]] = []  # called with each connection, before its news
        self.on_disconnect: list[Callable[[], None]] = []

    @property
    def is_up(self) -> bool:
        return self._link is not None

    def number(self) -> int:
        """Of the next call."""
        return next(self._numbers)

    def ask(self, call: wire.Call, lost: type[BestexError]) -> "asyncio.Future[Any]":
        """The answer to a call, to be. It fails with `lost` when there is no connection, or it breaks or is silent.

        `Any`: the kind of call says what its answer is.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._link is None:
            future.set_exception(lost(f"no connection to {self._url}: {self._why_not}"))
        elif len(self._waiting) >= MAX_CALLS:
            future.set_exception(lost(f"{MAX_CALLS:,} calls to {self._url} wait for answers already"))
        else:
            try:
                self._outbox.add(call)  # type: ignore[arg-type] # every kind of call is a request
            except (OverflowError, ValueError) as error:
                future.set_exception(ValueError(f"it cannot be said: {error}"))
            else:
                self._waiting[call.number] = _Waiting(future, lost, self._clock.monotonic() + CALL_S)
                self._flush_soon()
        return future

    def say(self, request: wire.Wish) -> None:
        """Say something that has no answer; lost without a connection, so `on_connect` says it again."""
        if self._link is not None:
            self._outbox.add(request)
            self._flush_soon()

    def hand_over(self, transaction: SignedTransaction) -> None:
        """Send a transaction without an answer. Raises `ChainUnreachableError` without a connection."""
        if self._link is None:
            raise ChainUnreachableError(f"no connection to {self._url}: {self._why_not}")
        self._outbox.add(wire.HandOver(transaction))
        self._flush_soon()

    async def run(self) -> None:
        """Be connected, for ever. Raises `AnotherWorldError`."""
        tries = 0
        try:
            while True:
                ended, met = await self._connect()
                if self._failure is not None:
                    raise self._failure
                tries = 0 if met else tries + 1
                log = _log.warning if met or tries == 1 else _log.debug
                log("simnet.unreachable", url=self._url, reason=ended)
                await self._clock.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
        finally:
            self._disconnected("it is closed")

    async def _connect(self) -> tuple[str, bool]:
        """Connect and stay connected; why that ended, and whether the server had said hello."""
        link = self._opening = Link(self._uri, self._take)
        uri = self._uri
        try:
            async with asyncio.timeout(OPEN_S):
                await self._loop.create_connection(lambda: link, uri.host, uri.port, ssl=True if uri.secure else None)
        except (OSError, TimeoutError) as error:
            self._why_not = str(error) or "it does not answer"
            return self._why_not, False
        try:
            await self._watch(link)
        finally:
            link.abort("it is closed")
            met = self._link is link
            self._disconnected(link.ended.result())
        return link.ended.result(), met

    async def _watch(self, link: Link) -> None:
        """Wait for the link's end; give up calls that last too long, and the link when it says nothing."""
        over = asyncio.Event()
        link.ended.add_done_callback(lambda _: over.set())
        since = self._clock.monotonic()
        while not over.is_set():
            await sleep_or(self._clock, CHECK_EVERY_S, over)
            now = self._clock.monotonic()
            if link.heard:
                link.heard, since = False, now
            elif now - since > SILENCE_S:
                link.abort(f"it has said nothing for {SILENCE_S:g} s")
            self._give_up(now)

    def _give_up(self, now: float) -> None:
        while self._waiting:
            number, oldest = next(iter(self._waiting.items()))
            if oldest.due > now:
                return
            del self._waiting[number]
            if not oldest.future.done():
                oldest.future.set_exception(oldest.lost(f"{self._url} did not answer within {CALL_S:g} s"))

    def _disconnected(self, why: str) -> None:
        """Whatever was asked and not answered may have been done or not."""
        was_up = self._link is not None
        self._link, self._why_not = None, why
        self._outbox = Outbox()
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            if not each.future.done():
                each.future.set_exception(each.lost(f"the connection to {self._url} broke: {why}"))
        if was_up:
            for listener in self.on_disconnect:
                listener()

    # --- Messages

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._link is not None:
            for message in self._outbox.take():
                self._link.send(message)

    def _take(self, data: bytes) -> None:
        waiting = self._waiting
        for reply in wire.read_replies(data):
            if isinstance(reply, wire.Answer):
                found = waiting.pop(reply.number, None)
                if found is None or found.future.done():  # whoever asked does not wait any more
                    continue
                if isinstance(reply, wire.Failed):
                    found.future.set_exception(error_of(reply.error, reply.message))
                else:
                    found.future.set_result(reply.value)
            elif isinstance(reply, wire.Hello):
                self._greet(reply)
            else:
                self.news(reply)

    def _greet(self, hello: wire.Hello) -> None:
        if hello.protocol != wire.PROTOCOL:
            raise ValueError(f"it speaks protocol {hello.protocol}, this process {wire.PROTOCOL}")
        if self.hello is not None and self.hello.address != hello.address:
            self._failure = AnotherWorldError(
                f"{self._url} has the wallet {hello.address} now, and had {self.hello.address} before"
            )
            raise self._failure
        self._link = self._opening
        self.hello = self.hello or hello
        self.has_met.set()
        for listener in tuple(self.on_connect):
            listener()
