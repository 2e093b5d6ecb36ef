"""Orders that wait for a price: from their acceptance to what they fire, expire or are cancelled by."""

import asyncio

import pytest

from bestex.domain.errors import SlippageExceededError
from bestex.domain.events import Changes, Event, RoutingDetail, WatchingDetail, timestamp_text, timestamp_us
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import fold
from bestex.domain.terms import ExitLeg, ExitTerms, Kind, Terms, TimeInForce
from bestex.engine import watch
from bestex.engine.errors import BadChangeError, BeyondTriggerError, NotWatchingError, PastExpiryError
from bestex.engine.intake import OrderRequest
from bestex.ports import RestingOrder
from tests.support.small_engine import SOL_USDC, SmallEngine, signature, small_engine

_S = Status


async def events_of(small: SmallEngine, order_id: str) -> list[Event]:
    return [stored.event for stored in await small.journal.events(order_id)]


async def test_a_limit_order_waits_until_its_price_is_there_and_fires_once() -> None:
    async with small_engine() as small:
        accepted = await small.accept(Kind.LIMIT, limit_price="100")
        assert (accepted.status, accepted.covered) == (_S.WATCHING, True)
        small.price("99.99")
        await small.clock.advance(1.0)
        assert await small.statuses(accepted.order_id) == [_S.PENDING, _S.WATCHING]
        small.price("100.01")
        small.price("100.02")
        view = await small.until_status(accepted.order_id)
        assert view.status == _S.CONFIRMED
        assert await small.statuses(accepted.order_id) == [
            _S.PENDING,
            _S.WATCHING,
            _S.ROUTING,
            _S.BUILDING,
            _S.SUBMITTED,
            _S.CONFIRMED,
        ]
        trigger = view.trigger
        assert trigger is not None
        assert (trigger.kind, trigger.price, trigger.threshold) == ("limit", "100.01", "100")
        assert (view.limit_price, view.limit_price_inverse) == ("100", "0.01")


async def test_after_firing_the_limit_still_binds_and_it_waits_again_with_a_growing_pause() -> None:
    async with small_engine() as small:  # its venue quotes 100.67 USDC a SOL, whatever the market data say
        order_id = await small.order(Kind.LIMIT, limit_price="120")
        pauses_s = []
        for _ in range(300):
            small.price("121")
            await small.clock.advance(0.1)
            event = (await events_of(small, order_id))[-1]
            if isinstance(event.detail, WatchingDetail) and event.detail.not_before is not None:
                pauses_s.append((timestamp_us(event.detail.not_before) - event.at_us) / 1e6)
        state = fold(await events_of(small, order_id))
        assert (state.status, state.fired) == (_S.WATCHING, 6)
        assert state.waits_because is not None
        assert state.waits_because.startswith("limit_not_met")
        assert [round(pause_s, 1) for pause_s in dict.fromkeys(pauses_s)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
        assert small.chain.sent == []


async def test_a_stop_waits_for_a_price_as_bad_as_its_trigger() -> None:
    async with small_engine() as small:
        small.price("100")
        order_id = await small.order(Kind.STOP, trigger_price="95")
        small.price("95.01")
        await small.clock.advance(1.0)
        assert (await small.view(order_id)).status == _S.WATCHING
        small.price("94.9")
        assert (await small.until_status(order_id)).status == _S.CONFIRMED


async def test_a_stop_beyond_its_trigger_is_refused_unless_that_is_allowed() -> None:
    async with small_engine() as small:
        small.price("90")
        small.market.tick(SOL_USDC)
        small.price("90")
        with pytest.raises(BeyondTriggerError, match="the price is 90 already"):
            await small.order(Kind.STOP, trigger_price="95")
        order_id = await small.order(Kind.STOP, trigger_price="95", allow_immediate=True)
        assert (await small.until_status(order_id)).status == _S.CONFIRMED


async def test_a_stop_is_not_refused_for_a_price_that_is_missing_or_stale() -> None:
    async with small_engine() as small:
        small.market.tick(SOL_USDC)
        await small.order(Kind.STOP, trigger_price="95")
        small.price("90")
        await small.clock.advance(3.0)
        await small.order(Kind.STOP, trigger_price="95")


async def test_a_stop_is_not_changed_to_a_trigger_that_the_price_is_beyond_unless_it_allows_that() -> None:
    async with small_engine() as small:
        small.price("100")
        order_id = await small.order(Kind.STOP, trigger_price="95")
        with pytest.raises(BeyondTriggerError, match="give one below it"):
            await small.engine.orders.amend(order_id, Changes(trigger_price="105"))
        view = await small.engine.orders.amend(order_id, Changes(trigger_price="99"))
        assert (view.trigger_price, view.status) == ("99", _S.WATCHING)
        allowing = await small.order(Kind.STOP, trigger_price="90", allow_immediate=True)
        await small.engine.orders.amend(allowing, Changes(trigger_price="105"))
        assert (await small.until_status(allowing)).status == _S.CONFIRMED


async def test_a_trailing_stop_follows_the_best_price() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.TRAILING_STOP, trail_bps=500)
        for price in ("100", "110", "104.6"):
            small.price(price)
            await small.clock.advance(0.5)
        assert (await small.view(order_id)).status == _S.WATCHING
        small.price("104.4")
        view = await small.until_status(order_id)
        assert view.status == _S.CONFIRMED
        assert view.trigger is not None
        assert (view.trigger.extreme, view.trigger.threshold) == ("110", "104.5")


