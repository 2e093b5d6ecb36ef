"""The receipt of an order: every attempt's quotes, choice and fill against quote. A pure function of its events."""

from collections.abc import Sequence

import msgspec

from bestex.api.budget import Budget
from bestex.domain.events import (
    AttemptStory,
    BuildingDetail,
    CancelledDetail,
    ConfirmedDetail,
    Event,
    ExpiredDetail,
    FailedDetail,
    QuoteRecord,
    RoutingDetail,
    SubmittedDetail,
    Trigger,
    WatchingDetail,
    timestamp_text,
)


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
    latency_ms: dict[str, float] = msgspec.field(default_factory=dict)
    """Where the attempt's time went, stage by stage; a stage that no process saw whole is left out.

    pause: waited before it, on purpose. route: to the choice; each venue's own time stands in `quotes`. build: to
    signed. commit: to on disk. send: to the endpoint's answer. land: until the chain showed it. confirm: until its end
    was recorded.
    """


class Firing(Trigger, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """A watched order fired: what the trigger saw."""

    at: str
    attempt: int  # the first one behind it


class Receipt(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    order_id: str
    status: str
    triggers: tuple[Firing, ...] = ()
    attempts: list[AttemptReceipt]
    latency_ms: dict[str, float]
    """accept: to the commit that the 202 waits for. queue: from there to the first routing or watching. watch: waited
    for a trigger, all times together. total: to the end, once ended. finalize: from there until the swap was final."""


def receipt_of(events: Sequence[Event]) -> Receipt:
    """The receipt that an order's events, from the first on, amount to."""
    attempts: dict[int, AttemptReceipt] = {}
    triggers = tuple(firing for event in events if (firing := _firing(event)) is not None)
    for event in events:
        attempt = attempts.setdefault(event.attempt, AttemptReceipt(event.attempt)) if event.attempt else None
        _add(attempts, attempt, event)
    budget = Budget(events)
    for attempt in attempts.values():
        attempt.latency_ms = budget.of_attempt(attempt.attempt)
    return Receipt(
        order_id=events[0].order_id,
        status=events[-1].status.value,
        triggers=triggers,
        attempts=list(attempts.values()),
        latency_ms=budget.of_order(),
    )


def _firing(event: Event) -> Firing | None:
    match event.detail:
        case RoutingDetail(trigger=Trigger() as trigger):
            saw = {name: getattr(trigger, name) for name in Trigger.__struct_fields__}
            return Firing(at=timestamp_text(event.at_us), attempt=event.attempt, **saw)
        case _:
            return None


def _add(attempts: dict[int, AttemptReceipt], attempt: AttemptReceipt | None, event: Event) -> None:
    match event.detail:
        case (
            RoutingDetail(previous=AttemptStory() as story)
            | WatchingDetail(previous=AttemptStory() as story)
            | CancelledDetail(previous=AttemptStory() as story)
            | ExpiredDetail(previous=AttemptStory() as story)
        ):
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
