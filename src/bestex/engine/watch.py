"""Watches orders that rest, each for what it waits for, and fires them.

Prices go to the pairs' books, new pools to the snipers' index, times to deadlines, slices to the slicer. What is held
here is only an index of the journal: it is made anew from it at every start, and follows every commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog

from bestex.domain.derived_ids import derived_id
from bestex.domain.errors import EngineFencedError, JournalError
from bestex.domain.events import (
    CancelledDetail,
    ConfirmedDetail,
    ExpiredDetail,
    FailedDetail,
    RoutingDetail,
    StoredEvent,
    Trigger,
    WatchingDetail,
    timestamp_us,
)
from bestex.domain.lifecycle import Status
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.domain.tokens import TokenRegistry
from bestex.engine.books import Books, key_of_order
from bestex.engine.deadlines import Deadlines
from bestex.engine.firing_desk import FiringDesk
from bestex.engine.launch_desk import LaunchDesk
from bestex.engine.order_log import OrderLog
from bestex.engine.price_desk import PriceDesk
from bestex.engine.recovery import Recovery
from bestex.engine.resting_orders import resting_of
from bestex.engine.signing import SigningGate
from bestex.engine.slicer import Slicer
from bestex.ports import Clock, Journal, MarketData, RestingOrder, TriggerStore

REBUILD_PAGE: Final = 10_000
READ_AT_ONCE: Final = 500
_RETRY_S: Final = 0.5
_BEHIND_S: Final = 1.0  # between two looks whether the journal is still behind
_TIME_IS_UP: Final = "its time is up"
_OF_NO_CONCERN: Final = frozenset({Status.PENDING, Status.BUILDING, Status.SUBMITTED})
"""Statuses of which no watched order's index need know; they are most of all events."""

_log = structlog.get_logger(__name__)


