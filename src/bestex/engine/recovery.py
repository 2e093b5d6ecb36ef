"""Recovery: fold every unsettled order that no living engine holds, and put it back where it belongs."""

from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from bestex.domain.errors import FailureCode, UnknownTokenError
from bestex.domain.events import AttemptStory, Event, FailedDetail, RoutingDetail
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState, fold
from bestex.domain.orders import order_as_it_stands
from bestex.domain.tokens import TokenRegistry
from bestex.engine.order_log import OrderLog, open_transaction
from bestex.engine.signing import SigningGate
from bestex.ports import Append, ClaimedOrder, Clock, Journal, Lease

CLAIM_ORDERS: Final = 1_000
"""Leases claimed and histories read at a time."""

_UNREADABLE: Final = (ValueError, LookupError, TypeError, msgspec.MsgspecError)
"""What an order raises whose events make no sense to this release."""

_log = structlog.get_logger(__name__)


class Recovery:
    """Reads orders back from the journal."""

    def __init__(self, journal: Journal, clock: Clock, tokens: TokenRegistry, gate: SigningGate) -> None:
        self._journal = journal
        self._gate = gate
        self._clock = clock
        self._tokens = tokens

    async def claim(self) -> tuple[int, list[OrderLog]]:
        """Claim the next unsettled orders: how many leases were had, and the orders to go on with."""
        leases = await self._journal.claim(CLAIM_ORDERS)
        return len(leases), await self.read(leases)

    async def read(self, leases: Sequence[Lease]) -> list[OrderLog]:
        """These orders as their events say they stand; those that cannot go on are ended instead, where that is safe.

        One order that cannot be read does not keep the others.
        """
        order_ids = [lease.order_id for lease in leases]
        try:
            histories = await self._journal.histories(order_ids)
        except _UNREADABLE:
            histories = {}
        return await self._logs_of(leases, histories)

    async def take_up(self, claimed: Sequence[ClaimedOrder]) -> list[OrderLog]:
        """The same of orders that have just been claimed, most of them with their histories."""
        histories = {each.lease.order_id: list(each.events) for each in claimed}
        logs = await self._logs_of([each.lease for each in claimed], histories)
        for log in logs:
            log.has_begun = _begins(histories[log.order.id])
        return logs

    async def _logs_of(self, leases: Sequence[Lease], histories: dict[str, list[Event]]) -> list[OrderLog]:
        logs = []
        for lease in leases:
            try:
                logs.append(await self._read_one(lease, histories))
            except _UNREADABLE:
                _log.exception("recovery.order_unreadable", order_id=lease.order_id)
        return [log for log in logs if log is not None]

    async def states(self, order_ids: Sequence[str]) -> dict[str, OrderState]:
        """How these orders stand; without those that cannot be read. Raises `JournalError`."""
        try:
            histories = await self._journal.histories(order_ids)
        except _UNREADABLE:
            histories = {}
        states = {}
        for order_id in order_ids:
            try:
                states[order_id] = fold(
                    histories.get(order_id) or (await self._journal.histories([order_id]))[order_id]
                )
            except _UNREADABLE:
                _log.exception("recovery.order_unreadable", order_id=order_id)
        return states

    async def _read_one(self, lease: Lease, histories: dict[str, list[Event]]) -> OrderLog | None:
        order_id = lease.order_id
        events = histories.get(order_id) or (await self._journal.histories([order_id]))[order_id]
        try:
            return self.log_of(events, lease.epoch)
        except UnknownTokenError as error:
            self._end(events, lease, error)
            return None

    def log_of(self, events: list[Event], epoch: int) -> OrderLog:
        """The order that these are all events of; raises as `order_as_it_stands` does."""
        order, state = order_as_it_stands(events, self._tokens), fold(events)
        log = OrderLog(self._journal, self._clock, order, state, epoch, leased=state.status is not Status.WATCHING)
        log.transaction = open_transaction(events)
        return log

    def _end(self, events: list[Event], lease: Lease, error: UnknownTokenError) -> None:
        """End an order whose token left the registry, unless a transaction of it may still land."""
        state = fold(events)
        if state.settled or self._gate.journal_is_behind:  # then a swap of it may stand on the chain, unknown
            return
        if state.status in (None, Status.SUBMITTED, Status.CONFIRMED):
            _log.error("recovery.token_missing", order_id=lease.order_id, error=str(error))
            return
        story = AttemptStory(state.attempt, FailureCode.UNKNOWN_TOKEN.value, str(error))
        base_seq, base_status = state.seq, state.status
        failed = Event(
            order_id=lease.order_id,
            seq=base_seq + 1,
            status=Status.FAILED,
            attempt=state.attempt,
            at_us=self._clock.now_us(),
            detail=FailedDetail(story.code, story.message, (*state.attempts, story)),
        )
        state.apply(failed)
        epoch = None if base_status is Status.WATCHING else lease.epoch
        self._journal.append(Append(lease.order_id, base_seq, base_status, epoch, (failed,), state.view()))


def _begins(events: list[Event]) -> bool:
    """Whether an attempt has been begun for whoever takes the order up: it fired, or was handed back for a pause."""
    last = events[-1] if events else None
    if last is None or not isinstance(last.detail, RoutingDetail):
        return False
    return last.detail.trigger is not None or last.detail.previous is not None
