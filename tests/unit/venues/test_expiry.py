"""What is signed for an order that expires cannot land after it."""

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestex.domain.errors import ExpiresTooSoonError, FailureCode
from bestex.engine.retry import RETRIED
from bestex.venues.simulated.ledger import MemoryLedger
from bestex.venues.simulated.slots import MIN_VALID_BLOCKS, block_height, blockhash_slot_for, last_valid_height
from tests.support.simulation import World, open_world


async def built_to_expire(world: World, seconds: float) -> tuple[str, int]:
    """Sign a swap that expires so many seconds from now, and send it; its signature and when it expires."""
    quote = await world.quote("SOL", "USDC", "1")
    expires_us = world.clock.now_us() + int(seconds * 1e6)
    request = msgspec.structs.replace(
        world.swap_request("SOL", "USDC", quote, slippage_bps=5_000), expires_us=expires_us
    )
    transaction = await world.during(world.venue().build(request))
    await world.world.chain.send(transaction)  # type: ignore[arg-type] # `during` gives any object
    return transaction.signature, expires_us  # type: ignore[attr-defined]


@given(slot=st.integers(200, 10**7), ahead=st.integers(-5, 400))
def test_the_blockhash_is_the_latest_that_runs_out_in_time(slot: int, ahead: int) -> None:
    expiry = slot + ahead
    found = blockhash_slot_for(slot, expiry)
    last_height = block_height(expiry) - 1
    if found is None:
        assert last_height - block_height(slot) < MIN_VALID_BLOCKS
        return
    assert 0 <= found <= slot
    assert last_valid_height(found) <= last_height
    assert last_valid_height(found) - block_height(slot) >= MIN_VALID_BLOCKS
    assert found == slot or last_valid_height(found + 1) > last_height


@given(
    seed=st.integers(0, 10**6),
    slot_ms=st.sampled_from([4, 20, 133, 400, 1_000]),
    slots=st.integers(12, 220),
    part=st.floats(0, 1),
    late=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_nothing_lands_after_its_order_has_expired(
    seed: int, slot_ms: int, slots: int, part: float, late: float
) -> None:
    async def run() -> None:
        faults = {"late_landing": late, "dying_fork_error": late / 2, "fork_after_confirmed": late / 2}
        ledger = MemoryLedger()
        world = await open_world(seed=seed, slot_ms=slot_ms, profile="instant", faults=faults, ledger=ledger)
        world.start()
        await world.pass_time(part)
        signature, expires_us = await built_to_expire(world, slots * slot_ms / 1000)
        await world.pass_time(400 * slot_ms / 1000 + 1)
        for row in await ledger.since(0):
            assert row.signature == signature
            assert row.landed_us <= expires_us
        await world.close()

    asyncio.run(run())


async def test_it_may_be_sent_again_and_again_and_still_does_not_land_after_it() -> None:
    world = await open_world(faults={"dropped": 1})
    world.start()
    quote = await world.quote("SOL", "USDC", "1")
    expires_us = world.clock.now_us() + 20_000_000
    request = msgspec.structs.replace(world.swap_request("SOL", "USDC", quote), expires_us=expires_us)
    transaction = await world.during(world.venue().build(request))
    await world.clock.advance((expires_us - world.clock.now_us()) / 1e6)
    await world.world.control.set_faults({"dropped": 0})
    await world.world.chain.send(transaction)  # type: ignore[arg-type]
    await world.pass_time(10)
    assert await world.status(transaction.signature) is None  # type: ignore[attr-defined]
    await world.close()


async def test_an_order_that_expires_soon_still_lands_on_a_new_chain() -> None:
    world = await open_world()
    world.start()
    signature, expires_us = await built_to_expire(world, 6)
    status = await world.until_known(signature)
    assert status.error is None
    assert world.clock.now_us() <= expires_us
    await world.close()


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 2.0])
async def test_an_order_that_expires_too_soon_is_not_signed(seconds: float) -> None:
    world = await open_world()
    world.start()
    with pytest.raises(ExpiresTooSoonError, match="no time to land in, at least 8 blocks of 400 ms"):
        await built_to_expire(world, seconds)
    assert not RETRIED[FailureCode.EXPIRES_TOO_SOON]
    await world.close()


async def test_longer_slots_after_a_restart_make_nothing_live_longer_than_was_said() -> None:
    ledger = MemoryLedger()
    world = await open_world(slot_ms=20, ledger=ledger, faults={"dropped": 1})
    world.start()
    quote = await world.quote("SOL", "USDC", "1")
    expires_us = world.clock.now_us() + 2_500_000
    request = msgspec.structs.replace(world.swap_request("SOL", "USDC", quote), expires_us=expires_us)
    transaction = await world.during(world.venue().build(request))
    await world.close()
    slower = await open_world(slot_ms=400, ledger=ledger, clock=world.clock)
    slower.start()
    await slower.clock.advance((expires_us - slower.clock.now_us()) / 1e6 + 0.1)
    await slower.world.chain.send(transaction)  # type: ignore[arg-type]
    await slower.pass_time(10)
    assert await ledger.since(0) == []
    await slower.close()
