"""The journal on PostgreSQL: the store behind the group-commit writer, and the reads."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import asyncpg
import msgspec

from bestex.domain.errors import (
    AppendRefusedError,
    DuplicateKeyError,
    EngineFencedError,
    JournalError,
)
from bestex.domain.events import Event, StoredEvent
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.order_state import OrderView
from bestex.domain.priority import SIGNED
from bestex.journal.connections import LOST, ConnectionPool, connect
from bestex.journal.queries import QUERIES
from bestex.journal.rows import append_columns, decode_resting, shown_order, stored_event
from bestex.journal.writer import (
    CommitUnknownError,
    GroupCommitWriter,
    MergedRows,
    RowsRejectedError,
    StoreUnavailableError,
    Verdict,
)
from bestex.ports import (
    ROOM_LASTS_S,
    Append,
    ArchivedOrder,
    ClaimedOrder,
    Clock,
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

ENGINE_TTL: Final = timedelta(seconds=5)
"""An engine that gave no sign of life for this long has lost its leases."""

TRANSACTION_TIMEOUT: Final = "30s"
"""The most that a writer stopped in the middle of a call can hold the head of the log."""
WRITER_SETTINGS: Final = {
    "transaction_timeout": TRANSACTION_TIMEOUT,
    # The append function's plans are kept, also those made while the tables were small: they must be those for large
    # ones. Settings of the connection, because a function's own are set and put back at every call.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
READ_CONNECTIONS: Final = 4
FEW_ORDERS: Final = 100
"""So many orders the server looks for in a stretch of the log; of more, the stretch is read and looked through here."""
CLAIM_CONNECTIONS: Final = 2

_ROOM_LASTS: Final = timedelta(seconds=ROOM_LASTS_S)
FORGET_ENGINES_AFTER: Final = timedelta(hours=1)
"""An engine that is silent for this long and holds nothing is fenced out, should it ever go on."""

_LEAST_URGENT: Final = 32_767  # of all priorities
_BEFORE_ALL_IDS: Final = "00000000-0000-0000-0000-000000000000"

_FENCED: Final = ("BX001", "BX002")  # no place here, or not with this commit number: start anew


class PostgresStore:
    """Makes the writer's commits over a connection of its own."""

    def __init__(self, dsn: str, engine_id: str) -> None:
        self._dsn = dsn
        self._engine_id = engine_id
        self._connection: asyncpg.Connection | None = None

    async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
        try:
            columns = append_columns(rows)
        except (TypeError, ValueError) as error:  # text that is not Unicode, such as half a surrogate pair
            raise RowsRejectedError(f"{type(error).__name__}: {error}") from error
        connection = await self._connected()
        try:
            row = await connection.fetchrow(QUERIES["append"], self._engine_id, number, *columns)
        except asyncpg.PostgresError as error:
            raise await self._translated(error) from error
        except LOST as error:
            await self.close()
            raise CommitUnknownError(str(error) or type(error).__name__) from error
        if row is None:
            raise RowsRejectedError("the append function gave no answer")
        refused: dict[str, JournalError] = {}
        for order_id, reason in zip(row["refused"], row["reasons"], strict=True):
            refused[str(order_id)] = await self._refusal(connection, str(order_id), reason, rows)
        return Verdict(row["first_position"], refused, row["head_hash"])

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            try:
                self._connection = await connect(self._dsn, "bestex writer", **WRITER_SETTINGS)
            except (asyncpg.PostgresError, *LOST) as error:
                raise StoreUnavailableError(str(error) or type(error).__name__) from error
        return self._connection

    async def _translated(self, error: asyncpg.PostgresError) -> Exception:
        """What an error from the server means for the commit."""
        state = error.sqlstate or ""
        if state in _FENCED:
            return EngineFencedError(str(error))
        if state.startswith(("08", "57P")):  # the connection was cut, maybe in the middle of the commit
            await self.close()
            return CommitUnknownError(str(error))
        if state.startswith(("22", "23", "54")):  # data, constraint, limit: the rows' own fault
            return RowsRejectedError(f"{type(error).__name__}: {error}")
        await self.close()  # anything else is the server's state, and was rolled back
        return StoreUnavailableError(f"{type(error).__name__}: {error}")

    async def _refusal(
        self, connection: asyncpg.Connection, order_id: str, reason: str, rows: Sequence[MergedRows]
    ) -> JournalError:
        if reason != "duplicate":
            return AppendRefusedError(f"order {order_id} has moved on, or its lease is another's ({reason})")
        new = next((merged.first.new for merged in rows if merged.first.order_id == order_id), None)
        if new is None:  # a companion: nobody waits to be told whose its keys are
            return JournalError(f"order {order_id} exists already")
        try:
            holders = await connection.fetch(QUERIES["keys"], new.caller, new.idempotency_key, new.client_order_id)
        except (asyncpg.PostgresError, *LOST) as error:
            await self.close()
            raise CommitUnknownError(str(error) or type(error).__name__) from error
        return _duplicate(holders, new) or JournalError(f"order {order_id} exists already")


