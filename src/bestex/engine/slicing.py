"""Sliced orders (TWAP): what to do next for one, as a pure function of its events and its slices.

What holds of the decisions:

- Slices begin in order, each at its time, and never two with one number: a slice's id follows from its number. Late
  ones begin an interval apart.
- The slices' amounts add up to the order's amount exactly; each is at least one base unit.
- Nothing begins any more once the client cancelled, the time is up, or a slice failed and that was to stop it.
- The order ends only when every slice that began is settled, so its amounts are the sums of what is final.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from bestex.domain.derived_ids import derived_id
from bestex.domain.errors import FailureCode
from bestex.domain.events import (
    FINALIZED,
    CancelledDetail,
    ConfirmedDetail,
    Detail,
    ExpiredDetail,
    FailedDetail,
    Slice,
    timestamp_text,
    timestamp_us,
)
from bestex.domain.lifecycle import ENDS, UNFILLED, Status
from bestex.domain.money import format_amount, price_text, read_amount
from bestex.domain.order_state import OrderState, OrderView
from bestex.domain.orders import Order
from bestex.domain.terms import Kind, OnSliceFailure, Terms, TimeInForce

_LAMPORT_DECIMALS: Final = 9


class Begin(msgspec.Struct, frozen=True):
    """A slice is due."""

    order: Order
    note: Slice


class WaitUntil(msgspec.Struct, frozen=True):
    at_us: int  # Unix microseconds


class WaitForSlices(msgspec.Struct, frozen=True):
    """Every slice that is to begin has begun; some are not settled."""


class Conclude(msgspec.Struct, frozen=True):
    status: Status
    detail: Detail


Step = Begin | WaitUntil | WaitForSlices | Conclude


def next_slice_step(order: Order, state: OrderState, slices: Sequence[OrderView], now_us: int) -> Step:
    """What to do for a sliced order whose slices so far are `slices`."""
    number = state.slices_begun + 1
    if number <= _count(order) and why_stopped(order, state, slices, now_us) is None:
        due_us = _due_us(order, number, slices, now_us)
        return Begin(_slice(order, number, now_us), _note(order, number)) if now_us >= due_us else WaitUntil(due_us)
    if not all(is_settled(each) for each in slices) or len(slices) < state.slices_begun:
        return WaitForSlices()
    return _conclusion(order, state, slices, why_stopped(order, state, slices, now_us))


def why_stopped(order: Order, state: OrderState, slices: Sequence[OrderView], now_us: int) -> str | None:
    """Why no further slice may begin; None when one may."""
    if state.cancel_requested:
        return "it was cancelled"
    if order.expires_us is not None and now_us >= order.expires_us:
        return "its time is up"
    stops = order.terms.on_slice_failure is OnSliceFailure.STOP
    failed = next((each for each in slices if each.status in UNFILLED), None) if stops else None
    return None if failed is None else f"slice {failed.slice_number} {failed.status}"


def slice_due_us(order: Order, number: int) -> int:
    """When a slice is to begin if none before it is late, Unix microseconds."""
    return order.created_us + (number - 1) * (order.terms.interval_seconds or 0) * 1_000_000


def _due_us(order: Order, number: int, slices: Sequence[OrderView], now_us: int) -> int:
    """When a slice is to begin; where the next one is due already, an interval after the last one that began.

    What was missed while no engine ran, or during a halt, is not made up for at once.
    """
    if not slices or now_us < slice_due_us(order, number + 1):
        return slice_due_us(order, number)
    return timestamp_us(slices[-1].created_at) + slice_due_us(order, 2) - order.created_us


def slice_amount(order: Order, number: int) -> int:
    """Base units; the first slices take what is left over by the division."""
    amount, left_over = divmod(order.amount_in, _count(order))
    return amount + (number <= left_over)


def is_settled(view: OrderView) -> bool:
    """Whether nothing more can become of a slice."""
    if view.status == Status.CONFIRMED:
        return view.commitment == FINALIZED or view.gone
    return view.status in ENDS


def is_filled(view: OrderView) -> bool:
    return view.status == Status.CONFIRMED and not view.gone


def _count(order: Order) -> int:
    return order.terms.slices or 1


def _note(order: Order, number: int) -> Slice:
    amount = format_amount(slice_amount(order, number), order.token_in.decimals)
    return Slice(number, slice_id(order, number), amount)


def slice_id(order: Order, number: int) -> str:
    return derived_id(order.id, "slice", number)


def _slice(order: Order, number: int, now_us: int) -> Order:
    """A market order; with a limit, one that waits until the next slice is due. None outlives its order."""
    limit_price, until_us = order.terms.limit_price, order.expires_us
    if limit_price is not None:
        next_us = slice_due_us(order, number + 1)
        if next_us <= now_us:
            next_us = now_us + slice_due_us(order, 2) - order.created_us
        until_us = next_us if until_us is None else min(next_us, until_us)
    terms = Terms(
        parent_id=order.id,
        slice_number=number,
        limit_price=limit_price,
        time_in_force=TimeInForce.GTC if until_us is None else TimeInForce.GTT,
        expires_at=None if until_us is None else timestamp_text(until_us),
    )
    return Order(
        id=slice_id(order, number),
        kind=Kind.MARKET if limit_price is None else Kind.LIMIT,
        token_in=order.token_in,
        token_out=order.token_out,
        amount_in=slice_amount(order, number),
        slippage_bps=order.slippage_bps,
        created_us=0,  # when it begins
        terms=terms,
    )


def _conclusion(order: Order, state: OrderState, slices: Sequence[OrderView], why: str | None) -> Conclude:
    filled = [view for view in slices if is_filled(view)]
    if filled:
        return Conclude(Status.CONFIRMED, _confirmed(order, filled, why))
    if state.cancel_requested:
        return Conclude(Status.CANCELLED, CancelledDetail("client"))
    if why == "its time is up":
        return Conclude(Status.EXPIRED, ExpiredDetail(why))
    last = slices[-1] if slices else None
    told = f"; the last one {last.status}" if last is not None else ""
    if last is not None and last.failure is not None:
        told = f"; the last one: {last.failure.code}: {last.failure.message}"
    message = f"none of {len(slices)} slices executed{told}"
    return Conclude(Status.FAILED, FailedDetail(FailureCode.SLICES_FAILED.value, message, ()))


def _confirmed(order: Order, filled: Sequence[OrderView], why: str | None) -> ConfirmedDetail:
    """The sums of what the slices did."""
    decimals_in, decimals_out = order.token_in.decimals, order.token_out.decimals
    amount_in = sum(read_amount(view.amount_in, decimals_in) for view in filled)
    amount_out = sum(read_amount(view.amount_out, decimals_out) for view in filled)
    fees = sum(read_amount(view.fee_paid, _LAMPORT_DECIMALS) for view in filled)
    pair = order.pair
    amounts = {order.token_in: amount_in, order.token_out: amount_out}
    return ConfirmedDetail(
        amount_in=format_amount(amount_in, decimals_in),
        amount_out=format_amount(amount_out, decimals_out),
        executed_price=price_text(amounts[pair.quote], pair.quote.decimals, amounts[pair.base], pair.base.decimals),
        fee_paid=format_amount(fees, _LAMPORT_DECIMALS),
        commitment=FINALIZED,
        note=None if why is None else f"no further slice began: {why}",
        filled_slices=len(filled),
    )
