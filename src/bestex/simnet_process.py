"""The simulated world as a process of its own: `bestex simnet`, for processes that share one chain."""

import asyncio
import socket
from collections.abc import Mapping

from bestex.ambient import SystemClock, SystemIds
from bestex.config import Settings
from bestex.domain.tokens import TokenRegistry
from bestex.venues.simnet.server import SimnetServer
from bestex.venues.simulated.postgres_ledger import PostgresLedger
from bestex.venues.simulated.world import SimulatedWorld, open_simulation


async def run_simnet(
    settings: Settings,
    dsn: str,
    tokens: TokenRegistry,
    faults: Mapping[str, float],
    listener: socket.socket,
    stop: asyncio.Event,
) -> None:
    """Open the simulated world over its ledger and serve it until `stop` is set.

    `listener`: bound and listening. `LedgerFencedError` when another process opens the ledger, which takes the world
    over; `LedgerUnavailableError` when it cannot be opened.
    """
    clock = SystemClock()
    world = await open_simulation(
        seed=settings.seed,
        profile=settings.profile,
        slot_ms=settings.sim_slot_ms,
        tokens=tokens,
        clock=clock,
        entropy=SystemIds().entropy(),
        ledger=PostgresLedger(dsn),
        faults=faults,
        launch_every_s=settings.sim_launch_every_s,
    )
    try:
        await serve_world(world, SimnetServer(world, tokens, listener, clock), stop)
    finally:
        await world.close()


async def serve_world(world: SimulatedWorld, server: SimnetServer, stop: asyncio.Event) -> None:
    """Run a world and its server until `stop` is set; whatever ends one of them before is raised."""
    parts = [asyncio.ensure_future(each) for each in (server.run(), world.run(), stop.wait())]
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            if part.done():
                part.result()
    finally:
        for part in parts:  # nobody is answered any more before time stops
            part.cancel()
            await asyncio.gather(part, return_exceptions=True)
