"""The ledger in PostgreSQL when things go wrong: lost connections, late batches, other openers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random

import asyncpg
import msgspec
import pytest

from bestex.ports import LaunchWish
from bestex.venues.simulated.launch_nature import draw
from bestex.venues.simulated.ledger import (
    Adjustment,
    Anchor,
    Batch,
    Genesis,
    LandedTransaction,
    LedgerFencedError,
    LedgerUnavailableError,
    PoolState,
)
from bestex.venues.simulated.postgres_ledger import PostgresLedger
from tests.support.simulation import open_world, postgres_server  # noqa: F401 - a fixture

GENESIS = Genesis(1_000, b"k" * 32)
ANCHOR = Anchor(1_000, 1, 400_000)
MOST = 2**64 - 1
ROW = LandedTransaction("signature", 7, 5_000, "order", 1, "raydium", "in", "out", MOST, MOST, 15_000, None)
LISTING = draw(Random(1), LaunchWish(), name="a launch", creator="creator", listed_us=5_000, slot=7, scheduled=True)
BATCH = Batch(
    number=1,
    slot=7,
    transactions=1,
    landed=[ROW],
    undone=[],
    adjustments=[Adjustment(1, "in", MOST, "start", 4_000)],
    balances={"in": MOST, "out": 0},
    pools={"pool": PoolState((2**128 - 1, 2**64), 5_000)},
    listings=[LISTING],
    shifts={"in": -0.1},
)


@pytest.fixture(name="dsn")
async def empty_database(postgres_dsn_of_ledgers: str) -> str:
    connection = await asyncpg.connect(postgres_dsn_of_ledgers)
    await connection.execute("drop schema if exists sim cascade")
    await connection.close()
    return postgres_dsn_of_ledgers


@pytest.fixture(name="ledger")
async def ledger_on(dsn: str) -> AsyncIterator[PostgresLedger]:
    ledger = PostgresLedger(dsn)
    yield ledger
    await ledger.close()


async def cut_connections(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'bestex-sim'"
    )
    await connection.close()


async def test_what_was_committed_is_read_back_to_the_last_base_unit(dsn: str, ledger: PostgresLedger) -> None:
    first = await ledger.open(GENESIS, ANCHOR)
    await ledger.commit(first.epoch, BATCH)
    again = await ledger.open(Genesis(9, b"l" * 32), Anchor(9, 9, 9))
    assert (first.epoch, again.epoch) == (1, 2)
    assert (again.genesis, again.anchor) == (GENESIS, ANCHOR)
    assert (again.slot, again.transactions, again.adjustments) == (7, 1, 1)
    assert again.balances == BATCH.balances
    assert again.pools == BATCH.pools
    assert again.listings == [LISTING]
    assert again.shifts == {"in": -0.1}
    assert await ledger.find(["signature", "unknown"]) == [ROW]
    assert await ledger.since(7) == [ROW]
    assert await ledger.since(8) == []


async def test_the_same_batch_twice_is_as_once(ledger: PostgresLedger) -> None:
    epoch = (await ledger.open(GENESIS, ANCHOR)).epoch
    await ledger.commit(epoch, BATCH)
    await ledger.commit(epoch, BATCH)
    assert (await ledger.open(GENESIS, ANCHOR)).balances == BATCH.balances


async def test_a_late_copy_of_an_earlier_batch_changes_nothing(ledger: PostgresLedger) -> None:
    epoch = (await ledger.open(GENESIS, ANCHOR)).epoch
    await ledger.commit(epoch, BATCH)
    undoing = msgspec.structs.replace(
        BATCH, number=2, landed=[], undone=["signature"], transactions=0, adjustments=[], balances={"in": 5}
    )
    await ledger.commit(epoch, undoing)
    with pytest.raises(LedgerFencedError):
        await ledger.commit(epoch, BATCH)
    again = await ledger.open(GENESIS, ANCHOR)
    assert (again.balances["in"], again.transactions) == (5, 0)
    assert await ledger.find(["signature"]) == []


async def test_an_earlier_opener_is_fenced(dsn: str, ledger: PostgresLedger) -> None:
    epoch = (await ledger.open(GENESIS, ANCHOR)).epoch
    other = PostgresLedger(dsn)
    await other.open(GENESIS, ANCHOR)
    await other.close()
    with pytest.raises(LedgerFencedError):
        await ledger.commit(epoch, BATCH)
    with pytest.raises(LedgerFencedError):
        await ledger.set_anchor(epoch, ANCHOR)
    assert await ledger.since(0) == []


async def test_openers_that_race_for_a_new_ledger_see_one_world(dsn: str) -> None:
    ledgers = [PostgresLedger(dsn) for _ in range(4)]
    keys = [bytes([number]) * 32 for number in range(4)]
    stored = await asyncio.gather(
        *(ledger.open(Genesis(1, key), ANCHOR) for ledger, key in zip(ledgers, keys, strict=True))
    )
    assert len({each.genesis.wallet_key for each in stored}) == 1
    assert sorted(each.epoch for each in stored) == [1, 2, 3, 4]
    for ledger in ledgers:
        await ledger.close()


async def test_a_lost_connection_is_made_again_for_the_same_batch(dsn: str, ledger: PostgresLedger) -> None:
    epoch = (await ledger.open(GENESIS, ANCHOR)).epoch
    await cut_connections(dsn)
    with suppress(LedgerUnavailableError):  # unless the loss was noticed before
        await ledger.commit(epoch, BATCH)
    await ledger.commit(epoch, BATCH)
    assert await ledger.find(["signature"]) == [ROW]


async def test_nothing_listens_where_the_ledger_should_be(tmp_path: object) -> None:
    ledger = PostgresLedger(f"postgresql://postgres@/postgres?host={tmp_path}&port=5432")
    with pytest.raises(LedgerUnavailableError):
        await ledger.open(GENESIS, ANCHOR)
    await ledger.close()


async def test_connections_cut_under_load_lose_and_double_nothing(dsn: str, ledger: PostgresLedger) -> None:
    world = await open_world(profile="instant", ledger=ledger)
    world.start()
    start = await world.balances()
    signatures = []
    for number in range(200):
        transaction = await world.built("SOL", "USDC", "1", slippage_bps=500)
        await world.world.chain.send(transaction)
        signatures.append(transaction.signature)
        if number % 20 == 10:
            await cut_connections(dsn)

    async def all_known() -> bool:
        return all((await world.world.chain.statuses(signatures)).statuses)

    await world.until(all_known, 60)
    fills = [await world.fill(signature) for signature in signatures]
    await world.restart()
    sol = world.tokens.get("SOL").mint
    assert (await world.balances())[sol] == start[sol] - sum(fill.amount_in + fill.fee_paid for fill in fills)
    assert (await world.world.control.status()).transactions == 200
    await world.close()
