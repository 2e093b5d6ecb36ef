"""A process of the simulation: kill -9 leaves no trace of it, SIGSTOP freezes it."""

import asyncio
from contextvars import copy_context

import pytest

from bestex.domain.errors import EngineFencedError
from bestex.domain.terms import Kind
from bestex.domain.tokens import load_tokens
from bestex.engine.intake import OrderRequest
from bestex.journal.memory import MemoryDatabase
from bestex.simulation.clock import VirtualClock
from bestex.simulation.database import DatabaseServer
from bestex.simulation.engine import EngineProcess, Surroundings
from bestex.simulation.faults import Luck
from bestex.simulation.invariants import Checks
from bestex.simulation.loop import VirtualLoop, new_loop
from bestex.simulation.process import CURRENT, Process, ProcessKilledError, State
from bestex.simulation.referee import Referee, WatchedLedger
from bestex.simulation.trace import Trace
from bestex.venues.simulated.chain import SimulatedChain
from bestex.venues.simulated.world import open_simulation

TOKENS = load_tokens()
SOL, USDC = TOKENS.get("SOL"), TOKENS.get("USDC")


def process_on(loop: VirtualLoop) -> Process:
    return Process(loop, "a process", None)


def test_a_killed_process_never_goes_on_and_its_finally_reaches_nobody() -> None:
    loop = new_loop()
    said: list[str] = []

    async def main() -> None:
        process = process_on(loop)

        async def port(what: str) -> None:
            await process.at(what)
            said.append(what)

        async def work() -> None:
            try:
                await port("before")
                await asyncio.sleep(1)
                await port("after")
            finally:
                await port("on its way out")

        process.spawn(work())
        await asyncio.sleep(0.5)
        process.kill()
        await asyncio.sleep(10)
        assert process.state is State.DEAD

    loop.run(main())
    assert said == ["before"]


def test_a_process_killed_inside_a_call_gets_no_answer() -> None:
    loop = new_loop()
    answered: list[bool] = []

    async def main() -> None:
        def step(process: Process, where: object) -> None:
            if where == "the point":
                process.kill()

        process = Process(loop, "a process", step)

        async def work() -> None:
            await process.at("the point")
            answered.append(True)

        process.spawn(work())
        await asyncio.sleep(10)

    loop.run(main())
    assert not answered


def test_tasks_and_callbacks_belong_to_the_process_that_made_them() -> None:
    loop = new_loop()
    seen: list[Process | None] = []

    async def main() -> Process:
        process = process_on(loop)

        async def inner() -> None:
            seen.append(CURRENT.get())
            loop.call_later(1, lambda: seen.append(CURRENT.get()))

        async def work() -> None:
            await asyncio.create_task(inner())

        process.spawn(work())
        await asyncio.sleep(2)
        seen.append(CURRENT.get())
        return process

    process = loop.run(main())
    assert seen == [process, process, None]


def test_timers_of_a_dead_process_do_not_fire() -> None:
    loop = new_loop()
    fired: list[bool] = []

    async def main() -> None:
        process = process_on(loop)
        loop.call_later(1, fired.append, True, context=process.context)
        process.kill()
        await asyncio.sleep(5)

    loop.run(main())
    assert not fired


def test_a_stalled_process_stands_still_and_goes_on_where_it_stood() -> None:
    loop = new_loop()
    times: list[float] = []

    async def main() -> None:
        process = process_on(loop)

        async def work() -> None:
            for _ in range(3):
                await asyncio.sleep(1)
                times.append(loop.time())

        process.spawn(work())
        await asyncio.sleep(1.5)
        process.stall()
        await asyncio.sleep(10)
        process.go_on()
        await asyncio.sleep(5)

    loop.run(main())
    assert times == [1, 11.5, 12.5]


def test_a_stalled_process_can_be_killed() -> None:
    loop = new_loop()
    went_on: list[bool] = []

    async def main() -> None:
        process = process_on(loop)

        async def work() -> None:
            await asyncio.sleep(1)
            went_on.append(True)

        process.spawn(work())
        await asyncio.sleep(0)
        process.stall()
        await asyncio.sleep(5)
        process.kill()
        await asyncio.sleep(5)
        assert process.state is State.DEAD

    loop.run(main())
    assert not went_on


