"""What every chain promises the engine. Each adapter is one more parameter of the `ledger` fixture or its like."""

import pytest

from bestex.domain.errors import ChainUnreachableError, FailureCode
from bestex.ports import Commitment
from tests.support.simnet import (  # noqa: F401 - fixtures
    ledger_fixture,
    open_case_fixture,
    postgres_server,
)
from tests.support.simulation import OpenWorld, World

LANDED_S = 4.0  # longer than any landing
EXPIRED_S = 90.0  # longer than any blockhash lives, and the expiry is final


async def proven_absent(world: World, signature: str, last_valid_block_height: int) -> bool:
    """Rule 4: the expiry is final at one node, and then that node's whole history does not know the signature."""
    height = await world.world.chain.finalized_height()
    report = await world.report(signature)
    return (
        height.height > last_valid_block_height
        and report.endpoint == height.endpoint
        and report.finalized_slot >= height.slot
        and report.statuses[0] is None
    )


async def test_a_sent_swap_lands_and_its_fill_says_what_moved(open_case: OpenWorld) -> None:
    world = await open_case()
    sol, usdc = await world.balance("SOL"), await world.balance("USDC")
    transaction = await world.built("SOL", "USDC", "1.5")
    await world.world.chain.send(transaction)
    assert await world.status(transaction.signature) is None
    status = await world.until_known(transaction.signature)
    assert status.error is None
    assert status.commitment is Commitment.CONFIRMED
    fill = await world.fill(transaction.signature)
    assert fill.amount_in == 1_500_000_000
    assert await world.balance("SOL") == sol - fill.amount_in - fill.fee_paid
    assert await world.balance("USDC") == usdc + fill.amount_out


async def test_a_landed_swap_becomes_final_after_32_slots(open_case: OpenWorld) -> None:
    world = await open_case()
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)

    async def final() -> bool:
        report = await world.report(transaction.signature)
        status = report.statuses[0]
        assert status is not None
        assert (status.commitment is Commitment.FINALIZED) == (status.slot <= report.finalized_slot)
        return status.commitment is Commitment.FINALIZED

    await world.until(final, 20)


async def test_the_same_bytes_execute_once_however_often_they_are_sent(open_case: OpenWorld) -> None:
    world = await open_case()
    sol = await world.balance("SOL")
    transaction = await world.built("SOL", "USDC", "1")
    for _ in range(3):
        await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)
    await world.world.chain.send(transaction)
    await world.pass_time(LANDED_S)
    fill = await world.fill(transaction.signature)
    assert await world.balance("SOL") == sol - fill.amount_in - fill.fee_paid


async def test_the_same_bytes_execute_once_across_restarts(open_case: OpenWorld) -> None:
    world = await open_case()
    sol = await world.balance("SOL")
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    before = await world.until_known(transaction.signature)
    await world.restart()
    assert (await world.until_known(transaction.signature)).slot == before.slot
    await world.world.chain.send(transaction)
    await world.pass_time(LANDED_S)
    fill = await world.fill(transaction.signature)
    assert await world.balance("SOL") == sol - fill.amount_in - fill.fee_paid


async def test_a_swap_in_flight_at_a_kill_can_be_sent_again_and_lands_once(open_case: OpenWorld) -> None:
    world = await open_case()
    sol = await world.balance("SOL")
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    await world.restart()
    assert await world.balance("SOL") == sol
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)
    fill = await world.fill(transaction.signature)
    assert await world.balance("SOL") == sol - fill.amount_in - fill.fee_paid


async def test_an_expired_blockhash_never_lands_and_its_absence_can_be_proven(open_case: OpenWorld) -> None:
    world = await open_case()
    transaction = await world.built("SOL", "USDC", "1")
    assert not await proven_absent(world, transaction.signature, transaction.last_valid_block_height)
    await world.pass_time(EXPIRED_S)
    assert await proven_absent(world, transaction.signature, transaction.last_valid_block_height)
    await world.world.chain.send(transaction)
    await world.pass_time(LANDED_S)
    assert await world.status(transaction.signature) is None


