"""Errors that cross the wire: by the name of their class, with what they say to a person."""

from collections.abc import Mapping
from typing import Final

from bestex.domain.errors import (
    BestexError,
    ChainUnreachableError,
    ExpiresTooSoonError,
    InsufficientFundsError,
    NoRouteError,
    OrderError,
    QuotesUnavailableError,
    SlippageExceededError,
    StaleQuoteError,
    UnknownTokenError,
    VenueDownError,
)
from bestex.venues.simulated.ledger import LedgerFencedError, LedgerUnavailableError


class WorldBrokeError(BestexError):
    """The simulated world failed at a call by a defect of its own."""


_CROSSING: Final[Mapping[str, type[Exception]]] = {
    each.__name__: each
    for each in (
        ChainUnreachableError,
        ExpiresTooSoonError,
        InsufficientFundsError,
        LedgerFencedError,
        LedgerUnavailableError,
        NoRouteError,
        OrderError,
        QuotesUnavailableError,
        SlippageExceededError,
        StaleQuoteError,
        UnknownTokenError,
        ValueError,
        VenueDownError,
    )
}


def name_of(error: BaseException) -> str | None:
    """The name under which an error crosses, of its class or the nearest one above; None when none of them does."""
    return next((each.__name__ for each in type(error).__mro__ if each.__name__ in _CROSSING), None)


def error_of(name: str, message: str) -> Exception:
    return _CROSSING.get(name, WorldBrokeError)(message)
