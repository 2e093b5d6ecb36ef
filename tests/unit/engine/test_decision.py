"""The decision: nothing but proof ends an attempt, and what is not proven is looked at again."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bestex.domain.errors import FailureCode
from bestex.domain.events import ConfirmedDetail, SignedTransaction
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState, fold
from bestex.engine.decision import (
    Answer,
    Confirm,
    Decision,
    Done,
    Execute,
    Finalize,
    GiveUp,
    Look,
    Lose,
    decide,
    expiry_is_proven,
)
from bestex.ports import BlockHeight, Commitment, StatusReport, TransactionStatus
from tests.support.orders import DETAILS, HAPPY, DraftOrder

TRANSACTION: Final = SignedTransaction(
    "5ignature", b"raw", "b1ockhash", blockhash_slot=1_000, last_valid_block_height=1_100
)
REPORT: Final = StatusReport("a node", slot=1_240, finalized_slot=1_200, history_from_slot=0, statuses=(None,))
EXPIRED: Final = BlockHeight("a node", height=1_101, slot=1_200)
ALIVE: Final = BlockHeight("a node", height=1_100, slot=1_200)
SLOT: Final = 1_050  # where the confirmed one landed


def state_after(*statuses: Status, **confirmed: object) -> OrderState:
    draft = DraftOrder()
    for status in statuses:
        detail = DETAILS[status]
        if isinstance(detail, ConfirmedDetail):
            detail = replace(detail, **({"slot": SLOT} | confirmed))
        draft.add((status, detail))
    return fold(draft.events)


SUBMITTED: Final = state_after(*HAPPY[:4])
CONFIRMED: Final = state_after(*HAPPY)
LOST: Final = state_after(*HAPPY, commitment="lost")


def seen(commitment: Commitment, error: str | None = None, slot: int = SLOT) -> TransactionStatus:
    return TransactionStatus(slot, commitment, error)


def decided(
    state: OrderState,
    status: TransactionStatus | None,
    height: BlockHeight | None = EXPIRED,
    report: StatusReport = REPORT,
) -> Decision:
    return decide(state, TRANSACTION, Answer(status, report, height))


@pytest.mark.parametrize("statuses", [HAPPY[:1], HAPPY[:2], HAPPY[:3]], ids=len)
def test_what_is_not_signed_is_executed(statuses: tuple[Status, ...]) -> None:
    assert isinstance(decide(state_after(*statuses), None, None), Execute)


@pytest.mark.parametrize("statuses", [(Status.PENDING, Status.FAILED), (Status.PENDING, Status.CANCELLED)], ids=str)
def test_what_ended_without_a_swap_is_left_alone(statuses: tuple[Status, ...]) -> None:
    assert isinstance(decide(state_after(*statuses), None, None), Done)


@pytest.mark.parametrize(
    "state",
    [state_after(*HAPPY, commitment="finalized"), state_after(*HAPPY, commitment="lost", gone=True)],
    ids=["finalized", "gone"],
)
def test_what_is_final_or_lost_for_good_is_left_alone(state: OrderState) -> None:
    assert isinstance(decided(state, None), Done)
    assert isinstance(decided(state, seen(Commitment.FINALIZED, "slippage_exceeded")), Done)


@pytest.mark.parametrize("state", [SUBMITTED, CONFIRMED], ids=["submitted", "confirmed"])
def test_what_was_not_looked_up_yet_is_sent_again_and_looked_up(state: OrderState) -> None:
    decision = decide(state, TRANSACTION, None)
    assert isinstance(decision, Look)
    assert decision.resend


# --- An open attempt


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (seen(Commitment.PROCESSED), Look),
        (seen(Commitment.CONFIRMED), Confirm),
        (seen(Commitment.FINALIZED), Confirm),
        (seen(Commitment.PROCESSED, "slippage_exceeded"), Look),
        (seen(Commitment.CONFIRMED, "slippage_exceeded"), Look),
        (seen(Commitment.FINALIZED, "slippage_exceeded"), GiveUp),
    ],
    ids=str,
)
@pytest.mark.parametrize("height", [None, ALIVE, EXPIRED], ids=["unread", "alive", "expired"])
def test_an_open_attempt_is_decided_by_what_the_chain_shows(
    status: TransactionStatus, expected: type, height: BlockHeight | None
) -> None:
    assert isinstance(decided(SUBMITTED, status, height), expected)


def test_an_absent_attempt_is_given_up_when_its_expiry_is_proven() -> None:
    decision = decided(SUBMITTED, None)
    assert isinstance(decision, GiveUp)
    assert decision.code is FailureCode.BLOCKHASH_EXPIRED


@pytest.mark.parametrize(
    ("height", "report", "resend"),
    [
        (None, {}, False),  # the height was not read before
        (ALIVE, {}, True),
        (EXPIRED, {"endpoint": "another node"}, False),
        (EXPIRED, {"finalized_slot": 1_199}, False),
        (EXPIRED, {"history_from_slot": 1_001}, False),
    ],
    ids=str,
)
def test_an_absent_attempt_without_proof_is_unknown(
    height: BlockHeight | None, report: dict[str, object], resend: bool
) -> None:
    decision = decided(SUBMITTED, None, height, replace(REPORT, **report))
    assert isinstance(decision, Look)
    assert decision.resend is resend
    assert decision.known


@pytest.mark.parametrize("state", [SUBMITTED, CONFIRMED], ids=["submitted", "confirmed"])
def test_an_adopted_attempt_is_not_disproved_by_an_endpoint_that_has_not_come_to_its_slot(state: OrderState) -> None:
    adopted = SignedTransaction("5ignature", b"", "", blockhash_slot=SLOT, last_valid_block_height=0)
    for finalized_slot, proven in ((SLOT - 1, False), (SLOT, True)):
        report = replace(REPORT, slot=SLOT - 1, finalized_slot=finalized_slot)
        height = BlockHeight("a node", height=900, slot=finalized_slot)
        decision = decide(state, adopted, Answer(None, report, height))
        assert isinstance(decision, GiveUp | Lose if proven else Look)


def test_a_strange_error_is_a_failed_transaction() -> None:
    decision = decided(SUBMITTED, seen(Commitment.FINALIZED, "0x1771"))
    assert isinstance(decision, GiveUp)
    assert decision.code is FailureCode.TRANSACTION_FAILED


# --- A confirmed one


def named(value: object) -> str:
    """What a parameter is called, the same in every process."""
    if isinstance(value, OrderState):
        return "lost" if value is LOST else "confirmed"
    return str(value)


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        (CONFIRMED, seen(Commitment.CONFIRMED), Look),
        (CONFIRMED, seen(Commitment.FINALIZED), Finalize),
        (CONFIRMED, seen(Commitment.PROCESSED), Look),
        (CONFIRMED, seen(Commitment.CONFIRMED, slot=SLOT + 3), Confirm),  # landed again: its amounts may differ
        (CONFIRMED, seen(Commitment.FINALIZED, slot=SLOT + 3), Confirm),
        (LOST, seen(Commitment.CONFIRMED), Confirm),
        (LOST, seen(Commitment.FINALIZED), Confirm),
        (CONFIRMED, seen(Commitment.CONFIRMED, "slippage_exceeded"), Look),
        (LOST, seen(Commitment.CONFIRMED, "slippage_exceeded"), Look),
    ],
    ids=named,
)
def test_a_confirmed_order_is_followed_until_final(
    state: OrderState, status: TransactionStatus, expected: type
) -> None:
    assert isinstance(decided(state, status), expected)


def test_one_confirmed_by_a_release_that_did_not_say_where_is_made_final_as_it_was() -> None:
    state = state_after(*HAPPY, slot=None)
    assert isinstance(decided(state, seen(Commitment.FINALIZED)), Finalize)
    assert isinstance(decided(state, seen(Commitment.CONFIRMED)), Look)


def test_a_confirmed_one_that_a_node_which_knew_its_slot_does_not_show_is_lost() -> None:
    assert decided(CONFIRMED, None, None) == decided(CONFIRMED, None, ALIVE)
    decision = decided(CONFIRMED, None, ALIVE)
    assert isinstance(decision, Lose)
    assert not decision.gone


@pytest.mark.parametrize("report", [{"slot": SLOT - 1}, {"history_from_slot": SLOT + 1}], ids=str)
def test_a_confirmed_one_that_a_lagging_or_forgetful_node_does_not_show_is_not_lost(report: dict[str, object]) -> None:
    assert isinstance(decided(CONFIRMED, None, ALIVE, replace(REPORT, **report)), Look)


def test_a_lost_one_is_sent_again_while_it_may_land_and_then_lost_for_good() -> None:
    alive = decided(LOST, None, ALIVE)
    assert isinstance(alive, Look)
    assert alive.resend
    gone = decided(LOST, None)
    assert isinstance(gone, Lose)
    assert gone.gone


def test_a_lost_one_that_failed_on_the_living_fork_is_lost_for_good() -> None:
    decision = decided(LOST, seen(Commitment.FINALIZED, "slippage_exceeded"))
    assert isinstance(decision, Lose)
    assert decision.gone


# --- Whatever is asked

HEIGHTS = st.none() | st.builds(BlockHeight, st.sampled_from(["a", "b"]), st.integers(0, 20), st.integers(0, 20))
STATUSES = st.none() | st.builds(
    TransactionStatus, st.integers(0, 20), st.sampled_from(Commitment), st.none() | st.just("slippage_exceeded")
)
REPORTS = st.builds(
    StatusReport,
    st.sampled_from(["a", "b"]),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 20),
    st.just((None,)),
)
SMALL: Final = SignedTransaction("5ignature", b"raw", "b1ockhash", 5, 10)


@given(st.sampled_from([SUBMITTED, CONFIRMED, LOST]), STATUSES, REPORTS, HEIGHTS)
def test_the_invariants_hold_for_every_answer(
    state: OrderState, status: TransactionStatus | None, report: StatusReport, height: BlockHeight | None
) -> None:
    decision = decide(state, SMALL, Answer(status, report, height))
    proven = height is not None and status is None and expiry_is_proven(SMALL, report, height)
    final_error = status is not None and status.error is not None and status.commitment is Commitment.FINALIZED
    assert not isinstance(decision, Execute | Done), "an attempt is open"
    if isinstance(decision, GiveUp):
        assert state is SUBMITTED
        assert proven or final_error
    if isinstance(decision, Lose) and decision.gone:
        assert state is not SUBMITTED
        assert proven or final_error
    if isinstance(decision, Confirm | Finalize):
        assert status is not None
        assert status.error is None
        assert status.commitment is not Commitment.PROCESSED
    assert decide(state, SMALL, Answer(status, report, height)) == decision, "the same again"