async def test_an_order_expires_at_its_time_though_nothing_happens() -> None:
    async with small_engine() as small:
        expires_at = timestamp_text(small.clock.now_us() + 5_000_000)
        order_id = await small.order(
            Kind.LIMIT, limit_price="200", time_in_force=TimeInForce.GTT, expires_at=expires_at
        )
        await small.clock.advance(4.9)
        assert (await small.view(order_id)).status == _S.WATCHING
        assert (await small.until_status(order_id)).status == _S.EXPIRED
        small.price("300")
        await small.clock.advance(1.0)
        assert (await small.view(order_id)).status == _S.EXPIRED


async def test_an_order_that_may_not_wait_expires_where_its_price_is_not_there() -> None:
    async with small_engine() as small:
        expired = await small.order(Kind.LIMIT, limit_price="120", time_in_force=TimeInForce.IOC)
        executed = await small.order(Kind.LIMIT, limit_price="100", time_in_force=TimeInForce.FOK)
        assert (await small.until_status(expired)).status == _S.EXPIRED
        assert (await small.until_status(executed)).status == _S.CONFIRMED
        assert _S.WATCHING not in await small.statuses(executed)


async def test_a_cancelled_order_never_fires() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        assert (await small.engine.orders.cancel(order_id)).status == _S.CANCELLED
        small.price("150")
        await small.clock.advance(1.0)
        assert (await small.view(order_id)).status == _S.CANCELLED
        assert len(small.engine.watch) == 0


async def test_a_changed_price_counts_from_then_on() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        view = await small.engine.orders.amend(order_id, Changes(limit_price="90", slippage_bps=10))
        assert (view.limit_price, view.slippage_bps, view.status) == ("90", 10, _S.WATCHING)
        await small.clock.advance(0.1)
        small.price("91")
        view = await small.until_status(order_id)
        assert (view.status, view.limit_price) == (_S.CONFIRMED, "90")
        with pytest.raises(BadChangeError, match="none to change"):
            await small.engine.orders.amend(
                await small.order(Kind.LIMIT, limit_price="100"), Changes(trigger_price="1")
            )


async def test_only_a_watched_order_can_be_changed() -> None:
    async with small_engine() as small:
        small.chain.lands = False
        order_id = await small.order()
        await small.until_status(order_id, _S.SUBMITTED)
        with pytest.raises(NotWatchingError):
            await small.engine.orders.amend(order_id, Changes(slippage_bps=10))


async def test_watched_orders_are_taken_up_by_the_next_engine_and_fire_once() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        await small.engine.stop()
        async with small_engine(after=small) as next_one:
            assert await next_one.engine.watch_again() == 1
            next_one.price("101")
            assert (await next_one.until_status(order_id)).status == _S.CONFIRMED
            assert [e.status for e in await events_of(next_one, order_id)].count(_S.ROUTING) == 1


