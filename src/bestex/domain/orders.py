"""What a client asks for, and the state an order is in: the fold of its events."""

from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from bestex.domain.errors import UnknownTokenError
from bestex.domain.events import (
    DETAIL_TYPES,
    AttemptStory,
    BuildingDetail,
    CancelledDetail,
    ConfirmedDetail,
    Event,
    FailedDetail,
    PendingDetail,
    RoutingDetail,
    SealedTokens,
    SubmittedDetail,
    settles,
    timestamp_text,
    unseal_tokens,
)
from bestex.domain.lifecycle import ENDS, Status, check_transition
from bestex.domain.money import format_amount, parse_amount
from bestex.domain.tokens import Pair, Token, TokenRegistry, pair_of


class Kind(StrEnum):
    MARKET = "market"  # executes at once at the best venue's price


class Side(StrEnum):
    BUY = "buy"  # receives the pair's base token
    SELL = "sell"  # pays the pair's base token


class Order(msgspec.Struct, frozen=True):
    """An accepted request. Immutable; `OrderState` says what became of it."""

    id: str  # UUIDv7 as canonical text
    kind: Kind
    token_in: Token
    token_out: Token
    amount_in: int  # base units of token_in
    slippage_bps: int  # 0 to 10000
    created_us: int  # Unix time, microseconds
    client_order_id: str | None = None

    @property
    def pair(self) -> Pair:
        return pair_of(self.token_in, self.token_out)

    @property
    def side(self) -> Side:
        return Side.SELL if self.pair.base == self.token_in else Side.BUY

    def sealed_tokens(self) -> SealedTokens:
        """The tokens as the first event seals them, so that a changed registry cannot change the order."""
        return SealedTokens(self.token_in.mint, self.token_out.mint, self.token_in.decimals, self.token_out.decimals)

    def pending_detail(self) -> PendingDetail:
        """The request as the order's first event keeps it: the log alone can rebuild the order."""
        return PendingDetail(
            kind=self.kind.value,
            token_in=self.token_in.symbol,
            token_out=self.token_out.symbol,
            amount=format_amount(self.amount_in, self.token_in.decimals),
            slippage_bps=self.slippage_bps,
            pair=self.pair.name,
            side=self.side.value,
            client_order_id=self.client_order_id,
        )


def order_from_pending(event: Event, tokens: TokenRegistry) -> Order:
    """The order that `event`, its first, describes.

    `UnknownTokenError` when the registry lost a token, or gives it other decimals than when the order was accepted.
    """
    detail = event.detail
    if not isinstance(detail, PendingDetail):
        raise TypeError(f"the first event of an order is pending, not {event.status}")
    sealed = unseal_tokens(event.sealed)
    token_in = _token(tokens, detail.token_in, sealed.mint_in, sealed.decimals_in)
    return Order(
        id=event.order_id,
        kind=Kind(detail.kind),
        token_in=token_in,
        token_out=_token(tokens, detail.token_out, sealed.mint_out, sealed.decimals_out),
        amount_in=parse_amount(detail.amount, token_in.decimals),
        slippage_bps=detail.slippage_bps,
        created_us=event.at_us,
        client_order_id=detail.client_order_id,
    )


def _token(tokens: TokenRegistry, symbol: str, mint: str, decimals: int) -> Token:
    token = tokens.find(mint)
    if token is None:
        raise UnknownTokenError(f"{symbol} ({mint}) is not in the token registry any more")
    if token.decimals != decimals:
        raise UnknownTokenError(f"{symbol} had {decimals} decimals in the token registry, now {token.decimals}")
    return token


class OrderView(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
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


class OrderState:
    """The fold of one order's events. `apply` is the only way it changes."""

    __slots__ = (
        "_pending",
        "attempt",
        "attempts",
        "building",
        "cancel_requested",
        "confirmed",
        "created_at",
        "created_us",
        "failure",
        "order_id",
        "seq",
        "settled",
        "status",
        "submitted",
        "updated_us",
    )

    def __init__(self) -> None:
        self._pending: PendingDetail | None = None
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
        self.attempts: list[AttemptStory] = []  # of attempts given up, first to last

    @property
    def ended(self) -> bool:
        return self.status in ENDS

    def apply(self, event: Event) -> None:
        """Fold in the next event. `IllegalTransitionError` or `ValueError` if it cannot follow."""
        if event.seq != self.seq + 1:
            raise ValueError(f"event {event.seq} cannot follow event {self.seq} of order {event.order_id}")
        check_transition(self.status, event.status)
        detail = event.detail
        if type(detail) is not DETAIL_TYPES.get(event.status):
            raise ValueError(f"{type(detail).__name__} is not the detail of {event.status}")
        match detail:
            case PendingDetail():
                self._pending = detail
                self.order_id = event.order_id
                self.created_us = event.at_us
                self.created_at = timestamp_text(event.at_us)
            case RoutingDetail():
                self.building = self.submitted = None
                if detail.previous is not None:
                    self.attempts.append(detail.previous)
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
            case CancelledDetail():
                if detail.previous is not None:
                    self.attempts.append(detail.previous)
        self.status = event.status
        self.settled = settles(event)
        self.seq = event.seq
        self.attempt = event.attempt
        self.updated_us = event.at_us

    def view(self) -> OrderView:
        """The order as the API shows it."""
        pending = self._pending
        if pending is None or self.status is None:
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
        )


def _with_note(confirmed: ConfirmedDetail, note: ConfirmedDetail) -> ConfirmedDetail:
    """What the swap did, after a later note on it; what the note does not name has not changed."""
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
)


def fold(events: list[Event]) -> OrderState:
    """The state that `events`, all of one order from the first on, lead to."""
    state = OrderState()
    for event in events:
        state.apply(event)
    return state
