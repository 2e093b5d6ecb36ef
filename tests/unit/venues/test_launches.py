"""Launched tokens: when they come, what they are like, how they trade, and that none is ever forgotten."""

from collections import Counter
from itertools import islice
from random import Random

import pytest

from bestex.domain.errors import NoRouteError
from bestex.domain.events import SignedTransaction
from bestex.domain.launches import STANDARD_FILTERS, Launch, LaunchFilters, judge
from bestex.domain.route import Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import load_tokens, pair_of
from bestex.ports import LaunchWish, Tick
from bestex.venues.simulated import launches as launches_module
from bestex.venues.simulated.launch_nature import Schedule, draw
from bestex.venues.simulated.ledger import MemoryLedger
from bestex.venues.simulated.listing import Listing
from tests.support.simulation import (  # noqa: F401 - fixtures
    OpenWorld,
    World,
    ledger_fixture,
    open_case_fixture,
    open_world,
    postgres_server,
)
from tests.unit.venues.test_simulated_books import FlakyLedger

T0_US = 1_750_000_000_000_000
SOL = load_tokens().get("SOL")
CALM = LaunchWish(
    liquidity="50",
    mint_authority_revoked=True,
    freeze_authority_revoked=True,
    lp_burnt_bps=10_000,
    top_holders_bps=900,
    drift_bps_per_minute=0,
)


async def launched(world: World, wish: LaunchWish = CALM) -> Launch:
    launch = await world.during(world.world.control.launch(wish))
    assert isinstance(launch, Launch)
    return launch


async def migrated(world: World, mint: str) -> Launch:
    launch = await world.during(world.world.control.migrate(mint))
    assert isinstance(launch, Launch)
    return launch


