"""The engine on a simulated world that is another process's: it is reached through a socket, which breaks."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from bestex.ambient import SystemClock, SystemIds
from bestex.domain.lifecycle import Status
from bestex.domain.terms import NO_TERMS, Kind, Terms
from bestex.domain.tokens import pair_of
from bestex.engine.engine import Engine
from bestex.engine.execution import EngineLimits
from bestex.engine.intake import OrderRequest
from bestex.engine.landing import LandingLimits
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.journal.trigger_store import MemoryTriggerStore, TriggerTables
from bestex.routing.router import QuoteLimits, Router
from tests.support.clock import FakeClock
from tests.support.simnet import ServedWorld, open_served, until


class Desk:
    """An engine whose world is behind a socket."""

    def __init__(self, world: ServedWorld) -> None:
        clock, remote = SystemClock(), world.remote
        self.world = world
        self.database = MemoryDatabase()
        self.journal = MemoryJournal(self.database, str(uuid.uuid4()), clock)
        self.engine = Engine(
            self.journal,
            Router(remote.venues, clock, QuoteLimits()),
            remote.chain,
            remote.wallet,
            remote.market_data,
            MemoryTriggerStore(TriggerTables()),
            world.known,
            clock,
            SystemIds(),
            EngineLimits(landing=LandingLimits.looking_every(0.05)),
        )
        self.journal.listen(self.engine.committed)

    async def order(self, kind: Kind = Kind.MARKET, terms: Terms = NO_TERMS) -> str:
        tokens = self.world.known
        request = OrderRequest(kind, tokens.get("SOL"), tokens.get("USDC"), 10**9, 50, terms=terms)
        return (await self.engine.intake.accept(request, "local", None)).order_id

    def status(self, order_id: str) -> Status | None:
        return self.database.orders[order_id].status


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    world = await open_served(profile="instant", clock=cast(FakeClock, SystemClock()))
    desk = Desk(world)
    running = [asyncio.create_task(work) for work in (desk.journal.run(), desk.engine.run())]
    try:
        yield desk
    finally:
        await desk.engine.stop()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await world.close()


async def test_orders_are_executed_although_the_connection_breaks_again_and_again() -> None:
    async with desk() as it:
        orders = [await it.order() for _ in range(50)]
        for _ in range(3):
            await it.world.stop_serving()
            orders += [await it.order() for _ in range(10)]
            it.world.serve()
            await until(lambda: it.world.remote.is_connected)
            orders += [await it.order() for _ in range(10)]
        await until(lambda: all(it.status(each) is Status.CONFIRMED for each in orders), 30)
        status = await it.world.remote.control.status()
        assert status.transactions == len(orders), "each executed once"


async def test_a_stop_fires_on_prices_that_another_process_tells() -> None:
    async with desk() as it:
        tokens = it.world.known
        stop = await it.order(Kind.STOP, Terms(trigger_price="140"))
        await until(lambda: it.status(stop) is Status.WATCHING)
        await it.world.remote.control.move_price(pair_of(tokens.get("SOL"), tokens.get("USDC")), -20)
        await until(lambda: it.status(stop) is Status.CONFIRMED)
