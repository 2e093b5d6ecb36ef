"""A watcher: one of several processes that fire watched orders, each those in the books that it owns."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from bestex.domain.errors import BestexError, EngineFencedError, JournalError
from bestex.domain.events import StoredEvent
from bestex.domain.orders import Order
from bestex.domain.tokens import TokenRegistry
from bestex.engine.beyond_trigger import check_not_beyond
from bestex.engine.books import LeasedBooks
from bestex.engine.halt_following import HaltFollower
from bestex.engine.intake import CALLER
from bestex.engine.open_orders import OpenOrders
from bestex.engine.order_log import OrderLog
from bestex.engine.ownership import Ownership
from bestex.engine.recovery import Recovery
from bestex.engine.shared_watch import SharedWatch
from bestex.engine.signing import SigningGate
from bestex.engine.stored_switches import WatchedSwitches
from bestex.ports import BookLease, BookLeases, Clock, DeadMan, Journal, MarketData, TriggerStore

_RETRY_S: Final = 0.5

_log = structlog.get_logger(__name__)


class WatcherEngine:
    """Watches the orders in its books, and has them wait for a worker when they fire."""

    def __init__(
        self,
        journal: Journal,
        store: TriggerStore,
        leases: BookLeases,
        market: MarketData,
        tokens: TokenRegistry,
        clock: Clock,
        fired: Callable[[OrderLog], None],
    ) -> None:
        """`fired` gets the orders that wait for a worker from now on; that is on disk."""
        self._clock = clock
        self._market = market
        self.gate = SigningGate()
        self.books = LeasedBooks(clock)
        self.watch = SharedWatch(
            journal,
            store,
            market,
            Recovery(journal, clock, tokens, self.gate),
            tokens,
            clock,
            self.gate,
            self.books,
            CALLER,
            fired,
            self._heard_of,
        )
        self.ownership = Ownership(leases, journal, self.books, self.watch, clock)
        self.orders = OpenOrders(journal, clock, self.gate, tokens, self._check)
        self._switches = WatchedSwitches(store, clock, self.books, self._cancel_resting)
        self.halts = HaltFollower(journal, self.gate, clock, _held_nothing)

    @property
    def books_owned(self) -> int:
        return self.ownership.taken_up

    @property
    def orders_watched(self) -> int:
        return len(self.watch)

    @property
    def firing(self) -> int:
        """Orders whose firing is not on disk yet."""
        return self.watch.firing

    async def run(self) -> None:
        """Watch, for ever. The log's feed is to be followed from before this is called: see `committed`.

        The switches that were due while no watcher lived go off first: what rests must not be executed before.
        """
        await self._begin()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch.run())
            tasks.create_task(self.ownership.run())
            tasks.create_task(self._switches.run())
            tasks.create_task(self.halts.run())

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Follow the log: to be given every event once, in order, whoever wrote it."""
        self.watch.committed(events)

    def close(self) -> None:
        """Fire nothing more."""
        self.watch.close()
        self.ownership.close()

    async def drain(self) -> None:
        """Fire nothing more, and bring to disk what trailing stops go by."""
        self.watch.close()
        await self.watch.keep_best_prices()
        self.close()

    async def leave(self) -> None:
        """Have the books be nobody's, so that the others need not wait; once the journal's writer is drained."""
        try:
            await self.ownership.leave()
        except JournalError as error:
            _log.warning("books.not_left", error=str(error))

    async def _begin(self) -> None:
        while True:
            try:
                await self.halts.obey()
                if not self.gate.journal_is_behind:
                    await self._switches.look()
            except EngineFencedError:
                raise
            except BestexError as error:
                _log.warning("watcher.interrupted", error=str(error))
                await self._clock.sleep(_RETRY_S)
            else:
                return

    def _heard_of(self, key: str) -> None:
        self.ownership.heard_of(key)

    async def _check(self, order: Order) -> None:
        await check_not_beyond(order, self._market, self._clock)

    async def _cancel_resting(self, switch: DeadMan, fence: BookLease | None) -> None:
        keeps_stops = switch.keeps_stops
        await self.orders.cancel_many(by="deadman", resting_only=True, keeps_stops=keeps_stops, fence=fence)


def _held_nothing(order_id: str) -> None:
    """Orders that a halt held are a worker's to go on with."""
