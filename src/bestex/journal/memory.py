"""The journal in memory: the same writer over a store that keeps its rows in this process. For tests and simulation."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from heapq import nsmallest
from operator import itemgetter

from bestex.domain.errors import (
    AppendRefusedError,
    DuplicateKeyError,
    EngineFencedError,
    JournalError,
)
from bestex.domain.events import Event, StoredEvent, settles
from bestex.domain.lifecycle import FIRST, NEXT, Status
from bestex.domain.log_hash import GENESIS, stored_hash
from bestex.domain.order_state import OrderView
from bestex.domain.priority import SIGNED, priority_of
from bestex.journal.writer import GroupCommitWriter, MergedRows, Verdict
from bestex.ports import (
    ROOM_LASTS_S,
    Append,
    ArchivedOrder,
    BookLease,
    ClaimedOrder,
    Clock,
    EngineMode,
    Halt,
    HaltCause,
    HeadListener,
    HeldOrder,
    JournalListener,
    Lease,
    LogHead,
    NewOrder,
    OrderFilter,
    OrderRow,
    Reservation,
    RestingOrder,
    Room,
    UnheldOrder,
)


class _Order:
    __slots__ = (
        *("epoch", "events", "kind", "owner", "pair", "parent_id", "priority", "resting", "run_after_us", "seq"),
        *("settled", "status", "view"),
    )

    def __init__(self) -> None:
        self.view: OrderView | None = None
        self.owner: str | None = None
        self.epoch = 0
        self.seq = 0
        self.status: Status | None = None
        self.settled = False
        self.resting = False
        self.kind = ""
        self.pair = ""
        self.parent_id: str | None = None
        self.priority = 0  # the smallest is claimed first
        self.run_after_us = 0
        self.events: list[StoredEvent] = []

    @property
    def is_due(self) -> bool:
        """Whether an executor has something to do for it."""
        return not self.settled and not self.resting

    @property
    def is_signed(self) -> bool:
        """Whether a transaction of it may land or be final yet."""
        return self.status in (Status.SUBMITTED, Status.CONFIRMED)

    def let_go(self) -> None:
        """Have nobody hold it; what is signed is the most urgent."""
        self.owner = None
        if self.is_signed:
            self.priority = SIGNED


class BookRow:
    """Who owns a book, under which epoch, and until when."""

    __slots__ = ("epoch", "owner", "until_us")

    def __init__(self) -> None:
        self.owner: str | None = None
        self.epoch = 0
        self.until_us = 0  # Unix microseconds


class MemoryDatabase:
    """What the engines' journals share; it outlives them as a database does."""

    def __init__(self, journal_id: str = "00000000-0000-0000-0000-000000000000") -> None:
        self.journal_id = journal_id
        self.log: list[StoredEvent] = []
        self.hashes: list[bytes] = []  # of the log's rows
        self.halt: Halt | None = None
        self.orders: dict[str, _Order] = {}
        self.keys: dict[tuple[str, str, str], NewOrder] = {}
        self.engines: dict[str, tuple[int, Verdict]] = {}  # living engines: last commit and its answer
        self.rooms: dict[str, tuple[Room, int]] = {}  # what engines reserved, and when, Unix microseconds
        self.silent: set[str] = set()  # engines that give no signs of life
        self.books: dict[str, BookRow] = {}  # by key
        self.watchers: dict[str, int] = {}  # until when each lives unless it renews its leases, Unix microseconds

    @property
    def head_hash(self) -> bytes:
        return self.hashes[-1] if self.hashes else GENESIS

    def enrol(self, engine_id: str) -> None:
        self.engines[engine_id] = (0, Verdict(0, {}, GENESIS))

    def add(self, event: Event) -> StoredEvent:
        """Put a row at the end of the log."""
        stored = StoredEvent(len(self.log) + 1, event)
        self.hashes.append(stored_hash(self.head_hash, stored))
        self.log.append(stored)
        return stored

    def holder(self, new: NewOrder) -> DuplicateKeyError | None:
        """Whose the keys of an order are that is to be new."""
        holders = {self.keys[key].order_id: self.keys[key] for key in _keys(new) if key in self.keys}
        if not holders:
            return None
        oldest = min(holders)
        same = len(holders) == 1 and holders[oldest].request_hash == new.request_hash
        return DuplicateKeyError(oldest, same)

    def owns(self, engine_id: str, lease: BookLease) -> bool:
        row = self.books.get(lease.key)
        return row is not None and (row.owner, row.epoch) == (engine_id, lease.epoch)

    def resting_pairs(self) -> set[str]:
        return {order.view.pair for order in self.orders.values() if order.resting and order.view is not None}

    def bury(self, engine_id: str) -> None:
        self.engines.pop(engine_id, None)
        self.rooms.pop(engine_id, None)
        self.silent.discard(engine_id)

    def silence(self, engine_id: str) -> None:
        """Have an engine hold its leases no more: it gives no signs of life, but may go on."""
        self.silent.add(engine_id)

    def give_sign_of_life(self, engine_id: str) -> None:
        self.silent.discard(engine_id)

    def is_alive(self, engine_id: str | None) -> bool:
        """Whether leases of this engine hold."""
        return engine_id in self.engines and engine_id not in self.silent


