"""Snipers: from a launch to what they buy, and what is kept of the pools that nobody bought."""

from typing import Any

from msgspec.structs import replace

from bestex.domain.launches import Launch, LaunchFilters
from bestex.domain.lifecycle import Status
from bestex.domain.orders import UNKNOWN_TOKEN
from bestex.domain.terms import NO_TERMS, Kind, Terms
from bestex.domain.tokens import Token
from bestex.engine.intake import OrderRequest
from bestex.ports import Halt, HaltCause
from tests.support.small_engine import TOKENS, SmallEngine, small_engine

_S = Status
MINT = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
SOL = TOKENS.get("SOL")
HALT = Halt("a test", HaltCause.OPERATOR, 0)


def a_launch(small: SmallEngine, **measured: Any) -> Launch:
    launch = Launch(
        token=Token(MINT, MINT, 6),
        name="A dog",
        ticker="DOG",
        venue="raydium",
        pool="pool-dog",
        quote=SOL,
        liquidity=50 * 10**9,
        mint_authority_revoked=True,
        freeze_authority_revoked=True,
        lp_burnt_bps=10_000,
        lp_locked_bps=0,
        top_holders_bps=1_000,
        creator="c" * 40,
        listed_us=small.clock.now_us(),
        slot=7,
    )
    return replace(launch, **measured)


async def snipe(small: SmallEngine, **terms: Any) -> str:
    demanded = Terms(**terms) if terms else NO_TERMS
    request = OrderRequest(Kind.SNIPER, SOL, UNKNOWN_TOKEN, 10**9, 500, terms=demanded)
    accepted = await small.engine.intake.accept(request, "local", None)
    assert accepted.status is _S.WATCHING
    return accepted.order_id


async def test_a_sniper_buys_what_passes_its_filters_and_says_what_it_saw() -> None:
    async with small_engine() as small:
        order_id = await snipe(small, filters=LaunchFilters(min_liquidity="20", mint_authority_revoked=True))
        assert (await small.view(order_id)).pair == "*/SOL"
        small.market.launch(a_launch(small, mint_authority_revoked=False, pool="pool-bad"))
        await small.clock.advance(1.0)
        assert (await small.view(order_id)).status == _S.WATCHING
        small.market.launch(a_launch(small))
        view = await small.until_status(order_id)
        assert (view.status, view.token_out, view.pair) == (_S.CONFIRMED, MINT, f"{MINT}/SOL")
        assert view.trigger is not None
        assert [(check.filter, check.measured) for check in view.trigger.verdicts] == [
            ("minLiquidity", "50"),
            ("mintAuthorityRevoked", "true"),
        ]
        assert small.venue.quoted[-1].token_out.mint == MINT


async def test_a_pool_that_nobody_bought_is_kept_with_each_filters_verdict() -> None:
    async with small_engine() as small:
        await small.engine.watch_again()
        await snipe(small, filters=LaunchFilters(top_holders_max_bps=500))
        small.market.launch(a_launch(small, freeze_authority_revoked=False))
        await small.clock.advance(1.0)
        [record] = await small.store.launches(10, None, None)
        assert record.bought_by == 0
        standard, own = record.verdicts
        assert [check.filter for check in standard.checks if not check.passed] == ["freezeAuthorityRevoked"]
        assert (own.orders, own.passed) == (1, False)
        assert [(check.wanted, check.measured) for check in own.checks] == [("500", "1000")]


async def test_a_sniper_of_a_mint_takes_that_one_whatever_it_is_like() -> None:
    async with small_engine() as small:
        order_id = await snipe(small, mint=MINT)
        small.market.launch(a_launch(small, token=Token("other", "other", 6), pool="pool-other"))
        await small.clock.advance(1.0)
        assert (await small.view(order_id)).status == _S.WATCHING
        small.market.launch(a_launch(small, mint_authority_revoked=False))
        assert (await small.until_status(order_id)).status == _S.CONFIRMED


async def test_a_sniper_that_comes_after_its_mint_was_listed_buys_at_once() -> None:
    async with small_engine() as small:
        small.market.launch(a_launch(small))
        order_id = await snipe(small, mint=MINT)
        assert (await small.until_status(order_id)).status == _S.CONFIRMED


async def test_a_migration_counts_only_for_those_who_ask_for_it() -> None:
    async with small_engine() as small:
        without, asking = await snipe(small, mint=MINT), await snipe(small, mint=MINT, migrations=True)
        small.market.launch(a_launch(small, migrated_from="meteora"))
        view = await small.until_status(asking)
        assert view.trigger is not None
        assert (view.status, view.trigger.kind) == (_S.CONFIRMED, "migration")
        assert (await small.view(without)).status == _S.WATCHING


