"""Market data as engine processes hear it: while they live, each what it follows."""

import asyncio

import pytest

from bestex.domain.tokens import load_tokens, pair_of
from bestex.ports import LaunchWish, Tick
from bestex.simulation.clock import VirtualClock
from bestex.simulation.firing_checks import FiringChecks
from bestex.simulation.invariants import Checks
from bestex.simulation.loop import VirtualLoop, new_loop
from bestex.simulation.ports import ProcessMarketData
from bestex.simulation.process import CURRENT, Process, ProcessKilledError
from bestex.venues.simulated.ledger import MemoryLedger
from bestex.venues.simulated.world import SimulatedWorld, open_simulation

TOKENS = load_tokens()
SOL, USDC, BONK = (TOKENS.get(symbol) for symbol in ("SOL", "USDC", "BONK"))
SOL_USDC, BONK_SOL = pair_of(SOL, USDC), pair_of(BONK, SOL)


class Listener:
    """A process that listens to all there is."""

    def __init__(self, loop: VirtualLoop, world: SimulatedWorld, name: str) -> None:
        self.process = Process(loop, name, None)
        self.ticks: list[Tick] = []
        self.pools: list[str] = []
        self.inside: set[Process | None] = set()
        self.data = self.process.context.run(
            ProcessMarketData, world.market_data, self.process, loop, FiringChecks(Checks())
        )
        self.data.on_tick(self._hear)
        self.data.on_launch(lambda launch: self.pools.append(launch.pool))

    def _hear(self, tick: Tick) -> None:
        self.ticks.append(tick)
        self.inside.add(CURRENT.get())


async def opened(loop: VirtualLoop) -> SimulatedWorld:
    world = await open_simulation(
        seed=1,
        profile="realistic",
        slot_ms=None,
        tokens=load_tokens(),
        clock=VirtualClock(loop),
        entropy=bytes(32),
        ledger=MemoryLedger(),
        faults={},
        launch_every_s=0,
    )
    loop.create_task(world.run())
    await asyncio.sleep(0)
    return world


def test_each_process_hears_what_it_follows_within_itself_until_it_dies() -> None:
    loop = new_loop()

    async def main() -> None:
        world = await opened(loop)
        one, other = Listener(loop, world, "one"), Listener(loop, world, "other")
        one.data.follow([SOL_USDC])
        other.data.follow([BONK_SOL])
        await asyncio.sleep(2)
        assert {tick.pair for tick in one.ticks} == {SOL_USDC}
        assert {tick.pair for tick in other.ticks} == {BONK_SOL}
        assert one.inside == {one.process}
        one.process.kill()
        await asyncio.sleep(0)
        heard = len(one.ticks)
        await world.control.launch(LaunchWish())
        await asyncio.sleep(2)
        assert len(one.ticks) == heard
        assert one.pools == []
        assert len(other.pools) == 1
        assert len(other.ticks) == 10
        assert list(world.market_data._prices._followed) == ["BONK/SOL"], "a dead process follows nothing"
        with pytest.raises(ProcessKilledError):
            one.data.latest(SOL_USDC)
        with pytest.raises(ProcessKilledError):
            one.data.look_again("pool")
        with pytest.raises(ProcessKilledError):
            await one.data.launches(0, 1)

    loop.run(main())


def test_a_stalled_process_hears_when_it_goes_on() -> None:
    loop = new_loop()

    async def main() -> None:
        world = await opened(loop)
        listener = Listener(loop, world, "stalled")
        listener.data.follow([SOL_USDC])
        listener.process.stall()
        await asyncio.sleep(2)
        assert listener.ticks == []
        listener.process.go_on()
        await asyncio.sleep(0.01)
        assert len(listener.ticks) == 5

    loop.run(main())
