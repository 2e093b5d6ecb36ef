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
from bench.lives import BUY, SELL, appends_of, events_of, signature_of
from bench.processes import temporary_directory
from bestex.ambient import SystemClock
from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.engines import Enrolment
from bestex.journal.migrations import migrate
from bestex.journal.postgres import PostgresStore
from bestex.journal.writer import GroupCommitWriter
from bestex.ports import Append

TICKS_PER_SECOND: Final = 100
EVENTS_PER_ORDER: Final = 6
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
    wal_bytes: float
    table_bytes: float  # of events and orders
    index_bytes: float
    hot_updates: float  # the part of the updates of orders that wrote no index


class Meter:
    """Reads what the server has used so far."""

    def __init__(self, connection: asyncpg.Connection, backend: int) -> None:
        self._connection = connection
        self._backend = backend
        self._postmaster = int(_stat(backend)[1])

    def cpu_s(self) -> tuple[float, float]:
        """Of the writer's backend, and of all other server processes but the meter's own."""
        own = self._connection.get_server_pid()
        backend = others = 0.0
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
            elif int(stat[1]) == self._postmaster:
                others += seconds
        return backend, others

    async def sizes(self) -> Mapping[str, float]:
        row = await self._connection.fetchrow(
            """with ours as (select inhrelid as oid from pg_inherits where inhparent = 'bestex.events'::regclass
                              union select 'bestex.events'::regclass union select 'bestex.orders'::regclass)
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


async def drive(writer: GroupCommitWriter, lives: Lives, orders: int, orders_a_commit: int) -> float:
    """Bring `orders` orders from acceptance to finality; the seconds of CPU that it took this process.

    Each commit holds a stage of four groups of orders, as it is when orders come all the time.
    """
    waiting: list[tuple[int, list[list[Append]]]] = []
    cpu_s = 0.0
    turn = 0
    left = orders
    while left > 0 or waiting:
        due: list[Append] = []
        if left > 0:
            count = min(orders_a_commit, left)
            left -= count
            waiting += [(turn + number * GROUPS_BETWEEN, stage) for number, stage in enumerate(lives.group(count))]
        due = [append for at, stage in waiting if at <= turn for appends in stage for append in appends]
        waiting = [(at, stage) for at, stage in waiting if at > turn]
        turn += 1
        if not due:
            continue
        began = time.process_time()
        await asyncio.gather(*[writer.append(append) for append in due])
        cpu_s += time.process_time() - began
    return cpu_s


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
    costs = []
    try:
        await drive(writer, lives, warm_up, sizes[0])
        backend = await connection.fetchval("select pid from pg_stat_activity where application_name = 'bestex writer'")
        meter = Meter(connection, backend)
        for size in sizes:
            costs.append(await _measured(meter, writer, lives, orders, size))
            print(row_of(costs[-1]), flush=True)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()
        await enrolment.leave()
        await connection.close()
    return costs


async def _measured(meter: Meter, writer: GroupCommitWriter, lives: Lives, orders: int, size: int) -> Cost:
    await asyncio.sleep(1.1)  # the server reports its counts of rows once a second
    before, commits, cpu = await meter.sizes(), writer.commits, meter.cpu_s()
    began = time.monotonic()
    client_s = await drive(writer, lives, orders, size)
    elapsed_s = time.monotonic() - began
    backend_s, others_s = (now - then for now, then in zip(meter.cpu_s(), cpu, strict=True))
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
        wal_bytes=grown["wal"] / orders,
        table_bytes=grown["tables"] / orders,
        index_bytes=grown["indexes"] / orders,
        hot_updates=grown["hot"] / max(1.0, grown["updates"]),
    )


HEAD: Final = (
    "orders/commit  backend us  others us  client us  (us an order)   WAL B  tables B  indexes B  HOT %  events/s CPU"
)


def row_of(cost: Cost) -> str:
    return (
        f"{cost.orders_a_commit:13}  {cost.backend_us:10.1f}  {cost.others_us:9.1f}  {cost.client_us:9.1f}"
        f"  {'':15}  {cost.wal_bytes:6.0f}  {cost.table_bytes:8.0f}  {cost.index_bytes:9.0f}"
        f"  {cost.hot_updates * 100:5.1f}  {EVENTS_PER_ORDER / cost.backend_us * 1e6:8.0f}"
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