async def test_chain_time_goes_on_while_the_engine_is_dead(open_case: OpenWorld) -> None:
    world = await open_case()
    transaction = await world.built("SOL", "USDC", "1")
    before = await world.world.chain.finalized_height()
    await world.kill()
    await world.clock.advance(EXPIRED_S)
    await world.restart()
    after = await world.world.chain.finalized_height()
    assert after.height > transaction.last_valid_block_height > before.height
    assert await proven_absent(world, transaction.signature, transaction.last_valid_block_height)


async def test_a_swap_below_its_minimum_lands_with_an_error_and_costs_only_the_fee(open_case: OpenWorld) -> None:
    world = await open_case()
    dump = await world.built("SOL", "USDC", "200000", slippage_bps=10_000)
    transaction = await world.built("SOL", "USDC", "100")
    sol, usdc = await world.balance("SOL"), await world.balance("USDC")
    await world.world.chain.send(dump)
    await world.until_known(dump.signature)
    dumped = await world.fill(dump.signature)
    await world.world.chain.send(transaction)
    status = await world.until_known(transaction.signature)
    assert status.error == FailureCode.SLIPPAGE_EXCEEDED.value
    assert await world.world.chain.fills([transaction.signature]) == [None], "nothing was swapped"
    assert await world.balance("SOL") == sol - dumped.amount_in - 2 * dumped.fee_paid
    assert await world.balance("USDC") == usdc + dumped.amount_out


async def test_a_swap_that_the_wallet_cannot_pay_any_more_lands_with_an_error(open_case: OpenWorld) -> None:
    world = await open_case()
    first = await world.built("BONK", "USDC", "4000000000000", slippage_bps=10_000)
    second = await world.built("BONK", "USDC", "4000000000000", slippage_bps=10_000)
    await world.world.chain.send(first)
    assert (await world.until_known(first.signature)).error is None
    await world.world.chain.send(second)
    status = await world.until_known(second.signature)
    assert status.error == FailureCode.INSUFFICIENT_FUNDS.value


async def test_listeners_hear_of_signatures_that_landed(open_case: OpenWorld) -> None:
    world = await open_case()
    heard: list[str] = []
    world.world.chain.on_status(heard.extend)
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)
    assert heard == [transaction.signature]


async def test_statuses_come_in_the_order_asked(open_case: OpenWorld) -> None:
    world = await open_case()
    one = await world.built("SOL", "USDC", "1")
    two = await world.built("SOL", "USDC", "2")
    await world.world.chain.send(two)
    await world.until_known(two.signature)
    report = await world.world.chain.statuses([one.signature, two.signature, "unknown"])
    assert [status is not None for status in report.statuses] == [False, True, False]


async def test_more_than_256_signatures_in_one_call_are_refused(open_case: OpenWorld) -> None:
    world = await open_case()
    with pytest.raises(ValueError, match="at most 256"):
        await world.world.chain.statuses(["x"] * 257)


async def test_a_restarted_chain_is_as_it_was(open_case: OpenWorld) -> None:
    world = await open_case()
    transaction = await world.built("USDC", "SOL", "1000000", venue="meteora", slippage_bps=500)
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)
    before = await world.world.control.status()
    balances, address = await world.balances(), world.world.wallet.address
    await world.kill()
    await world.restart()
    after = await world.world.control.status()
    assert await world.balances() == balances
    assert world.world.wallet.address == address
    assert (after.slot, after.block_height, after.transactions) == (before.slot, before.block_height, 1)
    assert after.spreads["SOL/USDC"] == pytest.approx(before.spreads["SOL/USDC"], abs=0.01)


async def test_a_second_opener_takes_over_and_the_first_can_do_nothing_more(open_case: OpenWorld) -> None:
    first = await open_case()
    second = await open_case(clock=first.clock, entropy=b"another engine's entropy")
    assert second.world.wallet.address == first.world.wallet.address
    transaction = await first.built("SOL", "USDC", "1")
    await first.world.chain.send(transaction)

    async def cut_off() -> bool:
        try:
            assert await first.status(transaction.signature) is None
        except ChainUnreachableError:
            return True
        return False

    await first.until(cut_off)
    assert await second.status(transaction.signature) is None
    await second.world.chain.send(transaction)
    assert (await second.until_known(transaction.signature)).error is None