async def test_an_order_that_gives_up_all_its_attempts_waits_for_its_trigger_again() -> None:
    async with small_engine() as small:
        small.venue.builds = [SlippageExceededError("it moved")] * 3
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        small.price("100.5")
        await small.until(lambda: small.database.orders[order_id].status is _S.WATCHING and not small.venue.builds)
        await small.clock.advance(1.0)
        small.price("100.5")
        assert (await small.until_status(order_id)).status == _S.CONFIRMED
        fired = [
            e for e in await events_of(small, order_id) if isinstance(e.detail, RoutingDetail) and e.detail.trigger
        ]
        assert [event.attempt for event in fired] == [1, 4]


async def test_an_entry_brings_its_exits_in_the_commit_that_confirms_it() -> None:
    async with small_engine() as small:
        exits = ExitTerms(take_profit=ExitLeg(gain_bps=1_000), stop_loss=ExitLeg(loss_bps=1_000))
        order_id = await small.order(exits=exits)
        await small.until_status(order_id)
        [child] = await small.journal.children(order_id)
        assert (child.kind, child.status, child.amount, child.parent_id) == ("exits", _S.WATCHING, "151", order_id)
        assert (child.token_in, child.token_out) == ("USDC", "SOL")
        # The entry sold SOL at 100.67: buying it back gains as the price falls.
        assert [leg.trigger_price[:5] if leg.trigger_price else None for leg in child.legs] == ["90.59", "110.7"]
        confirmed = (await events_of(small, order_id))[-1]
        begun = (await events_of(small, child.order_id))[0]
        assert begun.at_us == confirmed.at_us
        small.price("115")
        view = await small.until_status(child.order_id)
        assert view.status == _S.CONFIRMED
        assert view.trigger is not None
        assert view.trigger.kind == "stopLoss"


async def test_an_exit_that_fails_is_armed_again_however_often() -> None:
    async with small_engine() as small:
        order_id = await small.order(exits=ExitTerms(stop_loss=ExitLeg(trigger_price="110")))
        await small.until_status(order_id)
        [child] = await small.journal.children(order_id)
        small.venue.builds = [SlippageExceededError("it moved")] * 6
        for _ in range(40):
            small.price("115")
            await small.clock.advance(0.5)
        assert (await small.view(child.order_id)).status == _S.CONFIRMED
        assert fold(await events_of(small, child.order_id)).fired == 3


async def test_a_sliced_order_executes_in_slices_and_ends_with_their_sums() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.TWAP, slices=3, interval_seconds=10)
        view = None
        for _ in range(60):
            await small.clock.advance(1.0)
            for each in await small.journal.children(order_id):
                if each.tx_hash:
                    small.chain.finalize(each.tx_hash)
            view = await small.view(order_id)
            if view.status != _S.WATCHING:
                break
        assert view is not None
        assert (view.status, view.filled_slices, view.amount_out) == (_S.CONFIRMED, 3, "453")
        slices = await small.journal.children(order_id)
        assert [(each.slice_number, each.amount) for each in slices] == [(1, "0.5"), (2, "0.5"), (3, "0.5")]


async def test_a_sliced_order_whose_time_is_up_while_no_engine_runs_still_ends_with_what_its_slices_did() -> None:
    async with small_engine() as small:
        expires_at = timestamp_text(small.clock.now_us() + 5_000_000)
        order_id = await small.order(Kind.TWAP, slices=3, interval_seconds=10, expires_at=expires_at)
        await small.until(lambda: bool(small.chain.known))
        [first] = await small.journal.children(order_id)
    small.database.bury(small.journal.engine_id)
    await small.clock.advance(30.0)
    async with small_engine(after=small) as next_one:
        next_one.chain.known = small.chain.known
        next_one.chain.finalize(signature(first.order_id))
        await next_one.engine.watch_again()
        await next_one.recover()
        view = await next_one.until_status(order_id)
        assert (view.status, view.filled_slices, view.amount_in) == (_S.CONFIRMED, 1, "1.5")


