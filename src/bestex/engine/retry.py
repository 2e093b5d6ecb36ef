"""Which failures are worth another attempt, and how long to wait before it."""

from types import MappingProxyType
from typing import Final

import msgspec

from bestex.domain.errors import FailureCode

_C = FailureCode

RETRIED: Final = MappingProxyType(
    {
        _C.QUOTE_TIMEOUT: True,  # the venues may answer in time next time
        _C.QUOTE_STALE: True,  # a fresh quote may be used in time
        _C.VENUE_DOWN: True,  # it may be up again, or another be better
        _C.SLIPPAGE_EXCEEDED: True,  # a new quote starts from the price as it is now
        _C.BLOCKHASH_EXPIRED: True,  # proven not executed: a new transaction may land
        _C.TRANSACTION_FAILED: True,  # proven not executed, for a reason that may pass
        _C.LIMIT_NOT_MET: False,  # a watched order waits for its price again
        _C.NO_ROUTE: False,
        _C.EXPIRES_TOO_SOON: False,  # time only runs out further
        _C.INSUFFICIENT_FUNDS: False,
        _C.UNKNOWN_TOKEN: False,
        _C.SLICES_FAILED: False,
        _C.RESOLVED: False,
        _C.INTERNAL: False,
    }
)
"""For every failure code, whether another attempt may succeed where this one did not."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """At most `attempts` goes, with exponential pauses between them."""

    attempts: int = 3
    base_s: float = 0.5  # pause before the second attempt
    factor: float = 2.0  # each further pause is this much longer
    max_s: float = 10.0
    jitter: float = 0.2  # share of the pause that is random, so that orders do not come back in step

    def allows(self, attempt: int, code: FailureCode) -> bool:
        """Whether an order whose `attempt` (1, 2 ...) ended with `code` may try again."""
        return attempt < self.attempts and RETRIED[code]

    def pause_s(self, attempt: int, fraction: float) -> float:
        """Seconds to wait after `attempt`; `fraction` in [0, 1) is the chance that the jitter takes."""
        pause = min(self.base_s * self.factor ** (attempt - 1), self.max_s)
        return pause * (1 - self.jitter / 2 + self.jitter * fraction)
