"""Adopt what the wallet signed and the journal does not know: a pure function of an order's events and its landings.

What holds of the events it gives:

- They follow the lifecycle from where the order stands, and bring each unknown landing in as an attempt of its own,
  in the order of their attempt numbers.
- An attempt that the journal left open is given up first, by a proof that the caller brings.
- They end with the last landing open, as `submitted`: landing proves what became of it as it does for every attempt.
  An order that the journal does not know at all has no limits that another attempt could keep, so one that only
  failed ends there.
- Nothing is adopted into an order that has ended: that is a contradiction, and a person's to look at.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from bestex.domain.errors import FailureCode
from bestex.domain.events import (
    AttemptStory,
    BuildingDetail,
    Detail,
    Event,
    FailedDetail,
    RoutingDetail,
    SignedTransaction,
    SubmittedDetail,
    Trigger,
    seal,
)
from bestex.domain.lifecycle import Status
from bestex.domain.money import format_amount
from bestex.domain.order_state import OrderState, fold
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.domain.tokens import Token, TokenRegistry
from bestex.ports import WalletTransaction

ADOPTED: Final = "adopted"  # the trigger of a watched order that was found executed
REASON: Final = "adopted from the wallet's history: the journal did not know this attempt"


class Adopted(msgspec.Struct, frozen=True):
    """What to append to one order."""

    order: Order
    events: tuple[Event, ...]
    state: OrderState  # after them
    is_new: bool  # the journal did not know the order


class Contradiction(msgspec.Struct, frozen=True, rename="camel"):
    """What the journal and the chain say of an order cannot both be true."""

    order_id: str
    signature: str
    reason: str


def unknown_landings(events: Sequence[Event], landed: Sequence[WalletTransaction]) -> list[WalletTransaction]:
    """Those of an order's landings that are no attempt of its events, in the order of their attempts."""
    known = {event.detail.signature for event in events if isinstance(event.detail, SubmittedDetail)}
    unknown = (transaction for transaction in landed if transaction.signature not in known)
    return sorted(unknown, key=lambda transaction: (transaction.attempt, transaction.slot))


def adopt(
    order: Order,
    events: Sequence[Event],
    unknown: Sequence[WalletTransaction],
    given_up: AttemptStory | None,
    at_us: int,
) -> Adopted | Contradiction:
    """The events that bring `unknown` landings into an order; `given_up`: the attempt that its events left open."""
    state = fold(list(events))
    if state.ended:
        reason = f"the journal says {state.status}, and the chain shows a transaction that it does not know"
        return Contradiction(order.id, unknown[0].signature, reason)
    if state.status is Status.SUBMITTED and given_up is None:
        reason = "the journal has an attempt open that is not proven, and the chain shows another"
        return Contradiction(order.id, unknown[0].signature, reason)
    writer = _Writer(order.id, state, at_us)
    if not events:
        writer.add(Status.PENDING, 0, order.pending_detail(), seal(order.sealed_tokens()))
    for landing in unknown:
        trigger = _trigger(order) if state.status is Status.WATCHING else None
        writer.add(Status.ROUTING, landing.attempt, RoutingDetail(REASON, given_up, trigger=trigger))
        writer.add(Status.BUILDING, landing.attempt, _building(landing, order.token_out))
        submitted = SubmittedDetail(landing.venue, landing.signature, adopted=True)
        writer.add(Status.SUBMITTED, landing.attempt, submitted, seal(_transaction(landing)))
        given_up = _story(landing) if landing.error is not None else None
    if not events and given_up is not None:
        stories = (*state.attempts, given_up)
        writer.add(Status.FAILED, given_up.attempt, FailedDetail(given_up.code, given_up.message, stories))
    return Adopted(order, tuple(writer.events), state, not events)


def order_of_landing(landing: WalletTransaction, tokens: TokenRegistry) -> Order:
    """An order that the journal does not know, as far as its transaction tells; `UnknownTokenError`.

    What the client allowed is not on the chain: the slippage it asked for, and the keys it gave.
    """
    return Order(
        id=landing.order_id,
        kind=Kind.MARKET,
        token_in=tokens.get(landing.mint_in),
        token_out=tokens.get(landing.mint_out),
        amount_in=landing.asked_in,
        slippage_bps=0,
        created_us=landing.landed_us,
    )


def _trigger(order: Order) -> Trigger:
    """A watched order fired, and the journal does not know why."""
    if order.kind is not Kind.SNIPER:
        return Trigger(kind=ADOPTED)
    return Trigger(kind=ADOPTED, mint=order.token_out.mint, decimals=order.token_out.decimals, pair=order.pair.name)


class _Writer:
    """Builds events, each on the one before."""

    def __init__(self, order_id: str, state: OrderState, at_us: int) -> None:
        self._order_id = order_id
        self._state = state
        self._at_us = at_us
        self.events: list[Event] = []

    def add(self, status: Status, attempt: int, detail: Detail, sealed: bytes = b"") -> None:
        event = Event(self._order_id, self._state.seq + 1, status, attempt, self._at_us, detail, sealed)
        self._state.apply(event)
        self.events.append(event)


def _building(landing: WalletTransaction, token_out: Token) -> BuildingDetail:
    return BuildingDetail(
        venue=landing.venue,
        pool=landing.pool,
        amount_out=format_amount(landing.amount_out, token_out.decimals),  # what it did: its quote is not known
        min_amount_out="0",
        price_impact_bps=0,
        quotes=(),
        wraps_sol=False,
    )


def _transaction(landing: WalletTransaction) -> SignedTransaction:
    """Without its bytes: they landed, so they need not be sent again."""
    return SignedTransaction(landing.signature, b"", "", landing.slot, 0)


def _story(landing: WalletTransaction) -> AttemptStory:
    codes = {code.value for code in FailureCode}
    code = landing.error if landing.error in codes else FailureCode.TRANSACTION_FAILED.value
    message = f"the chain executed it with an error: {landing.error}"
    return AttemptStory(landing.attempt, code, message, landing.venue, landing.signature)