class Watch:
    """The orders of one engine that rest."""

    def __init__(
        self,
        journal: Journal,
        store: TriggerStore,
        market: MarketData,
        recovery: Recovery,
        tokens: TokenRegistry,
        clock: Clock,
        gate: SigningGate,
        books: Books,
        caller: str,
        execute: Callable[[OrderLog], None],
        accepted: Callable[[OrderLog], None],
    ) -> None:
        """`execute` gets orders that fired, once that is on disk; `accepted` the slices of sliced ones.

        `books`: which of them are watched here.
        """
        self._journal = journal
        self._recovery = recovery
        self._tokens = tokens
        self._clock = clock
        self._gate = gate
        self._books = books
        self._firing = FiringDesk(journal, recovery, clock, gate, books, execute, self.refresh)
        self._prices = PriceDesk(market, store, clock, gate, tokens, self._firing, books)
        self._launches = LaunchDesk(market, store, clock, gate, tokens, self._firing, books)
        self._slicer = Slicer(journal, recovery, clock, gate, books, caller, accepted)
        self._expiries = Deadlines(clock, self._expired)
        self._pauses = Deadlines(clock, self._paused_enough)
        self._to_refresh: dict[str, None] = {}
        self._to_expire: dict[str, None] = {}
        self._moves: list[set[str]] = []  # one for each that reads orders now: those that have moved on since
        self._wake = asyncio.Event()
        self._in_use = False  # whether any order has ever rested here: else commits are of no concern

    def __len__(self) -> int:
        """How many rest, as far as they stand in an index."""
        return len(self._prices) + len(self._launches) + len(self._slicer)

    @property
    def firing(self) -> int:
        return len(self._firing)

    async def run(self) -> None:
        """Watch, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._firing.run())
            tasks.create_task(self._prices.run())
            tasks.create_task(self._launches.run())
            tasks.create_task(self._slicer.run())
            tasks.create_task(self._expiries.run())
            tasks.create_task(self._pauses.run())
            tasks.create_task(self._carry_out())

    def close(self) -> None:
        """Fire nothing more."""
        self._firing.close()

    async def check(self, order: Order) -> None:
        """Raise `BeyondTriggerError` for an order whose trigger would fire at once, unless it allows that."""
        await self._prices.check(order)

    # --- What comes to rest

    def rest(self, log: OrderLog) -> None:
        """Watch an order that has just come to rest: it is on disk."""
        self._in_use = True
        order = log.order
        if order.kind is Kind.TWAP:
            self._slicer.rest(log)
            return
        if order.kind is Kind.SNIPER:
            self._firing.keep(log)  # it has no time to be read
        self._enter(resting_of(log), self._prices.enter)

    def refresh(self, order_id: str, seconds: float = 0.0) -> None:
        """Read an order anew, after a while, and watch it if it rests."""
        self._in_use = True
        self._prices.settled(order_id)
        if seconds > 0:
            self._pauses.at(self._clock.now_us() + round(seconds * 1e6), order_id)
        else:
            self._to_refresh[order_id] = None
            self._wake.set()

    async def rebuild(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Take up every order that rests in the journal; how many. Raises `JournalError`."""
        await self._prices.load_marks()
        total = await self._journal.count_resting()
        self._in_use = self._in_use or total > 0
        taken = 0
        after: str | None = None
        self._prices.collect_anew()
        with self._noting_moves() as moved:
            while page := await self._journal.resting(after, REBUILD_PAGE):
                after = page[-1].order_id
                taken += len(page)
                self._collect(page, moved)
                if on_progress is not None:
                    on_progress(taken, max(total, taken))
                await asyncio.sleep(0)
            self._prices.enter_collected(moved)
        await self._launches.catch_up()
        return taken

    def _collect(self, page: Sequence[RestingOrder], moved: set[str]) -> None:
        for order in page:
            if order.kind == Kind.TWAP or not self._knows_tokens(order):
                self.refresh(order.order_id)  # its events say more of it
            elif order.order_id not in moved:
                self._enter(order, self._prices.collect)

    def _knows_tokens(self, order: RestingOrder) -> bool:
        find = self._tokens.find
        return find(order.token_in) is not None and (order.kind == Kind.SNIPER or find(order.token_out) is not None)

    def _enter(self, order: RestingOrder, enter: Callable[[RestingOrder], None]) -> None:
        """Put an order where it is watched; one that must pause before it may fire again pauses first."""
        if order.expires_at is not None:
            self._expiries.at(timestamp_us(order.expires_at), order.order_id)
        if order.not_before is not None and (wakes_us := timestamp_us(order.not_before)) > self._clock.now_us():
            self._pauses.at(wakes_us, order.order_id)
        elif order.kind == Kind.SNIPER:
            self._launches.enter(order)
        else:
            enter(order)

    # --- What happens to them

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Follow what others do to watched orders; a listener of the journal."""
        if not self._in_use:
            return
        self._slicer.committed(events)
        for stored in events:
            event = stored.event
            if event.status in _OF_NO_CONCERN:
                continue
            match event.detail:
                case WatchingDetail(changes=changes):
                    self._prices.settled(event.order_id)
                    if changes is not None:
                        self._forget(event.order_id)
                        self.refresh(event.order_id)
                case RoutingDetail(trigger=Trigger()) | CancelledDetail() | ExpiredDetail() | FailedDetail():
                    self._forget(event.order_id)
                    if event.status is not Status.ROUTING:
                        self._prices.settled(event.order_id)
                case ConfirmedDetail(gone=gone):
                    self._prices.settled(event.order_id)
                    if gone:
                        self._refresh_exits(event.order_id)
                case _:
                    pass

    def _refresh_exits(self, entry_id: str) -> None:
        """Look at the exits of an entry that is gone: there is nothing to exit from."""
        self.refresh(derived_id(entry_id, "exits"))

    @contextmanager
    def _noting_moves(self) -> Iterator[set[str]]:
        """The orders that move on while others are read: what was read of them may be of before."""
        moved: set[str] = set()
        self._moves = [*self._moves, moved]
        try:
            yield moved
        finally:
            self._moves = [each for each in self._moves if each is not moved]

    def _forget(self, order_id: str) -> None:
        for moved in self._moves:
            moved.add(order_id)
        self._expiries.forget(order_id)
        self._pauses.forget(order_id)
        self._prices.remove(order_id)
        self._launches.remove(order_id)
        self._firing.forget(order_id)

    def _expired(self, order_ids: Sequence[str]) -> None:
        if self._gate.journal_is_behind:  # one of them may have executed: it must not end here
            for order_id in order_ids:
                self._expiries.at(self._clock.now_us() + round(_BEHIND_S * 1e6), order_id)
            return
        self._to_expire.update(dict.fromkeys(order_ids))
        self._wake.set()

    def _paused_enough(self, order_ids: Sequence[str]) -> None:
        self._to_refresh.update(dict.fromkeys(order_ids))
        self._wake.set()

    async def _carry_out(self) -> None:
        """Read and expire what is to be, in batches, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._carry_out_all()

    async def _carry_out_all(self) -> None:
        await self._in_batches(self._to_expire, self._expire_batch)
        await self._in_batches(self._to_refresh, self._refresh_batch)

    async def _expire_batch(self, order_ids: list[str]) -> None:
        self._expire(await self._read_batch(order_ids))

    async def _refresh_batch(self, order_ids: list[str]) -> None:
        self._refresh(await self._read_batch(order_ids))

    async def _read_batch(self, order_ids: list[str]) -> list[OrderLog]:
        """Those that rest, as they stand; those that moved on meanwhile are read again later."""
        with self._noting_moves() as moved:
            logs = await self._read([each for each in order_ids if each not in self._firing])
        self._to_refresh.update(dict.fromkeys(moved.intersection(order_ids)))
        return [log for log in logs if log.order.id not in moved and log.order.id not in self._firing]

    async def _in_batches(self, order_ids: dict[str, None], work: Callable[[list[str]], Awaitable[None]]) -> None:
        while order_ids:
            batch = [order_ids.popitem()[0] for _ in range(min(READ_AT_ONCE, len(order_ids)))]
            try:
                await work(batch)
            except EngineFencedError:
                return
            except JournalError as error:
                _log.warning("watch.interrupted", orders=len(batch), error=str(error))
                for order_id in batch:
                    self.refresh(order_id, _RETRY_S)

    async def _read(self, order_ids: list[str]) -> list[OrderLog]:
        """Those that rest, as they stand."""
        leases = await self._journal.leases_of_resting(order_ids)
        logs = await self._recovery.read(leases) if leases else []
        return [log for log in logs if log.state.status is Status.WATCHING]

    def _refresh(self, logs: list[OrderLog]) -> None:
        for log in logs:
            self._forget(log.order.id)
            if is_over(log, self._clock.now_us()) and log.order.kind is not Kind.TWAP:
                self._expire([log])
            else:
                self.rest(log)  # a sliced order's slices are to be settled before it expires

    def _expire(self, logs: list[OrderLog]) -> None:
        if self._gate.journal_is_behind:
            self._expired([log.order.id for log in logs])  # they are looked at again later
            return
        for log in logs:
            if log.order.kind is Kind.TWAP:
                continue  # its slices are to be settled first
            if not is_over(log, self._clock.now_us()):
                continue  # its time was changed meanwhile
            key = key_of_order(log.order)
            if not self._books.may_fire(key):
                if self._books.owns(key):
                    self.refresh(log.order.id, _RETRY_S)
                continue
            try:
                appended = log.record(Status.EXPIRED, ExpiredDetail(_TIME_IS_UP), fence=self._books.fence(key))
            except JournalError:
                self.refresh(log.order.id, _RETRY_S)
            else:
                appended.add_done_callback(partial(self._on_expired, log.order.id))

    def _on_expired(self, order_id: str, appended: "asyncio.Future[int]") -> None:
        if not appended.cancelled() and appended.exception() is not None:
            self.refresh(order_id, _RETRY_S)  # it fired, or was changed, meanwhile


def is_over(log: OrderLog, now_us: int) -> bool:
    expires_us = log.order.expires_us
    return expires_us is not None and expires_us <= now_us
