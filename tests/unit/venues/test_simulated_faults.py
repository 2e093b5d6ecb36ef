"""Each fault does what it says, and none makes a node claim what is not so."""

import pytest

from bestex.domain.errors import (
    ChainUnreachableError,
    FailureCode,
    OrderError,
    SlippageExceededError,
    VenueDownError,
)
from bestex.ports import Commitment
from tests.support.simulation import World, open_world


async def running(**faults: float) -> World:
    world = await open_world(faults=faults)
    world.start()
    return world


async def calm(world: World) -> None:
    """Take all probabilities away."""
    status = await world.world.control.status()
    await world.world.control.set_faults(
        {name: 0 for name in status.faults if not name.endswith(("_s", "_slots", "_bps"))}
    )


@pytest.mark.parametrize("fault", ["raydium_down", "venue_down"])
async def test_a_venue_that_is_down_refuses_at_once(fault: str) -> None:
    world = await running(**{fault: 1})
    with pytest.raises(VenueDownError, match="raydium is down"):
        await world.quote("SOL", "USDC", "1")


async def test_one_venue_down_leaves_the_other_up() -> None:
    world = await running(raydium_down=1)
    assert (await world.quote("SOL", "USDC", "1", "meteora")).amount_out


async def test_a_quote_timeout_is_longer_than_anyone_waits() -> None:
    world = await running(quote_timeout=1)
    begun = world.clock.monotonic()
    with pytest.raises(VenueDownError, match="in time"):
        await world.quote("SOL", "USDC", "1")
    assert world.clock.monotonic() - begun >= 10


async def test_a_send_error_before_means_the_chain_has_nothing() -> None:
    world = await running(send_error_before=1)
    transaction = await world.built("SOL", "USDC", "1")
    with pytest.raises(ChainUnreachableError):
        await world.world.chain.send(transaction)
    await world.pass_time(5)
    assert await world.status(transaction.signature) is None


async def test_a_send_error_after_means_the_swap_lands_all_the_same() -> None:
    world = await running(send_error_after=1)
    transaction = await world.built("SOL", "USDC", "1")
    with pytest.raises(ChainUnreachableError):
        await world.world.chain.send(transaction)
    assert (await world.until_known(transaction.signature)).error is None


async def test_a_dropped_transaction_lands_when_it_is_sent_again() -> None:
    world = await running(dropped=1)
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    await world.pass_time(5)
    assert await world.status(transaction.signature) is None
    await calm(world)
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)


async def test_a_late_transaction_lands_late_or_never() -> None:
    world = await running(late_landing=1)
    transactions = [await world.built("SOL", "USDC", "1") for _ in range(20)]
    for transaction in transactions:
        await world.world.chain.send(transaction)
    await world.pass_time(8)
    early = [await world.status(transaction.signature) for transaction in transactions]
    await world.pass_time(80)
    late = [await world.status(transaction.signature) for transaction in transactions]
    assert early == [None] * 20
    assert any(late)
    assert not all(late), "some met the end of their blockhash"


async def test_a_lost_status_is_shown_when_it_is_final() -> None:
    world = await running(lost_status=1)
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    await world.pass_time(5)
    assert await world.status(transaction.signature) is None
    assert (await world.until_known(transaction.signature, 20)).commitment is Commitment.FINALIZED


async def test_a_lagging_node_says_who_it_is_and_how_far_it_is() -> None:
    world = await running()
    await world.pass_time(200)
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    await world.pass_time(20)
    main = await world.report(transaction.signature)
    await world.world.control.set_faults({"lagging_node": 1})
    lagging = await world.report(transaction.signature)
    height = await world.world.chain.finalized_height()
    assert main.statuses[0] is not None
    assert lagging.statuses[0] is None
    assert lagging.endpoint == height.endpoint != main.endpoint
    assert lagging.slot == main.slot - 200
    assert height.slot == lagging.finalized_slot < main.finalized_slot


async def test_a_node_with_pruned_history_says_how_far_back_it_reaches() -> None:
    world = await running()
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    status = await world.until_known(transaction.signature)
    await world.pass_time(60)
    await world.world.control.set_faults({"pruned_history": 1})
    report = await world.report(transaction.signature)
    assert report.statuses[0] is None
    assert report.history_from_slot > status.slot


async def test_an_error_on_a_dying_fork_vanishes_with_all_its_effects() -> None:
    world = await running()
    transaction = await world.built("SOL", "USDC", "1")
    sol = await world.balance("SOL")
    await world.world.control.set_faults({"dying_fork_error": 1})
    await world.world.chain.send(transaction)
    status = await world.until_known(transaction.signature)
    assert status.error == FailureCode.SLIPPAGE_EXCEEDED.value
    assert status.commitment is Commitment.CONFIRMED
    assert await world.balance("SOL") < sol

    async def gone() -> bool:
        report = await world.report(transaction.signature)
        status = report.statuses[0]
        assert status is None or status.commitment is not Commitment.FINALIZED
        return status is None

    await world.until(gone, 15)
    await calm(world)
    await world.world.chain.send(transaction)
    await world.pass_time(5)
    status = await world.until_known(transaction.signature)
    assert status.error is None
    fill = await world.fill(transaction.signature)
    assert await world.balance("SOL") == sol - fill.amount_in - fill.fee_paid


