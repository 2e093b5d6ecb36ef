"""Who else calls the engine, beside those who place orders; and who moves the market."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

import msgspec

from bestex.domain.errors import JournalError
from bestex.domain.lifecycle import Status
from bestex.domain.terms import Kind
from bestex.domain.tokens import Pair
from bestex.engine.errors import AlreadyEndedError
from bestex.engine.intake import CALLER
from bestex.ports import DeadMan, Simulation
from bestex.simulation.engine import EngineProcess
from bestex.simulation.network import ConnectionLostError, Network


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

    async def _insist(self, work: Callable[[EngineProcess], Coroutine[None, None, object]], what: str) -> None:
        while True:
            try:
                await self._network.call(work)
            except (ConnectionLostError, JournalError):
                await self._network.pause()
            else:
                self._network.trace.note(what)
                return


class DeadManPlan(msgspec.Struct, frozen=True):
    """What the holder of a dead-man switch does."""

    at_s: float
    seconds: int  # until it goes off, unless renewed
    keeps_stops: bool
    renewals: int
    disarms: bool  # in the end; else it goes off


class DeadManHolder:
    """Arms the switch, renews it a few times, then disarms it or is heard of no more."""

    def __init__(self, network: Network, plan: DeadManPlan) -> None:
        self._network = network
        self._plan = plan

    async def run(self) -> None:
        plan, network = self._plan, self._network
        await asyncio.sleep(plan.at_s)
        switch = await self._arm()
        for _ in range(plan.renewals):
            await asyncio.sleep(plan.seconds * network.luck.random.uniform(0.3, 0.9))
            switch = await self._arm()
        if plan.disarms:
            await asyncio.sleep(plan.seconds * network.luck.random.uniform(0.0, 0.9))
            await network.insist(lambda engine: engine.engine.dead_man.disarm(CALLER))
            return
        left_us = switch.due_us - network.clock.now_us()
        if left_us > 0:  # else its answer came so late that it may have gone off before
            await asyncio.sleep(left_us / 1e6)
            network.luck.struck["dead_man"] += 1
            network.referee.quiet.switch_is_due(switch)

    async def _arm(self) -> DeadMan:
        plan = self._plan
        return await self._network.insist(
            lambda engine: engine.engine.dead_man.arm(CALLER, plan.seconds, plan.keeps_stops)
        )


class CancelMany(msgspec.Struct, frozen=True):
    """A client that cancels all its open orders of a pair or a kind, or all."""

    at_s: float
    pair: str | None
    kind: Kind | None


class Canceller:
    """Cancels many orders at once."""

    def __init__(self, network: Network, what: CancelMany) -> None:
        self._network = network
        self._what = what

    async def run(self) -> None:
        what, network = self._what, self._network
        await asyncio.sleep(what.at_s)
        network.luck.struck["cancel_many"] += 1
        done = await network.insist(lambda engine: engine.engine.orders.cancel_many(what.pair, what.kind))
        network.trace.note("a cancel of many was answered", None, what.pair, what.kind)
        for order_id in done.cancelled:
            network.referee.answers.cancelled(order_id, Status.CANCELLED)
        for order_id in done.cancel_requested:
            network.referee.answers.cancelled(order_id, Status.SUBMITTED)


class Move(msgspec.Struct, frozen=True):
    """The price of a pair's base token changes."""

    at_s: float
    pair: Pair
    percent: float
    when_healed: bool = False  # so long after nothing goes wrong any more


class Migration(msgspec.Struct, frozen=True):
    """A launched token's pool moves to the other venue."""

    at_s: float
    mint: str


class Mover:
    """The market: moves prices, and pools from one venue to the other."""

    def __init__(
        self, network: Network, control: Simulation, moves: tuple[Move, ...], migrations: tuple[Migration, ...]
    ) -> None:
        self._network = network
        self._control = control
        self._moves = moves
        self._migrations = migrations

    async def run(self) -> None:
        works = [*map(self._move, self._moves), *map(self._migrate, self._migrations)]
        moves = [asyncio.create_task(work) for work in works]
        try:
            await asyncio.gather(*moves)
        finally:
            for move in moves:
                move.cancel()

    async def _move(self, move: Move) -> None:
        if move.when_healed:
            await self._network.healed.wait()
        await asyncio.sleep(move.at_s)
        self._network.trace.note("the market moves", None, move.pair.name, f"{move.percent:+.2f} %")
        await self._control.move_price(move.pair, move.percent)

    async def _migrate(self, migration: Migration) -> None:
        await asyncio.sleep(migration.at_s)
        launch = await self._control.migrate(migration.mint)
        self._network.trace.note("a pool moves", None, launch.token.mint, launch.venue)


class Closer:
    """Cancels what nobody else will: orders whose client never learnt of them."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def run(self) -> None:
        network = self._network
        while True:
            for order_id in [each.id for each in network.referee.orders if each.rests]:
                await self._cancel(order_id)
            await asyncio.sleep(2.0)

    async def _cancel(self, order_id: str) -> None:
        with suppress(AlreadyEndedError):
            await self._network.insist(lambda engine: engine.engine.orders.cancel(order_id))
