"""What an audit finds: named checks, how often each was made, and every violation with its place."""

from collections import Counter
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from bestex.audit.evidence import JournalHead
from bestex.domain.log_hash import PublishedHead

KEPT_PER_CHECK: Final = 100
"""Findings of one check that a report keeps; all are counted."""


class Check(StrEnum):
    """What is checked. The comments say what must hold, and what is counted."""

    HASH_CHAIN = "hash-chain"  # every row's hash is over its bytes and the hash before; rows
    POSITIONS = "positions"  # 1, 2, 3 ... without a gap; rows
    HEAD = "head"  # the log ends where its own head says, with that hash; 1
    CHECKPOINT = "checkpoint"  # archives are the files that were recorded, rows that stayed are as they were; 1, rows
    PUBLISHED_HEAD = "published-head"  # the log reaches the published head and has its hash there; 1
    SEQUENCE = "sequence"  # an order's events are 1, 2, 3 ...; events
    TRANSITIONS = "transitions"  # each status may follow the one before; events
    DETAILS = "details"  # each event's detail and sealed bytes can be read and folded; events
    ATTEMPTS = "attempts"  # one open signature per order, one attempt per signature; signatures
    TRIGGERS = "triggers"  # a watched order fires by a trigger that its event names, and no other order does; firings
    CHILDREN = "children"  # exits sell what their entry received, slices add up to their order; these, and such orders
    PROJECTION = "projection"  # an order's row is the fold of its events; orders
    TRANSACTIONS = "transactions"  # what landed was submitted, by that order and attempt; transactions
    OUTCOMES = "outcomes"  # confirmed: executed once; ended otherwise: not executed; ended orders
    AMOUNTS = "amounts"  # what was reported is what the swap did, within its limit; executed swaps
    BALANCES = "balances"  # start and grants, and what transactions moved, is what the wallet holds; mints
    EXPORT = "export"  # an export's last line counts what the file holds; kinds of lines


class Kind(StrEnum):
    """What was found. `docs/how-to/verify-and-export.md` explains each."""

    ROW_CHANGED = "row-changed"
    HASH_CHANGED = "hash-changed"
    ROW_INSERTED = "row-inserted"
    ROW_REMOVED = "row-removed"
    ROW_MISSING = "row-missing"
    TAIL_CUT = "tail-cut"
    BEYOND_HEAD = "beyond-head"
    HEAD_DIFFERS = "head-differs"
    KEPT_ROWS_DIFFER = "kept-rows-differ"
    ARCHIVE_DIFFERS = "archive-differs"
    BEHIND_PUBLISHED = "behind-published"
    REWRITTEN = "rewritten"
    OTHER_JOURNAL = "other-journal"
    SEQ_GAP = "seq-gap"
    ILLEGAL_TRANSITION = "illegal-transition"
    DETAIL_UNREADABLE = "detail-unreadable"
    SEALED_UNREADABLE = "sealed-unreadable"
    SIGNED_WHILE_OPEN = "signed-while-open"
    SIGNATURE_REUSED = "signature-reused"
    STORY_MISSING = "story-missing"
    ATTEMPT_NUMBER = "attempt-number"
    TRIGGER_MISSING = "trigger-missing"
    FIRED_UNWATCHED = "fired-unwatched"
    PARENT_MISSING = "parent-missing"
    EXIT_EXCEEDS_ENTRY = "exit-exceeds-entry"
    SLICES_EXCEED_ORDER = "slices-exceed-order"
    SLICES_DIFFER = "slices-differ"
    ROW_DIFFERS = "row-differs"
    ROW_WITHOUT_ORDER = "row-without-order"
    ORDER_WITHOUT_ROW = "order-without-row"
    NEVER_SUBMITTED = "never-submitted"
    OTHER_ATTEMPT = "other-attempt"
    EXECUTED_TWICE = "executed-twice"
    EXECUTED_UNFILLED = "executed-unfilled"
    CONFIRMED_UNEXECUTED = "confirmed-unexecuted"
    AMOUNT_DIFFERS = "amount-differs"
    BELOW_MINIMUM = "below-minimum"
    BALANCE_DIFFERS = "balance-differs"
    COUNT_DIFFERS = "count-differs"


_C, _K = Check, Kind