class MemoryStore:
    """Makes one engine's commits on a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase, engine_id: str, mode: EngineMode = EngineMode.INLINE) -> None:
        self._database = database
        self._engine_id = engine_id
        self._executes = mode.executes

    async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
        database = self._database
        if self._engine_id not in database.engines:
            raise EngineFencedError(f"engine {self._engine_id} has lost its place to another")
        last, answer = database.engines[self._engine_id]
        if number == last:
            return answer
        if number != last + 1:
            raise EngineFencedError(f"commit {number} cannot follow commit {last}")
        refused: dict[str, JournalError] = {}
        first_position = len(database.log) + 1
        for merged in rows:
            error = self._refusal(merged) or self._illegal_companion(merged)
            if error is None:
                self._store(merged)
            else:
                refused[merged.first.order_id] = error
            for companion in merged.companions:
                if (hindrance := error or self._refusal(companion)) is None:
                    self._store(companion)
                else:
                    refused[companion.first.order_id] = hindrance
        verdict = Verdict(first_position, refused, database.head_hash)
        database.engines[self._engine_id] = (number, verdict)
        return verdict

    def _illegal_companion(self, merged: MergedRows) -> JournalError | None:
        return next((error for each in merged.companions if (error := _illegal(each)) is not None), None)

    def _refusal(self, merged: MergedRows) -> JournalError | None:
        first = merged.first
        order = self._database.orders.get(first.order_id)
        if (error := _illegal(merged)) is not None:
            return error
        if first.new is not None:
            if (duplicate := self._database.holder(first.new)) is not None:
                return duplicate
            return None if order is None else JournalError(f"order {first.order_id} exists already")
        if order is None or (order.seq, order.status) != (first.base_seq, first.base_status):
            return AppendRefusedError(f"order {first.order_id} has moved on")
        if first.takes_lease:
            held = (order.owner, order.epoch + 1) == (None, first.lease_epoch)
        else:
            held = first.lease_epoch in (None, order.epoch if order.owner == self._engine_id else None)
        if not held:
            return AppendRefusedError(f"order {first.order_id} is leased to another")
        if first.fence is not None and not self._database.owns(self._engine_id, first.fence):
            return AppendRefusedError(f"the book of order {first.order_id} is another's")
        return None

    def _store(self, merged: MergedRows) -> None:
        database = self._database
        first = merged.first
        order = database.orders.setdefault(first.order_id, _Order())
        if first.new is not None:
            for key in _keys(first.new):
                database.keys[key] = first.new
            new = first.new
            order.kind, order.pair, order.parent_id = new.kind, new.pair, new.parent_id
            order.priority = priority_of(new.kind, new.parent_id)
        if first.lease_epoch is not None and (first.new is not None or first.takes_lease):
            order.owner, order.epoch = self._engine_id if self._executes else None, first.lease_epoch
        for append in merged.appends:
            for event in append.events:
                order.events.append(database.add(event))
        last = merged.last.events[-1]
        order.seq, order.status, order.view = last.seq, last.status, merged.last.view
        order.settled = settles(last)
        order.resting = last.status is Status.WATCHING
        order.run_after_us = merged.last.run_after_us or 0
        if order.resting or merged.last.run_after_us is not None:
            order.owner = None


def _illegal(merged: MergedRows) -> JournalError | None:
    """Why the rows do not follow from what they build on."""
    first = merged.first
    seq, status = (first.base_seq, first.base_status) if first.new is None else (0, None)
    for append in merged.appends:
        for event in append.events:
            if event.seq != seq + 1 or event.status not in (NEXT[status] if status else {FIRST}):
                return AppendRefusedError(
                    f"order {first.order_id}: {event.status} as event {event.seq} may not follow {status} as {seq}"
                )
            seq, status = event.seq, event.status
    return None


def _resting_order(view: OrderView, epoch: int) -> RestingOrder:
    shown = {name: getattr(view, name) for name in RestingOrder.__struct_fields__ if name != "epoch"}
    return RestingOrder(epoch=epoch, **shown)


def _keys(new: NewOrder) -> list[tuple[str, str, str]]:
    keys = (("idempotency", new.idempotency_key), ("client", new.client_order_id))
    return [(new.caller, kind, key) for kind, key in keys if key is not None]


class MemoryJournal:
    """`Journal` over a `MemoryDatabase` for one engine."""

    def __init__(
        self, database: MemoryDatabase, engine_id: str, clock: Clock, mode: EngineMode = EngineMode.INLINE
    ) -> None:
        self.engine_id = engine_id
        self.database = database
        self._clock = clock
        database.enrol(engine_id)
        self.writer = GroupCommitWriter(MemoryStore(database, engine_id, mode), clock)

    async def run(self) -> None:
        await self.writer.run()

    async def drain(self) -> None:
        await self.writer.drain()

    def append(self, append: Append) -> "asyncio.Future[int]":
        return self.writer.append(append)

    def withdraw(self, appended: "asyncio.Future[int]") -> bool:
        return self.writer.withdraw(appended)

    async def holder(self, new: NewOrder) -> DuplicateKeyError | None:
        return self.database.holder(new)

    def listen(self, listener: JournalListener) -> None:
        self.writer.listen(listener)

    def on_head(self, listener: HeadListener) -> None:
        self.writer.on_head(listener)

    async def log_head(self) -> LogHead:
        return LogHead(self.database.journal_id, len(self.database.log), self.database.head_hash)

    async def archived_until(self) -> int:
        return 0  # what is in memory is never archived

    async def archived(self, order_id: str) -> ArchivedOrder | None:
        return None

    async def hash_at(self, position: int) -> bytes | None:
        hashes = self.database.hashes
        return hashes[position - 1] if 0 < position <= len(hashes) else None

    async def halted(self) -> Halt | None:
        return self.database.halt

    async def halt(self, reason: str, cause: HaltCause) -> None:
        held = self.database.halt
        goes_before = cause is HaltCause.RECONCILED or (
            cause is HaltCause.JOURNAL_BEHIND and held is not None and held.cause is not HaltCause.JOURNAL_BEHIND
        )
        if held is None or goes_before:
            self.database.halt = Halt(reason, cause, self._clock.now_us())

    async def resume(self) -> None:
        halt = self.database.halt
        if halt is not None and halt.cause is not HaltCause.JOURNAL_BEHIND:
            self.database.halt = None

    async def claim_waiting(self, limit: int, *, signed_only: bool = False) -> list[ClaimedOrder]:
        waiting = self._waiting(self.database.orders)
        if signed_only:
            waiting = [order_id for order_id in waiting if self.database.orders[order_id].priority == SIGNED]
        return [self._claim(order_id) for order_id in waiting[:limit]]

    async def claim_these(self, order_ids: Sequence[str]) -> list[ClaimedOrder]:
        known = {order_id for order_id in order_ids if order_id in self.database.orders}
        return [self._claim(order_id) for order_id in self._waiting(known)]

    def _waiting(self, order_ids: Iterable[str]) -> list[str]:
        """Those that nobody holds and that are due, the most urgent first."""
        if not self.database.is_alive(self.engine_id):
            return []
        now_us, orders = self._clock.now_us(), self.database.orders
        waiting = [
            (order.priority, order_id)
            for order_id in order_ids
            if (order := orders[order_id]).is_due and order.owner is None and order.run_after_us <= now_us
        ]
        return [order_id for _, order_id in sorted(waiting)]

    def _claim(self, order_id: str) -> ClaimedOrder:
        order = self.database.orders[order_id]
        order.owner, order.epoch, order.run_after_us = self.engine_id, order.epoch + 1, 0
        return ClaimedOrder(Lease(order_id, order.epoch), tuple(stored.event for stored in order.events))

    async def hand_back(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            order = self.database.orders[lease.order_id]
            if (order.owner, order.epoch) == (self.engine_id, lease.epoch):
                order.let_go()

    async def hand_back_held(self, limit: int) -> list[UnheldOrder]:
        held = [held.order_id for held in await self.held(None, limit)]
        for order_id in held:
            self.database.orders[order_id].let_go()
        return self._unheld(held)

    async def silent_engines(self) -> dict[str, int]:
        return dict.fromkeys(self.database.silent, 0)

    async def free_orders_of_the_dead(self, after_id: str | None, limit: int) -> list[UnheldOrder]:
        left_behind = sorted(
            order_id
            for order_id, order in self.database.orders.items()
            if order.is_due and order.owner is not None and not self.database.is_alive(order.owner)
            if after_id is None or order_id > after_id
        )[:limit]
        for order_id in left_behind:
            order = self.database.orders[order_id]
            order.let_go()
            order.epoch += 1
        return self._unheld(left_behind)

    async def forget_engines(self) -> None:
        owners = {order.owner for order in self.database.orders.values() if order.is_due}
        for engine_id in self.database.silent - owners:
            self.database.bury(engine_id)

    def _unheld(self, order_ids: Iterable[str]) -> list[UnheldOrder]:
        orders = self.database.orders
        return [
            UnheldOrder(order_id, (order := orders[order_id]).kind, order.pair, order.priority)
            for order_id in order_ids
        ]

    async def unsettled(self) -> int:
        return sum(order.is_due for order in self.database.orders.values())

    async def reserve_room(self, bounds: Room, watched_max: int | None, held: Room) -> Reservation:
        database, now_us = self.database, self._clock.now_us()
        if self.engine_id not in database.engines:
            return Reservation(Room(0, 0, 0), 0, 0, None)
        living = {
            engine_id: room
            for engine_id, (room, at_us) in database.rooms.items()
            if at_us > now_us - ROOM_LASTS_S * 1_000_000
        }
        mine = living.pop(self.engine_id, Room(0, 0, 0))
        others = living.values()
        due = [order for order in database.orders.values() if order.is_due]
        waiting = min(bounds.waiting, sum(order.owner is None for order in due))
        opened = min(bounds.open, sum(order.status is not Status.CONFIRMED for order in due))
        watched = None if watched_max is None else min(bounds.watched, await self.count_resting())

        def share(left: int, reserved: int) -> int:
            return max(0, min(-(-left // (len(living) + 1)), left - reserved))

        room_to_watch = mine.watched
        if watched is not None and watched_max is not None:
            room_to_watch = min(watched_max, share(bounds.watched - watched, sum(each.watched for each in others)))
        room_to_execute = min(  # an order takes one of each: two engines must not have one each of the last
            share(bounds.waiting - waiting, sum(each.waiting for each in others)),
            share(bounds.open - opened, sum(each.open for each in others)),
        )
        room = Room(room_to_execute, room_to_execute, room_to_watch)
        kept = Room(max(room.waiting, held.waiting), max(room.open, held.open), max(room.watched, held.watched))
        database.rooms[self.engine_id] = kept, now_us
        return Reservation(room, waiting, opened, watched)

    async def resting(self, after_id: str | None, limit: int) -> list[RestingOrder]:
        watched = (
            (order_id, order)
            for order_id, order in self.database.orders.items()
            if order.resting and (after_id is None or order_id > after_id)
        )
        page = nsmallest(limit, watched, key=itemgetter(0))
        return [_resting_order(order.view, order.epoch) for _, order in page if order.view is not None]

    async def resting_pairs(self) -> list[str]:
        return sorted(self.database.resting_pairs())

    async def resting_of(self, pair: str, after_id: str | None, limit: int) -> list[RestingOrder]:
        watched = (
            (order_id, order)
            for order_id, order in self.database.orders.items()
            if order.resting
            and order.view is not None
            and order.view.pair == pair
            and (after_id is None or order_id > after_id)
        )
        page = nsmallest(limit, watched, key=itemgetter(0))
        return [_resting_order(order.view, order.epoch) for _, order in page if order.view is not None]

    async def resting_these(self, order_ids: Sequence[str]) -> list[RestingOrder]:
        found = ((each, self.database.orders.get(each)) for each in sorted(order_ids))
        return [
            _resting_order(order.view, order.epoch)
            for _, order in found
            if order is not None and order.resting and order.view is not None
        ]

    async def leases_of_resting(self, order_ids: Sequence[str]) -> list[Lease]:
        orders = self.database.orders
        found = [(each, orders[each]) for each in sorted(order_ids) if each in orders]
        return [Lease(order_id, order.epoch) for order_id, order in found if order.resting]

    async def count_resting(self) -> int:
        return sum(order.resting for order in self.database.orders.values())

    async def children(self, parent_id: str) -> list[OrderView]:
        return [
            order.view
            for _, order in sorted(self.database.orders.items())
            if order.parent_id == parent_id and order.view is not None
        ]

    async def events(self, order_id: str, after_seq: int = 0) -> list[StoredEvent]:
        order = self.database.orders.get(order_id)
        return order.events[after_seq:] if order else []

    async def histories(self, order_ids: Sequence[str]) -> dict[str, list[Event]]:
        return {order_id: [stored.event for stored in await self.events(order_id)] for order_id in order_ids}

    async def feed(self, after_position: int, limit: int) -> list[StoredEvent]:
        return self.database.log[after_position : after_position + limit]

    async def feed_of(self, order_ids: Collection[str], after: int, to: int) -> list[StoredEvent]:
        return [stored for stored in self.database.log[after:to] if stored.event.order_id in order_ids]

    async def head(self) -> int:
        return len(self.database.log)

    async def order(self, order_id: str) -> OrderRow | None:
        order = self.database.orders.get(order_id)
        if order is None or order.view is None:
            return None
        return OrderRow(order.view, order.owner, order.epoch)

    async def orders(self, where: OrderFilter, limit: int, before_id: str | None) -> list[OrderView]:
        newest_first = sorted(self.database.orders.items(), reverse=True)
        found = [
            view
            for order_id, order in newest_first
            if (view := order.view) is not None
            and (before_id is None or order_id < before_id)
            and (where.status is None or view.status == where.status)
            and (where.pair is None or view.pair == where.pair)
            and (where.kind is None or view.kind == where.kind)
            and (where.parent_id is None or order.parent_id == where.parent_id)
        ]
        return found[:limit]

    async def held(self, after_id: str | None, limit: int) -> list[HeldOrder]:
        held = [
            HeldOrder(order_id, order.epoch, order.seq)
            for order_id, order in sorted(self.database.orders.items())
            if order.owner == self.engine_id and order.is_due and (after_id is None or order_id > after_id)
        ]
        return held[:limit]

    async def claim(self, limit: int) -> list[Lease]:
        leases: list[Lease] = []
        for order_id, order in sorted(self.database.orders.items()):
            if len(leases) < limit and order.is_due and not self.database.is_alive(order.owner):
                order.owner, order.epoch = self.engine_id, order.epoch + 1
                leases.append(Lease(order_id, order.epoch))
        return leases
