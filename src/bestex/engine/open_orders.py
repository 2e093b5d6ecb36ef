"""What clients do to orders that have not ended: cancel one or many, and change a watched one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from bestex.domain.errors import AppendRefusedError, JournalError, NotFoundError
from bestex.domain.events import CancelledDetail, Changes, Detail, Event, SubmittedDetail, WatchingDetail
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState, OrderView, fold
from bestex.domain.orders import Order, order_as_it_stands, order_changed
from bestex.domain.terms import Kind, LegName
from bestex.domain.tokens import TokenRegistry
from bestex.engine.changing import check_changes
from bestex.engine.errors import AlreadyEndedError, JournalBehindError, NotWatchingError
from bestex.engine.order_log import absent
from bestex.engine.signing import SigningGate
from bestex.ports import Append, BookLease, Clock, Journal, OrderFilter

APPEND_TRIES: Final = 20
CANCELLED_AT_ONCE: Final = 500  # orders read and cancelled together

_OPEN: Final = (Status.WATCHING, Status.PENDING, Status.ROUTING, Status.BUILDING, Status.SUBMITTED)
_LOOKED_THROUGH: Final = (*_OPEN, Status.WATCHING)
"""Orders move on while they are looked through; those that fired may have come back."""
_STOPS: Final = frozenset({Kind.STOP, Kind.TRAILING_STOP})


class CancelledMany(msgspec.Struct, frozen=True, rename="camel"):
    """Orders that were cancelled, and those that make no further attempt."""

    cancelled: list[str]
    cancel_requested: list[str]


class OpenOrders:
    """Orders that have not ended."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        gate: SigningGate,
        tokens: TokenRegistry,
        check: Callable[[Order], Awaitable[None]],
    ) -> None:
        """`check` raises `BeyondTriggerError` for an order that would fire at once although it does not allow that."""
        self._check = check
        self._journal = journal
        self._clock = clock
        self._gate = gate
        self._tokens = tokens

    async def cancel(self, order_id: str, by: str = "client", fence: BookLease | None = None) -> OrderView:
        """Cancel before signing at once; after it, note the wish: no further attempt is made.

        A sliced order that has begun begins no further slice, and its open slices are cancelled. With `fence` nothing
        is done unless this process has that lease still.
        Raises `NotFoundError`, `AlreadyEndedError`, `JournalBehindError` as long as the order may have executed without
        the journal's knowing, or `JournalError` when the journal cannot be written.
        """
        for _ in range(APPEND_TRIES):
            state = fold(await self._events(order_id))
            if state.ended:
                raise AlreadyEndedError(f"order {order_id} has ended as {state.status}")
            if not state.cancel_requested:
                if self._gate.journal_is_behind:
                    raise JournalBehindError(f"order {order_id} may have executed: the journal is not reconciled yet")
                try:
                    await self._append(state, *_cancel_event(state, by), fence)
                except AppendRefusedError:
                    continue  # the order moved on meanwhile: look again
            if state.slices_begun:  # who cancelled it before may not have come so far as its slices
                _, hindrance = await self._cancel_all(await self._slices(order_id), by, fence)
                if hindrance is not None:
                    raise hindrance
            return state.view()
        raise JournalError(f"order {order_id} moved on {APPEND_TRIES} times while it was to be cancelled")

    async def cancel_many(
        self,
        pair: str | None = None,
        kind: Kind | None = None,
        *,
        by: str = "client",
        resting_only: bool = False,
        keeps_stops: bool = False,
        fence: BookLease | None = None,
    ) -> CancelledMany:
        """Cancel the open orders of a pair, of a kind, or all.

        `resting_only`: those that wait, or have fired and may wait again. `keeps_stops`: those that limit a loss are
        spared. `fence`: as `cancel` has it.

        Raises what keeps any of them from being cancelled, once all others are: `JournalError`, for one.
        """
        cancelled: dict[str, bool] = {}  # by order; False: it makes no further attempt
        hindrance: BaseException | None = None
        for status in _LOOKED_THROUGH:
            before: str | None = None
            where = OrderFilter(status, pair, kind)
            while page := await self._journal.orders(where, CANCELLED_AT_ONCE, before):
                before = page[-1].order_id
                wanted = [
                    view.order_id
                    for view in page
                    if not (keeps_stops and limits_loss(view)) and (not resting_only or _rests(view))
                ]
                views, error = await self._cancel_all(wanted, by, fence)
                hindrance = hindrance or error
                cancelled.update((view.order_id, view.status == Status.CANCELLED) for view in views)
        if hindrance is not None:
            raise hindrance
        at_once = [order_id for order_id, has_ended in cancelled.items() if has_ended]
        return CancelledMany(at_once, [order_id for order_id in cancelled if not cancelled[order_id]])

    async def amend(self, order_id: str, changes: Changes) -> OrderView:
        """Change a watched order.

        Raises `NotFoundError`, `AlreadyEndedError`, `NotWatchingError`, `BadChangeError`, `BeyondTriggerError`,
        `JournalError`.
        """
        for _ in range(APPEND_TRIES):
            events = await self._events(order_id)
            state = fold(events)
            if state.ended:
                raise AlreadyEndedError(f"order {order_id} has ended as {state.status}")
            if state.status is not Status.WATCHING:
                raise NotWatchingError(f"order {order_id} is {state.status}: only a watched order can be changed")
            order = order_as_it_stands(events, self._tokens)
            changes = check_changes(order, changes, self._clock.now_us())
            if changes.trigger_price is not None:
                await self._check(order_changed(order, changes))
            try:
                await self._append(state, Status.WATCHING, WatchingDetail(changes=changes))
            except AppendRefusedError:
                continue  # it fired, or was changed otherwise, meanwhile: look again
            return state.view()
        raise JournalError(f"order {order_id} moved on {APPEND_TRIES} times while it was to be changed")

    async def _events(self, order_id: str) -> list[Event]:
        events = [stored.event for stored in await self._journal.events(order_id)]
        if not events:
            raise await absent(self._journal, order_id)
        return events

    async def _slices(self, order_id: str) -> list[str]:
        return [view.order_id for view in await self._journal.children(order_id) if view.status in _OPEN]

    async def _cancel_all(
        self, order_ids: Sequence[str], by: str, fence: BookLease | None
    ) -> tuple[list[OrderView], BaseException | None]:
        """Those that could be cancelled, side by side, and what kept the first of the others from it.

        Those that ended meanwhile are left out.
        """
        answers = await asyncio.gather(*(self.cancel(each, by, fence) for each in order_ids), return_exceptions=True)
        hindrances = (
            answer
            for answer in answers
            if isinstance(answer, BaseException) and not isinstance(answer, AlreadyEndedError | NotFoundError)
        )
        return [answer for answer in answers if isinstance(answer, OrderView)], next(hindrances, None)

    async def _append(self, state: OrderState, status: Status, detail: Detail, fence: BookLease | None = None) -> None:
        base_seq, base_status = state.seq, state.status
        event = Event(state.order_id, base_seq + 1, status, state.attempt, self._clock.now_us(), detail)
        state.apply(event)
        append = Append(state.order_id, base_seq, base_status, None, (event,), state.view(), fence=fence)
        await self._journal.append(append)


def _rests(view: OrderView) -> bool:
    return view.status == Status.WATCHING or view.trigger is not None


def limits_loss(view: OrderView) -> bool:
    """Whether an order is there to end a position that goes wrong."""
    return view.kind in _STOPS or any(leg.name is not LegName.TAKE_PROFIT for leg in view.legs)


def _cancel_event(state: OrderState, by: str) -> tuple[Status, Detail]:
    if state.status is Status.SUBMITTED:
        return Status.SUBMITTED, SubmittedDetail(cancel_requested=True)
    if state.slices_begun:
        return Status.WATCHING, WatchingDetail(cancel_requested=True)
    return Status.CANCELLED, CancelledDetail(by)
