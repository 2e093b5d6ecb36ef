"""The feed of prices: curves that pay what swaps pay, ticks by time and by moves, and a feed that fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.errors import NoRouteError
from bestex.domain.route import QuoteRequest
from bestex.domain.tokens import Pair, load_tokens, pair_of
from bestex.ports import Tick
from bestex.venues.simulated.faults import OF_THE_FEED
from bestex.venues.simulated.market import Market
from tests.support.simulation import World, open_world

T0_US = 1_750_000_000_000_000
TOKENS = load_tokens()
SOL, USDC, BONK, WIF = (TOKENS.get(symbol) for symbol in ("SOL", "USDC", "BONK", "WIF"))
SOL_USDC, BONK_WIF, WIF_BONK = pair_of(SOL, USDC), pair_of(BONK, WIF), pair_of(WIF, BONK)
MARKET = Market(1, TOKENS)

AMOUNTS = st.integers(0, 64).flatmap(lambda bits: st.integers(2**bits // 2, 2**bits - 1))


async def following(**options: object) -> tuple[World, list[Tick]]:
    world = await open_world(**options)  # type: ignore[arg-type]
    world.start()
    heard: list[Tick] = []
    world.world.market_data.on_tick(heard.append)
    world.world.market_data.follow([SOL_USDC])
    return world, heard


@pytest.mark.parametrize("pair", [SOL_USDC, BONK_WIF, WIF_BONK], ids=lambda pair: pair.name)
@pytest.mark.parametrize("venue", ["raydium", "meteora"])
@given(amounts=st.lists(AMOUNTS, min_size=1, max_size=4), sells_base=st.booleans())
def test_a_curve_pays_to_the_unit_what_the_pools_swaps_pay_one_after_the_other(
    pair: Pair, venue: str, amounts: list[int], sells_base: bool
) -> None:
    side = MARKET.side(venue, pair.base.mint, pair.quote.mint)
    assert side is not None
    pool, base_is_a = side
    pool.settled_us = 0
    MARKET.settle(pool, T0_US)
    curve = pool.curve(base_is_a)
    for amount in amounts:
        a_to_b = sells_base is base_is_a
        try:
            swap = pool.swap(amount, a_to_b)
        except ValueError:
            assert curve.amount_out(amount, sells_base) == 0
            continue
        if pool.impact_bps(amount, swap, a_to_b) > 9_000:
            assert curve.amount_out(amount, sells_base) == 0
            continue
        assert curve.amount_out(amount, sells_base) == swap.amount_out
        curve = curve.after(amount, sells_base)
        pool.state = swap.next_state if swap.amount_out else pool.state


async def test_a_curve_is_what_the_venue_quotes() -> None:
    world, _ = await following(profile="instant")
    for amount in (10**6, 10**9, 10**13, 10**15, 2**63):
        tick = world.world.market_data.latest(SOL_USDC)
        assert tick is not None
        for curve in tick.curves:
            try:
                quote = await world.venue(curve.venue).quote(QuoteRequest(SOL, USDC, amount))
            except NoRouteError:
                assert curve.amount_out(amount, True) == 0
            else:
                assert curve.amount_out(amount, True) == quote.amount_out
                assert curve.pool == quote.pool
    await world.close()


async def test_a_tick_comes_at_the_start_of_each_slot() -> None:
    world, heard = await following()
    await world.clock.advance(4)
    assert [tick.slot for tick in heard] == list(range(heard[0].slot, heard[0].slot + 10))
    assert {len(tick.curves) for tick in heard} == {2}
    await world.close()


async def test_short_slots_do_not_make_ticks_come_more_often_than_prices_move() -> None:
    world, heard = await following(profile="instant")
    await world.clock.advance(2)
    assert len(heard) == 20
    await world.close()


async def test_a_landed_swap_makes_a_tick_at_once_and_many_in_one_turn_make_one() -> None:
    world, heard = await following(profile="instant")
    await world.clock.advance(0.01)
    transactions = [await world.built("SOL", "USDC", "1000", slippage_bps=500) for _ in range(5)]
    other = await world.built("BONK", "WIF", "1000")
    before = world.world.market_data.latest(SOL_USDC)
    assert before is not None
    heard.clear()
    for transaction in [*transactions, other]:
        await world.world.chain.send(transaction)
    await world.clock.settle()
    assert [tick.pair for tick in heard] == [SOL_USDC]
    assert heard[0].curves[0].amount_out(10**9, True) < before.curves[0].amount_out(10**9, True)
    assert heard[0].curves[1] == before.curves[1]
    await world.close()


async def test_a_feed_that_nobody_follows_wakes_nobody() -> None:
    world, _ = await following(launch_every_s=0)
    world.world.market_data.follow([])
    await world.clock.advance(1)
    assert not [sleeper for sleeper in world.clock._sleepers if not sleeper[2].done()]
    await world.close()


async def test_a_gap_leaves_a_venue_out_and_the_ticks_without_any_do_not_come() -> None:
    world, heard = await following(faults={"feed_gap": 0.5})
    await world.clock.advance(40)
    seen = {tuple(curve.venue for curve in tick.curves) for tick in heard}
    assert seen == {("raydium",), ("meteora",), ("raydium", "meteora")}
    assert 0.6 < len(heard) / 100 < 0.9
    await world.world.control.set_faults({"feed_gap": 1})
    assert world.world.market_data.latest(SOL_USDC) is None
    await world.close()


async def test_a_stale_feed_repeats_old_prices_with_their_old_time() -> None:
    world, heard = await following()
    await world.clock.advance(1)
    last = heard[-1]
    await world.world.control.set_faults({"feed_stale": 1, "feed_stale_s": 6})
    heard.clear()
    await world.clock.advance(4)
    assert heard == [last] * 10
    assert world.world.market_data.latest(SOL_USDC) is last
    await world.world.control.set_faults({"feed_stale": 1e-12})
    await world.clock.advance(1)
    assert heard[-1] is last, "an outage lasts as long as it began to"
    await world.clock.advance(4)
    assert heard[-1].at_us > last.at_us
    await world.close()


async def test_a_silent_feed_says_nothing_until_it_ends() -> None:
    world, heard = await following(faults={"feed_silent": 1, "feed_silent_s": 3})
    await world.clock.advance(2)
    assert heard == []
    assert world.world.market_data.latest(SOL_USDC) is None
    await world.world.control.set_faults({"feed_silent": 0})
    await world.clock.advance(1)
    assert heard
    assert world.world.struck["feed_silent"] == 1
    await world.close()


async def test_the_feeds_faults_repeat_from_their_seed() -> None:
    async def run() -> list[tuple[int, int, int]]:
        world, heard = await following(faults=dict.fromkeys(OF_THE_FEED, 0.1))
        await world.clock.advance(60)
        await world.close()
        return [(tick.slot, tick.at_us, len(tick.curves)) for tick in heard]

    assert await run() == await run()


async def test_the_wallet_says_at_once_what_it_holds() -> None:
    world, _ = await following()
    assert world.world.wallet.held(SOL.mint) == await world.balance("SOL")
    assert world.world.wallet.held("unknown") == 0
    await world.close()
