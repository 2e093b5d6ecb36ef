"""The watch of one of several watchers: over the orders in the books that it owns, and nobody else's.

- It learns of everything by the log's feed, of its own commits too: what others accept, change and cancel, what comes
  to wait again, and what its own firings became. The feed brings each commit once, in order, and may be late.
- A new order comes whole with its two first events. Of one that waits again only its id comes: many are read together.
- What stands in the journal decides. An order that is taken up as it stands, and then met in the feed as it was, is
  put right by the later events, for every event that has an order wait is followed by a look at it.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

from bestex.domain.errors import OrderError
from bestex.domain.events import (
    CancelledDetail,
    ConfirmedDetail,
    Event,
    ExpiredDetail,
    FailedDetail,
    PendingDetail,
    RoutingDetail,
    StoredEvent,
    Trigger,
    WatchingDetail,
)
from bestex.domain.lifecycle import Status
from bestex.domain.terms import Kind
from bestex.domain.tokens import TokenRegistry, pair_of
from bestex.engine.books import LAUNCHES, SWITCHES, LeasedBooks, book_key, key_of_order
from bestex.engine.order_log import OrderLog
from bestex.engine.recovery import Recovery
from bestex.engine.signing import SigningGate
from bestex.engine.watch import Watch
from bestex.ports import BookLease, Clock, Journal, MarketData, RestingOrder, TriggerStore

TAKE_UP_PAGE: Final = 5_000
"""Orders read at a time: while they are decoded nothing else goes on."""
_FIRING_S: Final = 0.5  # until an order that fires at this moment is looked at


class SharedWatch(Watch):
    """The orders of one watcher that rest."""

    def __init__(
        self,
        journal: Journal,
        store: TriggerStore,
        market: MarketData,
        recovery: Recovery,
        tokens: TokenRegistry,
        clock: Clock,
        gate: SigningGate,
        books: LeasedBooks,
        caller: str,
        fired: Callable[[OrderLog], None],
        heard_of: Callable[[str], None],
    ) -> None:
        """`fired` gets orders on disk that wait for a worker; `heard_of` the keys of the books of new ones."""

        def accepted(log: OrderLog) -> None:
            if not log.order.rests:  # one that does comes by the feed
                fired(log)

        super().__init__(journal, store, market, recovery, tokens, clock, gate, books, caller, fired, accepted)
        self._heard_of = heard_of
        self._newcomer: Event | None = None  # the feed's last event, where it was an order's first
        self._to_look: dict[str, None] = {}  # orders that wait, whose rows say the rest
        self._timed: dict[str, str] = {}  # the keys of their books, of orders that have a deadline here

    # --- Books that come and go

    async def take_up(self, leases: Collection[BookLease]) -> int:
        """Watch what waits in these books, which are owned by now; how many orders. Raises `JournalError`.

        After an error they are to be let go of, and taken up again.
        """
        keys = {lease.key for lease in leases}
        await self._prices.load_marks(keys)
        pairs = sorted(keys - {LAUNCHES, SWITCHES})
        if LAUNCHES in keys:
            pairs += [pair for pair in await self._journal.resting_pairs() if book_key(pair) == LAUNCHES]
        taken = 0
        with self._noting_moves() as moved:
            for pair in pairs:
                after: str | None = None
                while page := await self._journal.resting_of(pair, after, TAKE_UP_PAGE):
                    after = page[-1].order_id
                    taken += len(page)
                    if self._books.owns(book_key(pair)):
                        self._collect(page, moved)
                    if len(page) < TAKE_UP_PAGE:
                        break
                    await asyncio.sleep(0)
                self._prices.enter_collected(moved)
                await asyncio.sleep(0)  # leases are to be renewed meanwhile
        if LAUNCHES in keys:
            self._launches.take_up()
        return taken

    async def let_go(self, keys: Collection[str]) -> None:
        """Watch nothing of these books any more, which are not owned any more.

        The best prices that their trailing stops have met are brought to disk first, if the database answers.
        """
        await self._prices.keep_marks()
        self._prices.let_go(keys)
        self._slicer.let_go(keys)
        self._firing.let_go(keys)
        if LAUNCHES in keys:
            self._launches.let_go()
        for order_id in [each for each, key in self._timed.items() if key in keys]:
            del self._timed[order_id]
            self._expiries.forget(order_id)
            self._pauses.forget(order_id)

    async def keep_best_prices(self) -> None:
        """Bring to disk what trailing stops go by."""
        await self._prices.keep_marks()

    def rest(self, log: OrderLog) -> None:
        if self._books.owns(key_of_order(log.order)):
            super().rest(log)

    def _enter(self, order: RestingOrder, enter: Callable[[RestingOrder], None]) -> None:
        if order.expires_at is not None or order.not_before is not None:
            self._timed[order.order_id] = self._key(order)
        super()._enter(order, enter)

    def _key(self, order: RestingOrder) -> str:
        """The key of the book of an order whose tokens are known."""
        if order.kind == Kind.SNIPER:
            return LAUNCHES
        return pair_of(self._tokens.get(order.token_in), self._tokens.get(order.token_out)).name

    def _forget(self, order_id: str) -> None:
        self._timed.pop(order_id, None)
        super()._forget(order_id)

    # --- The feed

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Follow the log: to be given each of its events once, in order."""
        self._slicer.committed(events)
        for stored in events:
            self._follow(stored.event)

    def _follow(self, event: Event) -> None:
        newcomer, self._newcomer = self._newcomer, None
        order_id = event.order_id
        match event.detail:
            case PendingDetail():
                self._newcomer = event
            case WatchingDetail() if newcomer is not None and newcomer.order_id == order_id:
                self._came(newcomer, event)
            case WatchingDetail(changes=changes, slice=None):
                self._prices.settled(order_id)
                if changes is not None:
                    self._forget(order_id)
                if order_id not in self._slicer:  # which looks at its orders itself
                    self._look_at(order_id)
            case RoutingDetail(trigger=Trigger()) | CancelledDetail() | ExpiredDetail() | FailedDetail():
                self._forget(order_id)
                self._to_look.pop(order_id, None)
                if event.status is not Status.ROUTING:
                    self._prices.settled(order_id)
            case ConfirmedDetail(gone=gone):
                self._prices.settled(order_id)
                if gone:
                    self._refresh_exits(order_id)
            case _:
                pass

    def _came(self, pending: Event, watching: Event) -> None:
        """A new order that waits; nothing needs to be read."""
        detail = pending.detail
        key = book_key(detail.pair) if isinstance(detail, PendingDetail) else ""
        self._heard_of(key)
        if not self._books.owns(key):
            return
        try:
            self.rest(self._recovery.log_of([pending, watching], epoch=0))
        except (OrderError, ValueError, LookupError, TypeError):
            self.refresh(pending.order_id)  # whoever reads it says what is wrong with it

    def _look_at(self, order_id: str) -> None:
        self._to_look[order_id] = None
        self._wake.set()

    async def _carry_out_all(self) -> None:
        await super()._carry_out_all()
        await self._in_batches(self._to_look, self._look)

    async def _look(self, order_ids: list[str]) -> None:
        """Enter those that wait in books of ours, as they stand."""
        with self._noting_moves() as moved:
            orders = await self._journal.resting_these(order_ids)
        for order in orders:
            if order.order_id in moved:
                continue  # the event that moved it leads to another look, if it waits
            if order.order_id in self._firing:
                self.refresh(order.order_id, _FIRING_S)  # the feed was quicker than the commit's answer
            elif order.kind == Kind.TWAP or not self._knows_tokens(order):
                self.refresh(order.order_id)
            elif self._books.owns(self._key(order)):
                self._forget(order.order_id)
                self._enter(order, self._prices.enter)
