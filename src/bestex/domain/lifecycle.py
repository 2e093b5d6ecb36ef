"""The one table that says which status may follow which. The database's own guard is filled from it."""

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Status(StrEnum):
    """Where an order stands. The comments say what each means; `NEXT` says what may follow."""

    PENDING = "pending"  # accepted, durable, queued
    WATCHING = "watching"  # waits for a trigger, a launch, its entry's fill, or its children
    ROUTING = "routing"  # comparing venues; every attempt begins here
    BUILDING = "building"  # venue chosen, transaction being made
    SUBMITTED = "submitted"  # signed and on disk; outcome unknown until proven
    CONFIRMED = "confirmed"  # executed: signature, amounts, executed price
    FAILED = "failed"  # cannot execute; code, message, every attempt's story
    CANCELLED = "cancelled"  # ended by the client without an executed swap
    EXPIRED = "expired"  # ended by its time in force without an executed swap


_S = Status

NEXT: Final = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.ROUTING, _S.WATCHING, _S.CANCELLED, _S.EXPIRED, _S.FAILED}),
        _S.WATCHING: frozenset({_S.ROUTING, _S.WATCHING, _S.CONFIRMED, _S.FAILED, _S.CANCELLED, _S.EXPIRED}),
        _S.ROUTING: frozenset({_S.BUILDING, _S.ROUTING, _S.WATCHING, _S.CANCELLED, _S.EXPIRED, _S.FAILED}),
        _S.BUILDING: frozenset({_S.SUBMITTED, _S.ROUTING, _S.WATCHING, _S.CANCELLED, _S.EXPIRED, _S.FAILED}),
        _S.SUBMITTED: frozenset(
            {_S.SUBMITTED, _S.CONFIRMED, _S.ROUTING, _S.WATCHING, _S.CANCELLED, _S.EXPIRED, _S.FAILED}
        ),
        _S.CONFIRMED: frozenset({_S.CONFIRMED}),
        _S.FAILED: frozenset[Status](),
        _S.CANCELLED: frozenset[Status](),
        _S.EXPIRED: frozenset[Status](),
    }
)
"""For every status, those that may follow it. An order's first status is always `pending`."""

FIRST: Final = Status.PENDING

ENDS: Final = frozenset({_S.CONFIRMED, _S.FAILED, _S.CANCELLED, _S.EXPIRED})
"""The statuses at which streams end and nothing more is executed."""


UNFILLED: Final = ENDS - {_S.CONFIRMED}
"""The ends without an executed swap."""


class IllegalTransitionError(ValueError):
    """A status was to follow one that it may not follow: a defect, never a user's mistake."""


def check_transition(before: Status | None, after: Status) -> None:
    """Raise `IllegalTransitionError` unless `after` may follow `before` (None: as the first event)."""
    if before is None:
        if after is not FIRST:
            raise IllegalTransitionError(f"an order begins with {FIRST}, not with {after}")
    elif after not in NEXT[before]:
        raise IllegalTransitionError(f"{after} may not follow {before}")
