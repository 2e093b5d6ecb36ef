"""Engines that are wrong on purpose in how they watch orders, fire them, and see to their exits and slices."""

from functools import partial
from typing import Any, Final

import pytest
from msgspec.structs import replace

from bestex.domain.derived_ids import derived_id
from bestex.domain.events import CancelledDetail, ConfirmedDetail, RoutingDetail, StoredEvent
from bestex.domain.lifecycle import Status
from bestex.domain.money import format_amount, parse_amount
from bestex.domain.orders import Order
from bestex.domain.route import SwapRequest
from bestex.engine import slicing
from bestex.engine.dead_man import DeadManSwitches
from bestex.engine.executor import Executor
from bestex.engine.exits import exits_append
from bestex.engine.firing_desk import FiringDesk
from bestex.engine.funds import Funds
from bestex.engine.landing import Landing
from bestex.engine.order_log import OrderLog
from bestex.engine.price_desk import PriceDesk
from bestex.engine.slicer import Slicer
from bestex.engine.triggers import book
from bestex.engine.watch import Watch
from bestex.ports import Append, RestingOrder
from bestex.simulation.invariants import Invariant
from tests.simulation.broken import Broken


def fire_on_a_price_of_any_age(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book, "MAX_PRICE_AGE_US", 10**12)


def fire_again_what_has_fired(patch: pytest.MonkeyPatch) -> None:
    on_disk = FiringDesk._on_disk

    def twice(self: FiringDesk, log: OrderLog, fired_in: Any, pause_s: float, appended: Any) -> None:
        if not appended.cancelled() and appended.exception() is None:
            again = RoutingDetail(trigger=log.state.trigger)
            log.record(Status.ROUTING, again, attempt=log.state.attempt + 1)
        on_disk(self, log, fired_in, pause_s, appended)

    patch.setattr(FiringDesk, "_on_disk", twice)


def make_exits_after_their_entry(patch: pytest.MonkeyPatch) -> None:
    record = Landing._record

    def apart(self: Landing, waiting: Any, status: Status, detail: Any, companion: Append | None = None) -> bool:
        recorded = record(self, waiting, status, detail)

        def make(appended: Any) -> None:
            if companion is not None and not appended.cancelled() and appended.exception() is None:
                made = waiting.log._journal.append(companion)
                made.add_done_callback(partial(self._made, companion.order_id))

        if recorded:
            waiting.log._last.add_done_callback(make)
        return recorded

    patch.setattr(Landing, "_record", apart)


def make_exits_twice(patch: pytest.MonkeyPatch) -> None:
    record = Landing._record

    def both(self: Landing, waiting: Any, status: Status, detail: Any, companion: Append | None = None) -> bool:
        recorded = record(self, waiting, status, detail, companion)
        if recorded and companion is not None and companion.new is not None:
            other = derived_id(companion.order_id, "the other leg")
            events = tuple(replace(event, order_id=other) for event in companion.events)
            view, new = replace(companion.view, order_id=other), replace(companion.new, order_id=other)
            again = replace(companion, order_id=other, events=events, view=view, new=new)
            waiting.log._journal.append(again).add_done_callback(partial(self._made, other))
        return recorded

    patch.setattr(Landing, "_record", both)


def sell_more_than_was_received(patch: pytest.MonkeyPatch) -> None:
    def generous(journal: Any, clock: Any, entry: Order, confirmed: ConfirmedDetail, caller: str) -> Append | None:
        decimals = entry.token_out.decimals
        more = format_amount(parse_amount(confirmed.amount_out or "0", decimals) + 1, decimals)
        return exits_append(journal, clock, entry, replace(confirmed, amount_out=more), caller)

    patch.setattr("bestex.engine.execution.exits_append", generous)


def forget_the_limit_after_firing(patch: pytest.MonkeyPatch) -> None:
    route = Executor._route

    async def boundless(self: Executor, log: OrderLog) -> Any:
        order = log.order
        log.order = replace(order, limit_price=None, terms=replace(order.terms, limit_price=None, min_amount_out=None))
        try:
            return await route(self, log)
        finally:
            log.order = order

    patch.setattr(Executor, "_route", boundless)


