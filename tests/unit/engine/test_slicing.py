"""What a sliced order does next, by its events, its slices and the time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bestex.domain.events import ConfirmedDetail, FailedDetail, Slice, WatchingDetail, timestamp_text
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState, OrderView
from bestex.domain.orders import Order
from bestex.domain.terms import Kind, OnSliceFailure, Terms, TimeInForce
from bestex.domain.tokens import load_tokens
from bestex.engine.order_log import OrderLog
from bestex.engine.slicing import (
    Begin,
    Conclude,
    WaitForSlices,
    WaitUntil,
    next_slice_step,
    slice_amount,
    slice_id,
)
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.ports import NewOrder
from tests.support.clock import FakeClock
from tests.support.small_engine import FixedIds

TOKENS = load_tokens()
START_US = 1_750_000_000_000_000


def parent(**terms: Any) -> Order:
    demanded = Terms(**({"slices": 3, "interval_seconds": 10} | terms))
    order_id = FixedIds().order_id()
    return Order(order_id, Kind.TWAP, TOKENS.get("SOL"), TOKENS.get("USDC"), 1_000, 50, START_US, terms=demanded)


async def state_of(order: Order, begun: int, *, cancelled: bool = False) -> OrderState:
    """The order after so many slices have begun."""
    clock = FakeClock(START_US)
    journal = MemoryJournal(MemoryDatabase(), "01910000-0000-7000-8000-00000000000e", clock)
    log = OrderLog(journal, clock, order, OrderState(), 0)
    log.accept(NewOrder(order.id, "twap", "SOL/USDC", "local"))
    for number in range(1, begun + 1):
        log.watch(WatchingDetail(slice=Slice(number, slice_id(order, number), "0.0000003")))
    if cancelled:
        log.watch(WatchingDetail(cancel_requested=True))
    return log.state


def view(order: Order, number: int, status: Status = Status.CONFIRMED, **fields: Any) -> OrderView:
    filled = {"amount_in": "0.000000333", "amount_out": "0.00005", "fee_paid": "0.000015", "commitment": "finalized"}
    return OrderView(
        order_id=slice_id(order, number),
        kind="market",
        status=status,
        seq=6,
        attempt=1,
        pair="SOL/USDC",
        side="sell",
        token_in="SOL",
        token_out="USDC",
        amount="0.000000333",
        slippage_bps=50,
        updated_at="",
        parent_id=order.id,
        slice_number=number,
        **({"created_at": ""} | (filled if status is Status.CONFIRMED else {}) | fields),
    )


async def test_a_slice_begins_when_it_is_due_and_not_before() -> None:
    order = parent()
    state = await state_of(order, 1)
    assert next_slice_step(order, state, [view(order, 1)], START_US + 9_999_999) == WaitUntil(START_US + 10_000_000)
    step = next_slice_step(order, state, [view(order, 1)], START_US + 10_000_000)
    assert isinstance(step, Begin)
    assert (step.note.number, step.order.amount_in, step.order.kind) == (2, 333, Kind.MARKET)
    assert step.order.terms.parent_id == order.id


@given(st.integers(2, 1_000), st.integers(1_000, 2**64 - 1))
def test_the_slices_add_up_to_the_order_and_none_is_nothing(slices: int, amount_in: int) -> None:
    order = replace(parent(slices=slices), amount_in=amount_in)
    amounts = [slice_amount(order, number) for number in range(1, slices + 1)]
    assert sum(amounts) == amount_in
    assert min(amounts) >= 1
    assert max(amounts) - min(amounts) <= 1


async def test_a_slice_with_a_limit_waits_until_the_next_one_is_due() -> None:
    order = parent(limit_price="150")
    step = next_slice_step(order, await state_of(order, 0), [], START_US)
    assert isinstance(step, Begin)
    assert (step.order.kind, step.order.terms.time_in_force) == (Kind.LIMIT, TimeInForce.GTT)
    assert step.order.expires_us == START_US + 10_000_000


@pytest.mark.parametrize("terms", [{}, {"limit_price": "150"}])
async def test_slices_that_were_missed_are_not_made_up_for_at_once(terms: dict[str, Any]) -> None:
    order = parent(slices=5, **terms)
    late_us = START_US + 35_000_000  # the engine was down while the second, the third and the fourth were due
    first = view(order, 1, created_at=timestamp_text(START_US))
    step = next_slice_step(order, await state_of(order, 1), [first], late_us)
    assert isinstance(step, Begin)
    assert step.note.number == 2
    assert step.order.expires_us == (late_us + 10_000_000 if terms else None)
    second = view(order, 2, created_at=timestamp_text(late_us))
    step = next_slice_step(order, await state_of(order, 2), [first, second], late_us)
    assert step == WaitUntil(late_us + 10_000_000)


async def test_no_slice_may_land_after_its_orders_time() -> None:
    order = parent(expires_at=timestamp_text(START_US + 25_000_000), time_in_force=TimeInForce.GTT)
    step = next_slice_step(order, await state_of(order, 0), [], START_US)
    assert isinstance(step, Begin)
    assert (step.order.kind, step.order.expires_us) == (Kind.MARKET, START_US + 25_000_000)


async def test_it_ends_with_the_sums_of_its_slices_once_all_are_final() -> None:
    order = parent()
    state = await state_of(order, 3)
    slices = [view(order, 1), view(order, 2, Status.FAILED), view(order, 3, commitment="confirmed")]
    assert next_slice_step(order, state, slices, START_US + 60_000_000) == WaitForSlices()
    slices[2] = view(order, 3)
    step = next_slice_step(order, state, slices, START_US + 60_000_000)
    assert isinstance(step, Conclude)
    assert isinstance(step.detail, ConfirmedDetail)
    assert (step.status, step.detail.filled_slices) == (Status.CONFIRMED, 2)
    assert (step.detail.amount_in, step.detail.amount_out, step.detail.fee_paid) == ("0.000000666", "0.0001", "0.00003")


async def test_it_ends_though_a_person_resolved_a_slice_whose_fee_nobody_knows() -> None:
    order = parent(slices=2)
    slices = [view(order, 1), view(order, 2, fee_paid="0", amount_out="0")]
    step = next_slice_step(order, await state_of(order, 2), slices, START_US + 60_000_000)
    assert isinstance(step, Conclude)
    assert isinstance(step.detail, ConfirmedDetail)
    assert (step.detail.amount_out, step.detail.fee_paid) == ("0.00005", "0.000015")


async def test_a_slice_that_is_not_in_the_journal_yet_is_waited_for() -> None:
    order = parent()
    assert next_slice_step(order, await state_of(order, 3), [view(order, 1)], START_US + 60_000_000) == WaitForSlices()


async def test_a_slice_that_a_fork_took_for_good_is_not_filled() -> None:
    order = parent(slices=2)
    slices = [view(order, 1), view(order, 2, commitment="lost", gone=True)]
    step = next_slice_step(order, await state_of(order, 2), slices, START_US + 60_000_000)
    assert isinstance(step, Conclude)
    assert isinstance(step.detail, ConfirmedDetail)
    assert step.detail.filled_slices == 1


@pytest.mark.parametrize(
    ("slices", "cancelled", "terms", "status"),
    [
        ((Status.FAILED,), False, {"on_slice_failure": OnSliceFailure.STOP}, Status.FAILED),
        ((Status.EXPIRED,), True, {}, Status.CANCELLED),
        ((Status.CANCELLED,), False, {"expires_at": "2025-06-15T15:06:50Z"}, Status.EXPIRED),
        ((Status.CONFIRMED,), True, {}, Status.CONFIRMED),
        ((), True, {}, Status.CANCELLED),
    ],
)
async def test_nothing_begins_any_more_once_it_is_stopped(
    slices: tuple[Status, ...], cancelled: bool, terms: dict[str, Any], status: Status
) -> None:
    order = parent(**terms)
    state = await state_of(order, len(slices), cancelled=cancelled)
    views = [view(order, number, each) for number, each in enumerate(slices, start=1)]
    step = next_slice_step(order, state, views, START_US + 11_000_000)
    assert isinstance(step, Conclude)
    assert step.status is status


async def test_an_order_none_of_whose_slices_executed_says_why_the_last_one_did_not() -> None:
    order = parent(slices=2)
    failure = FailedDetail("no_route", "no venue has a route", ())
    slices = [view(order, 1, Status.FAILED), view(order, 2, Status.FAILED, failure=failure)]
    step = next_slice_step(order, await state_of(order, 2), slices, START_US + 60_000_000)
    assert isinstance(step, Conclude)
    assert isinstance(step.detail, FailedDetail)
    assert step.detail.code == "slices_failed"
    assert "no_route: no venue has a route" in step.detail.message