def _duplicate(holders: Sequence[asyncpg.Record], new: NewOrder) -> DuplicateKeyError | None:
    """What is wrong with an order's keys, whose holders these are."""
    if not holders:
        return None
    same = len(holders) == 1 and bytes(holders[0]["request_hash"]) == new.request_hash
    return DuplicateKeyError(str(holders[0]["id"]), same)


def _claimed(rows: Sequence[asyncpg.Record]) -> list[ClaimedOrder]:
    """The orders whose histories these are, one behind the other."""
    claimed = []
    for order_id, its in groupby(rows, key=itemgetter("order_id")):
        history = list(its)
        lease = Lease(str(order_id), history[0]["lease_epoch"])
        claimed.append(ClaimedOrder(lease, _whole_history(history)))
    return claimed


def _whole_history(rows: Sequence[asyncpg.Record]) -> tuple[Event, ...]:
    """The events; none where they are not all, or not to be read: one such order must not keep the others."""
    if rows[-1]["seq"] != rows[-1]["last_seq"]:
        return ()
    try:
        return tuple(stored_event(row).event for row in rows)
    except (ValueError, LookupError, TypeError, msgspec.MsgspecError):
        return ()


def _unheld(rows: Sequence[asyncpg.Record]) -> list[UnheldOrder]:
    return [UnheldOrder(str(row["id"]), row["kind"], row["pair"], row["priority"]) for row in rows]


def _shown(row: asyncpg.Record) -> OrderView:
    return shown_order(str(row["id"]), row["view"], row["story"])