def let_it_land_after_its_expiry(patch: pytest.MonkeyPatch) -> None:
    route = Executor._route

    async def whenever(self: Executor, log: OrderLog) -> Any:
        request = await route(self, log)
        return replace(request, expires_us=None) if isinstance(request, SwapRequest) else request

    patch.setattr(Executor, "_route", whenever)


def leave_a_cancelled_order_in_its_book(patch: pytest.MonkeyPatch) -> None:
    committed = Watch.committed

    def deaf(self: Watch, events: list[StoredEvent]) -> None:
        cancelled = [each for each in events if isinstance(each.event.detail, CancelledDetail)]
        committed(self, [each for each in events if each not in cancelled])
        self._slicer.committed(cancelled)

    patch.setattr(Watch, "committed", deaf)


def lose_what_rests_over_a_restart(patch: pytest.MonkeyPatch) -> None:
    def skip(self: PriceDesk, moved: Any) -> None:
        self.collect_anew()

    patch.setattr(PriceDesk, "enter_collected", skip)


def forget_expiries_over_a_restart(patch: pytest.MonkeyPatch) -> None:
    enter = Watch._enter

    def timeless(self: Watch, order: RestingOrder, how: Any) -> None:
        enter(self, replace(order, expires_at=None) if how == self._prices.collect else order, how)

    patch.setattr(Watch, "_enter", timeless)


def repeat_a_slice_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    rest = Slicer.rest
    repeated: set[str] = set()

    def one_back(self: Slicer, log: OrderLog) -> None:
        if log.state.slices_begun:
            log.state.slices_begun -= 1
            repeated.add(log.order.id)
        rest(self, log)

    def another(order: Order, number: int) -> str:
        return derived_id(order.id, "slice again" if order.id in repeated else "slice", number)

    patch.setattr(Slicer, "rest", one_back)
    patch.setattr(slicing, "slice_id", another)


def reserve_no_funds(patch: pytest.MonkeyPatch) -> None:
    async def reserve(self: Funds, order: Order) -> int:
        return 0

    patch.setattr(Funds, "reserve", reserve)
    patch.setattr(Funds, "hold", lambda self, order: None)


def forget_the_dead_mans_switch_over_a_restart(patch: pytest.MonkeyPatch) -> None:
    async def load(self: DeadManSwitches) -> None:
        """Nothing."""

    patch.setattr(DeadManSwitches, "load", load)


_I = Invariant

BROKEN_WATCHERS: Final = (
    Broken(fire_on_a_price_of_any_age, 500, (_I.FRESH_PRICE,)),
    Broken(fire_again_what_has_fired, 20, (_I.FIRES_ONCE,)),
    Broken(make_exits_after_their_entry, 20, (_I.EXITS_WITH_ENTRY,)),
    Broken(make_exits_twice, 20, (_I.EXITS_WITH_ENTRY, _I.ONE_LEG)),
    Broken(sell_more_than_was_received, 20, (_I.EXIT_WITHIN_POSITION,)),
    Broken(forget_the_limit_after_firing, 60, (_I.LIMIT_HOLDS,)),
    Broken(let_it_land_after_its_expiry, 60, (_I.IN_TIME,)),
    Broken(leave_a_cancelled_order_in_its_book, 100, (_I.STAYS_WATCHED,)),
    Broken(lose_what_rests_over_a_restart, 200, (_I.STAYS_WATCHED,)),
    Broken(forget_expiries_over_a_restart, 200, (_I.TIME_IS_UP,)),
    Broken(repeat_a_slice_after_a_crash, 60, (_I.SLICES_ADD_UP, _I.PROJECTION_IS_THE_FOLD)),
    Broken(reserve_no_funds, 100, (_I.FUNDS_ONCE,)),
    Broken(forget_the_dead_mans_switch_over_a_restart, 300, (_I.DEAD_MAN,)),
)
