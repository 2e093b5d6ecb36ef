"""Watched orders where something goes wrong between two steps: none is lost, none stands twice, nothing stays taken."""

import asyncio

import pytest
from msgspec.structs import replace

from bestex.domain.errors import JournalUnavailableError, VenueDownError
from bestex.domain.events import StoredEvent, timestamp_text
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView
from bestex.domain.terms import ExitLeg, ExitTerms, Kind, Terms, TimeInForce
from bestex.domain.tokens import Token, load_tokens, pair_of
from bestex.engine import open_orders
from bestex.engine.intake import OrderRequest
from bestex.ports import Commitment, Halt, HaltCause, OrderFilter, TransactionStatus
from bestex.venues.scripted import FixedCurve, fixed_curve
from tests.support.small_engine import HANG, LIMITS, SOL_USDC, SmallEngine, signature, small_engine

_S = Status


def bury(small: SmallEngine) -> None:
    """What a dead engine held is free now."""
    small.database.bury(small.journal.engine_id)


async def executed_slice(small: SmallEngine, order_id: str) -> None:
    """Have the first slice of a sliced order execute, for good."""
    await small.clock.advance(1.0)
    [first] = await small.journal.children(order_id)
    small.chain.finalize((await small.until_status(first.order_id)).tx_hash or "")
    await small.clock.advance(5.0)


class OddCurve(FixedCurve, frozen=True):
    """A curve that breaks when it is asked."""

    def amount_out(self, amount_in: int, sells_base: bool) -> int:
        raise ZeroDivisionError("odd")


async def test_a_sliced_order_whose_time_passed_while_the_engine_was_down_ends() -> None:
    async with small_engine() as small:
        expires_at = timestamp_text(small.clock.now_us() + 15_000_000)
        order_id = await small.order(
            Kind.TWAP, slices=3, interval_seconds=10, time_in_force=TimeInForce.GTT, expires_at=expires_at
        )
        await executed_slice(small, order_id)
    bury(small)
    await small.clock.advance(60.0)
    async with small_engine(after=small) as next_one:
        await next_one.engine.watch_again()
        view = await next_one.until_status(order_id)
        assert (view.status, view.filled_slices) == (_S.CONFIRMED, 1)


async def test_an_order_that_is_cancelled_while_it_waits_for_funds_takes_none() -> None:
    mint, units = SOL_USDC.base.mint, 1_500_000_000
    async with small_engine(limits=replace(LIMITS, funds_patience_s=5.0)) as small:
        small.wallet.units[mint] = units
        small.chain.lands = False
        first = await small.order()
        await small.until_status(first, _S.SUBMITTED)
        second = await small.order()
        await small.until_status(second, _S.ROUTING)
        await small.engine.orders.cancel(second)
        small.chain.tell(signature(first), TransactionStatus(1_001, Commitment.CONFIRMED))
        await small.until_status(first)
        await small.clock.advance(5.0)
        assert small.engine.funds.covers(mint, units)


async def test_a_trailing_stop_knows_its_best_price_though_its_pair_was_watched_before_the_rebuild() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.TRAILING_STOP, trail_bps=500)
        for price in ("100", "110", "105"):
            small.price(price)
            await small.clock.advance(1.0)
    bury(small)
    async with small_engine(after=small) as next_one:
        young = await next_one.order(Kind.LIMIT, limit_price="500")  # before the old ones are there
        trails = await next_one.order(Kind.TRAILING_STOP, trail_bps=500)
        await next_one.engine.watch_again()
        next_one.price("104.4")
        view = await next_one.until_status(order_id)
        assert view.trigger is not None
        assert view.trigger.extreme == "110"
        await next_one.clock.advance(1.0)
        next_one.price("99.1")
        assert (await next_one.until_status(trails)).status == _S.CONFIRMED
        assert (await next_one.view(young)).status == _S.WATCHING


async def test_an_order_stands_once_in_its_book_though_its_rebuild_began_twice() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        await small.order(Kind.LIMIT, limit_price="500")  # for whose sake the price is followed
    bury(small)
    async with small_engine(after=small) as next_one:
        next_one.journal.trouble["resting"] = [None, JournalUnavailableError("away")]
        rebuilding = asyncio.create_task(next_one.engine.watch_again())
        await next_one.until(rebuilding.done)
        assert len(next_one.engine.watch) == 2
        next_one.price("101")
        await next_one.until_status(order_id)
        next_one.price("101")
        assert next_one.engine.watch.firing == 0


async def test_an_order_that_is_cancelled_while_it_is_read_is_not_watched_again() -> None:
    async with small_engine() as small:
        early, late = [await small.order(Kind.LIMIT, limit_price="100") for _ in range(2)]
        paused = await small.order(Kind.LIMIT, limit_price="99")
    bury(small)
    async with small_engine(after=small) as next_one:
        next_one.journal.reads.clear()
        rebuilding = asyncio.create_task(next_one.engine.watch_again())
        await next_one.clock.advance(0.1)
        await next_one.engine.orders.cancel(early)
        next_one.journal.reads.set()
        await next_one.until(rebuilding.done)
        assert len(next_one.engine.watch) == 2
        next_one.journal.reads.clear()
        next_one.engine.watch.refresh(late)
        next_one.engine.watch.refresh(paused)
        await next_one.clock.advance(0.1)
        await next_one.engine.orders.cancel(late)
        next_one.journal.reads.set()
        await next_one.clock.advance(0.1)
        assert len(next_one.engine.watch) == 1


