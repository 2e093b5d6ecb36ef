"""A market order whose venues and chain make nobody wait: what one step does, and what is left to the long way."""

import asyncio

import pytest

from bestex.domain.errors import ChainUnreachableError, SlippageExceededError, VenueDownError
from bestex.domain.lifecycle import Status
from bestex.ports import HaltCause
from tests.support.journals import holding
from tests.support.small_engine import SmallEngine, signature, small_engine

HAPPY = [Status.PENDING, Status.ROUTING, Status.BUILDING, Status.SUBMITTED, Status.CONFIRMED]


def quick(small: SmallEngine) -> SmallEngine:
    small.venue.builds_at_once = small.chain.takes_at_once = True
    return small


async def test_it_goes_through_every_status_in_three_commits() -> None:
    async with small_engine() as small:
        store = holding(quick(small).journal)
        order_id = await small.order()
        view = await small.until_status(order_id, Status.CONFIRMED)
        assert await small.statuses(order_id) == HAPPY
        assert [view.attempt, view.tx_hash, view.venue] == [1, signature(order_id), "raydium"]
        assert [[len(merged.appends[0].events) for merged in rows] for rows in store.commits] == [[1], [3], [1]]
        assert len(small.venue.quoted) == len(small.venue.built) == 1


async def test_nothing_is_sent_before_its_signature_is_on_disk() -> None:
    async with small_engine() as small:
        store = holding(quick(small).journal)
        store.hold()
        accepting = asyncio.create_task(small.order())
        await store.arrived()
        await store.let_one_pass()
        order_id = await accepting
        assert small.venue.built, "it is signed"
        assert small.chain.sent == []
        assert (small.engine.dispatcher.executing, small.engine.open_orders) == (1, 1)
        store.release()
        await small.until_status(order_id, Status.CONFIRMED)
        assert small.chain.sent == [signature(order_id)]
        assert small.engine.dispatcher.executing == 0


async def test_an_order_that_another_took_over_before_its_signature_was_stored_is_not_sent() -> None:
    async with small_engine() as small:
        store = holding(quick(small).journal)
        store.hold()
        accepting = asyncio.create_task(small.order())
        await store.arrived()
        await store.let_one_pass()
        order_id = await accepting
        small.database.orders[order_id].owner = "another"
        store.release()
        await small.until(lambda: small.engine.dispatcher.executing == 0)
        assert await small.statuses(order_id) == [Status.PENDING]
        assert small.chain.sent == []


@pytest.mark.parametrize("trouble", [SlippageExceededError("it pays less now"), VenueDownError("down")])
async def test_what_stands_against_building_is_found_again_and_recorded(trouble: Exception) -> None:
    async with small_engine() as small:
        quick(small).venue.builds = [trouble]
        order_id = await small.order()
        await small.until_status(order_id, Status.CONFIRMED)
        assert await small.statuses(order_id) == [*HAPPY[:3], *HAPPY[1:]]
        [_, *later] = [stored.event for stored in await small.journal.events(order_id)]
        assert str(trouble) in str(later[2].detail)


async def test_a_send_that_breaks_is_looked_up_and_not_signed_again() -> None:
    async with small_engine() as small:
        quick(small).chain.trouble["send"] = [ChainUnreachableError("it broke")]
        order_id = await small.order()
        await small.until_status(order_id, Status.CONFIRMED)
        assert await small.statuses(order_id) == HAPPY
        assert small.chain.sent == [signature(order_id)], "the same bytes went out again"


async def test_an_endpoint_that_must_be_waited_for_gets_the_bytes_all_the_same() -> None:
    async with small_engine() as small:
        quick(small).chain.takes_at_once = False
        order_id = await small.order()
        await small.until_status(order_id, Status.CONFIRMED)
        assert small.chain.sent == [signature(order_id)]


async def test_in_a_halt_nothing_is_signed() -> None:
    async with small_engine() as small:
        store = holding(quick(small).journal)
        store.hold()
        accepting = asyncio.create_task(small.order())
        await store.arrived()
        await small.journal.halt("stop", HaltCause.OPERATOR)
        small.engine.gate.halt = await small.journal.halted()
        store.release()
        order_id = await accepting
        await small.until(lambda: order_id in small.engine.gate.held)
        assert small.venue.built == []


async def test_two_orders_do_not_spend_the_same_funds_at_once() -> None:
    async with small_engine() as small:
        store = holding(quick(small).journal)
        sol = "So11111111111111111111111111111111111111112"
        small.wallet.units = {sol: 2_000_000_000}  # enough for one of 1.5 SOL
        store.hold()
        accepting = [asyncio.create_task(small.order()) for _ in range(2)]
        await store.arrived()
        await store.let_one_pass()
        await asyncio.gather(*accepting)
        assert len(small.venue.built) == 1
        store.release()
        await small.until(lambda: len(small.venue.built) == 2)
