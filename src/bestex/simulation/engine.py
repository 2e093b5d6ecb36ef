"""One engine process of a run: the whole engine over the simulation's ports, from its start to its death."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from bestex.domain.errors import EngineFencedError, JournalError
from bestex.domain.tokens import TokenRegistry
from bestex.engine.engine import Engine
from bestex.engine.execution import EngineLimits
from bestex.engine.landing import LandingLimits
from bestex.engine.operator import Operator
from bestex.routing.router import QuoteLimits, Router
from bestex.simulation.clock import SeededIds, VirtualClock
from bestex.simulation.database import DatabaseServer, ProcessJournal
from bestex.simulation.loop import VirtualLoop
from bestex.simulation.ports import ProcessChain, ProcessMarketData, ProcessVenue, WatchedHub
from bestex.simulation.process import Process
from bestex.simulation.trace import Trace
from bestex.simulation.trigger_store import ProcessTriggerStore
from bestex.venues.simulated.world import LOOK_EVERY_S, ProfileName, SimulatedWorld

SIGN_OF_LIFE_EVERY_S: Final = 1.0
DRAIN_S: Final = 8.0
LAST_COMMITS_S: Final = 0.2


class Surroundings(msgspec.Struct):
    """What an engine process finds when it starts, and what outlives it."""

    loop: VirtualLoop
    clock: VirtualClock
    server: DatabaseServer
    world: SimulatedWorld
    tokens: TokenRegistry
    trace: Trace
    profile: ProfileName
    seed: int


def engine_limits(profile: ProfileName) -> EngineLimits:
    """The limits of an engine with default settings."""
    return EngineLimits(landing=LandingLimits.looking_every(LOOK_EVERY_S[profile]))


class EngineProcess:
    """An engine with its journal and its hub."""

    def __init__(self, around: Surroundings, process: Process, number: int) -> None:
        """To be made within the process."""
        ids = SeededIds(around.seed, number, around.clock)
        self.process = process
        self.engine_id = ids.order_id()
        self.journal = ProcessJournal(around.server, self.engine_id, around.clock, process, around.loop)
        self.hub = WatchedHub(process, around.server.referee)
        self.journal.listen(self.hub.publish)
        chain = ProcessChain(around.world.chain, process, around.loop, around.server.referee, around.trace)
        venues = [ProcessVenue(venue, process) for venue in around.world.venues]
        router = Router(venues, around.clock, QuoteLimits())
        limits = engine_limits(around.profile)
        self.engine = Engine(
            self.journal,
            router,
            chain,
            around.world.wallet,
            ProcessMarketData(around.world.market_data, process, around.loop, around.server.referee.firings),
            ProcessTriggerStore(around.server, process),
            around.tokens,
            around.clock,
            ids,
            limits,
        )
        self.journal.listen(self.engine.committed)
        self.open = False  # to clients
        self.recovered = False
        self.operator = Operator(
            self.engine, self.journal, chain, around.world.wallet, around.tokens, around.clock, _publish_nothing
        )
        self._clock = around.clock
        self._stop = asyncio.Event()

    async def run(self, exited: "Callable[[EngineProcess, BaseException | None], None]") -> None:
        """Recover and run until told to stop, or until a part ends by itself; `exited` gets the reason."""
        works = (self.journal.run(), self._give_signs_of_life())
        parts = [asyncio.create_task(work) for work in works]
        await self._keep_halt()
        parts.append(asyncio.create_task(self.engine.run()))
        self.open = True
        recovering = asyncio.create_task(self._recover())
        stopping = asyncio.create_task(self._stop.wait())
        waiting: set[asyncio.Task[Any]] = {*parts, recovering, stopping}
        while not any(part.done() for part in (*parts, stopping)):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if recovering in done and recovering.exception() is not None:
                break
        if stopping.done():
            recovering.cancel()
            await self._stop_in_order()
            exited(self, None)
        else:
            exited(self, next(part.exception() for part in (*parts, recovering) if part.done()))

    async def _recover(self) -> None:
        await self.engine.recover()
        await self.engine.watch_again()
        self.recovered = True

    def stop(self) -> None:
        """SIGTERM."""
        self._stop.set()

    async def _stop_in_order(self) -> None:
        await self.engine.drain(DRAIN_S)
        self.open = False
        self.engine.intake.answer_open()
        await self.engine.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.journal.drain(), LAST_COMMITS_S)

    async def _keep_halt(self) -> None:
        """Obey a halt that is in force, before anything else."""
        while True:
            try:
                await self.operator.obey()
            except JournalError:
                await self._clock.sleep(SIGN_OF_LIFE_EVERY_S)
            else:
                return

    async def _give_signs_of_life(self) -> None:
        while True:
            try:
                await self.journal.sign_of_life()
            except EngineFencedError:
                raise
            except JournalError:
                pass
            await self._clock.sleep(SIGN_OF_LIFE_EVERY_S)


async def _publish_nothing() -> None:
    """The log's head is published by a process's own files, which a simulation has not."""