async def test_a_cancelled_sliced_order_ends_with_its_slices_and_not_when_the_next_one_would_have_begun() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.TWAP, slices=3, interval_seconds=1_000)
        await executed_slice(small, order_id)
        await small.engine.orders.cancel(order_id)
        await small.clock.advance(1.0)
        view = await small.view(order_id)
        assert (view.status, view.filled_slices) == (_S.CONFIRMED, 1)


async def test_no_order_ends_before_a_journal_that_is_behind_is_reconciled() -> None:
    async with small_engine() as small:
        expires_at = timestamp_text(small.clock.now_us() + 5_000_000)
        terms = {"limit_price": "200", "time_in_force": TimeInForce.GTT, "expires_at": expires_at}
        expiring, other = await small.order(Kind.LIMIT, **terms), await small.order(Kind.LIMIT, limit_price="200")
        stop = await small.order(Kind.STOP, trigger_price="50")
        await small.engine.dead_man.arm("local", 10, True)
        small.engine.gate.close(Halt("older than the world", HaltCause.JOURNAL_BEHIND, small.clock.now_us()))
        await small.clock.advance(20.0)
        assert [(await small.view(each)).status for each in (expiring, other)] == [_S.WATCHING, _S.WATCHING]
        small.engine.gate.open()
        assert (await small.until_status(other)).status == _S.CANCELLED
        assert (await small.until_status(expiring)).status in (_S.CANCELLED, _S.EXPIRED)
        assert (await small.view(stop)).status == _S.WATCHING


async def test_an_order_whose_time_passed_while_the_engine_was_down_expires_once_the_journal_is_reconciled() -> None:
    async with small_engine() as small:
        expires_at = timestamp_text(small.clock.now_us() + 5_000_000)
        order_id = await small.order(
            Kind.LIMIT, limit_price="200", time_in_force=TimeInForce.GTT, expires_at=expires_at
        )
    bury(small)
    await small.clock.advance(60.0)
    async with small_engine(after=small) as next_one:
        next_one.engine.gate.close(Halt("older than the world", HaltCause.JOURNAL_BEHIND, small.clock.now_us()))
        await next_one.engine.watch_again()
        next_one.engine.watch.refresh(order_id)
        await next_one.clock.advance(60.0)
        assert (await next_one.view(order_id)).status == _S.WATCHING
        next_one.engine.gate.open()
        assert (await next_one.until_status(order_id)).status == _S.EXPIRED


async def test_a_dead_mans_switch_that_was_due_while_the_engine_was_down_goes_off_before_anything_fires() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        await small.engine.dead_man.arm("local", 10, False)
    bury(small)
    await small.clock.advance(60.0)
    async with small_engine(after=small) as next_one:
        next_one.price("150")
        await next_one.engine.watch_again()
        assert (await next_one.until_status(order_id)).status == _S.CANCELLED
        assert _S.ROUTING not in await next_one.statuses(order_id)
        await next_one.clock.advance(1.0)
        assert await next_one.store.dead_men() == []


async def test_an_entry_that_cannot_be_read_keeps_its_exits_waiting_and_nobody_else() -> None:
    async with small_engine() as small:
        exits = ExitTerms(take_profit=ExitLeg(trigger_price="90"))
        unreadable, readable = [await small.order(exits=exits) for _ in range(2)]
        children = []
        for each in (unreadable, readable):
            await small.until_status(each)
            children += await small.journal.children(each)
        small.journal.unreadable[unreadable] = ValueError("odd")
        small.price("89")
        assert (await small.until_status(children[1].order_id)).status == _S.CONFIRMED
        assert (await small.view(children[0].order_id)).status == _S.WATCHING
        small.journal.unreadable.clear()
        await small.clock.advance(2.0)
        small.price("89")
        assert (await small.until_status(children[0].order_id)).status == _S.CONFIRMED


async def test_the_exits_of_a_launched_token_outlive_a_restart_though_no_registry_has_it() -> None:
    mint = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
    async with small_engine() as small:
        launched, sol = Token(mint, mint, 6), SOL_USDC.base
        buy = OrderRequest(
            Kind.MARKET, sol, launched, 1_500_000_000, 50, terms=Terms(exits=ExitTerms(stop_loss=ExitLeg(loss_bps=1)))
        )
        entry = (await small.engine.intake.accept(buy, "local", None)).order_id
        await small.until_status(entry)
        [exits] = await small.journal.children(entry)
    bury(small)
    async with small_engine(after=small, tokens=load_tokens()) as next_one:
        await next_one.engine.watch_again()
        await next_one.clock.advance(1.0)
        assert len(next_one.engine.watch) == 1
        pair = pair_of(launched, sol)
        next_one.market.tick(pair, fixed_curve(pair, "0.000001"))
        assert (await next_one.until_status(exits.order_id)).status == _S.CONFIRMED