class World:
    """Engines over one database and one chain, without faults."""

    def __init__(self) -> None:
        self.loop = new_loop()
        self.checks = Checks()
        self.database = MemoryDatabase()
        self.trace = Trace(self.loop)
        self.clock = VirtualClock(self.loop)
        self.referee = Referee(self.checks, self.trace, self.database, TOKENS)
        self.server = DatabaseServer(self.loop, self.database, Luck("", {}), self.referee, copy_context())
        self.ends: list[BaseException | None] = []
        self._around: Surroundings | None = None
        self._starts = 0

    async def open(self) -> None:
        world = await open_simulation(
            seed=1,
            profile="instant",
            slot_ms=None,
            tokens=TOKENS,
            clock=self.clock,
            entropy=bytes(32),
            ledger=WatchedLedger(self.referee),
            faults={},
        )
        assert isinstance(world.chain, SimulatedChain)
        self.referee.ledger.chain = world.chain
        self._around = Surroundings(self.loop, self.clock, self.server, world, TOKENS, self.trace, "instant", 1)
        self._passing = asyncio.create_task(world.run())

    def start(self) -> EngineProcess:
        assert self._around is not None
        self._starts += 1
        process = process_on(self.loop)
        engine = process.context.run(EngineProcess, self._around, process, self._starts)
        process.spawn(engine.run(lambda _, error: self.ends.append(error)))
        return engine


async def place(engine: EngineProcess) -> str:
    request = OrderRequest(Kind.MARKET, SOL, USDC, 1_000_000, 50)
    return (await engine.process.spawn(engine.engine.intake.accept(request, "local", None))).order_id


def test_every_port_of_a_killed_engine_refuses() -> None:
    world = World()

    async def main() -> None:
        await world.open()
        engine = world.start()
        await asyncio.sleep(1)
        engine.process.kill()
        await asyncio.sleep(0)
        rows = len(world.database.log)
        with pytest.raises(ProcessKilledError):
            await engine.journal.head()
        with pytest.raises(ProcessKilledError):
            engine.hub.publish([])
        with pytest.raises(ProcessKilledError):
            await engine.engine.landing._chain.finalized_height()
        with pytest.raises(ProcessKilledError):
            engine.process.spawn(asyncio.sleep(0))
        with pytest.raises(ProcessKilledError):
            await engine.engine.intake.accept(OrderRequest(Kind.MARKET, SOL, USDC, 1_000_000, 50), "local", None)
        await asyncio.sleep(5)
        assert len(world.database.log) == rows

    world.loop.run(main())


def test_an_engine_starts_from_the_journal_alone_and_ends_the_orders_of_a_dead_one() -> None:
    world = World()

    async def main() -> str:
        await world.open()
        first = world.start()
        await asyncio.sleep(1)
        order_id = await place(first)
        first.process.kill()
        await asyncio.sleep(3)
        assert not world.database.orders[order_id].settled
        world.database.bury(first.engine_id)
        world.start()
        await asyncio.sleep(20)
        return order_id

    order_id = world.loop.run(main())
    assert world.database.orders[order_id].settled
    assert world.database.orders[order_id].view.status == "confirmed"  # type: ignore[union-attr] # it has one
    assert world.checks.failed is None


def test_a_stalled_engine_whose_place_was_taken_finds_itself_fenced() -> None:
    world = World()

    async def main() -> None:
        await world.open()
        first = world.start()
        await asyncio.sleep(1)
        first.process.stall()
        await asyncio.sleep(6)
        world.database.bury(first.engine_id)
        world.start()
        first.process.go_on()
        await asyncio.sleep(3)

    world.loop.run(main())
    assert [type(end) for end in world.ends] == [EngineFencedError]


def test_a_stalled_engine_whose_place_is_still_its_own_goes_on() -> None:
    world = World()

    async def main() -> None:
        await world.open()
        engine = world.start()
        await asyncio.sleep(1)
        engine.process.stall()
        await asyncio.sleep(4)
        engine.process.go_on()
        await place(engine)
        await asyncio.sleep(5)

    world.loop.run(main())
    assert world.ends == []
    assert all(order.settled for order in world.database.orders.values())
