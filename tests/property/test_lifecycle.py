"""Every status and event is decided, and the fold of an order's events is its projection."""

from collections import deque
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.events import (
    BuildingDetail,
    ConfirmedDetail,
    Event,
    FailedDetail,
    RoutingDetail,
    SubmittedDetail,
    WatchingDetail,
    timestamp_text,
)
from bestex.domain.lifecycle import ENDS, FIRST, NEXT, IllegalTransitionError, Status, check_transition
from bestex.domain.order_state import OrderState, OrderView, fold
from bestex.domain.price import inverse_text, parse_price
from bestex.domain.terms import Terms, TimeInForce
from tests.support.histories import DETAIL, History, histories
from tests.support.orders import DETAILS, HAPPY, DraftOrder

EVERY: list[Status | None] = [None, *Status]


@pytest.mark.parametrize("after", list(Status))
@pytest.mark.parametrize("before", EVERY)
def test_every_status_and_event_is_decided(before: Status | None, after: Status) -> None:
    allowed = after is FIRST if before is None else after in NEXT[before]
    if allowed:
        check_transition(before, after)
    else:
        with pytest.raises(IllegalTransitionError, match=after.value):
            check_transition(before, after)


def test_every_status_stands_in_the_table_and_can_be_reached() -> None:
    reached = {FIRST}
    ahead = deque(reached)
    while ahead:
        new = NEXT[ahead.popleft()] - reached
        reached |= new
        ahead.extend(new)

    assert set(NEXT) == set(Status) == reached


def test_nothing_follows_an_end_but_a_note_on_a_confirmed_order() -> None:
    assert {status: NEXT[status] for status in ENDS} == {
        Status.CONFIRMED: {Status.CONFIRMED},
        Status.FAILED: set(),
        Status.CANCELLED: set(),
        Status.EXPIRED: set(),
    }


def test_every_open_status_leads_to_an_end_and_none_leads_back_to_the_beginning() -> None:
    for status in set(Status) - ENDS:
        assert {Status.FAILED, Status.CANCELLED, Status.EXPIRED} <= NEXT[status]
    assert all(FIRST not in followers for followers in NEXT.values())


def test_nothing_is_confirmed_that_was_not_submitted_or_is_not_made_of_children() -> None:
    before_confirmed = {status for status in Status if Status.CONFIRMED in NEXT[status]}
    assert before_confirmed == {Status.SUBMITTED, Status.WATCHING, Status.CONFIRMED}
    assert {status for status in Status if Status.SUBMITTED in NEXT[status]} == {Status.BUILDING, Status.SUBMITTED}
    assert {status for status in Status if Status.BUILDING in NEXT[status]} == {Status.ROUTING}


def drafted(history: History) -> DraftOrder:
    draft = DraftOrder()
    for steps in history:
        draft.add(*steps.events, sealed=steps.sealed)
    return draft


def expected_view(events: list[Event]) -> OrderView:
    """The projection, said another way than by folding: what the last event of each kind tells."""

    def last(kind: type, since: int = 0) -> Event | None:
        return next((event for event in reversed(events[since:]) if isinstance(event.detail, kind)), None)

    pending, now = events[0], events[-1]
    request = msgspec.to_builtins(pending.detail)
    attempt_began = max(latest_seq(events, RoutingDetail), latest_wait(events)) - 1
    building = last(BuildingDetail, max(attempt_began, 0))
    signed = [
        event.detail.signature
        for event in events[max(attempt_began, 0) :]
        if isinstance(event.detail, SubmittedDetail) and event.detail.signature is not None
    ]
    failed = last(FailedDetail)
    fills = [event.detail for event in events if isinstance(event.detail, ConfirmedDetail)]

    def latest(field: str) -> str | None:
        """What the last note that names the field says; a note that does not, changes nothing."""
        named = [value for fill in fills if (value := getattr(fill, field)) is not None]
        return named[-1] if named else None

    plain = OrderView(
        order_id=now.order_id,
        kind=request["kind"],
        status=now.status.value,
        seq=len(events),
        attempt=now.attempt,
        pair=request["pair"],
        side=request["side"],
        token_in=request["tokenIn"],
        token_out=request["tokenOut"],
        amount=request["amount"],
        slippage_bps=request["slippageBps"],
        created_at=timestamp_text(pending.at_us),
        updated_at=timestamp_text(now.at_us),
        client_order_id=request.get("clientOrderId"),
        cancel_requested=any(
            isinstance(event.detail, SubmittedDetail | WatchingDetail) and event.detail.cancel_requested
            for event in events
        ),
        venue=building.detail.venue if building and isinstance(building.detail, BuildingDetail) else None,
        tx_hash=signed[-1] if signed else None,
        amount_in=latest("amount_in"),
        amount_out=latest("amount_out"),
        executed_price=latest("executed_price"),
        fee_paid=latest("fee_paid"),
        commitment=latest("commitment"),
        failure=failed.detail if failed and isinstance(failed.detail, FailedDetail) else None,
        gone=bool(fills) and fills[-1].gone,
    )
    waits = any(name in request for name in ("exits", "expiresAt", "timeInForce", "parentId"))
    if request["kind"] == "market" and not waits:
        return plain
    return msgspec.structs.replace(plain, **expected_terms(events), filled_slices=latest("filled_slices"))


