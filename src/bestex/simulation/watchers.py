"""Those who watch orders, over however many connections, and miss nothing."""

from bestex.api.following import follow_all, follow_order
from bestex.domain.errors import JournalError, NotFoundError
from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import ENDS
from bestex.simulation.engine import EngineProcess
from bestex.simulation.network import ConnectionLostError, Network


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
        self._network.referee.answers.seen(self._order_id, self._seen, events)
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
            self._network.referee.answers.seen_of_all(self._seen, events)
            self._seen += len(events)