async def test_the_dead_mans_switch_cancels_what_rests_and_spares_stops_when_asked() -> None:
    async with small_engine() as small:
        limit = await small.order(Kind.LIMIT, limit_price="200")
        stop = await small.order(Kind.STOP, trigger_price="50")
        await small.engine.dead_man.arm("local", 10, True)
        await small.clock.advance(6.0)
        await small.engine.dead_man.arm("local", 10, True)
        await small.clock.advance(6.0)
        assert (await small.view(limit)).status == _S.WATCHING
        assert (await small.until_status(limit)).status == _S.CANCELLED
        assert (await small.view(stop)).status == _S.WATCHING
        assert await small.engine.dead_man.switch("local") is None


async def test_two_orders_never_count_on_the_same_funds() -> None:
    async with small_engine() as small:
        small.wallet.units[SOL_USDC.base.mint] = 2_000_000_000
        small.chain.lands = False
        first, second = await small.order(), await small.order()
        await small.until_status(first, _S.SUBMITTED)
        await small.clock.advance(1.0)
        assert (await small.view(second)).status == _S.ROUTING
        assert len(small.chain.sent) == 1
        view = await small.until_status(second)
        assert view.failure is not None
        assert view.failure.code == "insufficient_funds"
        assert "other orders are about to spend" in view.failure.message


async def test_a_repeated_stop_gets_its_first_answer_although_the_price_has_passed_its_trigger() -> None:
    async with small_engine() as small:
        small.chain.lands = False
        small.price("100")
        request = OrderRequest(
            Kind.STOP, SOL_USDC.base, SOL_USDC.quote, 1_500_000_000, 50, terms=Terms(trigger_price="95")
        )
        first = await small.engine.intake.accept(request, "local", "key")
        small.price("90")
        again = await small.engine.intake.accept(request, "local", "key")
        assert again.order_id == first.order_id
        with pytest.raises(BeyondTriggerError):
            await small.engine.intake.accept(request, "local", "another key")


async def test_a_rebuild_that_takes_long_keeps_what_it_has_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "REBUILD_PAGE", 1)
    async with small_engine() as small:
        order_ids = [await small.order(Kind.LIMIT, limit_price="100") for _ in range(3)]
        await small.engine.stop()
        async with small_engine(after=small) as next_one:
            read = next_one.journal.resting

            async def slowly(after_id: str | None, limit: int) -> list[RestingOrder]:
                await next_one.clock.sleep(1.5)  # the desk tidies its books meanwhile
                return await read(after_id, limit)

            monkeypatch.setattr(next_one.journal, "resting", slowly)
            rebuilding = asyncio.create_task(next_one.engine.watch_again())
            await next_one.until(rebuilding.done)
            assert rebuilding.result() == 3
            next_one.price("101")
            for order_id in order_ids:
                assert (await next_one.until_status(order_id)).status == _S.CONFIRMED


async def test_a_repeated_order_gets_its_first_answer_although_its_time_has_passed() -> None:
    async with small_engine() as small:
        expires_at = timestamp_text(small.clock.now_us() + 5_000_000)
        terms = Terms(limit_price="200", time_in_force=TimeInForce.GTT, expires_at=expires_at)
        request = OrderRequest(Kind.LIMIT, SOL_USDC.base, SOL_USDC.quote, 1_500_000_000, 50, terms=terms)
        first = await small.engine.intake.accept(request, "local", "key")
        assert (await small.until_status(first.order_id)).status == _S.EXPIRED
        again = await small.engine.intake.accept(request, "local", "key")
        assert again.order_id == first.order_id
        for key in (None, "another key"):
            with pytest.raises(PastExpiryError, match="in the future"):
                await small.engine.intake.accept(request, "local", key)


async def test_the_dead_mans_switch_reaches_an_order_that_fires_as_it_goes_off() -> None:
    async with small_engine() as small:
        small.venue.builds = [SlippageExceededError("it moved")] * 3
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        market = await small.order()
        small.price("100.5")
        await small.until_status(order_id, _S.ROUTING, _S.BUILDING)
        await small.engine.orders.cancel_many(by="deadman", resting_only=True)
        assert (await small.until_status(order_id)).status == _S.CANCELLED
        assert (await small.until_status(market)).status == _S.CONFIRMED
