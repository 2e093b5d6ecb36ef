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
    timestamp_text,
)
from bestex.domain.launches import FilterVerdict, LaunchFilters
from bestex.domain.lifecycle import FIRST, NEXT, Status
from bestex.domain.orders import has_terms
from bestex.domain.price import MAX_PRICE, format_price
from bestex.domain.terms import ExitLeg, ExitTerms, Kind, Leg, LegName, OnSliceFailure, Terms, TimeInForce

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
BPS = st.integers(0, 10_000)
PRICE = st.integers(1, MAX_PRICE).map(format_price)
TIME = st.integers(0, 4_102_444_800_000_000).map(timestamp_text)
ORDER_ID = st.uuids().map(str)
EXIT_LEG = st.builds(
    ExitLeg,
    trigger_price=st.none() | PRICE,
    gain_bps=st.none() | BPS,
    loss_bps=st.none() | BPS,
    trail_bps=st.none() | BPS,
    limit_price=st.none() | PRICE,
    slippage_bps=st.none() | BPS,
)
LEG = st.builds(
    Leg,
    name=st.sampled_from(LegName),
    slippage_bps=BPS,
    trigger_price=st.none() | PRICE,
    trail_bps=st.none() | BPS,
    limit_price=st.none() | PRICE,
)
LAUNCH_FILTERS = st.builds(
    LaunchFilters,
    min_liquidity=st.none() | AMOUNT,
    mint_authority_revoked=st.booleans(),
    top_holders_max_bps=st.none() | BPS,
    creators_denied=st.lists(TEXT, max_size=2).map(tuple),
    consecutive_passes=st.integers(1, 10),
)
TERMS: dict[str, st.SearchStrategy[object]] = {
    "limit_price": st.none() | PRICE,
    "min_amount_out": st.none() | AMOUNT,
    "trigger_price": st.none() | PRICE,
    "trail_bps": st.none() | BPS,
    "time_in_force": st.sampled_from(TimeInForce),
    "expires_at": st.none() | TIME,
    "allow_immediate": st.booleans(),
    "exits": st.none()
    | st.builds(
        ExitTerms,
        take_profit=st.none() | EXIT_LEG,
        stop_loss=st.none() | EXIT_LEG,
        trailing_stop=st.none() | EXIT_LEG,
    ),
    "mint": st.none() | TEXT,
    "filters": st.none() | LAUNCH_FILTERS,
    "migrations": st.booleans(),
    "slices": st.none() | st.integers(2, 1000),
    "interval_seconds": st.none() | st.integers(1, 86_400),
    "on_slice_failure": st.sampled_from(OnSliceFailure),
    "parent_id": st.none() | ORDER_ID,
    "slice_number": st.none() | st.integers(1, 1000),
    "legs": st.lists(LEG, max_size=3).map(tuple),
}
assert set(TERMS) == set(Terms.__struct_fields__)
REQUEST: dict[str, st.SearchStrategy[object]] = {
    "token_in": TEXT,
    "token_out": TEXT,
    "amount": AMOUNT,
    "slippage_bps": BPS,
    "pair": TEXT,
    "side": TEXT,
    "client_order_id": st.none() | TEXT,
}
PLAIN_PENDING = st.builds(PendingDetail, kind=st.just(Kind.MARKET.value), **REQUEST)
"""A market order that demands nothing: it never waits."""
PENDING_WITH_TERMS = st.builds(
    PendingDetail, kind=st.sampled_from([kind.value for kind in Kind]), **REQUEST, **TERMS
).filter(has_terms)
TRIGGER = st.builds(
    Trigger,
    kind=st.sampled_from(["limit", "stop", "takeProfit", "stopLoss", "trailingStop"]),
    price=st.none() | PRICE,
    threshold=st.none() | PRICE,
    extreme=st.none() | PRICE,
    amount_out=st.none() | AMOUNT,
    venue=st.none() | TEXT,
    slot=st.none() | st.integers(0, 2**62),
    age_ms=st.none() | st.floats(0, 1e6),
    slippage_bps=st.none() | BPS,
    limit_price=st.none() | PRICE,
    amount=st.none() | AMOUNT,
) | st.builds(
    Trigger,
    kind=st.sampled_from(["launch", "migration"]),
    mint=TEXT,
    decimals=st.integers(0, 18),
    pair=TEXT,
    verdicts=st.lists(st.builds(FilterVerdict, TEXT, TEXT, TEXT, st.booleans()), max_size=2).map(tuple),
)
CHANGES = st.builds(
    Changes,
    limit_price=st.none() | PRICE,
    min_amount_out=st.none() | AMOUNT,
    trigger_price=st.none() | PRICE,
    expires_at=st.none() | TIME,
    slippage_bps=st.none() | BPS,
)
DETAIL: dict[Status, st.SearchStrategy[Detail]] = {
    Status.PENDING: PLAIN_PENDING | PENDING_WITH_TERMS,
    Status.WATCHING: st.builds(
        WatchingDetail,
        reason=st.none() | TEXT,
        previous=st.none() | ATTEMPT_STORY,
        not_before=st.none() | TIME,
        changes=st.none() | CHANGES,
        slice=st.none() | st.builds(Slice, st.integers(1, 1000), ORDER_ID, AMOUNT),
        cancel_requested=st.booleans(),
    ),
    Status.ROUTING: st.builds(
        RoutingDetail,
        reason=st.none() | TEXT,
        previous=st.none() | ATTEMPT_STORY,
        pause_ms=st.none() | st.floats(0, 1e6),
        trigger=st.none() | TRIGGER,
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
        filled_slices=st.none() | st.integers(0, 1000),
    ),
    Status.FAILED: st.builds(FailedDetail, TEXT, TEXT, st.lists(ATTEMPT_STORY, max_size=3).map(tuple)),
    Status.CANCELLED: st.builds(CancelledDetail, by=TEXT, previous=st.none() | ATTEMPT_STORY, reason=st.none() | TEXT),
    Status.EXPIRED: st.builds(ExpiredDetail, reason=TEXT, previous=st.none() | ATTEMPT_STORY),
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
    waits = draw(st.booleans())  # an order without terms never does
    pending = draw(PENDING_WITH_TERMS if waits else PLAIN_PENDING)
    for _ in range(draw(st.integers(1, 10))):
        appends[-1].append((status, pending if status is FIRST else draw(_detail(status, waits))))
        following = sorted(after for after in NEXT[status] if waits or after is not Status.WATCHING)
        if not following:
            break
        status = draw(st.sampled_from(following))
        if draw(st.booleans()):
            appends.append([])
    return [Steps(events, draw(st.binary(max_size=8))) for events in appends if events]


def _detail(status: Status, waits: bool) -> st.SearchStrategy[Detail]:
    if status is Status.ROUTING and not waits:
        return st.builds(RoutingDetail, reason=st.none() | TEXT, previous=st.none() | ATTEMPT_STORY)
    return DETAIL[status]
