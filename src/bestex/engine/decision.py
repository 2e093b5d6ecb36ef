"""What to do for an order: a pure function of its events and the chain's answer.

Landing, recovery and `reconcile` all ask it, so there is one place where it is decided whether a swap happened.
What holds whatever is asked:

- `Execute`, which may sign, is never the answer while an attempt is open: only `GiveUp` ends one.
- `GiveUp` is the answer only where it is proven that the attempt did not execute and never will: the chain shows it
  with an error and final, or `expiry_is_proven`.
- `Confirm` is the answer only where the chain shows the attempt without an error, at `confirmed` or better.
- A confirmed order is never executed again, whatever becomes of its transaction.
- Anything else is unknown, and the answer is `Look`: never a failure. An endpoint that lags, forgets or does not
  answer leads here.
- The same events and the same answer give the same decision; nothing is remembered beside the events.
"""

from typing import Final

import msgspec

from bestex.domain.errors import FailureCode
from bestex.domain.events import LOST, SignedTransaction
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState
from bestex.ports import BlockHeight, Commitment, StatusReport, TransactionStatus


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One look at the chain, as far as it concerns one signature."""

    status: TransactionStatus | None
    report: StatusReport
    height: BlockHeight | None  # the finalized one, read before the report; None: not asked for


class Done(msgspec.Struct, frozen=True):
    """Nothing is left to do."""


class Execute(msgspec.Struct, frozen=True):
    """Nothing is open: begin an attempt, or begin the one again that was cut short before it was signed."""


class Look(msgspec.Struct, frozen=True, gc=False):
    """The outcome is unknown: look again."""

    known: str  # what is known, for a person to read
    resend: bool = False  # the same bytes may go out again


class Confirm(msgspec.Struct, frozen=True, gc=False):
    """The swap executed: read what it did, and record that."""

    status: TransactionStatus


class GiveUp(msgspec.Struct, frozen=True, gc=False):
    """Proven: the open attempt did not execute and never will."""

    code: FailureCode
    message: str


class Finalize(msgspec.Struct, frozen=True):
    """The swap stands for ever, as it was confirmed."""


class Lose(msgspec.Struct, frozen=True, gc=False):
    """A fork took the confirmed transaction away."""

    note: str
    gone: bool  # it can never land any more


Decision = Done | Execute | Look | Confirm | GiveUp | Finalize | Lose

DONE: Final = Done()
EXECUTE: Final = Execute()
FINALIZE: Final = Finalize()
UNSEEN: Final = Look("it has not been looked up yet", resend=True)

_TAKEN_AWAY: Final = "a fork took the transaction away; the same bytes are sent again while their blockhash lives"
_GONE: Final = "a fork took the transaction away, and its blockhash has expired: it can never land again"
_GONE_BY_ERROR: Final = "after a fork the chain executed it with an error: {error}"


def decide(state: OrderState, transaction: SignedTransaction | None, answer: Answer | None) -> Decision:
    """What to do for an order in `state`; `answer` of the chain about `transaction`, the latest one signed."""
    if state.settled:
        return DONE
    if state.status not in (Status.SUBMITTED, Status.CONFIRMED):
        return EXECUTE
    if transaction is None:
        raise ValueError(f"order {state.order_id} is {state.status} without a signed transaction")
    if answer is None:
        return UNSEEN
    if state.status is Status.CONFIRMED:
        return _of_confirmed(state, transaction, answer)
    return _of_submitted(transaction, answer)


def _of_submitted(transaction: SignedTransaction, answer: Answer) -> Decision:
    status, height = answer.status, answer.height
    if status is None:
        if height is None:
            return Look("the chain does not show it")
        if expiry_is_proven(transaction, answer.report, height):
            return GiveUp(FailureCode.BLOCKHASH_EXPIRED, "its blockhash expired before it landed")
        return _unseen(transaction, answer.report, height)
    if status.error is not None:
        if status.commitment is Commitment.FINALIZED:
            return GiveUp(_failure_code(status.error), f"the chain executed it with an error: {status.error}")
        return Look(f"the chain shows it with the error {status.error}, in a block that is not final")
    if status.commitment is Commitment.PROCESSED:
        return Look("the chain shows it, not confirmed yet")
    return Confirm(status)


def _of_confirmed(state: OrderState, transaction: SignedTransaction, answer: Answer) -> Decision:
    status, report, height = answer.status, answer.report, answer.height
    confirmed = state.confirmed
    if confirmed is None:
        raise ValueError(f"order {state.order_id} is confirmed without a detail")
    lost = confirmed.commitment == LOST
    if status is None:
        if height is not None and expiry_is_proven(transaction, report, height):
            return Lose(_GONE, gone=True)
        if not lost and confirmed.slot is not None and _has_seen(report, confirmed.slot):
            return Lose(_TAKEN_AWAY, gone=False)
        return Look("the chain does not show it any more", resend=may_land(transaction, height))
    if status.error is not None:
        if status.commitment is Commitment.FINALIZED:
            return Lose(_GONE_BY_ERROR.format(error=status.error), gone=True)
        return Look(f"the chain shows it with the error {status.error}, in a block that is not final")
    if status.commitment is Commitment.PROCESSED:
        return Look("the chain shows it, not confirmed yet")
    if lost or confirmed.slot not in (None, status.slot):  # none: confirmed by a release that did not say where
        return Confirm(status)  # it landed again, in another block, and may have moved other amounts
    return FINALIZE if status.commitment is Commitment.FINALIZED else Look("confirmed, and not final yet")


def expiry_is_proven(transaction: SignedTransaction, report: StatusReport, height: BlockHeight) -> bool:
    """Whether a signature that `report` does not know can never land, by a `height` read before the report.

    Past its last valid height, the endpoint is past its blockhash's slot too. Not so for one that was adopted: it has
    no such height, and its slot is where it landed. An endpoint that has not come there yet proves nothing.
    """
    return (
        report.endpoint == height.endpoint
        and height.height > transaction.last_valid_block_height
        and report.finalized_slot >= height.slot
        and report.history_from_slot <= transaction.blockhash_slot <= report.finalized_slot
    )


def _has_seen(report: StatusReport, slot: int) -> bool:
    """Whether the endpoint knows the slot: what it does not show there is not there."""
    return report.history_from_slot <= slot <= report.slot


def may_land(transaction: SignedTransaction, height: BlockHeight | None) -> bool:
    """Whether the blockhash lives at a finalized `height`; not when it was not read."""
    return height is not None and height.height <= transaction.last_valid_block_height


def _unseen(transaction: SignedTransaction, report: StatusReport, height: BlockHeight) -> Look:
    """Why it is not proven that a transaction which the chain does not show has not executed."""
    if may_land(transaction, height):
        known = f"the chain does not show it; it may land up to block height {transaction.last_valid_block_height}"
        return Look(f"{known}, and {height.height} is final", resend=True)
    if report.history_from_slot > transaction.blockhash_slot:
        return Look(f"{report.endpoint} does not show it, and its history begins after it was signed")
    return Look("its blockhash has expired; one endpoint must show both that and its absence")


def _failure_code(error: str) -> FailureCode:
    try:
        return FailureCode(error)
    except ValueError:
        return FailureCode.TRANSACTION_FAILED
