"""The state an order is in: the fold of its events, and what the API shows of it."""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from bestex.domain.events import (
    DETAIL_TYPES,
    AttemptStory,
    BuildingDetail,
    CancelledDetail,
    Changes,
    ConfirmedDetail,
    Event,
    ExpiredDetail,
    FailedDetail,
    PendingDetail,
    RoutingDetail,
    SubmittedDetail,
    Trigger,
    WatchingDetail,
    settles,
    timestamp_text,
)
from bestex.domain.launches import LaunchFilters
from bestex.domain.lifecycle import ENDS, Status, check_transition
from bestex.domain.orders import TERMS, changed_terms, has_terms
from bestex.domain.price import inverse_text, parse_price
from bestex.domain.terms import (
    ExitTerms,
    Leg,
    OnSliceFailure,
    TimeInForce,
)


class OrderView(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """An order as the API shows it and as the projection stores it. Amounts are decimal text in token units."""

    order_id: str
    kind: str
    status: str
    seq: int
    attempt: int
    pair: str
    side: str
    token_in: str
    token_out: str
    amount: str  # the amount asked for, in token_in
    slippage_bps: int
    created_at: str
    updated_at: str
    client_order_id: str | None = None
    cancel_requested: bool = False
    venue: str | None = None
    tx_hash: str | None = None  # from `submitted` on: the signature of the latest attempt
    amount_in: str | None = None  # what the swap took
    amount_out: str | None = None  # what the swap paid
    executed_price: str | None = None  # quote token per base token of `pair`
    fee_paid: str | None = None  # network fee, in SOL
    commitment: str | None = None
    failure: FailedDetail | None = None
    gone: bool = False  # lost to a fork, and it can never land any more
    # What follows stands there for orders of some kinds only; terms as they are after the client's changes.
    parent_id: str | None = None
    slice_number: int | None = None
    limit_price: str | None = None
    limit_price_inverse: str | None = None  # base token per quote token
    min_amount_out: str | None = None
    trigger_price: str | None = None
    trigger_price_inverse: str | None = None
    trail_bps: int | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    expires_at: str | None = None
    allow_immediate: bool = False
    exits: ExitTerms | None = None
    mint: str | None = None
    filters: LaunchFilters | None = None
    migrations: bool = False
    slices: int | None = None
    interval_seconds: int | None = None
    on_slice_failure: OnSliceFailure = OnSliceFailure.CONTINUE
    slices_begun: int = 0
    filled_slices: int | None = None
    legs: tuple[Leg, ...] = ()
    trigger: Trigger | None = None  # why it fired last
    waits_because: str | None = None  # why it waits again, after it fired
    not_before: str | None = None  # until then it does not fire again


class OrderState:
    """The fold of one order's events. `apply` is the only way it changes."""

    __slots__ = (
        "_has_terms",
        "_pending",
        "_shown",
        "attempt",
        "attempts",
        "building",
        "cancel_requested",
        "changes",
        "confirmed",
        "created_at",
        "created_us",
        "failure",
        "fired",
        "first_attempt",
        "not_before",
        "order_id",
        "seq",
        "settled",
        "slices_begun",
        "status",
        "submitted",
        "trigger",
        "updated_us",
        "waits_because",
    )

    def __init__(self) -> None:
        self._pending: PendingDetail | None = None
        self._has_terms = False  # whether it demands anything that not every order does
        self.order_id = ""
        self.status: Status | None = None
        self.seq = 0
        self.attempt = 0
        self.created_us = 0
        self.created_at = ""  # the same as text
        self.updated_us = 0
        self.building: BuildingDetail | None = None  # of the latest attempt
        self.submitted: SubmittedDetail | None = None  # of the latest attempt: open until proven
        self.confirmed: ConfirmedDetail | None = None  # with what later notes changed
        self.settled = False  # ended, and if it executed, for good: nothing is left to do
        self.failure: FailedDetail | None = None
        self.cancel_requested = False
        self.attempts: list[AttemptStory] = []  # of attempts given up since it last fired, first to last
        self.fired = 0  # how often it has fired
        self.first_attempt = 1  # the number of the first attempt since it last fired
        self.trigger: Trigger | None = None
        self.waits_because: str | None = None
        self.not_before: str | None = None
        self.slices_begun = 0
        self.changes: Changes | None = None  # what the client's changes have come to
        self._shown: tuple[Changes | None, dict[str, Any]] | None = None  # the terms in the view after which changes

    @property
    def ended(self) -> bool:
        return self.status in ENDS

    def apply(self, event: Event) -> None:
        """Fold in the next event. `IllegalTransitionError` or `ValueError` if it cannot follow."""
        if event.seq != self.seq + 1:
            raise ValueError(f"event {event.seq} cannot follow event {self.seq} of order {event.order_id}")
        check_transition(self.status, event.status)
        status, detail = event.status, event.detail
        if type(detail) is not DETAIL_TYPES[status]:
            raise ValueError(f"{type(detail).__name__} is not the detail of {status}")
        match detail:
            case PendingDetail():
                self._pending = detail
                self._has_terms = has_terms(detail)
                self.order_id = event.order_id
                self.created_us = event.at_us
                self.created_at = timestamp_text(event.at_us)
            case WatchingDetail():
                self._watch(detail)
            case RoutingDetail():
                self.building = self.submitted = None
                if detail.previous is not None:
                    self.attempts.append(detail.previous)
                if detail.trigger is not None:
                    self.trigger = detail.trigger
                    self.fired += 1
                    self.first_attempt = event.attempt
                    self.attempts.clear()
                    self.waits_because = self.not_before = None
            case BuildingDetail():
                self.building = detail
            case SubmittedDetail():
                if detail.signature is not None:
                    self.submitted = detail
                self.cancel_requested |= detail.cancel_requested
            case ConfirmedDetail():
                self.confirmed = detail if self.confirmed is None else _with_note(self.confirmed, detail)
            case FailedDetail():
                self.failure = detail
            case CancelledDetail() | ExpiredDetail():
                if detail.previous is not None:
                    self.attempts.append(detail.previous)
        self.status = status
        self.settled = status in ENDS and settles(event)
        self.seq = event.seq
        self.attempt = event.attempt
        self.updated_us = event.at_us

    def _watch(self, detail: WatchingDetail) -> None:
        """Fold in what makes it wait, or a note while it does."""
        if self.status is not Status.WATCHING:
            self.building = self.submitted = None  # what was signed is proven not to have executed
            self.waits_because, self.not_before = detail.reason, detail.not_before
        if detail.previous is not None:
            self.attempts.append(detail.previous)
        if detail.changes is not None:
            self.changes = _merged(self.changes, detail.changes)
        if detail.slice is not None:
            self.slices_begun = detail.slice.number
        self.cancel_requested |= detail.cancel_requested

    def view(self) -> OrderView:
        """The order as the API shows it."""
        pending = self._pending
        if pending is None:
            raise ValueError("an order without its first event has no view")
        return self._view_with_terms(pending) if self._has_terms else self._view(pending)

    def _view_with_terms(self, pending: PendingDetail) -> OrderView:
        trigger, confirmed = self.trigger, self.confirmed
        found = trigger if trigger is not None and trigger.mint is not None else None  # what a sniper buys
        return replace(
            self._view(pending),
            **self._terms(pending),
            token_out=found.mint if found is not None else pending.token_out,
            pair=found.pair if found is not None else pending.pair,
            slices_begun=self.slices_begun,
            filled_slices=confirmed.filled_slices if confirmed is not None else None,
            trigger=trigger,
            waits_because=self.waits_because,
            not_before=self.not_before,
        )

    def _terms(self, pending: PendingDetail) -> dict[str, Any]:
        """The terms as the view shows them, after the client's changes; reckoned once for each."""
        if self._shown is None or self._shown[0] is not self.changes:
            changes = self.changes if self.changes is not None else Changes()
            terms = {name: getattr(pending, name) for name in TERMS} | changed_terms(changes)
            terms["limit_price_inverse"] = _inverse(terms["limit_price"])
            terms["trigger_price_inverse"] = _inverse(terms["trigger_price"])
            terms["slippage_bps"] = pending.slippage_bps if changes.slippage_bps is None else changes.slippage_bps
            self._shown = self.changes, terms
        return self._shown[1]

    def _view(self, pending: PendingDetail) -> OrderView:
        """What orders of every kind show."""
        if self.status is None:
            raise ValueError("an order without its first event has no view")
        confirmed = self.confirmed
        submitted = self.submitted
        building = self.building
        return OrderView(
            order_id=self.order_id,
            kind=pending.kind,
            status=self.status,
            seq=self.seq,
            attempt=self.attempt,
            pair=pending.pair,
            side=pending.side,
            token_in=pending.token_in,
            token_out=pending.token_out,
            amount=pending.amount,
            slippage_bps=pending.slippage_bps,
            created_at=self.created_at,
            updated_at=timestamp_text(self.updated_us),
            client_order_id=pending.client_order_id,
            cancel_requested=self.cancel_requested,
            venue=building.venue if building else None,
            tx_hash=submitted.signature if submitted else None,
            amount_in=confirmed.amount_in if confirmed else None,
            amount_out=confirmed.amount_out if confirmed else None,
            executed_price=confirmed.executed_price if confirmed else None,
            fee_paid=confirmed.fee_paid if confirmed else None,
            commitment=confirmed.commitment if confirmed else None,
            failure=self.failure,
            gone=confirmed.gone if confirmed else False,
        )


def _merged(earlier: Changes | None, later: Changes) -> Changes:
    if earlier is None:
        return later
    named = {name: value for name in Changes.__struct_fields__ if (value := getattr(later, name)) is not None}
    return replace(earlier, **named)


def _inverse(price: str | None) -> str | None:
    return None if price is None else inverse_text(parse_price(price))


def _with_note(confirmed: ConfirmedDetail, note: ConfirmedDetail) -> ConfirmedDetail:
    """What the swap did, after a later note on it; what the note does not name has not changed."""
    if note == ConfirmedDetail(commitment=note.commitment):  # as most do, when the swap is final
        return replace(confirmed, commitment=note.commitment, gone=False, resolved=False)
    named = {name: value for name in _FILL_FIELDS if (value := getattr(note, name)) is not None}
    return replace(confirmed, commitment=note.commitment, gone=note.gone, resolved=note.resolved, **named)


_FILL_FIELDS: Final = (
    "venue",
    "tx_hash",
    "amount_in",
    "amount_out",
    "executed_price",
    "slippage_bps",
    "fee_paid",
    "slot",
    "note",
    "filled_slices",
)


def fold(events: list[Event]) -> OrderState:
    """The state that `events`, all of one order from the first on, lead to."""
    state = OrderState()
    for event in events:
        state.apply(event)
    return state
