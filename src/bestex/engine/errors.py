"""What the engine refuses to those who ask something of it. The errors of orders and the journal stand in the domain.

BestexError
├── AlreadyEndedError      there is nothing to cancel
├── JournalBehindError     nothing may be signed, and no order ended, before the journal is reconciled
├── NotWatchingError       it does not wait any more: it cannot be changed
├── BadChangeError         a change does not fit the order
├── BeyondTriggerError     the price is beyond the trigger already
├── PastExpiryError        its time is up already
├── NotHaltedError         reconcile only while nothing is signed
├── NotUnknownError        there is nothing for a person to decide
└── ContradictedError      the chain says otherwise than the person
"""

from bestex.domain.errors import BestexError


class AlreadyEndedError(BestexError):
    """The order has ended: there is nothing to cancel."""


class JournalBehindError(BestexError):
    """The journal is older than its published head: nothing may be signed, and no order ended, before."""


class NotHaltedError(BestexError):
    """The engine signs: that must be halted first."""


class NotUnknownError(BestexError):
    """What became of the order is known: there is nothing for a person to decide."""


class ContradictedError(BestexError):
    """The chain shows, or may still show, the opposite of what a person decided."""


class NotWatchingError(BestexError):
    """The order does not wait for anything now: it cannot be changed."""


class FieldError(BestexError):
    """One field of a request does not fit what there is."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field  # as clients write it


class BadChangeError(FieldError):
    """A change does not fit the order."""


class BeyondTriggerError(FieldError):
    """The price is beyond the trigger already."""


class PastExpiryError(FieldError):
    """The order's time is up already."""