def latest_seq(events: list[Event], kind: type) -> int:
    return max((event.seq for event in events if isinstance(event.detail, kind)), default=0)


def latest_wait(events: list[Event]) -> int:
    """The number of the event with which the order last began to wait; 0: it never did."""
    begins = [
        event.seq
        for before, event in pairwise(events)
        if event.status is Status.WATCHING and before.status is not Status.WATCHING
    ]
    return max(begins, default=0)


def expected_terms(events: list[Event]) -> dict[str, Any]:
    """What only orders with terms show: the terms after the client's changes, and what the trigger saw."""
    pending = events[0].detail
    terms = {name: getattr(pending, name) for name in (*Terms.__struct_fields__, "slippage_bps")}
    for event in events:
        if isinstance(event.detail, WatchingDetail) and event.detail.changes is not None:
            changes = msgspec.structs.asdict(event.detail.changes)
            terms |= {name: value for name, value in changes.items() if value is not None}
            if changes["expires_at"] is not None:
                terms["time_in_force"] = TimeInForce.GTT
    for name in ("limit_price", "trigger_price"):
        terms[f"{name}_inverse"] = None if terms[name] is None else inverse_text(parse_price(terms[name]))
    fired = [event for event in events if isinstance(event.detail, RoutingDetail) and event.detail.trigger is not None]
    if fired and isinstance(fired[-1].detail, RoutingDetail):
        terms["trigger"] = trigger = fired[-1].detail.trigger
        if trigger is not None and trigger.mint is not None:
            terms |= {"token_out": trigger.mint, "pair": trigger.pair}
    began = latest_wait(events)
    if began > (fired[-1].seq if fired else 0):
        waiting = events[began - 1].detail
        assert isinstance(waiting, WatchingDetail)
        terms |= {"waits_because": waiting.reason, "not_before": waiting.not_before}
    slices = [event.detail.slice for event in events if isinstance(event.detail, WatchingDetail)]
    begun = [slice_.number for slice_ in slices if slice_ is not None]
    return terms | {"slices_begun": begun[-1] if begun else 0}


@given(histories())
def test_the_fold_of_the_log_equals_the_projection(history: History) -> None:
    draft = drafted(history)

    for length in range(1, len(draft.events) + 1):
        assert fold(draft.events[:length]).view() == expected_view(draft.events[:length])


@given(histories())
def test_the_fold_keeps_the_story_of_every_attempt_that_was_given_up_since_it_last_fired(history: History) -> None:
    draft = drafted(history)
    fired = [event.seq for event in draft.events if getattr(event.detail, "trigger", None) is not None]
    since = draft.events[fired[-1] :] if fired else draft.events
    given_up = [getattr(event.detail, "previous", None) for event in since]

    state = fold(draft.events)
    assert state.attempts == [story for story in given_up if story is not None]
    assert state.fired == len(fired)
    assert state.first_attempt == (draft.events[fired[-1] - 1].attempt if fired else 1)


@given(histories(), st.data())
def test_an_event_that_may_not_follow_is_refused_and_changes_nothing(history: History, data: st.DataObject) -> None:
    draft = drafted(history)
    state = fold(draft.events)
    last = draft.events[-1]
    status = data.draw(st.sampled_from(list(DETAIL)))
    seq = data.draw(st.sampled_from([last.seq + 1, last.seq + 1, last.seq, last.seq + 2, 1]))
    event = Event(draft.id, seq, status, 3, last.at_us + 1, data.draw(DETAIL[status]))
    before = state.view(), list(state.attempts), state.submitted

    if seq == last.seq + 1 and status in NEXT[last.status]:
        state.apply(event)
        assert state.view().status == status
    else:
        with pytest.raises(ValueError, match=r"follow"):
            state.apply(event)
        assert (state.view(), state.attempts, state.submitted) == before


def test_an_order_without_events_has_no_view_and_begins_with_pending() -> None:
    with pytest.raises(ValueError, match="first event"):
        OrderState().view()
    event = msgspec.structs.replace(DraftOrder().next(FIRST).events[0], status=Status.ROUTING)
    with pytest.raises(IllegalTransitionError, match="begins with pending"):
        OrderState().apply(event)


def test_a_market_order_that_goes_well_shows_exactly_five_statuses() -> None:
    state = OrderState()
    draft = DraftOrder()
    draft.add(*((status, DETAILS[status]) for status in HAPPY))
    for event in draft.events:
        state.apply(event)

    assert [event.status for event in draft.events] == ["pending", "routing", "building", "submitted", "confirmed"]
    assert state.ended
