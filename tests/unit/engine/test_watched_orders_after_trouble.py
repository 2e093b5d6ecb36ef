"""Watched orders when something breaks off in the middle: defects that the simulation found."""

import asyncio

import pytest

from bestex.domain.errors import JournalUnavailableError
from bestex.domain.events import WatchingDetail, timestamp_text
from bestex.domain.lifecycle import Status
from bestex.domain.terms import Kind, TimeInForce
from bestex.ports import Append, Lease
from tests.support.small_engine import SOL_USDC, SmallEngine, small_engine

_S = Status
AWAY = JournalUnavailableError("the database is away")


async def end_sliced(small: SmallEngine, order_id: str) -> Status | None:
    """Let every slice that lands be final, until the sliced order has ended; its last status."""
    for _ in range(60):
        await small.clock.advance(1.0)
        for each in await small.journal.children(order_id):
            if each.tx_hash and each.tx_hash in small.chain.known:
                small.chain.finalize(each.tx_hash)
        if (await small.view(order_id)).status != _S.WATCHING:
            break
    return small.database.orders[order_id].status


async def test_a_sliced_order_whose_time_was_up_while_no_engine_ran_ends() -> None:
    async with small_engine() as small:
        until = timestamp_text(small.clock.now_us() + 15_000_000)
        gtt = TimeInForce.GTT
        order_id = await small.order(Kind.TWAP, slices=3, interval_seconds=10, time_in_force=gtt, expires_at=until)
        await small.until_status((await children_of(small, order_id))[0])
        for task in small.running:
            task.cancel()
        await asyncio.gather(*small.running, return_exceptions=True)
        small.running.clear()
        await small.clock.advance(30.0)
        async with small_engine(after=small) as next_one:
            next_one.chain.known = small.chain.known
            small.database.bury(small.journal.engine_id)
            await next_one.recover()
            assert await next_one.engine.watch_again() == 1
            assert await end_sliced(next_one, order_id) is _S.CONFIRMED


async def test_a_repeated_cancel_of_a_sliced_order_reaches_the_slices_that_the_first_did_not() -> None:
    async with small_engine() as small:
        small.chain.lands = False
        order_id = await small.order(Kind.TWAP, slices=3, interval_seconds=10)
        [slice_id] = await children_of(small, order_id)
        await small.until_status(slice_id, _S.SUBMITTED)
        small.journal.trouble["children"] = [AWAY, AWAY]  # who carries the order on asks, too
        with pytest.raises(JournalUnavailableError):
            await small.engine.orders.cancel(order_id)
        assert (await small.view(order_id)).cancel_requested
        assert not (await small.view(slice_id)).cancel_requested
        await small.engine.orders.cancel(order_id)
        assert (await small.view(slice_id)).cancel_requested


async def test_a_slice_that_is_settled_while_the_next_engine_reads_the_slices_is_not_waited_for() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.TWAP, slices=2, interval_seconds=10)
        [slice_id] = await children_of(small, order_id)
        await small.until_status(slice_id, _S.CONFIRMED)
        await small.engine.orders.cancel(order_id)
        await small.engine.stop()
        small.database.bury(small.journal.engine_id)
        async with small_engine(after=small) as next_one:
            next_one.chain.known = small.chain.known
            next_one.journal.tells_children.clear()
            await next_one.recover()
            await next_one.engine.watch_again()
            await next_one.clock.advance(0.1)
            tx_hash = (await next_one.view(slice_id)).tx_hash
            assert tx_hash is not None
            next_one.chain.finalize(tx_hash)
            await next_one.until(lambda: next_one.database.orders[slice_id].settled)
            next_one.journal.tells_children.set()
            assert (await next_one.until_status(order_id)).status == _S.CONFIRMED


