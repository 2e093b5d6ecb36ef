"""Those who use the engine: clients that place, repeat and cancel orders, and watchers that miss nothing."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

import msgspec

from bestex.api.following import follow_all, follow_order
from bestex.domain.errors import (
    BestexError,
    EngineFencedError,
    JournalError,
    JournalUnavailableError,
    NotFoundError,
    OutcomeUnknownError,
)
from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import ENDS
from bestex.engine.errors import AlreadyEndedError
from bestex.engine.intake import Accepted, OrderRequest
from bestex.simulation.database import REQUEST, Request
from bestex.simulation.engine import EngineProcess
from bestex.simulation.faults import Luck
from bestex.simulation.loop import VirtualLoop
from bestex.simulation.referee import Referee
from bestex.simulation.trace import Trace

T = TypeVar("T")

CALLER: Final = "local"
_PATIENCE_S: Final = 8.0  # of a client, for an answer
_PAUSE_S: Final = (0.05, 1.5)  # before another try


class ConnectionLostError(Exception):
    """The engine was not there, died, or the connection broke: what was asked may have been done."""


class Door(Protocol):
    """Where the engine is found."""

    @property
    def engine(self) -> EngineProcess | None: ...


class Wish(msgspec.Struct, frozen=True):
    """What a client is going to do."""

    request: OrderRequest
    at_s: float
    key: str | None
    repeats: bool  # sends the order again although it was accepted
    cancel_after_s: float | None
    watchers: int


class Network:
    """Connections to whatever engine process is at the door."""

    def __init__(self, loop: VirtualLoop, door: Door, luck: Luck, referee: Referee, trace: Trace) -> None:
        self.loop = loop
        self.luck = luck
        self.referee = referee
        self.trace = trace
        self._door = door

    async def call(
        self,
        work: Callable[[EngineProcess], Coroutine[Any, Any, T]],
        *,
        request: Request | None = None,
        patience_s: float | None = _PATIENCE_S,
    ) -> T:
        """Have a process at the door do something; raises what it raises, or `ConnectionLostError`."""
        engine = self._door.engine
        if engine is None or not engine.process.alive or not engine.open:
            raise ConnectionLostError
        if self.luck.strikes("connection_lost"):
            patience_s = self.luck.random.uniform(0.0, 3.0)
        answer: asyncio.Future[T] = self.loop.create_future()

        async def serve() -> None:
            if request is not None:
                REQUEST.set(request)
            try:
                result = await work(engine)
            except Exception as error:  # noqa: BLE001 -- the client's to judge
                if not isinstance(error, BestexError):
                    self.referee.broke(f"a call broke: {error!r}")
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        def lose() -> None:
            if not answer.done():
                answer.set_exception(ConnectionLostError())

        serving = engine.process.spawn(serve())
        engine.process.when_dead[lose] = None
        gone = self.loop.call_later(patience_s, lose) if patience_s is not None else None
        try:
            return await answer
        finally:
            engine.process.when_dead.pop(lose, None)
            if gone is not None:
                gone.cancel()
            if not serving.done():
                serving.cancel()  # the server notices that the client is gone

    async def pause(self) -> None:
        await asyncio.sleep(self.luck.random.uniform(*_PAUSE_S))


class Client:
    """Places one order, whatever it takes."""

    def __init__(self, network: Network, wish: Wish) -> None:
        self._network = network
        self._wish = wish
        self.order_id: str | None = None

    async def run(self) -> None:
        wish, network = self._wish, self._network
        await asyncio.sleep(wish.at_s)
        accepted = await self._place()
        if accepted is None:
            return
        self.order_id = accepted.order_id
        works: list[Coroutine[Any, Any, None]] = [
            Watcher(network, accepted.order_id).run() for _ in range(wish.watchers)
        ]
        if wish.repeats and wish.key is not None:
            works.append(self._repeat())
        if wish.cancel_after_s is not None:
            works.append(self._cancel(accepted.order_id, wish.cancel_after_s))
        for task in [asyncio.create_task(work) for work in works]:
            await task

    async def _place(self) -> Accepted | None:
        """The 202; None when the client cannot know and has no key to ask again with."""
        network, wish = self._network, self._wish
        while True:
            request = Request()
            try:
                accepted = await network.call(
                    lambda engine: engine.engine.intake.accept(wish.request, CALLER, wish.key), request=request
                )
            except (JournalUnavailableError, EngineFencedError):
                if request.order_id is not None:
                    network.referee.denied(request.order_id)
                    network.trace.note("answered 503, nothing stored", request.order_id)
            except (ConnectionLostError, OutcomeUnknownError):
                if wish.key is None:
                    return None
            except BestexError:
                pass  # full, halted, or another try under way: later
            else:
                network.trace.note("answered 202", accepted.order_id)
                network.referee.accepted(accepted.order_id, wish.key)
                return accepted
            await network.pause()

    async def _repeat(self) -> None:
        await self._network.pause()
        self._network.luck.struck["repeat"] += 1
        await self._place()

    async def _cancel(self, order_id: str, after_s: float) -> None:
        network = self._network
        await asyncio.sleep(after_s)
        network.luck.struck["cancel"] += 1
        for _ in range(20):
            try:
                view = await network.call(lambda engine: engine.engine.orders.cancel(order_id))
            except AlreadyEndedError:
                return
            except (ConnectionLostError, JournalError):
                await network.pause()
            else:
                network.trace.note("a cancel was answered", order_id, view.status)
                network.referee.cancelled(order_id, view.status)
                return


class Operator:
    """Halts the signing for a while."""

    def __init__(self, network: Network, at_s: float, for_s: float) -> None:
        self._network = network
        self._at_s = at_s
        self._for_s = for_s

    async def run(self) -> None:
        await asyncio.sleep(self._at_s)
        await self._insist(lambda engine: engine.operator.halt("simulated"), "halted")
        await asyncio.sleep(self._for_s)
        await self._insist(lambda engine: engine.operator.resume(), "resumed")

    async def _insist(self, work: Callable[[EngineProcess], Coroutine[Any, Any, object]], what: str) -> None:
        while True:
            try:
                await self._network.call(work)
            except (ConnectionLostError, JournalError):
                await self._network.pause()
            else:
                self._network.trace.note(what)
                return


class Watcher:
    """Watches one order until it ends, over however many connections."""

    def __init__(self, network: Network, order_id: str) -> None:
        self._network = network
        self._order_id = order_id
        self._seen = 0
        self._ended = False

    async def run(self) -> None:
        while not self._ended:
            try:
                await self._network.call(self._follow, patience_s=None)
            except (ConnectionLostError, JournalError, NotFoundError):
                await self._network.pause()

    async def _follow(self, engine: EngineProcess) -> None:
        async for events in follow_order(engine.journal, engine.hub, self._order_id, self._seen):
            self._got(events)

    def _got(self, events: list[StoredEvent]) -> None:
        self._network.referee.seen(self._order_id, self._seen, events)
        self._seen += len(events)
        self._ended = self._ended or any(stored.event.status in ENDS for stored in events)


class FeedWatcher:
    """Watches all orders, for ever."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._seen = 0

    async def run(self) -> None:
        while True:
            try:
                await self._network.call(self._follow, patience_s=None)
            except (ConnectionLostError, JournalError):
                await self._network.pause()

    async def _follow(self, engine: EngineProcess) -> None:
        async for events in follow_all(engine.journal, engine.hub, self._seen):
            self._network.referee.seen_of_all(self._seen, events)
            self._seen += len(events)
