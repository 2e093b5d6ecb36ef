"""The simulated market: pools, arbitrage, depth, and the time things take."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from bestex.domain.money import min_amount_out
from bestex.domain.route import QuoteRequest, SwapRequest
from bestex.domain.tokens import TokenRegistry, load_tokens
from bestex.venues.simulated.market import Market
from tests.support.simulation import World, open_world

T0_US = 1_750_000_000_000_000
TOKENS = load_tokens()


def prices(market: Market, now_us: int) -> dict[str, float]:
    for pool in market.pools.values():
        market.settle(pool, now_us)
    return {address: pool.log_price() for address, pool in market.pools.items()}


def test_every_pair_of_the_built_in_tokens_has_a_pool_at_both_venues() -> None:
    market = Market(1, TOKENS)
    assert len(market.pools) == 28 * 2
    for one in TOKENS:
        for other in TOKENS:
            for venue in ("raydium", "meteora"):
                assert (market.side(venue, one.mint, other.mint) is None) == (one is other)


def test_prices_start_near_their_references() -> None:
    market = Market(1, TOKENS)
    side = market.side("raydium", TOKENS.get("SOL").mint, TOKENS.get("USDC").mint)
    assert side is not None
    market.settle(side.pool, T0_US)
    dollars = side.pool.swap(10**9, side.a_to_b).amount_out / 1e6
    assert 100 < dollars < 225


def test_the_same_seed_gives_the_same_market_and_another_seed_another() -> None:
    assert prices(Market(5, TOKENS), T0_US) == prices(Market(5, TOKENS), T0_US)
    assert prices(Market(5, TOKENS), T0_US) != prices(Market(6, TOKENS), T0_US)


def test_the_venues_differ_by_two_to_five_percent_most_of_the_time() -> None:
    market = Market(3, TOKENS)
    moments = [market.spreads(T0_US + minute * 60_000_000) for minute in range(120)]
    magnitudes = [abs(spread) for spreads in moments for spread in spreads.values()]
    assert max(magnitudes) < 5.1
    assert sum(magnitude >= 2 for magnitude in magnitudes) / len(magnitudes) > 0.6


@pytest.mark.parametrize("venue", ["raydium", "meteora"])
def test_arbitrage_takes_back_half_of_a_swaps_effect_in_two_seconds(venue: str) -> None:
    market, untouched = Market(1, TOKENS), Market(1, TOKENS)
    mints = TOKENS.get("SOL").mint, TOKENS.get("USDC").mint
    side, other = market.side(venue, *mints), untouched.side(venue, *mints)
    assert side is not None
    assert other is not None
    market.settle(side.pool, T0_US)
    untouched.settle(other.pool, T0_US)
    side.pool.state = side.pool.swap(20_000 * 10**9, side.a_to_b).next_state
    moved = side.pool.log_price() - other.pool.log_price()
    for each, pool in ((market, side.pool), (untouched, other.pool)):
        each.settle(pool, T0_US + 2_000_000)
    left = side.pool.log_price() - other.pool.log_price()
    assert moved < -0.005
    assert left / moved == pytest.approx(0.5, abs=0.01)


def test_a_wallet_starts_with_a_million_sol_and_the_like_value_of_the_rest() -> None:
    market = Market(1, TOKENS)
    start = {token.symbol: market.start_balance(token) for token in TOKENS}
    assert start["SOL"] == 1_000_000 * 10**9
    assert start["USDC"] == 150_000_000 * 10**6
    assert start["BONK"] == 7_500_000_000_000 * 10**5


def test_a_registry_without_sol_still_makes_a_market() -> None:
    tokens = TokenRegistry(token for token in TOKENS if token.symbol in ("USDC", "RAY"))
    market = Market(1, tokens)
    assert len(market.pools) == 2
    assert market.lamports_in(tokens.get("RAY"), 15_000, T0_US) == 0


@pytest.mark.parametrize(("pay", "receive", "amount"), [("SOL", "USDC", 25 * 10**7), ("SOL", "BONK", 25 * 10**7)])
async def test_300_orders_a_second_in_one_direction_hardly_ever_break_a_50_bps_limit(
    pay: str, receive: str, amount: int
) -> None:
    world = await open_world(seed=11)
    world.start()
    token_in, token_out = world.tokens.get(pay), world.tokens.get(receive)
    per_second, seconds = 300, 20
    refused = 0
    sent: list[str] = []
    waiting: list[tuple[int, Any]] = []
    for tick in range(seconds * 10 + 40):
        now_us = world.clock.now_us()
        if tick < seconds * 10:
            quotes = [quote_at_once(world, venue, token_in, token_out, amount) for venue in ("raydium", "meteora")]
            best = max(quotes, key=lambda quote: quote.net_amount_out)
            waiting += [(now_us + 700_000, best)] * (per_second // 10)
        while waiting and waiting[0][0] <= now_us:
            quote = waiting.pop(0)[1]
            request = SwapRequest(
                f"order-{len(sent)}-{refused}",
                1,
                token_in,
                token_out,
                amount,
                min_amount_out(quote.amount_out, 50),
                quote,
            )
            try:
                transaction = at_once(without_delay(world, quote.venue).build(request))
            except Exception:  # noqa: BLE001
                refused += 1
                continue
            await world.world.chain.send(transaction)
            sent.append(transaction.signature)
        await world.clock.advance(0.1)
    failed = 0
    for start in range(0, len(sent), 256):
        report = await world.world.chain.statuses(sent[start : start + 256])
        assert all(report.statuses)
        failed += sum(status is not None and status.error is not None for status in report.statuses)
    await world.close()
    assert len(sent) + refused == per_second * seconds
    assert (failed + refused) / (per_second * seconds) < 0.01


def without_delay(world: World, venue: str) -> Any:
    """The venue, its own delays taken out: this test makes them itself, for thousands at once."""
    found: Any = world.venue(venue)
    found._quote_s, found._build_s = (0.0, 0.0), 0.0
    return found


def quote_at_once(world: World, venue: str, token_in: Any, token_out: Any, amount: int) -> Any:
    return at_once(without_delay(world, venue).quote(QuoteRequest(token_in, token_out, amount)))


def at_once(awaitable: Awaitable[Any]) -> Any:
    """The result of a coroutine that never suspends."""
    try:
        awaitable.__await__().send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it suspended")


async def test_under_instant_nothing_suspends_from_quote_to_send() -> None:
    world = await open_world(profile="instant")
    sol, usdc = world.tokens.get("SOL"), world.tokens.get("USDC")
    quote = at_once(world.venue().quote(QuoteRequest(sol, usdc, 10**9)))
    transaction = at_once(world.venue().build(world.swap_request("SOL", "USDC", quote)))
    at_once(world.world.chain.send(transaction))
    assert at_once(world.world.chain.statuses([transaction.signature])).statuses == (None,), "not in the ledger yet"
    world.start()
    await world.clock.settle()
    assert at_once(world.world.chain.statuses([transaction.signature])).statuses[0] is not None
    [fill] = at_once(world.world.chain.fills([transaction.signature]))
    assert fill is not None
    assert fill.amount_out == quote.amount_out
    await world.close()


async def test_realistic_times_are_those_of_the_design() -> None:
    world = await open_world()
    world.start()
    begun = world.clock.monotonic()
    quote = await until_done(
        world, world.venue().quote(QuoteRequest(world.tokens.get("SOL"), world.tokens.get("USDC"), 10**9))
    )
    quoted = world.clock.monotonic()
    transaction = await until_done(world, world.venue().build(world.swap_request("SOL", "USDC", quote)))
    built = world.clock.monotonic()
    await world.world.chain.send(transaction)
    while await world.status(transaction.signature) is None:
        await world.clock.advance(0.01)
    landed = world.clock.monotonic()
    await world.close()
    assert 0.17 < quoted - begun < 0.38
    assert 0.39 < built - quoted < 0.42
    assert 1.79 < landed - built < 2.62


async def until_done(world: World, awaitable: Awaitable[Any]) -> Any:
    task = asyncio.ensure_future(awaitable)
    while not task.done():
        await world.clock.advance(0.01)
    return task.result()