async def test_some_errors_on_dying_forks_land_again_by_themselves() -> None:
    world = await running()
    transactions = [await world.built("SOL", "USDC", "1") for _ in range(12)]
    await world.world.control.set_faults({"dying_fork_error": 1})
    for transaction in transactions:
        await world.world.chain.send(transaction)
    await world.pass_time(2.8)
    await calm(world)
    await world.pass_time(30)
    statuses = [await world.status(transaction.signature) for transaction in transactions]
    assert any(status is not None and status.error is None for status in statuses)
    assert any(status is None for status in statuses)


async def test_a_fork_takes_a_confirmed_swap_back_until_it_is_sent_again() -> None:
    world = await running(fork_after_confirmed=1)
    balances = await world.balances()
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    assert (await world.until_known(transaction.signature)).error is None

    async def gone() -> bool:
        return await world.status(transaction.signature) is None

    await world.until(gone, 15)
    assert await world.balances() == balances
    await world.restart()
    assert await world.balances() == balances
    await calm(world)
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)


async def test_a_price_jump_comes_before_the_build_or_before_the_landing() -> None:
    world = await running(price_jump=1)
    found = {"build": 0, "landing": 0}
    for _ in range(12):
        await world.pass_time(30)
        try:
            transaction = await world.built("SOL", "USDC", "1")
        except SlippageExceededError:
            found["build"] += 1
            continue
        await world.world.chain.send(transaction)
        status = await world.until_known(transaction.signature)
        assert status.error == FailureCode.SLIPPAGE_EXCEEDED.value
        found["landing"] += 1
    assert min(found.values()) >= 2


async def test_an_unreachable_chain_answers_nothing_until_the_outage_ends() -> None:
    world = await running()
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.control.set_faults({"chain_unreachable": 1, "chain_unreachable_s": 30})
    for call in (
        lambda: world.world.chain.send(transaction),
        lambda: world.report(transaction.signature),
        lambda: world.world.chain.finalized_height(),
        lambda: world.world.chain.fills([transaction.signature]),
        lambda: world.built("SOL", "USDC", "1"),
    ):
        with pytest.raises(ChainUnreachableError):
            await call()
    await world.world.control.set_faults({"chain_unreachable": 1e-9})
    with pytest.raises(ChainUnreachableError):
        await world.world.chain.finalized_height()
    await world.pass_time(31)
    await world.world.chain.finalized_height()


async def test_taking_the_fault_away_ends_the_outage() -> None:
    world = await running(chain_unreachable=1)
    with pytest.raises(ChainUnreachableError):
        await world.world.chain.finalized_height()
    await world.world.control.set_faults({"chain_unreachable": 0})
    await world.world.chain.finalized_height()


async def test_a_reset_ends_all_faults_and_restores_wallet_and_pools() -> None:
    world = await running(raydium_down=0.5)
    start = await world.balances()
    await calm(world)
    transaction = await world.built("SOL", "USDC", "100000", slippage_bps=10_000)
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)
    await world.world.control.set_faults({"venue_down": 1})
    await world.during(world.world.control.reset())
    assert await world.balances() == start
    status = await world.world.control.status()
    assert not status.faults["venue_down"]
    assert status.transactions == 1
    await world.restart()
    assert await world.balances() == start
    assert await world.status(transaction.signature) is not None


async def test_funds_are_added_durably_and_within_what_an_account_can_hold() -> None:
    world = await running()
    sol = await world.balance("SOL")
    await world.during(world.world.control.fund(world.tokens.get("SOL"), 5))
    await world.restart()
    assert await world.balance("SOL") == sol + 5
    for units in (0, -1, 2**64):
        with pytest.raises(ValueError, match="above zero"):
            await world.world.control.fund(world.tokens.get("SOL"), units)


async def test_the_same_seed_and_the_same_calls_give_the_same_run() -> None:
    async def run() -> list[object]:
        world = await running(dropped=0.3, late_landing=0.3, dying_fork_error=0.3, raydium_down=0.3)
        story: list[object] = []
        for _ in range(15):
            try:
                transaction = await world.built("SOL", "USDC", "1")
            except OrderError as error:
                story.append(str(error))
                continue
            await world.world.chain.send(transaction)
            await world.pass_time(7)
            story.append((transaction.signature, await world.status(transaction.signature)))
        await world.close()
        return story

    assert await run() == await run()


async def test_the_wallets_key_comes_from_entropy_and_not_from_the_seed() -> None:
    worlds = [await open_world(seed=1, entropy=entropy * 16) for entropy in (b"a", b"b")]
    assert worlds[0].world.wallet.address != worlds[1].world.wallet.address
