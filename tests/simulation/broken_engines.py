"""Engines that are wrong on purpose, each in one way that real ones have been: the simulation must catch them all."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import pytest
from msgspec.structs import replace

from bestex.domain.errors import AppendRefusedError, FailureCode, JournalError
from bestex.domain.events import ConfirmedDetail, SignedTransaction, StoredEvent
from bestex.domain.lifecycle import Status
from bestex.domain.log_hash import GENESIS
from bestex.domain.money import parse_amount
from bestex.domain.order_state import OrderState
from bestex.domain.route import Fill
from bestex.engine import decision
from bestex.engine.decision import FINALIZE, Answer, Decision, GiveUp
from bestex.engine.execution import Execution
from bestex.engine.executor import Executor
from bestex.engine.landing import Landing
from bestex.engine.order_log import OrderLog
from bestex.journal.memory import MemoryStore
from bestex.journal.writer import (
    CommitUnknownError,
    GroupCommitWriter,
    MergedRows,
    Store,
    StoreUnavailableError,
    Verdict,
)
from bestex.ports import Append, BlockHeight, StatusReport, TransactionStatus
from bestex.simulation.invariants import Invariant
from bestex.venues.simulated.slots import block_height
from tests.simulation.broken import Broken


def send_before_commit(patch: pytest.MonkeyPatch) -> None:
    build = Executor._build

    async def build_and_send(self: Executor, log: OrderLog, request: Any) -> Any:
        built = await build(self, log, request)
        if isinstance(built, SignedTransaction):
            with suppress(Exception):
                await self._landing._chain.send(built)
        return built

    patch.setattr(Executor, "_build", build_and_send)


def retry_on_timeout(patch: pytest.MonkeyPatch) -> None:
    async def send(self: Landing, waiting: Any) -> None:
        try:
            await self._chain.send(waiting.transaction)
        except Exception as error:  # noqa: BLE001 -- the defect
            if self._table.holds(waiting) and waiting.is_open:
                self.forget(waiting)
                self._not_executed(waiting.log, waiting.log.story(FailureCode.TRANSACTION_FAILED, str(error)))

    patch.setattr(Landing, "_send", send)


def sign_again_before_expiry_is_proven(patch: pytest.MonkeyPatch) -> None:
    def by_processed_height(transaction: SignedTransaction, report: StatusReport, height: BlockHeight) -> bool:
        return block_height(report.slot) > transaction.last_valid_block_height

    patch.setattr(decision, "expiry_is_proven", by_processed_height)


def trust_one_lagging_node(patch: pytest.MonkeyPatch) -> None:
    def by_two_nodes(transaction: SignedTransaction, report: StatusReport, height: BlockHeight) -> bool:
        return height.height > transaction.last_valid_block_height

    patch.setattr(decision, "expiry_is_proven", by_two_nodes)


def take_an_unfinalised_error_for_the_end(patch: pytest.MonkeyPatch) -> None:
    decide = decision._of_submitted

    def hasty(transaction: SignedTransaction, answer: Answer) -> Decision:
        if answer.status is not None and answer.status.error is not None:
            return GiveUp(FailureCode.TRANSACTION_FAILED, answer.status.error)
        return decide(transaction, answer)

    patch.setattr(decision, "_of_submitted", hasty)


def forget_the_open_attempt_on_resume(patch: pytest.MonkeyPatch) -> None:
    go_on = Execution.go_on

    def forgetful(self: Execution, log: OrderLog) -> None:
        async def execute() -> None:
            with suppress(JournalError):
                await self._executor._attempts(log, None, False)

        if log.state.status is Status.SUBMITTED:
            self.dispatcher.dispatch(log.order.id, execute)
        else:
            go_on(self, log)

    patch.setattr(Execution, "go_on", forgetful)


def mark_failed_when_unknown(patch: pytest.MonkeyPatch) -> None:
    unanswered = Landing._unanswered

    def failing(self: Landing, waiting: Any, error: Exception) -> None:
        for each in list(waiting):
            if self._table.holds(each) and each.is_open:
                self.forget(each)
                with suppress(JournalError):
                    each.log.failed(each.log.story(FailureCode.TRANSACTION_FAILED, str(error)))
        unanswered(self, waiting, error)

    patch.setattr(Landing, "_unanswered", failing)


def publish_before_commit(patch: pytest.MonkeyPatch) -> None:
    append = GroupCommitWriter.append

    def hasty(self: GroupCommitWriter, rows: Append) -> "asyncio.Future[int]":
        for listen in self._listeners:
            listen([StoredEvent(self.events + 1, event) for event in rows.events])
        return append(self, rows)

    patch.setattr(GroupCommitWriter, "append", hasty)


def skip_the_fence(patch: pytest.MonkeyPatch) -> None:
    commit, refusal = MemoryStore.commit, MemoryStore._refusal

    async def commit_of_anyone(self: MemoryStore, number: int, rows: Sequence[MergedRows]) -> Verdict:
        engines = self._database.engines
        buried = self._engine_id not in engines
        if buried:
            engines[self._engine_id] = number - 1, Verdict(0, {}, GENESIS)
        try:
            return await commit(self, number, rows)
        finally:
            if buried:
                del engines[self._engine_id]

    def without_leases(self: MemoryStore, merged: MergedRows) -> JournalError | None:
        error = refusal(self, merged)
        return None if error is not None and "leased to another" in str(error) else error

    patch.setattr(MemoryStore, "commit", commit_of_anyone)
    patch.setattr(MemoryStore, "_refusal", without_leases)


def accept_a_later_row_after_a_lost_one(patch: pytest.MonkeyPatch) -> None:
    refusal = MemoryStore._refusal

    def where_there_is_room(self: MemoryStore, merged: MergedRows) -> JournalError | None:
        """As a mere unique index on order and seq would: each row that finds its place free is stored."""
        order = self._database.orders.get(merged.first.order_id)
        if order is None or merged.first.new is not None:
            return refusal(self, merged)
        merged.appends[:] = [
            append for append in merged.appends if append.events[0].seq == order.seq + 1
        ] or merged.appends[-1:]
        if merged.appends[0].events[0].seq != order.seq + 1:
            return AppendRefusedError("the row is there already")
        merged.last = merged.appends[-1]
        return None

    patch.setattr(MemoryStore, "_refusal", where_there_is_room)
    patch.setattr(GroupCommitWriter, "_refuse_queued", lambda self, order_id: None)


def deny_a_commit_that_landed(patch: pytest.MonkeyPatch) -> None:
    class Denying:
        def __init__(self, store: Store) -> None:
            self._store = store

        async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
            try:
                return await self._store.commit(number, rows)
            except CommitUnknownError as error:
                raise StoreUnavailableError(str(error)) from error

    begin = GroupCommitWriter.__init__

    def denying(self: GroupCommitWriter, store: Store, clock: Any) -> None:
        begin(self, Denying(store), clock)

    patch.setattr(GroupCommitWriter, "__init__", denying)


def count_the_quote_as_the_fill(patch: pytest.MonkeyPatch) -> None:
    filled = Landing._filled

    def as_quoted(self: Landing, waiting: Any, status: TransactionStatus, fill: Fill) -> ConfirmedDetail:
        order, building = waiting.log.order, waiting.log.state.building
        quoted = parse_amount(building.amount_out, order.token_out.decimals)
        return filled(self, waiting, status, replace(fill, amount_out=quoted))

    patch.setattr(Landing, "_filled", as_quoted)


def take_confirmed_for_final(patch: pytest.MonkeyPatch) -> None:
    def at_once(state: OrderState, transaction: SignedTransaction, answer: Answer) -> Decision:
        return FINALIZE

    patch.setattr(decision, "_of_confirmed", at_once)


_I = Invariant
_PROOFS = (_I.PROVEN_BEFORE_SIGNING, _I.UNFILLED_IS_NOT_EXECUTED, _I.CONFIRMED_IS_EXECUTED)


BROKEN: Final = (
    Broken(send_before_commit, 5, (_I.DISK_BEFORE_CHAIN,)),
    Broken(retry_on_timeout, 40, (_I.PROVEN_BEFORE_SIGNING, _I.UNFILLED_IS_NOT_EXECUTED)),
    Broken(sign_again_before_expiry_is_proven, 300, _PROOFS),
    Broken(trust_one_lagging_node, 150, _PROOFS),
    Broken(take_an_unfinalised_error_for_the_end, 100, _PROOFS),
    Broken(forget_the_open_attempt_on_resume, 30, (_I.PROVEN_BEFORE_SIGNING, _I.UNFILLED_IS_NOT_EXECUTED)),
    Broken(mark_failed_when_unknown, 40, (_I.UNFILLED_IS_NOT_EXECUTED,)),
    Broken(publish_before_commit, 5, (_I.PUBLISHED_IS_COMMITTED,)),
    Broken(skip_the_fence, 300, (_I.ONLY_THE_OWNER_WRITES,)),
    Broken(
        accept_a_later_row_after_a_lost_one,
        30,
        (_I.REFUSED_TAKES_LATER, _I.GAPLESS_AND_LEGAL, _I.PROJECTION_IS_THE_FOLD, _I.PUBLISHED_IS_COMMITTED),
    ),
    Broken(deny_a_commit_that_landed, 40, (_I.DENIED_IS_ABSENT, _I.PUBLISHED_IS_COMMITTED)),
    Broken(count_the_quote_as_the_fill, 10, (_I.AMOUNTS_ARE_TRUE,)),
    Broken(take_confirmed_for_final, 20, (_I.CONFIRMED_IS_EXECUTED, _I.AMOUNTS_ARE_TRUE)),
)
