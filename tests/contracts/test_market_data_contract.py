"""What market data promises the engine. Each adapter is one more parameter of the `case` fixture."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from bestex.domain.tokens import Pair, load_tokens, pair_of
from bestex.ports import Curve, MarketData, Tick
from bestex.venues.scripted import ScriptedMarketData, fixed_curve
from tests.support.clock import FakeClock
from tests.support.simnet import open_served
from tests.support.simulation import open_world

TOKENS = load_tokens()
SOL, USDC, BONK, WIF = (TOKENS.get(symbol) for symbol in ("SOL", "USDC", "BONK", "WIF"))
SOL_USDC = pair_of(SOL, USDC)
BONK_SOL = pair_of(BONK, SOL)
SOL_UNITS = 10**9


class Case:
    """Market data, its clock, and the hand that makes prices of `SOL_USDC` and `BONK_SOL` come."""

    def __init__(self, data: MarketData, clock: FakeClock, make_ticks: Callable[[], Awaitable[None]]) -> None:
        self.data = data
        self.clock = clock
        self.make_ticks = make_ticks


@pytest.fixture(name="case", params=["simulated", "scripted", "remote"])
async def each_adapter(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    if request.param == "scripted":
        clock = FakeClock()
        scripted = ScriptedMarketData(clock)

        async def write() -> None:
            await clock.advance(1)
            scripted.tick(SOL_USDC, fixed_curve(SOL_USDC, "150", depth=10**6 * SOL_UNITS))
            scripted.tick(BONK_SOL, fixed_curve(BONK_SOL, "0.0000001"))

        await write()
        yield Case(scripted, clock, write)
        return
    if request.param == "remote":
        served = await open_served()

        async def wait_for_all() -> None:
            await served.remote.control.status()  # what was said before has arrived
            await served.clock.advance(1)
            await served.remote.control.status()

        yield Case(served.remote.market_data, served.clock, wait_for_all)
        await served.close()
        return
    world = await open_world()
    world.start()

    async def wait() -> None:
        await world.clock.advance(1)

    yield Case(world.world.market_data, world.clock, wait)
    with suppress(Exception):
        await world.close()


async def curve_of(data: MarketData, pair: Pair) -> Curve:
    tick = await data.read(pair)
    assert tick is not None
    return tick.curves[0]


async def test_ticks_come_for_followed_pairs_and_no_others(case: Case) -> None:
    heard: list[Tick] = []
    case.data.on_tick(heard.append)
    await case.make_ticks()
    assert heard == []
    case.data.follow([SOL_USDC])
    await case.make_ticks()
    assert {tick.pair for tick in heard} == {SOL_USDC}
    heard.clear()
    case.data.follow([BONK_SOL])
    await case.make_ticks()
    assert {tick.pair for tick in heard} == {BONK_SOL}
    heard.clear()
    case.data.follow([])
    await case.make_ticks()
    assert heard == []


async def test_ticks_say_when_they_were_read_and_their_slots_go_on(case: Case) -> None:
    heard: list[Tick] = []
    case.data.on_tick(heard.append)
    case.data.follow([SOL_USDC])
    begun_us = case.clock.now_us()
    for _ in range(4):
        await case.make_ticks()
    assert len(heard) >= 4
    assert all(begun_us <= tick.at_us <= case.clock.now_us() for tick in heard)
    assert [tick.at_us for tick in heard] == sorted(tick.at_us for tick in heard)
    slots = [tick.slot for tick in heard]
    assert slots == sorted(slots)
    assert slots[-1] > slots[0]


async def test_every_listener_hears_every_tick(case: Case) -> None:
    one: list[Tick] = []
    other: list[Tick] = []
    case.data.on_tick(one.append)
    case.data.on_tick(other.append)
    case.data.follow([SOL_USDC])
    await case.make_ticks()
    assert one == other != []


async def test_the_latest_prices_of_a_followed_pair_are_known_at_once(case: Case) -> None:
    case.data.follow([SOL_USDC])
    await case.make_ticks()
    tick = case.data.latest(SOL_USDC)
    assert tick is not None
    assert tick.pair == SOL_USDC
    assert 100 * 10**6 < tick.curves[0].amount_out(SOL_UNITS, True) < 225 * 10**6


async def test_prices_can_be_asked_for_also_of_pairs_that_nobody_follows(case: Case) -> None:
    tick = await case.data.read(SOL_USDC)
    assert tick is not None
    assert tick.pair == SOL_USDC
    assert 100 * 10**6 < tick.curves[0].amount_out(SOL_UNITS, True) < 225 * 10**6


async def test_a_pair_without_prices_has_none(case: Case) -> None:
    stranger = TOKENS.learn("XYZ9ZfHq7bbFQPpFHpWX6hzpJpX7E8VBsQ8d3wQhbT4", 6)
    assert case.data.latest(pair_of(stranger, SOL)) is None
    assert await case.data.read(pair_of(stranger, SOL)) is None


async def test_a_curve_pays_both_ways_and_nothing_for_nothing(case: Case) -> None:
    curve = await curve_of(case.data, SOL_USDC)
    usdc = curve.amount_out(SOL_UNITS, True)
    back = curve.amount_out(usdc, False)
    assert 0.98 * SOL_UNITS < back <= SOL_UNITS
    assert curve.amount_out(0, True) == curve.amount_out(0, False) == 0
    assert curve.venue
    assert curve.pool


async def test_a_curve_pays_nothing_for_what_it_cannot_fill(case: Case) -> None:
    curve = await curve_of(case.data, SOL_USDC)
    assert curve.amount_out(2**64 - 1, True) == 0
    assert curve.amount_out(2**64 - 1, False) == 0
    assert curve.after(2**64 - 1, True).amount_out(SOL_UNITS, True) == curve.amount_out(SOL_UNITS, True)


async def test_after_a_swap_the_same_swap_pays_no_more_and_the_first_curve_is_as_it_was(case: Case) -> None:
    curve = await curve_of(case.data, SOL_USDC)
    amount = 50_000 * SOL_UNITS
    before = curve.amount_out(amount, True)
    after = curve.after(amount, True)
    assert after.amount_out(amount, True) <= before
    assert curve.amount_out(amount, True) == before > 0
    assert (after.venue, after.pool) == (curve.venue, curve.pool)


async def test_a_pool_that_was_never_listed_cannot_be_looked_at(case: Case) -> None:
    assert case.data.look_again("unknown") is None
    assert await case.data.launches(0, 10) == []
