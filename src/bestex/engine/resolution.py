"""Resolve: a person decides what became of an order whose outcome stays unknown, or that a fork took away."""

import msgspec

from bestex.domain.errors import ChainUnreachableError, FailureCode
from bestex.domain.events import (
    FINALIZED,
    LOST,
    AttemptStory,
    CancelledDetail,
    ConfirmedDetail,
    Detail,
    Event,
    FailedDetail,
    SignedTransaction,
    SubmittedDetail,
)
from bestex.domain.lifecycle import Status
from bestex.domain.money import format_amount, parse_amount
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.route import Fill
from bestex.engine.decision import Answer, may_land
from bestex.engine.errors import ContradictedError, NotUnknownError
from bestex.engine.fills import confirmed_detail, note_of
from bestex.ports import Chain, Commitment


class Resolution(msgspec.Struct, frozen=True):
    """What a person decided."""

    executed: str | None  # the signature that executed; None: none did
    amount_in: int | None = None  # base units, where the chain does not show what the swap did
    amount_out: int | None = None
    note: str | None = None  # why, for the record
    force: bool = False  # although the chain cannot be asked, or what is said not to have executed may still land


async def look(chain: Chain, signature: str) -> Answer | None:
    """What the chain shows of a transaction; None when it does not answer."""
    try:
        height = await chain.finalized_height()
        report = await chain.statuses([signature])
    except ChainUnreachableError:
        return None
    return Answer(report.statuses[0], report, height)


async def fill_of(chain: Chain, signature: str) -> Fill | None:
    try:
        [fill] = await chain.fills([signature])
    except ChainUnreachableError:
        return None
    return fill


def check_unknown(state: OrderState) -> None:
    """`NotUnknownError` unless there is something for a person to decide."""
    lost = state.confirmed is not None and state.confirmed.commitment == LOST
    if state.status is Status.SUBMITTED or (state.status is Status.CONFIRMED and lost):
        return
    raise NotUnknownError(f"order {state.order_id} is {state.status}: what became of it is not unknown")


def executed_detail(
    order: Order,
    state: OrderState,
    resolution: Resolution,
    signed: list[str],
    transaction: SignedTransaction,
    answer: Answer | None,
    fill: Fill | None,
) -> ConfirmedDetail:
    """The `confirmed` that records the decision.

    `signed`: the signatures of the order's attempts; `transaction`: the latest one; `answer`: about the one that a
    person names.
    """
    signature = resolution.executed or ""
    if signature not in signed:
        known = ", ".join(signed) or "none"
        raise ContradictedError(f"{signature} is no transaction of this order; it signed {known}")
    if answer is not None and answer.status is not None and answer.status.error is not None:
        raise ContradictedError(f"the chain shows that it executed with an error: {answer.status.error}")
    if answer is not None and answer.status is None and not resolution.force and may_land(transaction, answer.height):
        raise ContradictedError("the transaction may still land: the chain will show it by itself")
    if fill is None:
        if resolution.amount_out is None:
            raise ContradictedError("the chain does not show what the swap paid: say it with the amount out")
        amount_in = resolution.amount_in if resolution.amount_in is not None else order.amount_in
        fill = Fill(amount_in, resolution.amount_out, 0)
        _check_the_limit(order, state, fill)
    status = answer.status if answer is not None else None
    detail = confirmed_detail(
        order,
        state.building,
        signature,
        fill,
        commitment=FINALIZED,
        slot=status.slot if status is not None else None,
        note=resolution.note or "an operator decided that it executed",
        resolved=True,
    )
    return note_of(detail) if state.status is Status.CONFIRMED else detail


def _check_the_limit(order: Order, state: OrderState, fill: Fill) -> None:
    """The chain enforces the attempt's `minAmountOut`: a swap that paid less did not execute."""
    least = state.building.min_amount_out if state.building is not None else "0"
    decimals = order.token_out.decimals
    if least != "0" and fill.amount_out < parse_amount(least, decimals):
        paid = format_amount(fill.amount_out, decimals)
        raise ContradictedError(f"the chain lets no swap of it pay less than {least}; {paid} is less")


def not_executed_detail(
    state: OrderState, resolution: Resolution, transaction: SignedTransaction, answer: Answer | None
) -> tuple[Status, Detail]:
    """The event that records the decision. `ContradictedError` where the chain shows, or may still show, otherwise."""
    check_it_did_not(resolution, transaction, answer)
    note = resolution.note or "an operator decided that it did not execute"
    if state.status is Status.CONFIRMED:
        return Status.CONFIRMED, ConfirmedDetail(commitment=LOST, gone=True, resolved=True, note=note)
    story = AttemptStory(
        state.attempt,
        FailureCode.RESOLVED.value,
        note,
        state.building.venue if state.building else None,
        transaction.signature,
    )
    if state.cancel_requested:
        return Status.CANCELLED, CancelledDetail("operator", story)
    return Status.FAILED, FailedDetail(story.code, story.message, (*state.attempts, story), resolved=True)


def check_it_did_not(resolution: Resolution, transaction: SignedTransaction, answer: Answer | None) -> None:
    """`ContradictedError` where the chain shows that the transaction executed, or may still show it."""
    status = answer.status if answer is not None else None
    if status is not None and status.error is None and status.commitment is not Commitment.PROCESSED:
        raise ContradictedError(f"the chain shows that it executed, by {transaction.signature}")
    if not resolution.force:
        _check_it_cannot_land(transaction, answer)


def _check_it_cannot_land(transaction: SignedTransaction, answer: Answer | None) -> None:
    if answer is None:
        raise ContradictedError(
            "the chain does not answer: the transaction may still land. Force it if you know better."
        )
    height = answer.height
    if height is None or may_land(transaction, height):
        raise ContradictedError(
            f"the transaction may still land, up to block height {transaction.last_valid_block_height};"
            f" {height.height if height else 'none'} is final now"
        )


def signed_signatures(events: list[Event]) -> list[str]:
    """The signatures of an order's attempts."""
    details = (event.detail for event in events)
    return [each.signature for each in details if isinstance(each, SubmittedDetail) and each.signature is not None]