async def test_an_order_that_fired_is_executed_though_others_go_on_firing() -> None:
    async with small_engine() as small:
        first, second = [await small.order(Kind.LIMIT, limit_price=price) for price in ("99", "100")]
        small.journal.reads.clear()
        small.price("99.5")
        await small.clock.advance(0.1)
        small.price("100.5")
        small.journal.reads.set()
        small.journal.reads.clear()  # the first has been read, the second is not
        assert (await small.until_status(first)).status == _S.CONFIRMED
        assert (await small.view(second)).status == _S.WATCHING
        small.journal.reads.set()
        assert (await small.until_status(second)).status == _S.CONFIRMED


async def test_a_price_that_breaks_a_book_stops_nobody_else() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        small.market.tick(SOL_USDC, OddCurve(SOL_USDC, 1))
        small.price("101")
        assert (await small.until_status(order_id)).status == _S.CONFIRMED


async def test_a_limit_order_that_may_not_wait_is_not_executed_long_after_its_engine_died() -> None:
    async with small_engine() as small:
        await small.engine.dispatcher.stop()
        late = await small.order(Kind.LIMIT, limit_price="100", time_in_force=TimeInForce.IOC)
        await small.clock.advance(120.0)
        soon = await small.order(Kind.LIMIT, limit_price="100", time_in_force=TimeInForce.IOC)
    bury(small)
    async with small_engine(after=small) as next_one:
        assert await next_one.recover() == 2
        assert (await next_one.until_status(late)).status == _S.EXPIRED
        assert (await next_one.until_status(soon)).status == _S.CONFIRMED


async def test_an_order_that_fired_before_a_crash_waits_anew_when_its_price_is_long_past() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.TAKE_PROFIT, trigger_price="120")
        await small.engine.dispatcher.stop()
        small.price("121")
        await small.until_status(order_id, _S.ROUTING)
        await small.clock.advance(60.0)
    bury(small)
    async with small_engine(after=small) as next_one:
        assert await next_one.recover() == 1
        view = await next_one.until_status(order_id, _S.WATCHING)
        assert view.waits_because is not None
        next_one.price("119")
        await next_one.clock.advance(1.0)
        assert (await next_one.view(order_id)).status == _S.WATCHING
        next_one.price("121")
        assert (await next_one.until_status(order_id)).status == _S.CONFIRMED


async def test_an_order_that_a_halt_keeps_from_being_executed_waits_anew() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.STOP, trigger_price="80")
        small.venue.builds = [HANG]
        small.price("79")
        await small.until_status(order_id, _S.BUILDING)
        small.engine.gate.close(Halt("a look", HaltCause.OPERATOR, small.clock.now_us()))
        await small.until(lambda: order_id in small.engine.gate.held)
        await small.clock.advance(60.0)
        for held in small.engine.gate.open():
            small.engine.refold(held)
        assert (await small.until_status(order_id, _S.WATCHING, _S.CONFIRMED)).status == _S.WATCHING


async def test_nothing_fires_while_the_engine_stops() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="100")
        await small.engine.drain(1.0)
        small.price("101")
        await small.clock.advance(1.0)
        assert (await small.view(order_id)).status == _S.WATCHING


async def test_a_cancel_of_many_reaches_the_orders_behind_one_that_cannot_be_read() -> None:
    async with small_engine() as small:
        orders = [await small.order(Kind.LIMIT, limit_price="200") for _ in range(3)]
        read = small.journal.events

        async def reading(order_id: str, after_seq: int = 0) -> list[StoredEvent]:
            if order_id == orders[2]:
                raise ValueError("odd")
            return await read(order_id, after_seq)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(open_orders, "CANCELLED_AT_ONCE", 1)
            patched.setattr(small.journal, "events", reading)
            with pytest.raises(ValueError, match="odd"):
                await small.engine.orders.cancel_many()
        assert [(await small.view(each)).status for each in orders] == [_S.CANCELLED, _S.CANCELLED, _S.WATCHING]


async def test_a_cancel_of_all_reaches_an_order_that_comes_back_to_wait_meanwhile() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="120")
        look_through = small.journal.orders

        async def looking_through(where: OrderFilter, limit: int, before_id: str | None) -> list[OrderView]:
            views = await look_through(where, limit, before_id)
            if where.status is _S.PENDING:
                await small.clock.advance(5.0)
            return views

        small.venue.builds = [VenueDownError("down")] * 30
        small.venue.pays = 200_000_000
        small.price("121")
        await small.until_status(order_id, _S.BUILDING)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(small.journal, "orders", looking_through)
            done = await small.engine.orders.cancel_many()
        assert (done.cancelled, done.cancel_requested) == ([order_id], [])
