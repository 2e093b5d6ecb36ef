"""What the engine refuses to those who ask something of it. The errors of orders and the journal stand in the domain.

BestexError
├── AlreadyEndedError      there is nothing to cancel
├── NotWatchingError       only an order that waits can be changed
├── BeyondTriggerError     a stop would fire at once
├── BadChangeError         a change does not fit the order
├── JournalBehindError     nothing may be signed, and no order ended, before the journal is reconciled
├── NotHaltedError         reconcile only while nothing is signed
├── NotUnknownError        there is nothing for a person to decide
└── ContradictedError      the chain says otherwise than the person
"""

from bestex.domain.errors import BestexError


class AlreadyEndedError(BestexError):
    """The order has ended: there is nothing to cancel."""


class NotWatchingError(BestexError):
    """The order is not `watching` now: it cannot be changed."""


class BeyondTriggerError(BestexError):
    """The price is beyond the order's trigger already, and it does not say that it may be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field  # as the client wrote it: "triggerPrice"; of a nested one, the path "a/b"


class BadChangeError(BestexError):
    """A change does not fit the order's kind, or would have it fire at once although it does not say that it may."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field  # as the client wrote it: "limitPrice"


class JournalBehindError(BestexError):
    """The journal is older than its published head: nothing may be signed, and no order ended, before."""


class NotHaltedError(BestexError):
    """The engine signs: that must be halted first."""


class NotUnknownError(BestexError):
    """What became of the order is known: there is nothing for a person to decide."""


class ContradictedError(BestexError):
    """The chain shows, or may still show, the opposite of what a person decided."""