class PostgresJournal:
    """`Journal` on PostgreSQL for one engine."""

    def __init__(self, dsn: str, engine_id: str, clock: Clock, engine_ttl: timedelta = ENGINE_TTL) -> None:
        self.engine_id = engine_id
        self._ttl = engine_ttl
        self._store = PostgresStore(dsn, engine_id)
        self.writer = GroupCommitWriter(self._store, clock)
        self._pool = ConnectionPool(dsn, "bestex reader", READ_CONNECTIONS)
        self._fetch = self._pool.fetch
        # What they change need not outlast a crash of the server: whose lease an order is, every append checks, and
        # what it stores brings the claim to the disk with it.
        self._claims = ConnectionPool(dsn, "bestex claims", CLAIM_CONNECTIONS, synchronous_commit="off")

    @property
    def available(self) -> bool:
        """Whether the last commit reached the database."""
        return self.writer.available

    async def run(self) -> None:
        """Write what is appended, until cancelled or fenced out."""
        await self.writer.run()

    async def drain(self) -> None:
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        await self._store.close()
        self._pool.close()
        self._claims.close()

    def append(self, append: Append) -> "asyncio.Future[int]":
        return self.writer.append(append)

    def withdraw(self, appended: "asyncio.Future[int]") -> bool:
        return self.writer.withdraw(appended)

    async def holder(self, new: NewOrder) -> DuplicateKeyError | None:
        return _duplicate(await self._fetch("keys", new.caller, new.idempotency_key, new.client_order_id), new)

    def listen(self, listener: JournalListener) -> None:
        self.writer.listen(listener)

    def on_head(self, listener: HeadListener) -> None:
        self.writer.on_head(listener)

    async def events(self, order_id: str, after_seq: int = 0) -> list[StoredEvent]:
        rows = await self._fetch("events_of_order", order_id, after_seq)
        return [stored_event(row) for row in rows]

    async def histories(self, order_ids: Sequence[str]) -> dict[str, list[Event]]:
        histories: dict[str, list[Event]] = {order_id: [] for order_id in order_ids}
        for row in await self._fetch("events_of_orders", list(order_ids)):
            event = stored_event(row).event
            histories[event.order_id].append(event)
        return histories

    async def feed(self, after_position: int, limit: int) -> list[StoredEvent]:
        rows = await self._fetch("feed", after_position, limit)
        return [stored_event(row) for row in rows]

    async def feed_of(self, order_ids: Collection[str], after: int, to: int) -> list[StoredEvent]:
        if len(order_ids) <= FEW_ORDERS:
            rows = await self._fetch("feed_of", after, to, f"{{{','.join(order_ids)}}}")
        else:
            rows = await self._fetch("feed", after, to - after)
        return [stored_event(row) for row in rows if str(row["order_id"]) in order_ids]

    async def head(self) -> int:
        return (await self.log_head()).position

    async def log_head(self) -> LogHead:
        [row] = await self._fetch("head")
        return LogHead(str(row["journal_id"]), row["position"], row["hash"], row["archived_to"])

    async def hash_at(self, position: int) -> bytes | None:
        rows = await self._fetch("hash_at", position)
        return rows[0]["hash"] if rows else None

    async def archived_until(self) -> int:
        rows = await self._fetch("archived_until")
        return rows[0]["at_us"] if rows else 0

    async def archived(self, order_id: str) -> ArchivedOrder | None:
        rows = await self._fetch("archived", order_id)
        return ArchivedOrder(order_id, rows[0]["accepted_us"], rows[0]["archive"], rows[0]["file"]) if rows else None

    async def halted(self) -> Halt | None:
        rows = await self._fetch("halted")
        return Halt(rows[0]["reason"], HaltCause(rows[0]["cause"]), rows[0]["since_us"]) if rows else None

    async def halt(self, reason: str, cause: HaltCause) -> None:
        await self._fetch("halt", reason, cause.value)

    async def resume(self) -> None:
        await self._fetch("resume")

    async def order(self, order_id: str) -> OrderRow | None:
        rows = await self._fetch("order", order_id)
        if not rows:
            return None
        row = rows[0]
        owner = row["lease_owner"]
        return OrderRow(
            shown_order(order_id, row["view"], row["story"]), str(owner) if owner else None, row["lease_epoch"]
        )

    async def orders(self, where: OrderFilter, limit: int, before_id: str | None) -> list[OrderView]:
        arguments: list[Any] = [before_id, where.pair, where.kind, limit]
        if where.parent_id is not None:
            query = "orders_of_parent"
            arguments += [where.parent_id, where.status]
        elif where.status is None:
            query = "orders_newest"
        elif where.status is Status.CONFIRMED:
            query = "orders_confirmed"
        elif where.status is Status.WATCHING:
            query = "orders_resting"
        else:
            query = "orders_unfilled" if where.status in ENDS else "orders_open"
            arguments.append(where.status.value)
        return [_shown(row) for row in await self._fetch(query, *arguments)]

    async def claim(self, limit: int) -> list[Lease]:
        rows = await self._fetch("claim", self.engine_id, self._ttl, limit)
        return sorted((Lease(str(row["id"]), row["lease_epoch"]) for row in rows), key=lambda lease: lease.order_id)

    async def claim_waiting(self, limit: int, *, signed_only: bool = False) -> list[ClaimedOrder]:
        up_to = SIGNED if signed_only else _LEAST_URGENT
        return _claimed(await self._claims.fetch("claim_waiting", self.engine_id, self._ttl, limit, up_to))

    async def claim_these(self, order_ids: Sequence[str]) -> list[ClaimedOrder]:
        return _claimed(await self._claims.fetch("claim_these", self.engine_id, self._ttl, list(order_ids)))

    async def hand_back(self, leases: Sequence[Lease]) -> None:
        ids, epochs = [lease.order_id for lease in leases], [lease.epoch for lease in leases]
        await self._claims.fetch("hand_back", self.engine_id, ids, epochs)

    async def hand_back_held(self, limit: int) -> list[UnheldOrder]:
        return _unheld(await self._claims.fetch("hand_back_held", self.engine_id, limit))

    async def silent_engines(self) -> dict[str, int]:
        rows = await self._fetch("silent_engines", self._ttl)
        return {str(row["id"]): row["seen_us"] for row in rows}

    async def free_orders_of_the_dead(self, after_id: str | None, limit: int) -> list[UnheldOrder]:
        after = after_id or _BEFORE_ALL_IDS
        return _unheld(await self._claims.fetch("free_orders_of_the_dead", self._ttl, after, limit))

    async def forget_engines(self) -> None:
        await self._claims.fetch("forget_engines", FORGET_ENGINES_AFTER)

    async def unsettled(self) -> int:
        [row] = await self._fetch("unsettled")
        count: int = row["count"]
        return count

    async def reserve_room(self, bounds: Room, watched_max: int | None, held: Room) -> Reservation:
        limits = (bounds.waiting, bounds.open, bounds.watched, watched_max)
        holds = (held.waiting, held.open, held.watched)
        [row] = await self._fetch("reserve_room", self.engine_id, *limits, *holds, _ROOM_LASTS)
        room = Room(row["waiting"], row["open"], row["watched"])
        return Reservation(room, row["there_wait"], row["there_are_open"], row["there_are_watched"])

    async def resting(self, after_id: str | None, limit: int) -> list[RestingOrder]:
        rows = await self._fetch("resting", after_id or _BEFORE_ALL_IDS, limit)
        return [decode_resting(view, epoch) for view, epoch in rows]

    async def resting_pairs(self) -> list[str]:
        return sorted(row["pair"] for row in await self._fetch("resting_pairs"))

    async def resting_of(self, pair: str, after_id: str | None, limit: int) -> list[RestingOrder]:
        rows = await self._fetch("resting_of", pair, after_id or _BEFORE_ALL_IDS, limit)
        return [decode_resting(view, epoch) for view, epoch in rows]

    async def resting_these(self, order_ids: Sequence[str]) -> list[RestingOrder]:
        rows = await self._fetch("resting_these", list(order_ids))
        return [decode_resting(view, epoch) for view, epoch in rows]

    async def leases_of_resting(self, order_ids: Sequence[str]) -> list[Lease]:
        rows = await self._fetch("leases_of_resting", list(order_ids))
        return [Lease(str(row["id"]), row["lease_epoch"]) for row in rows]

    async def count_resting(self) -> int:
        [row] = await self._fetch("count_resting")
        count: int = row["count"]
        return count

    async def children(self, parent_id: str) -> list[OrderView]:
        return [_shown(row) for row in await self._fetch("children", parent_id)]

    async def held(self, after_id: str | None, limit: int) -> list[HeldOrder]:
        rows = await self._fetch("held", self.engine_id, after_id, limit)
        return [HeldOrder(str(row["id"]), row["lease_epoch"], row["seq"]) for row in rows]
