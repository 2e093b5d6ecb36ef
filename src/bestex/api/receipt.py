"""The receipt of an order: every attempt's quotes, choice and fill against quote. A pure function of its events."""

from collections.abc import Sequence

import msgspec

from bestex.domain.events import (
    AttemptStory,
    BuildingDetail,
    ConfirmedDetail,
    Event,
    FailedDetail,
    QuoteRecord,
    RoutingDetail,
    SubmittedDetail,
)
from bestex.domain.lifecycle import ENDS, Status


class Fill(msgspec.Struct, frozen=True, rename="camel"):
    """What the swap did, against its quote."""

    amount_in: str
    amount_out: str
    executed_price: str | None
    slippage_bps: float | None  # realised against the quote; negative when the fill was better
    fee_paid: str | None


class Outcome(msgspec.Struct, frozen=True, rename="camel"):
    """Why an attempt was given up."""

    code: str
    message: str


class AttemptReceipt(msgspec.Struct, rename="camel", omit_defaults=True):
    """One attempt."""

    attempt: int
    quotes: tuple[QuoteRecord, ...] = ()
    venue: str | None = None
    pool: str | None = None
    quoted_amount_out: str | None = None
    min_amount_out: str | None = None
    price_impact_bps: int | None = None
    wraps_sol: bool | None = None
    signature: str | None = None
    outcome: Outcome | None = None
    fill: Fill | None = None
    latency_ms: dict[str, float] = msgspec.field(default_factory=dict)  # time in each status


class Receipt(msgspec.Struct, frozen=True, rename="camel"):
    order_id: str
    status: str
    attempts: list[AttemptReceipt]
    latency_ms: dict[str, float]  # queue: from accepted to the first routing; total: to the end, once ended


def receipt_of(events: Sequence[Event]) -> Receipt:
    """The receipt that an order's events, from the first on, amount to."""
    attempts: dict[int, AttemptReceipt] = {}
    latency: dict[str, float] = {}
    first = events[0]
    for before, event in zip([None, *events[:-1]], events, strict=True):
        attempt = attempts.setdefault(event.attempt, AttemptReceipt(event.attempt)) if event.attempt else None
        if before is not None and before.status is not Status.PENDING and before.attempt in attempts:
            spent = attempts[before.attempt].latency_ms
            stage = before.status.value
            spent[stage] = round(spent.get(stage, 0.0) + _milliseconds(before, event), 3)
        if event.status is Status.ROUTING:
            latency.setdefault("queue", _milliseconds(first, event))
        if event.status in ENDS:
            latency.setdefault("total", _milliseconds(first, event))
        _add(attempts, attempt, event)
    return Receipt(first.order_id, events[-1].status.value, list(attempts.values()), latency)


def _add(attempts: dict[int, AttemptReceipt], attempt: AttemptReceipt | None, event: Event) -> None:
    match event.detail:
        case RoutingDetail(previous=AttemptStory() as story):
            _give_up(attempts, story)
        case FailedDetail(attempts=stories):
            for story in stories:
                _give_up(attempts, story)
        case BuildingDetail() as building if attempt is not None:
            attempt.quotes = building.quotes
            attempt.venue = building.venue
            attempt.pool = building.pool
            attempt.quoted_amount_out = building.amount_out
            attempt.min_amount_out = building.min_amount_out
            attempt.price_impact_bps = building.price_impact_bps
            attempt.wraps_sol = building.wraps_sol
        case SubmittedDetail(signature=str() as signature) if attempt is not None:
            attempt.signature = signature
        case ConfirmedDetail(amount_in=str() as amount_in, amount_out=str() as amount_out) as confirmed if attempt:
            attempt.fill = Fill(
                amount_in,
                amount_out,
                confirmed.executed_price,
                confirmed.slippage_bps,
                confirmed.fee_paid,
            )
        case _:
            pass


def _give_up(attempts: dict[int, AttemptReceipt], story: AttemptStory) -> None:
    attempt = attempts.setdefault(story.attempt, AttemptReceipt(story.attempt))
    attempt.outcome = Outcome(story.code, story.message)
    if story.quotes:
        attempt.quotes = story.quotes


def _milliseconds(before: Event, after: Event) -> float:
    return (after.at_us - before.at_us) / 1000
