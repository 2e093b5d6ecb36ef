"""What becomes of an order whose attempt was given up: it tries again, waits again, or ends.

- A cancel that was wished for, and a time that is up, end it first.
- One that may not wait expires when its price is not there.
- A watched order tries again as any other does, then waits for its trigger anew; one that its limit kept from a route
  waits at once. Each time it fired, the pause before it may fire again gets longer.
- An exit always waits again: a position is never left without its exits.
- One that fired, and was kept from being executed by a halt or a crash, waits for its trigger anew.
"""

from enum import Enum, auto
from typing import Final

import msgspec

from bestex.domain.errors import FailureCode
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.engine.retry import RETRIED, RetryPolicy


class Next(Enum):
    TRY_AGAIN = auto()
    WAIT_AGAIN = auto()
    CANCEL = auto()
    EXPIRE = auto()
    FAIL = auto()


class RearmPolicy(msgspec.Struct, frozen=True):
    """The pause before a watched order may fire again."""

    base_s: float = 0.5  # after the first time it fired
    factor: float = 2.0  # each further pause is this much longer
    max_s: float = 60.0

    def pause_s(self, fired: int) -> float:
        """Seconds to wait after it has fired so often, 1, 2 ... times."""
        return min(self.base_s * self.factor ** min(fired - 1, 64), self.max_s)


NOW_LASTS_US: Final = 60_000_000
"""Microseconds in which an order that may not wait is executed or never, though its engine dies meanwhile."""

FIRING_LASTS_US: Final = 30_000_000
"""Microseconds in which an order that fired begins an attempt, or waits for its trigger anew."""

_REARMED: Final = frozenset({Kind.LIMIT, Kind.STOP, Kind.TAKE_PROFIT, Kind.TRAILING_STOP})
_FOR_GOOD: Final = frozenset({FailureCode.UNKNOWN_TOKEN, FailureCode.RESOLVED})
"""What keeps even an exit from being tried again."""
_WAITS: Final = frozenset({FailureCode.LIMIT_NOT_MET, FailureCode.EXPIRES_TOO_SOON})
"""What another attempt at once would not change, and a watched order waits for."""


def next_step(order: Order, state: OrderState, code: FailureCode, policy: RetryPolicy, now_us: int) -> Next:
    """What to do for an order whose attempt ended with `code`, proven not executed."""
    if state.cancel_requested:
        return Next.CANCEL
    if is_expired(order, now_us):
        return Next.EXPIRE
    if order.is_immediate and (RETRIED[code] or code in _WAITS):
        return Next.EXPIRE
    if policy.allows(state.attempt - state.first_attempt + 1, code):
        return Next.TRY_AGAIN
    if order.kind is Kind.EXITS and state.fired and code not in _FOR_GOOD:
        return Next.WAIT_AGAIN
    if order.kind in _REARMED and state.fired and (RETRIED[code] or code in _WAITS):
        return Next.WAIT_AGAIN
    return Next.FAIL


def fired_long_ago(order: Order, state: OrderState, now_us: int) -> bool:
    """Whether a watched order fired on a price that says nothing any more, and nothing of it is signed."""
    waits = order.kind in _REARMED or order.kind is Kind.EXITS
    unsigned = state.status in (Status.ROUTING, Status.BUILDING)
    return waits and unsigned and state.fired > 0 and now_us - state.updated_us >= FIRING_LASTS_US


def is_expired(order: Order, now_us: int) -> bool:
    """Whether its time is up; of a limit order that may not wait, whether its now is long past."""
    if order.kind is Kind.LIMIT and order.is_immediate:
        return now_us >= order.created_us + NOW_LASTS_US
    expires_us = order.expires_us
    return expires_us is not None and now_us >= expires_us
