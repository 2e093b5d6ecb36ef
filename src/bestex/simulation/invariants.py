"""What must hold in every run, and the count of how often it was checked."""

from collections import Counter
from enum import StrEnum

import msgspec


class Invariant(StrEnum):
    """What must hold, in the words of a report."""

    ACCEPTED_IS_DURABLE = "an order answered 202 is in the journal"
    DENIED_IS_ABSENT = "an order answered 'nothing stored' never appears"
    ONE_ORDER_A_KEY = "an idempotency key never makes two orders"
    EVERY_ORDER_ENDS = "every order ends once the world is healthy"
    ONE_SWAP = "at most one executed swap per order"
    ONE_OPEN_ATTEMPT = "at most one unresolved attempt per order"
    PROVEN_BEFORE_SIGNING = "no second signature before non-execution is proven"
    DISK_BEFORE_CHAIN = "every signature sent is on disk first"
    CONFIRMED_IS_EXECUTED = "confirmed only with an executed swap, or lost"
    UNFILLED_IS_NOT_EXECUTED = "failed, cancelled and expired only without one"
    LEAST_OUTPUT = "executed output never below minAmountOut"
    AMOUNTS_ARE_TRUE = "amounts reported equal amounts moved"
    GAPLESS_AND_LEGAL = "sequence numbers gapless, transitions legal"
    PUBLISHED_IS_COMMITTED = "what is published has been committed"
    WATCHED_IS_A_PREFIX = "what a watcher saw is a prefix of the journal"
    REFUSED_TAKES_LATER = "a refused row takes the order's later rows with it"
    ONLY_THE_OWNER_WRITES = "rows under a lease come from its owner, under its epoch"
    CANCEL_IS_RECORDED = "a cancel that was answered is in the journal"
    PROJECTION_IS_THE_FOLD = "the projection equals the fold"
    HASHES_CHAIN = "the log's hashes chain"
    BALANCES_RECONCILE = "balances reconcile with what moved"
    AUDITS_CLEAN = "an audit finds nothing: log, projection, ledger, balances"
    FRESH_PRICE = "no order fires without a fresh price, or a launch, that satisfies it"
    FIRES_ONCE = "an order fires once each time it waits"
    LIMIT_HOLDS = "a swap never pays less than the order's limit"
    IN_TIME = "nothing lands after the order's expiry"
    EXITS_WITH_ENTRY = "an entry is confirmed with its exits, in one commit"
    ONE_LEG = "of a position's exits at most one executes"
    EXIT_WITHIN_POSITION = "an exit never sells more than was received"
    SLICES_ADD_UP = "slices follow each other, fit their order, and add up to its end"
    FUNDS_ONCE = "no two executing orders count on the same units"
    CHANGE_IS_RECORDED = "a change that was answered is in the journal"
    STAYS_WATCHED = "an order that rests is never lost: the engine watches it, and fires it when its price is there"
    TIME_IS_UP = "an order ends when its time is up, however often the engine was down"
    DEAD_MAN = "a dead-man switch that went off leaves nothing resting but what it spares"
    NOTHING_BREAKS = "no part of the engine breaks"


class Violation(msgspec.Struct, frozen=True):
    """An invariant that did not hold."""

    invariant: Invariant
    what: str
    order_id: str | None
    at_s: float  # virtual seconds since the run began
    story: tuple[str, ...] = ()  # the order's, line by line


class Checks:
    """Counts what is checked and keeps the first violation."""

    def __init__(self) -> None:
        self.counts: Counter[Invariant] = Counter()
        self.failed: tuple[Invariant, str, str | None] | None = None

    def fail(self, invariant: Invariant, what: str, order_id: str | None = None) -> None:
        """Note a violation; only the first one counts, the others may follow from it."""
        if self.failed is None:
            self.failed = invariant, what, order_id

    def check(self, invariant: Invariant, holds: bool, what: str, order_id: str | None = None) -> None:
        self.counts[invariant] += 1
        if not holds:
            self.fail(invariant, what, order_id)
