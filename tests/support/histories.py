"""Random details and legal histories of orders, for property tests."""

from dataclasses import dataclass

from hypothesis import strategies as st

from bestex.domain.events import (
    AttemptStory,
    BuildingDetail,
    CancelledDetail,
    Changes,
    ConfirmedDetail,
    Detail,
    ExpiredDetail,
    FailedDetail,
    PendingDetail,
    QuoteRecord,
    RoutingDetail,
    Slice,
    SubmittedDetail,
    Trigger,
    WatchingDetail,
)
from bestex.domain.lifecycle import FIRST, NEXT, Status
from bestex.domain.terms import Kind, Leg, LegName

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
AMOUNT = st.integers(0, 2**64 - 1).map(str)
QUOTE = st.builds(
    QuoteRecord,
    venue=TEXT,
    latency_ms=st.floats(0, 1e6),
    pool=st.none() | TEXT,
    amount_out=st.none() | AMOUNT,
    price_impact_bps=st.none() | st.integers(0, 10_000),
    chosen=st.booleans(),
    reason=st.none() | TEXT,
)
QUOTE_LISTS = st.lists(QUOTE, max_size=2).map(tuple)
ATTEMPT_STORY = st.builds(
    AttemptStory, attempt=st.integers(1, 3), code=TEXT, message=TEXT, signature=st.none() | TEXT, quotes=QUOTE_LISTS
)
PRICE = st.integers(1, 10**12).map(str)
CHANGES = st.builds(
    Changes,
    limit_price=st.none() | PRICE,
    min_amount_out=st.none() | AMOUNT,
    trigger_price=st.none() | PRICE,
    expires_at=st.none() | TEXT,
    slippage_bps=st.none() | st.integers(0, 10_000),
)
LEG = st.builds(Leg, st.sampled_from(LegName), st.integers(0, 10_000), trigger_price=st.none() | PRICE)
TRIGGER = st.builds(Trigger, kind=TEXT, price=st.none() | PRICE, venue=st.none() | TEXT)
FOUND = st.builds(Trigger, kind=st.just("launch"), mint=TEXT, decimals=st.integers(0, 18), pair=TEXT)
DETAIL: dict[Status, st.SearchStrategy[Detail]] = {
    Status.PENDING: st.builds(
        PendingDetail,
        kind=st.sampled_from(Kind).map(str),
        token_in=TEXT,
        token_out=TEXT,
        amount=AMOUNT,
        slippage_bps=st.integers(0, 10_000),
        pair=TEXT,
        side=TEXT,
        limit_price=st.none() | PRICE,
        trigger_price=st.none() | PRICE,
        trail_bps=st.none() | st.integers(1, 9_000),
        expires_at=st.none() | TEXT,
        parent_id=st.none() | TEXT,
        slices=st.none() | st.integers(1, 100),
        legs=st.lists(LEG, max_size=3).map(tuple),
    ),
    Status.WATCHING: st.builds(
        WatchingDetail,
        reason=st.none() | TEXT,
        previous=st.none() | ATTEMPT_STORY,
        not_before=st.none() | TEXT,
        changes=st.none() | CHANGES,
        slice=st.none() | st.builds(Slice, st.integers(1, 100), TEXT, AMOUNT),
        cancel_requested=st.booleans(),
    ),
    Status.ROUTING: st.builds(
        RoutingDetail, reason=st.none() | TEXT, previous=st.none() | ATTEMPT_STORY, trigger=st.none() | TRIGGER | FOUND
    ),
    Status.BUILDING: st.builds(
        BuildingDetail, TEXT, TEXT, AMOUNT, AMOUNT, st.integers(), QUOTE_LISTS, st.booleans()
    ).filter(lambda detail: abs(detail.price_impact_bps) < 2**63),
    Status.SUBMITTED: st.builds(
        SubmittedDetail,
        venue=st.none() | TEXT,
        signature=st.none() | TEXT,
        last_valid_block_height=st.none() | st.integers(0, 2**63 - 1),
        cancel_requested=st.booleans(),
        note=st.none() | TEXT,
    ),
    Status.CONFIRMED: st.builds(
        ConfirmedDetail,
        venue=st.none() | TEXT,
        tx_hash=st.none() | TEXT,
        amount_in=st.none() | AMOUNT,
        amount_out=st.none() | AMOUNT,
        executed_price=st.none() | AMOUNT,
        slippage_bps=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        fee_paid=st.none() | AMOUNT,
        commitment=st.sampled_from(["confirmed", "finalized", "lost"]),
        slot=st.none() | st.integers(0, 2**62),
        note=st.none() | TEXT,
        gone=st.booleans(),
    ),
    Status.FAILED: st.builds(FailedDetail, TEXT, TEXT, st.lists(ATTEMPT_STORY, max_size=3).map(tuple)),
    Status.CANCELLED: st.builds(CancelledDetail, TEXT),
    Status.EXPIRED: st.builds(ExpiredDetail, TEXT, previous=st.none() | ATTEMPT_STORY),
}


@dataclass(frozen=True)
class Steps:
    """What one append adds."""

    events: list[tuple[Status, Detail]]
    sealed: bytes


History = list[Steps]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A legal history of one order, cut into appends."""
    appends: list[list[tuple[Status, Detail]]] = [[]]
    status = FIRST
    for _ in range(draw(st.integers(1, 10))):
        appends[-1].append((status, draw(DETAIL[status])))
        following = sorted(NEXT[status])
        if not following:
            break
        status = draw(st.sampled_from(following))
        if draw(st.booleans()):
            appends.append([])
    return [Steps(events, draw(st.binary(max_size=8))) for events in appends if events]
