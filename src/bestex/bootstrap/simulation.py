"""The simulated world over a database, as the settings have it."""

from bestex.ambient import SystemIds
from bestex.config import Settings
from bestex.domain.tokens import TokenRegistry
from bestex.ports import Clock
from bestex.venues.simulated.postgres_ledger import PostgresLedger
from bestex.venues.simulated.world import SimulatedWorld, open_simulation


async def open_world(
    settings: Settings, dsn: str, tokens: TokenRegistry, clock: Clock, ids: SystemIds, faults: dict[str, float]
) -> SimulatedWorld:
    """Open it; the caller runs it."""
    return await open_simulation(
        seed=settings.seed,
        profile=settings.profile,
        slot_ms=settings.sim_slot_ms,
        tokens=tokens,
        clock=clock,
        entropy=ids.entropy(),
        ledger=PostgresLedger(dsn),
        faults=faults,
        launch_every_s=settings.sim_launch_every_s,
    )
