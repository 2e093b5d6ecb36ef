"""All errors of the engine, and the failure codes that orders end with.

BestexError
├── OrderError                 an attempt cannot go on; carries a FailureCode
│   ├── NoRouteError
│   ├── QuotesUnavailableError
│   ├── StaleQuoteError
│   ├── VenueDownError
│   ├── SlippageExceededError
│   ├── LimitNotMetError
│   ├── ExpiresTooSoonError
│   ├── InsufficientFundsError
│   └── UnknownTokenError
├── ChainUnreachableError      the endpoint did not answer: what happened is unknown
├── JournalError
│   ├── JournalUnavailableError    nothing reached a commit; nothing is stored
│   ├── OutcomeUnknownError        a commit was sent and its answer lost; it is being settled
│   ├── AppendRefusedError         the order has moved on, or the lease is another's
│   ├── DuplicateKeyError          the idempotency key is taken
│   ├── EngineFencedError          another engine took this one's place
│   └── JournalConfigurationError  the database may not be used as it is
└── NotFoundError
    └── OrderArchivedError
"""

from enum import StrEnum


class FailureCode(StrEnum):
    """Why an order failed, or an attempt was given up. API, docs and metrics use this one list."""

    QUOTE_TIMEOUT = "quote_timeout"  # no venue answered within its deadline
    QUOTE_STALE = "quote_stale"  # every quote had gone stale before it could be used
    VENUE_DOWN = "venue_down"  # the venue refused or broke while quoting or building
    NO_ROUTE = "no_route"  # no venue has a pool for the pair, or none can fill the amount
    SLIPPAGE_EXCEEDED = "slippage_exceeded"  # the swap would pay less than minAmountOut
    LIMIT_NOT_MET = "limit_not_met"  # no route pays what the order's limit asks
    EXPIRES_TOO_SOON = "expires_too_soon"  # a transaction could still land after the order's expiry
    INSUFFICIENT_FUNDS = "insufficient_funds"  # the wallet does not hold the amount and the fee
    UNKNOWN_TOKEN = "unknown_token"  # the token is not in the registry any more
    BLOCKHASH_EXPIRED = "blockhash_expired"  # proven not executed: its blockhash ran out
    TRANSACTION_FAILED = "transaction_failed"  # the chain executed it with an error
    SLICES_FAILED = "slices_failed"  # no slice of the order executed
    RESOLVED = "resolved"  # an operator decided that it did not execute
    INTERNAL = "internal"  # a defect of the engine; its log has the trace


class BestexError(Exception):
    """Any error this engine raises on purpose."""


class OrderError(BestexError):
    """An attempt cannot go on; `code` says why, the message says it to a person."""

    code = FailureCode.INTERNAL


class NoRouteError(OrderError):
    code = FailureCode.NO_ROUTE


class QuotesUnavailableError(OrderError):
    code = FailureCode.QUOTE_TIMEOUT


class StaleQuoteError(OrderError):
    code = FailureCode.QUOTE_STALE


class VenueDownError(OrderError):
    code = FailureCode.VENUE_DOWN


class SlippageExceededError(OrderError):
    code = FailureCode.SLIPPAGE_EXCEEDED


class LimitNotMetError(OrderError):
    code = FailureCode.LIMIT_NOT_MET


class ExpiresTooSoonError(OrderError):
    code = FailureCode.EXPIRES_TOO_SOON


class InsufficientFundsError(OrderError):
    code = FailureCode.INSUFFICIENT_FUNDS


class UnknownTokenError(OrderError):
    code = FailureCode.UNKNOWN_TOKEN


class ChainUnreachableError(BestexError):
    """The chain's endpoint did not answer or broke off: the outcome is unknown, never failed."""


class JournalError(BestexError):
    """The journal could not do what was asked."""


class JournalUnavailableError(JournalError):
    """The database cannot be reached and nothing of this reached a commit: nothing is stored."""


class OutcomeUnknownError(JournalError):
    """A commit was sent and its answer lost; the writer goes on settling it."""


class AppendRefusedError(JournalError):
    """The order has moved on, or another engine holds its lease: none of the rows are stored."""


class DuplicateKeyError(JournalError):
    """The caller's idempotency key or client order id belongs to `order_id` already."""

    def __init__(self, order_id: str, same_request: bool) -> None:
        super().__init__(f"the key belongs to order {order_id}")
        self.order_id = order_id
        self.same_request = same_request


class EngineFencedError(JournalError):
    """Another engine has this one's place: it may write no more."""


class JournalConfigurationError(JournalError):
    """The database may not be used as it is; the message says which setting and why."""


class NotFoundError(BestexError):
    """No such order."""


class OrderArchivedError(NotFoundError):
    """The order has left the database: `file` has it."""

    def __init__(self, order_id: str, file: str) -> None:
        super().__init__(f"order {order_id} was archived: it is in {file}")
        self.order_id = order_id
        self.file = file