CHECK_OF: Final = MappingProxyType(
    {
        _K.ROW_CHANGED: _C.HASH_CHAIN,
        _K.HASH_CHANGED: _C.HASH_CHAIN,
        _K.ROW_INSERTED: _C.HASH_CHAIN,
        _K.ROW_REMOVED: _C.HASH_CHAIN,
        _K.ROW_MISSING: _C.POSITIONS,
        _K.TAIL_CUT: _C.HEAD,
        _K.BEYOND_HEAD: _C.HEAD,
        _K.HEAD_DIFFERS: _C.HEAD,
        _K.KEPT_ROWS_DIFFER: _C.CHECKPOINT,
        _K.ARCHIVE_DIFFERS: _C.CHECKPOINT,
        _K.BEHIND_PUBLISHED: _C.PUBLISHED_HEAD,
        _K.REWRITTEN: _C.PUBLISHED_HEAD,
        _K.OTHER_JOURNAL: _C.PUBLISHED_HEAD,
        _K.SEQ_GAP: _C.SEQUENCE,
        _K.ILLEGAL_TRANSITION: _C.TRANSITIONS,
        _K.DETAIL_UNREADABLE: _C.DETAILS,
        _K.SEALED_UNREADABLE: _C.DETAILS,
        _K.SIGNED_WHILE_OPEN: _C.ATTEMPTS,
        _K.SIGNATURE_REUSED: _C.ATTEMPTS,
        _K.STORY_MISSING: _C.ATTEMPTS,
        _K.ATTEMPT_NUMBER: _C.ATTEMPTS,
        _K.TRIGGER_MISSING: _C.TRIGGERS,
        _K.FIRED_UNWATCHED: _C.TRIGGERS,
        _K.PARENT_MISSING: _C.CHILDREN,
        _K.EXIT_EXCEEDS_ENTRY: _C.CHILDREN,
        _K.SLICES_EXCEED_ORDER: _C.CHILDREN,
        _K.SLICES_DIFFER: _C.CHILDREN,
        _K.ROW_DIFFERS: _C.PROJECTION,
        _K.ROW_WITHOUT_ORDER: _C.PROJECTION,
        _K.ORDER_WITHOUT_ROW: _C.PROJECTION,
        _K.NEVER_SUBMITTED: _C.TRANSACTIONS,
        _K.OTHER_ATTEMPT: _C.TRANSACTIONS,
        _K.EXECUTED_TWICE: _C.OUTCOMES,
        _K.EXECUTED_UNFILLED: _C.OUTCOMES,
        _K.CONFIRMED_UNEXECUTED: _C.OUTCOMES,
        _K.AMOUNT_DIFFERS: _C.AMOUNTS,
        _K.BELOW_MINIMUM: _C.AMOUNTS,
        _K.BALANCE_DIFFERS: _C.BALANCES,
        _K.COUNT_DIFFERS: _C.EXPORT,
    }
)
"""The check that each kind of finding violates."""

LEDGER_CHECKS: Final = (_C.TRANSACTIONS, _C.OUTCOMES, _C.AMOUNTS, _C.BALANCES)
"""Those that need the chain's ledger."""


class Finding(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One violation, with the place of what violates."""

    check: Check
    kind: Kind
    message: str  # for a person: what stands there, and what was expected
    position: int | None = None  # of a row of the log
    order_id: str | None = None
    signature: str | None = None
    mint: str | None = None


class CheckResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How often a check was made, and how often it failed."""

    name: Check
    checked: int
    violations: int = 0
    skipped: str | None = None  # why it was not made at all


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """What an audit found."""

    journal_id: str
    head_position: int
    head_hash: str  # hexadecimal
    published_head: PublishedHead | None  # that it was held against
    events: int
    orders: int
    transactions: int
    checks: list[CheckResult]
    violations: int  # all, also those not among the findings
    findings: list[Finding]  # at most `KEPT_PER_CHECK` of each check, in the order in which they were found

    @property
    def clean(self) -> bool:
        return self.violations == 0


class Findings:
    """Collects what an audit finds."""

    def __init__(self) -> None:
        self.checked: Counter[Check] = Counter()
        self._violations: Counter[Check] = Counter()
        self._kept: list[Finding] = []
        self._skipped: dict[Check, str] = {}

    def add(
        self,
        kind: Kind,
        message: str,
        *,
        position: int | None = None,
        order_id: str | None = None,
        signature: str | None = None,
        mint: str | None = None,
    ) -> None:
        check = CHECK_OF[kind]
        self._violations[check] += 1
        if self._violations[check] <= KEPT_PER_CHECK:
            self._kept.append(Finding(check, kind, message, position, order_id, signature, mint))

    def skip(self, check: Check, why: str) -> None:
        self._skipped[check] = why

    def report(
        self, head: JournalHead, published: PublishedHead | None, events: int, orders: int, transactions: int
    ) -> Report:
        checks = [
            CheckResult(check, self.checked[check], self._violations[check], self._skipped.get(check))
            for check in Check
        ]
        return Report(
            journal_id=head.journal_id,
            head_position=head.position,
            head_hash=head.hash.hex(),
            published_head=published,
            events=events,
            orders=orders,
            transactions=transactions,
            checks=checks,
            violations=self._violations.total(),
            findings=self._kept,
        )
