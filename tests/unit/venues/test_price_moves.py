"""Fair prices that somebody moves."""

import pytest

from bestex.domain.tokens import Pair, load_tokens, pair_of
from bestex.ports import Curve, Tick
from tests.support.simulation import (  # noqa: F401 - fixtures
    OpenWorld,
    World,
    ledger_fixture,
    open_case_fixture,
    postgres_server,
)

TOKENS = load_tokens()
SOL, USDC, BONK, WIF = (TOKENS.get(symbol) for symbol in ("SOL", "USDC", "BONK", "WIF"))
SOL_USDC, BONK_SOL, WIF_BONK = pair_of(SOL, USDC), pair_of(BONK, SOL), pair_of(WIF, BONK)


def curves(world: World, pair: Pair) -> tuple[Curve, ...]:
    tick = world.world.market_data.latest(pair)
    assert tick is not None
    return tick.curves


def prices(world: World, pair: Pair) -> list[float]:
    units: int = 10**pair.base.decimals * (100_000 if pair.base == BONK else 1)
    return [curve.amount_out(units, True) / 10**pair.quote.decimals for curve in curves(world, pair)]


async def move(world: World, pair: Pair, percent: float) -> None:
    await world.during(world.world.control.move_price(pair, percent))


@pytest.mark.parametrize("pair", [SOL_USDC, WIF_BONK, pair_of(BONK, WIF)], ids=lambda pair: pair.name)
@pytest.mark.parametrize("percent", [-10.0, 25.0])
async def test_both_pools_of_the_pair_move_at_once_and_stay(open_case: OpenWorld, pair: Pair, percent: float) -> None:
    world = await open_case(slot_ms=400)
    before = prices(world, pair)
    await world.world.control.move_price(pair, percent)
    factor = 1 + percent / 100
    assert prices(world, pair) == pytest.approx([price * factor for price in before], rel=1e-4)
    await world.pass_time(20)
    assert prices(world, pair) == pytest.approx([price * factor for price in before], rel=0.02)


async def test_the_tokens_other_pools_follow_by_arbitrage_and_others_do_not_move(open_case: OpenWorld) -> None:
    world = await open_case()
    bonk, wif = prices(world, BONK_SOL), prices(world, WIF_BONK)
    await world.world.control.move_price(SOL_USDC, -50)
    assert prices(world, BONK_SOL) == bonk
    await world.pass_time(20)
    assert prices(world, BONK_SOL) == pytest.approx([price * 2 for price in bonk], rel=0.03)
    assert prices(world, WIF_BONK) == pytest.approx(wif, rel=0.03)


async def test_a_move_survives_a_kill_and_a_reset_takes_it_back(open_case: OpenWorld) -> None:
    world = await open_case()
    before = prices(world, SOL_USDC)
    await move(world, SOL_USDC, 30)
    await move(world, SOL_USDC, 10)
    await world.restart()
    assert prices(world, SOL_USDC) == pytest.approx([price * 1.43 for price in before], rel=0.02)
    await world.during(world.world.control.reset())
    assert prices(world, SOL_USDC) == pytest.approx(before, rel=0.02)
    await world.restart()
    assert prices(world, SOL_USDC) == pytest.approx(before, rel=0.02)


async def test_a_move_makes_a_tick_of_its_pair_at_once(open_case: OpenWorld) -> None:
    world = await open_case()
    heard: list[Tick] = []
    world.world.market_data.on_tick(heard.append)
    world.world.market_data.follow([SOL_USDC, WIF_BONK])
    await world.clock.settle()
    await world.world.control.move_price(SOL_USDC, 5)
    await world.clock.settle()
    assert [tick.pair for tick in heard] == [SOL_USDC]


async def test_moves_that_go_too_far_together_are_refused_and_change_nothing(open_case: OpenWorld) -> None:
    world = await open_case()
    await move(world, SOL_USDC, 9_900)
    before = prices(world, SOL_USDC)
    with pytest.raises(ValueError, match="at most 100 times dearer or cheaper, not 101 times"):
        await world.world.control.move_price(SOL_USDC, 1)
    assert prices(world, SOL_USDC) == before
    await move(world, SOL_USDC, -99)
    await move(world, SOL_USDC, -99)


async def test_a_pair_without_pools_cannot_be_moved(open_case: OpenWorld) -> None:
    world = await open_case()
    stranger = TOKENS.learn("XYZ9ZfHq7bbFQPpFHpWX6hzpJpX7E8VBsQ8d3wQhbT4", 6)
    with pytest.raises(ValueError, match="no venue has a pool for XYZ9"):
        await world.world.control.move_price(pair_of(stranger, SOL), 5)
