"""The ledger in PostgreSQL, schema `sim`: on disk before anybody is shown it, under its own connections."""

import asyncio
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

import asyncpg
import msgspec

from bestex.venues.simulated.ledger import (
    LISTINGS_KEPT,
    Adjustment,
    Anchor,
    Batch,
    Genesis,
    LandedTransaction,
    LedgerFencedError,
    LedgerUnavailableError,
    PoolState,
    Stored,
)
from bestex.venues.simulated.listing import Listing

_SCHEMA_LOCK: Final = 7_236_412_019  # any number that no other lock of this database has
_COMMIT_TIMEOUT_S: Final = 10.0
_SCHEMA_TIMEOUT_S: Final = 3_600.0  # it may have to wait for one who reads the ledger
_CONNECT_TIMEOUT_S: Final = 5.0
_ROW: Final = (
    "signature, slot, landed_us, order_id, attempt, venue, mint_in, mint_out, "
    "amount_in::text, amount_out::text, network_fee, error, pool, asked_in::text"
)
_COMMIT: Final = """select sim.commit_batch(
    $1, $2, $3, $4, $5,
    $6::text::text[], $7::text::bigint[], $8::text::bigint[], $9::text::text[], $10::text::int[], $11::text::text[],
    $12::text::text[], $13::text::text[], $14::text::numeric[], $15::text::numeric[], $16::text::bigint[],
    $17, $18::text::text[], $19::text::numeric[],
    $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36)"""
_EMPTY: Final = '""'
_UNAVAILABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the driver says when the server hangs up at certain moments
)
_listings: Final = msgspec.json.Decoder(Listing)


class PostgresLedger:
    """A ledger at a PostgreSQL address. Connections are made when needed and again when lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._writer = _Line(dsn)
        self._reader = _Line(dsn)

    async def open(self, genesis: Genesis, anchor: Anchor) -> Stored:
        schema = resources.files("bestex.venues.simulated").joinpath("ledger.sql").read_text()
        async with self._writer as connection:
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock($1)", _SCHEMA_LOCK, timeout=_SCHEMA_TIMEOUT_S)
                await connection.execute("set local client_min_messages = warning")  # "already exists, skipping"
                await connection.execute(schema, timeout=_SCHEMA_TIMEOUT_S)
            async with connection.transaction():
                await connection.execute(
                    "insert into sim.world (genesis_us, wallet_key, anchor_us, anchor_slot, slot_us)"
                    " values ($1, $2, $3, $4, $5) on conflict do nothing",
                    genesis.genesis_us,
                    genesis.wallet_key,
                    anchor.at_us,
                    anchor.slot,
                    anchor.slot_us,
                )
                world = await connection.fetchrow("update sim.world set epoch = epoch + 1, batch = 0 returning *")
                # The row's lock is held: no writer of an earlier epoch can commit between these reads.
                balances = await connection.fetch("select mint, units::text from sim.balances order by mint")
                pools = await connection.fetch("select * from sim.pools order by address")
                listings = await connection.fetch(
                    "with kept as (select * from sim.launches order by closed, listed_us desc limit $1)"
                    " select facts from kept order by listed_us, pool",
                    LISTINGS_KEPT,
                )
                shifts = await connection.fetch("select mint, log_price from sim.shifts order by mint")
                adjustments = await connection.fetchval("select coalesce(max(number), 0) from sim.adjustments")
        if world is None:
            raise LedgerUnavailableError("sim.world lost its row")
        return Stored(
            epoch=world["epoch"],
            genesis=Genesis(world["genesis_us"], world["wallet_key"]),
            anchor=Anchor(world["anchor_us"], world["anchor_slot"], world["slot_us"]),
            slot=world["slot"],
            transactions=world["transactions"],
            adjustments=adjustments,
            balances={row["mint"]: int(row["units"]) for row in balances},
            pools={
                row["address"]: PoolState((int(row["state_0"]), int(row["state_1"])), row["settled_us"])
                for row in pools
            },
            listings=[_listings.decode(row["facts"]) for row in listings],
            shifts={row["mint"]: row["log_price"] for row in shifts},
        )

    async def set_anchor(self, epoch: int, anchor: Anchor) -> None:
        async with self._writer as connection:
            changed = await connection.execute(
                "update sim.world set anchor_us = $2, anchor_slot = $3, slot_us = $4 where epoch = $1",
                epoch,
                anchor.at_us,
                anchor.slot,
                anchor.slot_us,
            )
        if changed != "UPDATE 1":
            raise _fenced()

    async def commit(self, epoch: int, batch: Batch) -> None:
        async with self._writer as connection:
            ours = await connection.fetchval(_COMMIT, *batch_columns(epoch, batch), timeout=_COMMIT_TIMEOUT_S)
        if not ours:
            raise _fenced()

    async def find(self, signatures: Sequence[str]) -> list[LandedTransaction]:
        async with self._reader as connection:
            rows = await connection.fetch(
                f"select {_ROW} from sim.transactions where signature = any ($1)",  # noqa: S608 - a constant
                signatures,
            )
        return [_landed(row) for row in rows]

    async def since(self, slot: int) -> list[LandedTransaction]:
        async with self._reader as connection:
            rows = await connection.fetch(
                f"select {_ROW} from sim.transactions where slot >= $1 order by slot",  # noqa: S608 - a constant
                slot,
            )
        return [_landed(row) for row in rows]

    async def latest(self, before: str | None, limit: int) -> list[LandedTransaction]:
        behind = "where (slot, signature) < (select slot, signature from sim.transactions where signature = $2)"
        async with self._reader as connection:
            rows = await connection.fetch(
                f"select {_ROW} from sim.transactions {behind if before else ''}"  # noqa: S608 - constants
                " order by slot desc, signature desc limit $1",
                *([limit] if before is None else [limit, before]),
            )
        return [_landed(row) for row in rows]

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()


class _Line:
    """One connection, one user at a time. A failure of any kind drops it and is a `LedgerUnavailableError`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> "asyncpg.Connection[asyncpg.Record]":
        await self._turn.acquire()
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._dsn,
                    timeout=_CONNECT_TIMEOUT_S,
                    command_timeout=_COMMIT_TIMEOUT_S,
                    server_settings={
                        "application_name": "bestex-sim",
                        "synchronous_commit": "on",
                        "plan_cache_mode": "force_generic_plan",  # one plan for ever, however many rows a batch has
                        "enable_seqscan": "off",  # also where it was made while the tables were small
                    },
                )
        except _UNAVAILABLE as error:
            self._turn.release()
            raise LedgerUnavailableError(str(error) or type(error).__name__) from error
        except BaseException:
            self._turn.release()
            raise
        return self._connection

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if error is not None and self._connection is not None:
                self._connection.terminate()  # whatever it was doing, nobody waits for it any more
                self._connection = None
        finally:
            self._turn.release()
        if isinstance(error, _UNAVAILABLE):
            raise LedgerUnavailableError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        async with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    await connection.close(timeout=_CONNECT_TIMEOUT_S)
                except _UNAVAILABLE:
                    connection.terminate()