async def test_a_sliced_order_goes_on_from_the_journal_after_a_slice_of_it_was_refused() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.TWAP, slices=2, interval_seconds=10)
        await small.until_status((await children_of(small, order_id))[0])
        append = small.journal.append

        def moved_on(rows: Append) -> "asyncio.Future[int]":
            """As when a client's change was stored just before, and the database goes away then."""
            if rows.companion is None:
                return append(rows)
            small.journal.append = append  # type: ignore[method-assign]
            note = rows.events[0]
            other = type(note)(order_id, note.seq, _S.WATCHING, note.attempt, note.at_us, WatchingDetail(reason="x"))
            view = small.database.orders[order_id].view
            assert view is not None
            append(Append(order_id, rows.base_seq, rows.base_status, None, (other,), view))
            small.journal.trouble["histories"] = [AWAY]
            return append(rows)

        small.journal.append = moved_on  # type: ignore[method-assign, assignment]
        assert await end_sliced(small, order_id) is _S.CONFIRMED
        assert [each.status for each in await small.journal.children(order_id)] == [_S.CONFIRMED, _S.CONFIRMED]


async def test_a_sliced_order_that_has_ended_can_be_read_although_it_signed_nothing() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.TWAP, slices=2, interval_seconds=10)
        assert await end_sliced(small, order_id) is _S.CONFIRMED
        [log] = await small.engine.execution.recovery.read([Lease(order_id, 0)])
        assert (log.state.status, log.transaction) == (_S.CONFIRMED, None)


async def test_a_rebuild_that_broke_off_takes_each_order_up_once() -> None:
    async with small_engine() as small:
        order_ids = [await small.order(Kind.LIMIT, limit_price="200") for _ in range(2)]
        await small.engine.stop()
        async with small_engine(after=small) as next_one:
            next_one.journal.trouble["more resting"] = [AWAY]
            again = asyncio.create_task(next_one.engine.watch_again())
            await next_one.until(again.done)
            for order_id in order_ids:
                await next_one.engine.orders.cancel(order_id)
            assert len(next_one.engine.watch) == 0
            next_one.price("201")
            assert next_one.engine.watch.firing == 0


async def test_an_order_that_is_cancelled_during_a_rebuild_is_not_watched() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.LIMIT, limit_price="200")
        await small.engine.stop()
        async with small_engine(after=small) as next_one:
            next_one.journal.tells_more_resting.clear()
            again = asyncio.create_task(next_one.engine.watch_again())
            await next_one.clock.advance(0.1)
            await next_one.engine.orders.cancel(order_id)
            next_one.journal.tells_more_resting.set()
            await next_one.until(again.done)
            assert len(next_one.engine.watch) == 0


async def test_a_new_order_does_not_count_on_what_a_dead_engines_order_may_be_spending() -> None:
    async with small_engine() as small:
        small.wallet.units[SOL_USDC.base.mint] = 2_000_000_000
        small.chain.lands = False
        await small.left_by_the_dead(_S.PENDING, _S.ROUTING, _S.BUILDING, _S.SUBMITTED)
        small.journal.trouble["claim"] = [AWAY]
        recovering = asyncio.create_task(small.engine.recover())
        order_id = await small.order()
        await small.clock.advance(0.2)
        assert not recovering.done()
        assert (await small.view(order_id)).status == _S.ROUTING
        await small.until(recovering.done)
        await small.clock.advance(0.2)
        assert (await small.view(order_id)).status == _S.ROUTING


async def test_a_price_that_got_old_before_the_order_was_read_fires_nothing() -> None:
    async with small_engine() as small:
        order_id = await small.order(Kind.STOP, trigger_price="95")
        small.journal.tells_histories.clear()
        small.price("94")
        await small.clock.advance(3.1)
        small.journal.tells_histories.set()
        await small.clock.advance(1.0)
        assert (await small.view(order_id)).status == _S.WATCHING
        small.price("94.5")
        view = await small.until_status(order_id)
        assert view.trigger is not None
        assert (view.status, view.trigger.price) == (_S.CONFIRMED, "94.5")


async def children_of(small: SmallEngine, order_id: str) -> list[str]:
    """The slices that have begun: one at least."""
    await small.until(lambda: any(order.parent_id == order_id for order in small.database.orders.values()))
    return [view.order_id for view in await small.journal.children(order_id)]
