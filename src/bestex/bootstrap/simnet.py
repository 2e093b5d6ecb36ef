"""`bestex simnet`: the simulated market and chain as a process of its own, for all others over the same database."""

from contextlib import AsyncExitStack

import structlog

from bestex import __version__
from bestex.api.server import listen
from bestex.bootstrap.process import STOP_DRAIN_S, Process, within
from bestex.bootstrap.simulation import open_world
from bestex.config import Settings
from bestex.domain.tokens import TokenRegistry
from bestex.venues.simnet.server import SimnetServer

_log = structlog.get_logger("bestex")


class SimnetProcess(Process):
    """The simulated world and its ledger; it knows nothing of orders."""

    def __init__(self, settings: Settings, tokens: TokenRegistry, faults: dict[str, float]) -> None:
        super().__init__(settings, tokens)
        self._faults = faults

    async def _run(self, exits: AsyncExitStack) -> None:
        settings, began = self._settings, self._clock.monotonic()
        listener = exits.enter_context(listen(settings.host, settings.port))
        dsn = settings.database_url or ""
        world = await open_world(settings, dsn, self._tokens, self._clock, self._ids, self._faults)
        exits.push_async_callback(lambda: within(world.close(), STOP_DRAIN_S))
        self._start("simulated world", world.run(), exits)
        self._start("server", SimnetServer(world, self._tokens, listener, self._clock).run(), exits)
        self._collect_seldom()
        _log.info(
            "simnet.ready",
            version=__version__,
            url=f"http://{settings.host}:{settings.port}",
            profile=settings.profile,
            seconds=round(self._clock.monotonic() - began, 2),
        )
        await self._stopped()