def batch_columns(epoch: int, batch: Batch) -> tuple[Any, ...]:  # the driver takes any type
    """The arguments of `sim.commit_batch`."""
    landed = batch.landed
    adjustments: Sequence[Adjustment] = batch.adjustments
    pools = batch.pools
    return (
        epoch,
        batch.number,
        batch.slot,
        batch.transactions,
        batch.undone,
        _words([row.signature for row in landed]),
        _numbers([row.slot for row in landed]),
        _numbers([row.landed_us for row in landed]),
        _words([row.order_id for row in landed]),
        _numbers([row.attempt for row in landed]),
        _words([row.venue for row in landed]),
        _words([row.mint_in for row in landed]),
        _words([row.mint_out for row in landed]),
        _numbers([row.amount_in for row in landed]),
        _numbers([row.amount_out for row in landed]),
        _numbers([row.network_fee for row in landed]),
        [row.error for row in landed],
        _words([row.pool for row in landed]),
        _numbers([row.asked_in for row in landed]),
        [each.number for each in adjustments],
        [each.mint for each in adjustments],
        [str(each.units) for each in adjustments],
        [each.reason for each in adjustments],
        [each.at_us for each in adjustments],
        list(batch.balances),
        [str(units) for units in batch.balances.values()],
        list(pools),
        [str(pool.state[0]) for pool in pools.values()],
        [str(pool.state[1]) for pool in pools.values()],
        [pool.settled_us for pool in pools.values()],
        [listing.pool for listing in batch.listings],
        [listing.listed_us for listing in batch.listings],
        [listing.closed_us is not None for listing in batch.listings],
        [msgspec.json.encode(listing).decode() for listing in batch.listings],
        list(batch.shifts),
        list(batch.shifts.values()),
    )


def _words(values: Sequence[str]) -> str:
    """Ids, addresses and names as PostgreSQL writes an array: a fraction of the driver's cost for each element."""
    return f"{{{','.join([value or _EMPTY for value in values])}}}"


def _numbers(values: Sequence[int]) -> str:
    """Whole numbers as PostgreSQL writes an array."""
    return f"{{{','.join(map(str, values))}}}"


def _landed(row: asyncpg.Record) -> LandedTransaction:
    return LandedTransaction(
        signature=row["signature"],
        slot=row["slot"],
        landed_us=row["landed_us"],
        order_id=row["order_id"],
        attempt=row["attempt"],
        venue=row["venue"],
        mint_in=row["mint_in"],
        mint_out=row["mint_out"],
        amount_in=int(row["amount_in"]),
        amount_out=int(row["amount_out"]),
        network_fee=row["network_fee"],
        error=row["error"],
        pool=row["pool"],
        asked_in=int(row["asked_in"]),
    )


def _fenced() -> LedgerFencedError:
    return LedgerFencedError("the simulated chain's ledger was opened by another process since")