async def bought(world: World, launch: Launch, lamports: int, order_id: str = "order") -> SignedTransaction:
    """A signed purchase, not sent."""
    venue = world.venue(launch.venue)
    quote = await world.during(venue.quote(QuoteRequest(SOL, launch.token, lamports)))
    assert isinstance(quote, Quote)
    request = SwapRequest(order_id, 1, SOL, launch.token, lamports, quote.amount_out // 2, quote)
    transaction = await world.during(venue.build(request))
    assert isinstance(transaction, SignedTransaction)
    return transaction


def sol_for(world: World, launch: Launch, units: int) -> int:
    """Lamports that the launched token's base units are sold for now."""
    tick = world.world.market_data.latest(pair_of(launch.token, SOL))
    assert tick is not None
    [curve] = tick.curves
    return curve.amount_out(units, True)


# --- Nature


def drawn(number: int, wish: LaunchWish | None = None, seed: int = 1) -> Listing:
    return draw(
        Random(f"{seed}/{number}"),
        wish or LaunchWish(),
        name=str(number),
        creator="creator",
        listed_us=T0_US,
        slot=1,
        scheduled=False,
    )


def test_most_launches_are_sound_and_every_kind_of_bad_one_comes() -> None:
    listings = [drawn(number) for number in range(500)]
    bad = Counter[str]()
    for each in listings:
        kinds = {
            "mint": each.mint_authority_revoked_us is None,
            "freeze": each.freeze_authority_revoked_us is None,
            "lp": each.lp_burnt_bps + each.lp_locked_bps < 9_500,
            "holders": each.top_holders_bps >= 6_000,
            "tiny": each.reserve_quote < 5 * 10**9,
            "slow": (each.mint_authority_revoked_us or 0) > each.listed_us,
            "pulled": each.pulled_us is not None,
        }
        bad.update(kind for kind, holds in kinds.items() if holds)
        bad["sound"] += not any(kinds.values())
    assert bad["sound"] > 200
    assert all(bad[kind] > 10 for kind in ("mint", "freeze", "lp", "holders", "tiny", "slow", "pulled"))
    assert {each.venue for each in listings} == {"raydium", "meteora"}
    assert min(each.drift_bps_per_minute for each in listings) < -100
    assert max(each.drift_bps_per_minute for each in listings) > 300
    assert len({each.mint for each in listings}) == len(listings)


def test_only_liquidity_that_is_neither_burnt_nor_locked_is_pulled() -> None:
    for number in range(500):
        listing = drawn(number)
        assert listing.pulled_us is None or listing.lp_burnt_bps + listing.lp_locked_bps < 9_500


def test_what_is_wished_holds_and_the_rest_is_as_without_the_wish() -> None:
    wish = LaunchWish(ticker="WISH", venue="meteora", mint_authority_revoked=False, lp_locked_bps=4_000)
    for number in range(50):
        plain, wished = drawn(number), drawn(number, wish)
        assert (wished.ticker, wished.venue, wished.lp_locked_bps) == ("WISH", "meteora", 4_000)
        assert wished.mint_authority_revoked_us is None
        assert wished.lp_burnt_bps <= 6_000
        assert (wished.name, wished.mint, wished.top_holders_bps) == (plain.name, plain.mint, plain.top_holders_bps)
        assert wished.freeze_authority_revoked_us == plain.freeze_authority_revoked_us


def test_the_schedule_has_one_launch_in_every_period_from_whenever_one_looks() -> None:
    schedule = Schedule(7, 120)
    numbers = list(islice(schedule.after(T0_US), 200))
    moments = [schedule.at(number) for number in numbers]
    assert moments == sorted(moments)
    assert moments[0] > T0_US
    assert [moment // 120_000_000 for moment in moments] == numbers
    assert numbers == list(range(numbers[0], numbers[0] + 200))
    assert len({moment % 120_000_000 for moment in moments}) > 190
    assert next(schedule.after(moments[50])) == numbers[51]
    assert schedule.draw(numbers[3], slot=5) == Schedule(7, 120).draw(numbers[3], slot=5)
    assert schedule.draw(numbers[3], slot=5).mint != Schedule(8, 120).draw(numbers[3], slot=5).mint


# --- The schedule at work


async def test_launches_come_at_their_times_and_are_told_at_once() -> None:
    world = await open_world(launch_every_s=60)
    world.start()
    heard: list[tuple[int, Launch]] = []
    world.world.market_data.on_launch(lambda launch: heard.append((world.clock.now_us(), launch)))
    await world.clock.advance(600)
    assert len(heard) in (9, 10, 11)
    assert all(at_us == launch.listed_us for at_us, launch in heard)
    assert await world.world.market_data.launches(0, 100) == [
        world.world.market_data.look_again(launch.pool) for _, launch in heard
    ]
    assert [each.pool for each in await world.world.market_data.launches(heard[2][1].listed_us, 2)] == [
        launch.pool for _, launch in heard[2:4]
    ]
    await world.close()


@pytest.mark.parametrize(("profile", "comes"), [("realistic", True), ("instant", False)])
async def test_launches_come_by_default_under_realistic_only(profile: str, comes: bool) -> None:
    world = await open_world(profile=profile)  # type: ignore[arg-type]
    world.start()
    await world.clock.advance(300)
    assert bool(await world.world.market_data.launches(0, 10)) is comes
    await world.close()


async def test_a_restarted_world_goes_on_with_the_same_launches(open_case: OpenWorld) -> None:
    world = await open_case(launch_every_s=60)
    whole = await open_world(launch_every_s=60)
    whole.start()
    for other in (world, whole):
        await other.pass_time(200)
    await world.during(world.world.control.fund(SOL, 1))  # all that was to be stored has been
    seen = await world.world.market_data.launches(0, 100)
    await world.kill()
    await world.clock.advance(300)
    await world.restart()
    await whole.pass_time(whole.clock.now_us() and (world.clock.now_us() - whole.clock.now_us()) / 1e6)
    after = await world.world.market_data.launches(0, 100)
    assert [each.pool for each in after[: len(seen)]] == [each.pool for each in seen]
    assert [(each.pool, each.listed_us) for each in after] == [
        (each.pool, each.listed_us) for each in await whole.world.market_data.launches(0, 100)
    ]
    assert len(after) >= len(seen) + 4
    await whole.close()


async def test_no_more_launches_are_made_up_for_than_the_latest_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches_module, "MISSED_MAX", 3)
    ledger = MemoryLedger()
    world = await open_world(launch_every_s=60, ledger=ledger)
    await world.close()
    await world.clock.advance(3_600)
    again = await open_world(launch_every_s=60, ledger=ledger, clock=world.clock)
    made_up = await again.world.market_data.launches(0, 100)
    assert 2 <= len(made_up) <= 4
    assert made_up[0].listed_us >= again.clock.now_us() - 3 * 60_000_000
    await again.close()


# --- Wishes


@pytest.mark.parametrize("venue", ["raydium", "meteora"])
async def test_a_wished_launch_is_as_wished_to_the_last_lamport(open_case: OpenWorld, venue: str) -> None:
    world = await open_case()
    heard: list[Launch] = []
    world.world.market_data.on_launch(heard.append)
    wish = LaunchWish(
        ticker="WISH",
        venue=venue,
        liquidity="73.123456789",
        mint_authority_revoked=False,
        freeze_authority_revoked=True,
        lp_burnt_bps=1_000,
        lp_locked_bps=2_000,
        top_holders_bps=6_000,
        creator="somebody",
        drift_bps_per_minute=0,
    )
    launch = await launched(world, wish)
    assert heard == [launch]
    assert launch.liquidity == 73_123_456_789
    assert (launch.venue, launch.ticker, launch.creator) == (venue, "WISH", "somebody")
    assert (launch.mint_authority_revoked, launch.freeze_authority_revoked) == (False, True)
    assert (launch.lp_burnt_bps, launch.lp_locked_bps, launch.top_holders_bps) == (1_000, 2_000, 6_000)
    assert launch.token.symbol == launch.token.mint
    assert launch.quote == SOL
    await world.pass_time(30)
    again = world.world.market_data.look_again(launch.pool)
    assert again is not None
    assert again.liquidity == launch.liquidity, "a price that stays loses nothing to rounding"
    assert again.slot > launch.slot


async def test_wishes_never_repeat_a_token_also_after_restarts(open_case: OpenWorld) -> None:
    world = await open_case()
    mints = {(await launched(world)).token.mint for _ in range(3)}
    await world.restart()
    mints |= {(await launched(world)).token.mint for _ in range(3)}
    assert len(mints) == 6


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (LaunchWish(venue="orca"), "the venue must be one of raydium, meteora"),
        (LaunchWish(ticker="ELEVENCHARS"), "1 to 10 characters"),
        (LaunchWish(liquidity="0"), "above zero"),
        (LaunchWish(liquidity="1000001"), "must be at most 1000000"),
        (LaunchWish(lp_burnt_bps=6_000, lp_locked_bps=5_000), "together"),
        (LaunchWish(top_holders_bps=10_001), "from 0 to 10000 bps"),
        (LaunchWish(drift_bps_per_minute=5_001), "drift"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused(wish: LaunchWish, message: str) -> None:
    world = await open_world()
    world.start()
    with pytest.raises(ValueError, match=message):
        await world.world.control.launch(wish)
    assert await world.world.market_data.launches(0, 10) == []
    await world.close()


async def test_a_launch_is_shown_only_once_it_is_in_the_ledger_and_then_never_forgotten() -> None:
    ledger = FlakyLedger()
    world = await open_world(ledger=ledger, launch_every_s=30)
    world.start()
    heard: list[Launch] = []
    world.world.market_data.on_launch(heard.append)
    ledger.fail_before = 10_000
    await world.clock.advance(100)
    assert heard == []
    assert await world.world.market_data.launches(0, 10) == []
    ledger.fail_before = 0
    ledger.fail_after = 2
    await world.clock.advance(5)
    assert heard
    await world.restart()
    known = [each.pool for each in await world.world.market_data.launches(0, 100)]
    assert known[: len(heard)] == [each.pool for each in heard]
    await world.close()


# --- Trading


@pytest.mark.parametrize("venue", ["raydium", "meteora"])
async def test_a_launched_token_is_bought_and_sold_like_any_other(open_case: OpenWorld, venue: str) -> None:
    world = await open_case(launch_every_s=0)
    launch = await launched(world, LaunchWish(venue=venue, liquidity="50", drift_bps_per_minute=0))
    mint = launch.token.mint
    assert world.world.wallet.held(mint) == 0
    transaction = await bought(world, launch, 10**9)
    await world.world.chain.send(transaction)
    assert (await world.until_known(transaction.signature)).error is None
    fill = await world.fill(transaction.signature)
    assert world.world.wallet.held(mint) == fill.amount_out > 0
    assert (await world.balances())[mint] == fill.amount_out
    back = sol_for(world, launch, fill.amount_out)
    assert 0.98 * 10**9 < back < 10**9, "a purchase moves the price and it stays"
    await world.pass_time(30)
    assert sol_for(world, launch, fill.amount_out) == back
    await world.restart()
    assert sol_for(world, launch, fill.amount_out) == back
    assert world.world.wallet.held(mint) == fill.amount_out


async def test_the_network_fee_in_a_launched_token_is_what_its_pool_says_rounded_up(open_case: OpenWorld) -> None:
    world = await open_case()
    for venue in ("raydium", "meteora"):
        launch = await launched(world, LaunchWish(venue=venue, liquidity="50", drift_bps_per_minute=0))
        quote = await world.during(world.venue(venue).quote(QuoteRequest(SOL, launch.token, 10**9)))
        assert isinstance(quote, Quote)
        exactly = 15_000 * 8 * 10**14 // (50 * 10**9)
        assert quote.network_fee_out - exactly in (0, 1), "a stored root is rounded down"


async def test_the_other_venue_has_no_pool_of_a_launched_token(open_case: OpenWorld) -> None:
    world = await open_case()
    launch = await launched(world, LaunchWish(venue="raydium"))
    with pytest.raises(NoRouteError, match="no pool"):
        await world.during(world.venue("meteora").quote(QuoteRequest(SOL, launch.token, 10**9)))


async def test_ticks_of_a_launched_token_come_like_any_others(open_case: OpenWorld) -> None:
    world = await open_case(launch_every_s=0)
    launch = await launched(world)
    heard: list[Tick] = []
    world.world.market_data.on_tick(heard.append)
    world.world.market_data.follow([pair_of(SOL, launch.token)])
    await world.pass_time(2)
    assert len(heard) == 5
    heard.clear()
    transaction = await bought(world, launch, 10**9)
    heard.clear()
    await world.world.control.move_price(pair_of(SOL, launch.token), -50)
    await world.clock.settle()
    assert [tick.curves[0].pool for tick in heard] == [launch.pool]
    assert transaction.signature


@pytest.mark.parametrize(("drift", "factor"), [(1_000, 1.65), (-1_000, 0.61), (0, 1.0)])
async def test_a_price_drifts_as_wished(open_case: OpenWorld, drift: int, factor: float) -> None:
    world = await open_case()
    launch = await launched(world, LaunchWish(liquidity="50", drift_bps_per_minute=drift))
    before = sol_for(world, launch, 10**10)
    await world.pass_time(300)
    assert sol_for(world, launch, 10**10) == pytest.approx(before * factor, rel=0.03)


async def test_a_pulled_pool_pays_nearly_nothing_and_its_liquidity_is_gone() -> None:
    world = await open_world(launch_every_s=0)
    world.start()
    pulled: list[Launch] = []
    units = 8 * 10**12  # a hundredth of what the pool began with
    values: list[int] = []
    for _ in range(12):
        pulled.append(await launched(world, LaunchWish(liquidity="50", lp_burnt_bps=0, lp_locked_bps=0)))
        values.append(sol_for(world, pulled[-1], units))
    await world.pass_time(500)
    ratios = [sol_for(world, each, units) / value for each, value in zip(pulled, values, strict=True)]
    assert sum(ratio < 0.01 for ratio in ratios) >= 4
    gone = pulled[ratios.index(min(ratios))]
    measured = world.world.market_data.look_again(gone.pool)
    assert measured is not None
    assert measured.liquidity < gone.liquidity // 50
    await world.restart()
    again = world.world.market_data.look_again(gone.pool)
    assert again is not None
    assert again.liquidity == pytest.approx(measured.liquidity, rel=0.1)
    await world.close()


async def test_what_is_measured_changes_after_the_listing_so_that_a_second_look_may_pass() -> None:
    world = await open_world(launch_every_s=20, seed=5)
    world.start()
    first: dict[str, Launch] = {}
    world.world.market_data.on_launch(lambda launch: first.update({launch.pool: launch}))
    await world.clock.advance(1_000)
    wanted = LaunchFilters(mint_authority_revoked=True, freeze_authority_revoked=True)
    improved = 0
    for pool, launch in first.items():
        again = world.world.market_data.look_again(pool)
        assert again is not None
        then = all(check.passed for check in judge(wanted, launch, launch.listed_us))
        now = all(check.passed for check in judge(wanted, again, world.clock.now_us()))
        assert now or not then, "a revoked authority does not come back"
        if now and not then:
            improved += 1
            assert again.top_holders_bps < launch.top_holders_bps
    assert improved >= 3
    standard = [all(check.passed for check in judge(STANDARD_FILTERS, each, each.listed_us)) for each in first.values()]
    assert 0.2 < sum(standard) / len(standard) < 0.8
    await world.close()


# --- Migration


@pytest.mark.parametrize("venue", ["raydium", "meteora"])
async def test_a_migrated_pool_trades_at_the_other_venue_at_the_same_price(open_case: OpenWorld, venue: str) -> None:
    world = await open_case(launch_every_s=0)
    launch = await launched(world, LaunchWish(venue=venue, liquidity="50", drift_bps_per_minute=0))
    purchase = await bought(world, launch, 5 * 10**9)
    await world.world.chain.send(purchase)
    await world.until_known(purchase.signature)
    units = (await world.fill(purchase.signature)).amount_out
    before = sol_for(world, launch, units // 100)
    heard: list[Launch] = []
    world.world.market_data.on_launch(heard.append)
    moved = await migrated(world, launch.token.mint)
    assert heard == [moved]
    assert moved.migrated_from == venue
    assert moved.venue != venue
    assert moved.pool != launch.pool
    assert moved.token == launch.token
    assert moved.listed_us > launch.listed_us
    assert sol_for(world, launch, units // 100) == pytest.approx(before, rel=0.002)
    assert world.world.market_data.look_again(launch.pool) is None
    with pytest.raises(NoRouteError):
        await world.during(world.venue(venue).quote(QuoteRequest(SOL, launch.token, 10**9)))
    await world.restart()
    assert [each.pool for each in await world.world.market_data.launches(0, 10)] == [moved.pool]
    assert sol_for(world, launch, units // 100) == pytest.approx(before, rel=0.002)


async def test_a_pool_whose_liquidity_was_pulled_moves_with_what_is_left_and_loses_no_more() -> None:
    world = await open_world(launch_every_s=0)
    world.start()
    begun = [await launched(world, LaunchWish(liquidity="500", lp_burnt_bps=0, lp_locked_bps=0)) for _ in range(12)]
    await world.pass_time(500)
    seen = [world.world.market_data.look_again(launch.pool) for launch in begun]
    pulled = min((launch for launch in seen if launch is not None), key=lambda launch: launch.liquidity)
    assert pulled.liquidity < 10 * 10**9
    moved = await migrated(world, pulled.token.mint)
    await world.pass_time(1)
    again = world.world.market_data.look_again(moved.pool)
    assert again is not None
    assert again.liquidity == pytest.approx(pulled.liquidity, rel=0.1)
    await world.close()


async def test_a_swap_that_finds_its_pool_gone_lands_with_an_error_also_when_the_token_came_back(
    open_case: OpenWorld,
) -> None:
    world = await open_case(launch_every_s=0)
    launch = await launched(world)
    for moves in (1, 2):
        transaction = await bought(world, (await world.world.market_data.launches(0, 1))[0], 10**9, f"order {moves}")
        for _ in range(moves):
            await migrated(world, launch.token.mint)
        await world.world.chain.send(transaction)
        assert (await world.until_known(transaction.signature)).error == "transaction_failed"
    assert world.world.wallet.held(launch.token.mint) == 0


async def test_an_unknown_token_cannot_migrate(open_case: OpenWorld) -> None:
    world = await open_case()
    with pytest.raises(ValueError, match="no launched token with the mint"):
        await world.world.control.migrate(SOL.mint)


# --- Bounds


async def test_the_oldest_pools_close_when_there_are_too_many_but_not_those_of_what_the_wallet_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launches_module, "LISTED_MAX", 3)
    world = await open_world(launch_every_s=0)
    world.start()
    kept = await launched(world)
    transaction = await bought(world, kept, 10**9)
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)
    others = [await launched(world) for _ in range(4)]
    expected = [each.pool for each in (kept, *others[2:])]
    assert [each.pool for each in await world.world.market_data.launches(0, 10)] == expected
    assert world.world.market_data.latest(pair_of(others[0].token, SOL)) is None
    await world.restart()
    assert [each.pool for each in await world.world.market_data.launches(0, 10)] == expected
    assert world.tokens.find(others[0].token.mint) is None, "the test's own registry knows none of them"
    await world.close()


async def test_a_restarted_world_teaches_the_registry_every_launched_token() -> None:
    ledger = MemoryLedger()
    world = await open_world(ledger=ledger)
    world.start()
    launch = await launched(world)
    await migrated(world, launch.token.mint)
    await world.restart()
    assert world.registry.find(launch.token.mint) == launch.token
    await world.close()


async def test_a_reset_takes_launched_tokens_from_the_wallet_and_puts_their_pools_back(open_case: OpenWorld) -> None:
    world = await open_case(launch_every_s=0)
    launch = await launched(world)
    transaction = await bought(world, launch, 10**9)
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)
    assert world.world.wallet.held(launch.token.mint)
    await world.during(world.world.control.reset())
    assert world.world.wallet.held(launch.token.mint) == 0
    again = world.world.market_data.look_again(launch.pool)
    assert again is not None
    assert again.liquidity == launch.liquidity
