"""Events: immutable facts about one order, numbered 1, 2, 3 ... within it. Their details are what watchers see.

Amounts in details are decimal text in token units: the form the API shows is the form the log keeps.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from bestex.domain.launches import FilterVerdict
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.terms import Terms

FINALIZED: Final = "finalized"
LOST: Final = "lost"
"""What a confirmed order's `commitment` becomes: it stays, or a fork took the transaction away."""


class QuoteRecord(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """One venue's answer as the receipt keeps it: a quote, or the reason why there was none."""

    venue: str
    latency_ms: float  # from asking to the answer, or to the deadline
    pool: str | None = None
    amount_out: str | None = None  # after the venue's fee
    fee: str | None = None
    fee_token: str | None = None
    price_impact_bps: int | None = None
    net_amount_out: str | None = None  # what `choose` scores: amount_out less the network fee in token_out
    chosen: bool = False
    reason: str | None = None  # why it lost, or why there is no quote
    error: str | None = None  # a FailureCode value, when there is no quote


class Timings(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Where an attempt's time went that its events' own times do not show; each as far as one process saw it."""

    accept_ms: float | None = None  # from the request to its commit: the answer waits for it
    commit_ms: float | None = None  # from signed to on disk
    send_ms: float | None = None  # from on disk to the endpoint's answer to the first send
    land_ms: float | None = None  # from that answer until the chain first showed the transaction


class AttemptStory(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """What became of an attempt that was given up."""

    attempt: int
    code: str  # a FailureCode value
    message: str
    venue: str | None = None
    signature: str | None = None  # when it was sent: proven not to have executed
    quotes: tuple[QuoteRecord, ...] = ()  # when it ended before a venue was chosen
    timings: Timings | None = None


class PendingDetail(Terms, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """The request: what every order has, then the terms of its kind."""

    kind: str
    token_in: str
    token_out: str
    amount: str
    slippage_bps: int
    pair: str
    side: str
    client_order_id: str | None = None


class Trigger(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """What made a watched order fire, as it was seen: prices are executable ones for the order's own size."""

    kind: str  # "limit", "stop", "takeProfit", "stopLoss", "trailingStop", "launch", "migration"
    price: str | None = None  # quote token per base token
    threshold: str | None = None  # the price that it had to reach
    extreme: str | None = None  # the best price since a trailing stop was armed
    amount_out: str | None = None  # what the best venue would have paid
    venue: str | None = None
    pool: str | None = None
    slot: int | None = None
    age_ms: float | None = None  # of the price, or since the pool was listed
    slippage_bps: int | None = None  # of the leg that fired
    limit_price: str | None = None  # the same
    amount: str | None = None  # what is to be traded, where that is not what was asked: an exit's position got smaller
    mint: str | None = None  # the token that a sniper buys
    decimals: int | None = None  # of that token
    pair: str | None = None  # likewise
    verdicts: tuple[FilterVerdict, ...] = ()  # of the launch, by the order's filters


class RoutingDetail(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    reason: str | None = None  # why routing begins again
    previous: AttemptStory | None = None  # the attempt that was given up, when there was one
    pause_ms: float | None = None  # how long the engine waited since then, on purpose
    trigger: Trigger | None = None  # why a watched order fired


class Changes(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """What the client changed of a watched order."""

    limit_price: str | None = None
    min_amount_out: str | None = None  # of an order that had one, when its limit price changes
    trigger_price: str | None = None
    expires_at: str | None = None
    slippage_bps: int | None = None


class Slice(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """One slice of a sliced order begins."""

    number: int  # 1, 2, 3 ...
    order_id: str
    amount: str


class WatchingDetail(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """The order waits; as a note, what changed while it does."""

    reason: str | None = None  # why it waits again
    previous: AttemptStory | None = None  # the attempt that was given up, when it had fired
    not_before: str | None = None  # RFC 3339: until then it does not fire again
    changes: Changes | None = None
    slice: Slice | None = None
    cancel_requested: bool = False  # of a sliced order: what has been executed stays


class BuildingDetail(msgspec.Struct, frozen=True, rename="camel", gc=False):
    venue: str
    pool: str
    amount_out: str  # quoted
    min_amount_out: str  # the chain enforces it
    price_impact_bps: int
    quotes: tuple[QuoteRecord, ...]
    wraps_sol: bool  # native SOL is wrapped before the swap, or unwrapped after it


class SubmittedDetail(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """The attempt's signature; as a note on the same attempt, what is known without it."""

    venue: str | None = None
    signature: str | None = None
    last_valid_block_height: int | None = None
    cancel_requested: bool = False
    note: str | None = None  # what is known of the outcome, while it is unknown
    next_look_at: str | None = None  # RFC 3339: when the chain is asked again
    adopted: bool = False  # found on the chain by `bestex reconcile`, in a journal that did not know it


class ConfirmedDetail(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """What the swap did. As a note on the same status: the new commitment, and what else has changed since.

    The first one names the transaction, a note does not: it is the same one.
    """

    venue: str | None = None
    tx_hash: str | None = None
    amount_in: str | None = None
    amount_out: str | None = None
    executed_price: str | None = None
    slippage_bps: float | None = None  # realised against the quote; negative when the fill was better
    fee_paid: str | None = None  # network fee, in SOL
    commitment: str  # a Commitment value: confirmed, finalized, lost
    slot: int | None = None  # where the transaction landed
    note: str | None = None  # why, for a person to read
    gone: bool = False  # a lost one that can never land any more: a person decides what to do
    resolved: bool = False  # an operator's decision, not a proof
    timings: Timings | None = None
    filled_slices: int | None = None  # of a sliced order, whose amounts are the sums of its slices'


class FailedDetail(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    code: str
    message: str
    attempts: tuple[AttemptStory, ...]
    resolved: bool = False  # an operator's decision, not a proof


class CancelledDetail(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    by: str  # "client", "deadman", "engine", or "operator" where that one decided that it did not execute
    previous: AttemptStory | None = None  # the attempt that was given up, when the cancel waited for that
    reason: str | None = None


class ExpiredDetail(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    reason: str  # its time was up, or its price was not there
    previous: AttemptStory | None = None  # the attempt that was given up, when there was one


Detail = (
    PendingDetail
    | WatchingDetail
    | RoutingDetail
    | BuildingDetail
    | SubmittedDetail
    | ConfirmedDetail
    | FailedDetail
    | CancelledDetail
    | ExpiredDetail
)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One fact about one order."""

    order_id: str
    seq: int  # 1, 2, 3 ... without a gap
    status: Status
    attempt: int  # 0 before the first
    at_us: int  # Unix time, microseconds
    detail: Detail
    sealed: bytes = b""  # what the engine needs again and no watcher gets: the signed transaction


def ends(event: Event) -> bool:
    """Whether the order ended with `event`: not a note on an end."""
    if event.status not in ENDS:
        return False
    detail = event.detail
    if isinstance(detail, ConfirmedDetail):
        return detail.tx_hash is not None or detail.filled_slices is not None
    return True


def settles(event: Event) -> bool:
    """Whether nothing is left to do for the order after `event`: it ended, and if it executed, for good."""
    if event.status not in ENDS:
        return False
    detail = event.detail
    if isinstance(detail, ConfirmedDetail):
        return detail.commitment == FINALIZED or detail.gone
    return True


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event with its place in the whole log."""

    position: int  # 1, 2, 3 ... in commit order
    event: Event


class SignedTransaction(msgspec.Struct, frozen=True, gc=False):
    """A transaction as it will be sent, again and again if need be; sealed into its `submitted` event."""

    signature: str  # base58
    raw: bytes  # the signed bytes
    blockhash: str
    blockhash_slot: int  # the slot that gave the blockhash: it cannot have landed before
    last_valid_block_height: int


class SealedTokens(msgspec.Struct, frozen=True, gc=False):
    """Which tokens an order meant, sealed into its `pending` event: a symbol may be given to another mint later."""

    mint_in: str
    mint_out: str
    decimals_in: int
    decimals_out: int


class Update(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """An event as watchers get it."""

    order_id: str
    status: str
    seq: int
    attempt: int
    timestamp: str  # RFC 3339, UTC
    detail: Detail


DETAIL_TYPES: Final[dict[Status, type[Detail]]] = {
    Status.PENDING: PendingDetail,
    Status.WATCHING: WatchingDetail,
    Status.ROUTING: RoutingDetail,
    Status.BUILDING: BuildingDetail,
    Status.SUBMITTED: SubmittedDetail,
    Status.CONFIRMED: ConfirmedDetail,
    Status.FAILED: FailedDetail,
    Status.CANCELLED: CancelledDetail,
    Status.EXPIRED: ExpiredDetail,
}

_encoder = msgspec.json.Encoder()
_decoders: Final = {status: msgspec.json.Decoder(kind) for status, kind in DETAIL_TYPES.items()}
_sealed_decoder = msgspec.msgpack.Decoder(SignedTransaction)
_tokens_decoder = msgspec.msgpack.Decoder(SealedTokens)
_sealed_encoder = msgspec.msgpack.Encoder()


def encode_detail(detail: Detail) -> bytes:
    """`detail` as the JSON object that the log keeps and watchers get."""
    return _encoder.encode(detail)


def decode_detail(status: Status, raw: bytes | str) -> Detail:
    """The detail of a stored event of `status`."""
    detail: Detail = _decoders[status].decode(raw)
    return detail


def seal(secret: SignedTransaction | SealedTokens) -> bytes:
    return _sealed_encoder.encode(secret)


def unseal_tokens(sealed: bytes) -> SealedTokens:
    return _tokens_decoder.decode(sealed)


def unseal(sealed: bytes) -> SignedTransaction:
    return _sealed_decoder.decode(sealed)


def update_of(event: Event) -> Update:
    return Update(
        event.order_id,
        event.status.value,
        event.seq,
        event.attempt,
        timestamp_text(event.at_us),
        event.detail,
    )


def timestamp_us(text: str) -> int:
    """Unix microseconds of an RFC 3339 time; `ValueError` when it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time names no zone")
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def timestamp_text(at_us: int) -> str:
    """Unix microseconds as RFC 3339 in UTC, to the millisecond."""
    return _millisecond_text(at_us // 1000)


@lru_cache(maxsize=256)
def _millisecond_text(at_ms: int) -> str:
    """Many events have the same: those of one order, and those of one commit."""
    seconds, rest = divmod(at_ms, 1000)
    return f"{_second_text(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=64)
def _second_text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
