"""What an append costs: whole lives of orders through the group-commit writer into PostgreSQL, without the engine.

`python -m bench.append` starts a PostgreSQL of its own; with `--dsn` it takes one that runs on this machine.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import uuid_utils

from bench.errors import BenchError
from bench.lives import BUY, METEORA_POOL, NETWORK_FEE, SELL, appends_of, events_of, signature_of
from bench.processes import temporary_directory
from bestex.ambient import SystemClock
from bestex.domain.lifecycle import Status
from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.engines import Enrolment
from bestex.journal.migrations import migrate
from bestex.journal.postgres import PostgresStore
from bestex.journal.writer import GroupCommitWriter
from bestex.ports import Append
from bestex.venues.simulated.ledger import Anchor, Batch, Genesis, LandedTransaction, PoolState
from bestex.venues.simulated.postgres_ledger import PostgresLedger

TICKS_PER_SECOND: Final = 100
GROUPS_BETWEEN: Final = 3
"""Commits between two stages of an order: other orders' rows stand between its own."""


class Cost(msgspec.Struct, frozen=True):
    """What one order cost on average, of microseconds of CPU and bytes."""

    orders: int
    orders_a_commit: int
    commits: int
    client_us: float  # this process: the writer, the columns, the driver
    backend_us: float  # the writer's server process
    others_us: float  # the server's other processes
    commit_ms: float  # from sending a commit to its answer
    ledger_us: float  # the server process that keeps the simulated chain's ledger
    ledger_client_us: float
    wal_bytes: float
    table_bytes: float  # of events, orders and transactions
    index_bytes: float
    hot_updates: float  # the part of the updates of orders that wrote no index


class Meter:
    """Reads what the server has used so far."""

    def __init__(self, connection: asyncpg.Connection, backend: int, ledger: int) -> None:
        self._connection = connection
        self._backend = backend
        self._ledger = ledger
        self._postmaster = int(_stat(backend)[1])

    def cpu_s(self) -> tuple[float, float, float]:
        """Of the writer's backend, the ledger's, and of all other server processes but the meter's own."""
        own = self._connection.get_server_pid()
        backend = ledger = others = 0.0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == own:
                continue
            try:
                stat = _stat(int(entry.name))
            except OSError:
                continue
            seconds = _cpu_s(int(entry.name), stat)
            if int(entry.name) == self._backend:
                backend = seconds
            elif int(entry.name) == self._ledger:
                ledger = seconds
            elif int(stat[1]) == self._postmaster:
                others += seconds
        return backend, ledger, others

    async def sizes(self) -> Mapping[str, float]:
        row = await self._connection.fetchrow(
            """with ours as (select inhrelid as oid from pg_inherits where inhparent = 'bestex.events'::regclass
                              union select 'bestex.events'::regclass union select 'bestex.orders'::regclass
                              union select 'sim.transactions'::regclass)
               select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float as wal,
                      sum(pg_table_size(oid))::float as tables, sum(pg_indexes_size(oid))::float as indexes
                 from ours"""
        )
        await self._connection.execute("select pg_stat_clear_snapshot()")
        updates = await self._connection.fetchrow(
            """select n_tup_upd::float as updates, n_tup_hot_upd::float as hot from pg_stat_user_tables
                where relid = 'bestex.orders'::regclass"""
        )
        return {**dict(row or {}), **dict(updates or {})}


def _stat(pid: int) -> list[str]:
    return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()