async def test_filters_that_ask_for_passes_in_a_row_wait_for_them() -> None:
    async with small_engine() as small:
        order_id = await snipe(small, filters=LaunchFilters(mint_authority_revoked=True, consecutive_passes=3))
        small.market.launch(a_launch(small, mint_authority_revoked=False))
        for slot, revoked in enumerate((True, False, True, True), start=8):
            small.market.measure(a_launch(small, mint_authority_revoked=revoked, slot=slot))
            await small.clock.advance(0.5)
            assert (await small.view(order_id)).status == _S.WATCHING
        small.market.measure(a_launch(small, slot=12))
        assert (await small.until_status(order_id)).status == _S.CONFIRMED


async def test_launches_that_a_dead_engine_did_not_see_are_seen_by_the_next() -> None:
    async with small_engine() as small:
        order_id = await snipe(small, filters=LaunchFilters(min_liquidity="20"))
        await small.engine.stop()
        async with small_engine(after=small) as next_one:
            next_one.market.measure(a_launch(next_one))
            await next_one.engine.watch_again()
            assert (await next_one.until_status(order_id)).status == _S.CONFIRMED


async def test_nothing_is_bought_while_the_engine_is_halted() -> None:
    async with small_engine() as small:
        await small.engine.watch_again()
        order_id = await snipe(small, filters=LaunchFilters(min_liquidity="20"))
        small.engine.gate.close(HALT)
        small.market.launch(a_launch(small))
        await small.clock.advance(1.0)
        assert (await small.view(order_id)).status == _S.WATCHING
        [record] = await small.store.launches(10, None, None)
        assert record.bought_by == 0


async def test_a_pool_is_new_once_though_an_order_for_its_mint_comes_later() -> None:
    async with small_engine() as small:
        small.market.launch(a_launch(small))
        late = await snipe(small, filters=LaunchFilters(min_liquidity="20"))
        order_id = await snipe(small, mint=MINT)
        assert (await small.until_status(order_id)).status == _S.CONFIRMED
        await small.clock.advance(1.0)
        assert (await small.view(late)).status == _S.WATCHING


async def test_a_sniper_whose_mint_was_listed_under_an_engine_that_is_dead_buys_at_once() -> None:
    async with small_engine() as small:
        without = await snipe(small, mint=MINT)
        small.engine.gate.close(HALT)  # nothing is bought before it dies
        launch = a_launch(small)
        small.market.launch(launch)
        await small.clock.advance(1.0)
    small.database.bury(small.journal.engine_id)
    async with small_engine(after=small) as next_one:
        next_one.market.measure(launch)
        await next_one.engine.watch_again()
        assert (await next_one.until_status(without)).status == _S.CONFIRMED
        order_id = await snipe(next_one, mint=MINT, filters=LaunchFilters(min_liquidity="20"))
        assert (await next_one.until_status(order_id)).status == _S.CONFIRMED
        [record] = await next_one.store.launches(10, None, None)
        assert (record.bought_by, len(record.verdicts)) == (2, 2)


async def test_a_sniper_whose_mint_is_listed_during_a_halt_buys_when_that_ends() -> None:
    async with small_engine() as small:
        order_id, other = await snipe(small, mint=MINT), await snipe(small, filters=LaunchFilters())
        small.engine.gate.close(HALT)
        small.market.launch(a_launch(small))
        await small.clock.advance(1.0)
        small.engine.gate.open()
        assert (await small.until_status(order_id)).status == _S.CONFIRMED
        assert (await small.view(other)).status == _S.WATCHING


async def test_a_launch_seen_before_the_engine_has_caught_up_hides_none_that_was_not_seen() -> None:
    async with small_engine() as small:
        missed = a_launch(small)
        await small.clock.advance(5.0)
        other = Token("other", "other", 6)
        small.market.launch(a_launch(small, token=other, pool="pool-other"))
        await small.clock.advance(1.0)
        await small.engine.stop()
        async with small_engine(after=small) as next_one:
            order_id = await snipe(next_one, filters=LaunchFilters(min_liquidity="20"))
            next_one.market.measure(missed)
            await next_one.engine.watch_again()
            view = await next_one.until_status(order_id)
            assert (view.status, view.token_out) == (_S.CONFIRMED, MINT)
