"""Each event against its order's history so far: no gap, legal, readable, and signed only when it may be."""

from collections.abc import Sequence
from typing import Final

import msgspec

from bestex.audit.account import Account
from bestex.audit.children import ChildrenChecks
from bestex.audit.evidence import UNREADABLE, LogRow
from bestex.audit.findings import Check, Findings, Kind
from bestex.domain.events import (
    AttemptStory,
    ConfirmedDetail,
    Detail,
    Event,
    ExpiredDetail,
    FailedDetail,
    PendingDetail,
    RoutingDetail,
    SubmittedDetail,
    WatchingDetail,
    decode_detail,
    unseal,
    unseal_tokens,
)
from bestex.domain.lifecycle import IllegalTransitionError, Status, check_transition
from bestex.domain.terms import Kind as OrderKind

DECIMALS_MAX: Final = 18
"""The most that a token may have."""

_STATUSES: Final = {status.value: status for status in Status}


class Signed(msgspec.Struct, frozen=True, gc=False):
    """An attempt whose signature is in the log."""

    order_id: str
    attempt: int
    min_amount_out: str | None  # token units; None: adopted without a chosen venue


class EventChecks:
    """Folds every order's events. Memory: an open order's fold, some 600 bytes of a settled one, and its signatures."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.accounts: dict[str, Account | bytes] = {}  # by order id; packed when settled
        self.signed: dict[str, Signed] = {}  # by signature
        self.signatures = 0
        self._children = ChildrenChecks(findings, self.account)

    def feed(self, rows: Sequence[LogRow]) -> None:
        for row in rows:
            self._event(row)

    def finish(self) -> None:
        checked = self._findings.checked
        checked[Check.ATTEMPTS] = self.signatures

    def account(self, order_id: str) -> Account | None:
        account = self.accounts.get(order_id)
        return Account.unpacked(order_id, account) if isinstance(account, bytes) else account

    def _event(self, row: LogRow) -> None:
        account = self.account(row.order_id)
        if account is None:
            account = Account()
        self._findings.checked[Check.SEQUENCE] += 1
        if account.broken:
            self._keep_signature(row)
            return
        detail = self._checked(row, account)
        if detail is None:
            self._break(account, row)
            return
        status = _STATUSES[row.status]
        self._check_attempt(row, detail, account)
        try:
            account.state.apply(Event(row.order_id, row.seq, status, row.attempt, row.at_us, detail))
        except (ValueError, OverflowError, OSError) as error:  # a time beyond what a calendar holds
            self._add(Kind.DETAIL_UNREADABLE, row, f"does not fold: {error}")
            self._break(account, row)
            return
        self.accounts[row.order_id] = account.packed() if account.state.settled else account

    def _checked(self, row: LogRow, account: Account) -> Detail | None:
        """The event's detail; None when it cannot follow, or cannot be read."""
        state, checked = account.state, self._findings.checked
        if row.seq != state.seq + 1:
            self._add(Kind.SEQ_GAP, row, f"follows event {state.seq}" if state.seq else "is the first that is there")
            return None
        checked[Check.TRANSITIONS] += 1
        status = _STATUSES.get(row.status)
        if status is None:
            self._add(Kind.ILLEGAL_TRANSITION, row, f"has the status {row.status!r}, which there is not")
            return None
        try:
            check_transition(state.status, status)
        except IllegalTransitionError as error:
            self._add(Kind.ILLEGAL_TRANSITION, row, f"is illegal: {error}")
            return None
        checked[Check.DETAILS] += 1
        try:
            return decode_detail(status, row.detail)
        except UNREADABLE as error:
            self._add(Kind.DETAIL_UNREADABLE, row, f"has no {status} detail: {error}")
            return None

    def _check_attempt(self, row: LogRow, detail: Detail, account: Account) -> None:
        state = account.state
        if row.attempt < state.attempt:
            self._add(Kind.ATTEMPT_NUMBER, row, f"is of attempt {row.attempt} behind attempt {state.attempt}")
        match detail:
            case PendingDetail():
                account.pending = detail
                self._keep_tokens(row, account)
                self._children.begins(row, detail)
            case SubmittedDetail(signature=str(signature)):
                self._check_signature(row, detail, signature, account)
            case RoutingDetail():
                self._check_trigger(row, detail, account)
                self._check_given_up(row, state.submitted, _told(detail.previous))
            case WatchingDetail() | ExpiredDetail():
                self._check_given_up(row, state.submitted, _told(detail.previous))
            case ConfirmedDetail():
                if state.confirmed is None and account.pending is not None and account.pending.kind == OrderKind.TWAP:
                    self._children.ends_sliced(row, detail)
                elif state.confirmed is not None and detail.amount_out is not None:
                    self._children.lands_again(row.order_id, state.confirmed.amount_out)
            case FailedDetail():
                self._check_given_up(row, state.submitted, detail.attempts)
            case _:
                pass

    def _check_trigger(self, row: LogRow, detail: RoutingDetail, account: Account) -> None:
        trigger, is_watched = detail.trigger, account.state.status is Status.WATCHING
        if trigger is not None or is_watched:
            self._findings.checked[Check.TRIGGERS] += 1
        if trigger is None:
            if is_watched:
                self._add(Kind.TRIGGER_MISSING, row, "does not say what made the watched order fire")
            return
        if not is_watched:
            self._add(Kind.FIRED_UNWATCHED, row, f"fires an order that is not watched but {account.state.status}")
        if trigger.mint is not None and not 0 <= (trigger.decimals or 0) <= DECIMALS_MAX:
            self._add(Kind.DETAIL_UNREADABLE, row, "gives the mint that it found decimals that no token has")
        self._children.fires(row, trigger, account.pending)

    def _keep_tokens(self, row: LogRow, account: Account) -> None:
        try:
            tokens = unseal_tokens(row.sealed)
        except UNREADABLE as error:
            self._add(Kind.SEALED_UNREADABLE, row, f"does not say which mints it means: {error}")
            return
        if 0 <= tokens.decimals_in <= DECIMALS_MAX and 0 <= tokens.decimals_out <= DECIMALS_MAX:
            account.tokens = tokens
        else:
            self._add(Kind.SEALED_UNREADABLE, row, "gives its mints decimals that no token has")

    def _check_signature(self, row: LogRow, detail: SubmittedDetail, signature: str, account: Account) -> None:
        self.signatures += 1
        state = account.state
        if state.submitted is not None:
            self._add(
                Kind.SIGNED_WHILE_OPEN,
                row,
                f"signs {signature} while the outcome of {state.submitted.signature} is open",
                signature,
            )
        elif row.attempt <= account.signed_attempt:
            self._add(Kind.ATTEMPT_NUMBER, row, f"signs attempt {row.attempt} again", signature)
        account.signed_attempt = row.attempt
        building = state.building
        self._sign(row, signature, building.min_amount_out if building is not None else None)
        if not row.sealed:
            if not detail.adopted:
                self._add(Kind.SEALED_UNREADABLE, row, "does not hold the signed transaction", signature)
            return
        try:
            sealed = unseal(row.sealed).signature
        except UNREADABLE as error:
            self._add(Kind.SEALED_UNREADABLE, row, f"does not hold the signed transaction: {error}", signature)
            return
        if sealed != signature:
            self._add(Kind.SEALED_UNREADABLE, row, f"seals the transaction of {sealed}, not of {signature}", signature)

    def _check_given_up(self, row: LogRow, submitted: SubmittedDetail | None, stories: Sequence[AttemptStory]) -> None:
        """What was signed may be left behind only with the story of how it did not execute."""
        if submitted is None or any(story.signature == submitted.signature for story in stories):
            return
        self._add(
            Kind.STORY_MISSING,
            row,
            f"goes on without saying what became of {submitted.signature}",
            submitted.signature,
        )

    def _sign(self, row: LogRow, signature: str, min_amount_out: str | None) -> None:
        first = self.signed.setdefault(signature, Signed(row.order_id, row.attempt, min_amount_out))
        if (first.order_id, first.attempt) != (row.order_id, row.attempt):
            self._add(
                Kind.SIGNATURE_REUSED,
                row,
                f"has the signature of attempt {first.attempt} of order {first.order_id}: {signature}",
                signature,
            )

    def _break(self, account: Account, row: LogRow) -> None:
        """Check no more of this order's fold; one finding is enough."""
        account.broken = True
        self.accounts[row.order_id] = account
        self._keep_signature(row)

    def _keep_signature(self, row: LogRow) -> None:
        """What such an order has signed still tells whose a landed transaction is."""
        if row.status != Status.SUBMITTED:
            return
        try:
            detail = decode_detail(Status.SUBMITTED, row.detail)
        except UNREADABLE:
            return
        if isinstance(detail, SubmittedDetail) and detail.signature is not None:
            self.signatures += 1
            self._sign(row, detail.signature, None)

    def _add(self, kind: Kind, row: LogRow, what: str, signature: str | None = None) -> None:
        self._findings.add(
            kind,
            f"event {row.seq} of order {row.order_id}, {row.status}, {what}",
            position=row.position,
            order_id=row.order_id,
            signature=signature,
        )


def _told(previous: AttemptStory | None) -> tuple[AttemptStory, ...]:
    return () if previous is None else (previous,)