def _cpu_s(pid: int, stat: Sequence[str]) -> float:
    """By the scheduler's own count where there is one: it is exact, the ticks are not."""
    try:
        return int((Path("/proc") / str(pid) / "schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return (int(stat[11]) + int(stat[12])) / TICKS_PER_SECOND


class Lives:
    """Makes orders' appends before they are needed: making them is no part of what is measured."""

    def __init__(self) -> None:
        self._made = 0

    def group(self, orders: int) -> list[list[list[Append]]]:
        """The appends of so many orders, by stage and order."""
        lives = []
        for _ in range(orders):
            self._made += 1
            order_id = str(uuid_utils.uuid7())
            side = SELL if self._made % 2 else BUY
            lives.append(
                appends_of(events_of(order_id, signature_of(order_id), side, time.time_ns() // 1000, self._made))
            )
        return [list(stage) for stage in zip(*lives, strict=True)]


class Chain:
    """What the simulated chain stores of orders that landed: one batch for each commit of the writer."""

    def __init__(self, dsn: str) -> None:
        self._ledger = PostgresLedger(dsn)
        self._epoch = self._batch = self._landed = 0

    async def open(self) -> None:
        stored = await self._ledger.open(Genesis(0, bytes(32)), Anchor(0, 1_000, 4_000))
        self._epoch, self._landed = stored.epoch, stored.transactions

    async def land(self, submitted: Sequence[Append]) -> None:
        self._batch += 1
        self._landed += len(submitted)
        rows = [
            LandedTransaction(
                signature=str(append.view.tx_hash),
                slot=2_000 + self._batch,
                landed_us=append.events[0].at_us,
                order_id=append.order_id,
                attempt=1,
                venue="meteora",
                mint_in=SELL.mint_in,
                mint_out=SELL.mint_out,
                amount_in=SELL.units_in,
                amount_out=SELL.units_out,
                network_fee=NETWORK_FEE,
                error=None,
                pool=METEORA_POOL,
                asked_in=SELL.units_in,
            )
            for append in submitted
        ]
        balances = {SELL.mint_in: self._landed, SELL.mint_out: self._landed}
        pools = {METEORA_POOL: PoolState((self._landed, self._landed), self._batch)}
        batch = Batch(self._batch, 2_000 + self._batch, self._landed, rows, (), (), balances, pools)
        await self._ledger.commit(self._epoch, batch)

    async def close(self) -> None:
        await self._ledger.close()


async def drive(
    writer: GroupCommitWriter, chain: Chain, lives: Lives, orders: int, orders_a_commit: int
) -> tuple[float, float]:
    """Bring `orders` orders from acceptance to finality; the seconds of CPU of this process for journal and ledger.

    Each commit holds a stage of four groups of orders, as it is when orders come all the time.
    """
    waiting: list[tuple[int, list[list[Append]]]] = []
    journal_s = ledger_s = 0.0
    turn = 0
    left = orders
    while left > 0 or waiting:
        if left > 0:
            count = min(orders_a_commit, left)
            left -= count
            waiting += [(turn + number * GROUPS_BETWEEN, stage) for number, stage in enumerate(lives.group(count))]
        due = [append for at, stage in waiting if at <= turn for appends in stage for append in appends]
        waiting = [(at, stage) for at, stage in waiting if at > turn]
        turn += 1
        if not due:
            continue
        submitted = [append for append in due if append.events[0].status is Status.SUBMITTED]
        began = time.process_time()
        await asyncio.gather(*[writer.append(append) for append in due])
        between = time.process_time()
        if submitted:
            await chain.land(submitted)
        journal_s += between - began
        ledger_s += time.process_time() - between
    return journal_s, ledger_s


async def measure(dsn: str, sizes: Sequence[int], orders: int, warm_up: int) -> list[Cost]:
    """The cost at each of these numbers of orders a commit."""
    engine_id = str(uuid_utils.uuid7())
    enrolment = Enrolment(dsn, engine_id, "bench.append", SystemClock())
    await enrolment.enrol()
    store = PostgresStore(dsn, engine_id)
    writer = GroupCommitWriter(store, SystemClock())
    running = asyncio.ensure_future(writer.run())
    connection = await asyncpg.connect(dsn)
    lives = Lives()
    chain = Chain(dsn)
    costs = []
    try:
        await chain.open()
        await drive(writer, chain, lives, warm_up, sizes[0])
        pids = [await connection.fetchval(BACKEND, name) for name in ("bestex writer", "bestex-sim")]
        meter = Meter(connection, *pids)
        for size in sizes:
            costs.append(await _measured(meter, writer, chain, lives, orders, size))
            print(row_of(costs[-1]), flush=True)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()
        await chain.close()
        await enrolment.leave()
        await connection.close()
    return costs


async def _measured(
    meter: Meter, writer: GroupCommitWriter, chain: Chain, lives: Lives, orders: int, size: int
) -> Cost:
    await asyncio.sleep(1.1)  # the server reports its counts of rows once a second
    before, commits, cpu = await meter.sizes(), writer.commits, meter.cpu_s()
    began = time.monotonic()
    client_s, ledger_client_s = await drive(writer, chain, lives, orders, size)
    elapsed_s = time.monotonic() - began
    backend_s, ledger_s, others_s = (now - then for now, then in zip(meter.cpu_s(), cpu, strict=True))
    await asyncio.sleep(1.1)
    after = await meter.sizes()
    grown = {name: after[name] - before[name] for name in after}
    commits = writer.commits - commits
    return Cost(
        orders=orders,
        orders_a_commit=size,
        commits=commits,
        client_us=client_s / orders * 1e6,
        backend_us=backend_s / orders * 1e6,
        others_us=others_s / orders * 1e6,
        commit_ms=elapsed_s / commits * 1e3,
        ledger_us=ledger_s / orders * 1e6,
        ledger_client_us=ledger_client_s / orders * 1e6,
        wal_bytes=grown["wal"] / orders,
        table_bytes=grown["tables"] / orders,
        index_bytes=grown["indexes"] / orders,
        hot_updates=grown["hot"] / max(1.0, grown["updates"]),
    )


BACKEND: Final = "select pid from pg_stat_activity where application_name = $1 and state is not null limit 1"
HEAD: Final = (
    "us of CPU and bytes an order\n"
    "orders/commit  backend  ledger  others  client  ledger's    WAL  tables  indexes  HOT %  commit ms"
)


def row_of(cost: Cost) -> str:
    return (
        f"{cost.orders_a_commit:13}  {cost.backend_us:7.1f}  {cost.ledger_us:6.1f}  {cost.others_us:6.1f}"
        f"  {cost.client_us:6.1f}  {cost.ledger_client_us:8.1f}  {cost.wal_bytes:5.0f}  {cost.table_bytes:6.0f}"
        f"  {cost.index_bytes:7.0f}  {cost.hot_updates * 100:5.1f}  {cost.commit_ms:9.1f}"
    )


async def run(options: argparse.Namespace) -> None:
    print(HEAD)
    if options.dsn:
        await migrate(options.dsn)
        await measure(options.dsn, options.sizes, options.orders, options.warm_up)
        return
    with temporary_directory() as folder:
        postgres = EmbeddedPostgres(folder)
        await postgres.start()
        try:
            await migrate(postgres.dsn)
            await measure(postgres.dsn, options.sizes, options.orders, options.warm_up)
        finally:
            await postgres.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.append", description=__doc__)
    parser.add_argument("--dsn", help="a PostgreSQL on this machine, instead of one of its own")
    parser.add_argument("--orders", type=int, default=6_000, help="orders at each size (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=1_000, help="orders before (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 100, 500], help="orders a commit")
    try:
        asyncio.run(run(parser.parse_args()))
    except BenchError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
