"""Connections to the engine: to whatever process is there, and they break."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from bestex.domain.errors import BestexError, JournalError
from bestex.engine.errors import JournalBehindError
from bestex.ports import Clock
from bestex.simulation.database import REQUEST, Request
from bestex.simulation.engine import EngineProcess
from bestex.simulation.faults import Luck
from bestex.simulation.loop import VirtualLoop
from bestex.simulation.referee import Referee
from bestex.simulation.trace import Trace

T = TypeVar("T")

_PATIENCE_S: Final = 8.0  # of a client, for an answer
_PAUSE_S: Final = (0.05, 1.5)  # before another try


class ConnectionLostError(Exception):
    """The engine was not there, died, or the connection broke: what was asked may have been done."""


class Door(Protocol):
    """Where the engine is found."""

    @property
    def engine(self) -> EngineProcess | None: ...


class Network:
    """Connections to whatever engine process is at the door."""

    def __init__(self, loop: VirtualLoop, clock: Clock, door: Door, luck: Luck, referee: Referee, trace: Trace) -> None:
        self.healed = asyncio.Event()  # set once nothing goes wrong any more
        self.loop = loop
        self.clock = clock
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

    async def insist(self, work: Callable[[EngineProcess], Coroutine[Any, Any, T]]) -> T:
        """The same, until it is answered; raises what the engine refuses."""
        while True:
            try:
                return await self.call(work)
            except (ConnectionLostError, JournalError, JournalBehindError):
                await self.pause()

    async def pause(self) -> None:
        await asyncio.sleep(self.luck.random.uniform(*_PAUSE_S))
