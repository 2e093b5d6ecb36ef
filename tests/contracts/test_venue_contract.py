"""What every venue promises the engine."""

import pytest

from bestex.domain.errors import InsufficientFundsError, NoRouteError, SlippageExceededError
from bestex.domain.money import min_amount_out
from bestex.domain.route import QuoteRequest, SwapRequest
from bestex.domain.tokens import Token
from tests.support.simnet import (  # noqa: F401 - fixtures
    ledger_fixture,
    open_case_fixture,
    postgres_server,
)
from tests.support.simulation import OpenWorld

VENUES = ["raydium", "meteora"]


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(
    ("pay", "receive", "amount"), [("SOL", "USDC", "1.5"), ("USDC", "SOL", "200"), ("BONK", "WIF", "100000")]
)
async def test_a_quote_is_complete_and_fresh(
    open_case: OpenWorld, venue: str, pay: str, receive: str, amount: str
) -> None:
    world = await open_case()
    quote = await world.quote(pay, receive, amount, venue)
    assert quote.venue == venue
    assert quote.pool
    assert quote.amount_out > 0
    assert quote.fee > 0
    assert quote.fee_token.symbol in (pay, receive)
    assert 0 <= quote.price_impact_bps < 10
    assert quote.network_fee >= 5_000
    assert 0 < quote.network_fee_out < quote.amount_out
    assert quote.quoted_us <= world.clock.now_us() < quote.stale_us


@pytest.mark.parametrize("venue", VENUES)
async def test_a_larger_order_gets_a_worse_price(open_case: OpenWorld, venue: str) -> None:
    world = await open_case()
    small = await world.quote("SOL", "USDC", "1", venue)
    large = await world.quote("SOL", "USDC", "10000", venue)
    assert large.amount_out < small.amount_out * 10_000
    assert large.price_impact_bps > small.price_impact_bps


@pytest.mark.parametrize("venue", VENUES)
async def test_what_was_quoted_is_what_an_undisturbed_swap_pays(open_case: OpenWorld, venue: str) -> None:
    world = await open_case()
    transaction = await world.built("SOL", "USDC", "1", venue=venue)
    quote = await world.quote("SOL", "USDC", "1", venue)
    await world.world.chain.send(transaction)
    assert (await world.until_known(transaction.signature)).error is None
    fill = await world.fill(transaction.signature)
    assert fill.amount_out >= min_amount_out(quote.amount_out, 50)


@pytest.mark.parametrize("venue", VENUES)
async def test_a_token_without_a_pool_has_no_route(open_case: OpenWorld, venue: str) -> None:
    world = await open_case()
    stranger = Token("XYZ", "XYZ9ZfHq7bbFQPpFHpWX6hzpJpX7E8VBsQ8d3wQhbT4", 6)
    request = QuoteRequest(world.tokens.get("SOL"), stranger, 10**9)
    with pytest.raises(NoRouteError, match="no pool for SOL and XYZ"):
        await world.during(world.venue(venue).quote(request))


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(("amount_in", "why"), [(1, "too little"), (2**64 - 1, "too large")])
async def test_an_amount_that_no_pool_can_fill_has_no_route(
    open_case: OpenWorld, venue: str, amount_in: int, why: str
) -> None:
    world = await open_case()
    request = QuoteRequest(world.tokens.get("BONK"), world.tokens.get("USDC"), amount_in)
    with pytest.raises(NoRouteError, match=why):
        await world.during(world.venue(venue).quote(request))


async def test_a_build_that_would_pay_too_little_is_refused(open_case: OpenWorld) -> None:
    world = await open_case()
    quote = await world.quote("SOL", "USDC", "1")
    request = world.swap_request("SOL", "USDC", quote)
    greedy = SwapRequest(request.order_id, 1, request.token_in, request.token_out, 10**9, quote.amount_out * 2, quote)
    with pytest.raises(SlippageExceededError, match="less than the least accepted"):
        await world.during(world.venue().build(greedy))


async def test_a_build_beyond_the_wallet_is_refused(open_case: OpenWorld) -> None:
    world = await open_case()
    quote = await world.quote("SOL", "USDC", "1000000")
    request = world.swap_request("SOL", "USDC", quote, slippage_bps=10_000)
    with pytest.raises(InsufficientFundsError, match="holds 1000000 SOL"):
        await world.during(world.venue().build(request))


async def test_no_two_attempts_have_the_same_signature(open_case: OpenWorld) -> None:
    world = await open_case(profile="instant")
    quote = await world.quote("SOL", "USDC", "1")
    request = world.swap_request("SOL", "USDC", quote)
    signatures = set()
    for order in ("a", "b"):
        for attempt in (1, 2):
            same = SwapRequest(order, attempt, request.token_in, request.token_out, request.amount_in, 1, quote)
            signatures.add((await world.venue().build(same)).signature)
    assert len(signatures) == 4
