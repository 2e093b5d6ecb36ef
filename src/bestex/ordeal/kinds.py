"""What must hold of orders that wait, of exits and of slices, by the log as it stands in the end. Pure.

- A watched order fires by a trigger, and once for each time that it was armed; nothing else fires.
- An executed entry that asked for exits has them, for the tokens that it swapped; nothing else has any.
- An exit sells no more than there is of its position.
- A sliced order has begun the slices that it says, they are parts of it, and its end is the sum of theirs.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

from bestex.domain.derived_ids import derived_id
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.order_state import OrderView
from bestex.domain.terms import Kind
from bestex.ordeal.report import Findings
from bestex.ordeal.watchers import Seen


def check_kinds(findings: Findings, histories: Mapping[str, Sequence[Seen]], views: Mapping[str, OrderView]) -> None:
    slices: defaultdict[str, list[OrderView]] = defaultdict(list)
    for view in views.values():
        if view.parent_id is not None and view.slice_number is not None:
            slices[view.parent_id].append(view)
    for order_id, history in histories.items():
        _check_firings(findings, order_id, history)
    for view in views.values():
        _check_exits(findings, view, views)
        if view.kind == Kind.TWAP:
            _check_slices(findings, view, sorted(slices[view.order_id], key=lambda each: each.slice_number or 0))


def _check_firings(findings: Findings, order_id: str, history: Sequence[Seen]) -> None:
    for before, event in pairwise(history):
        armed = before.status == Status.WATCHING and event.status == Status.ROUTING
        if armed or event.fired_by is not None:
            told = f"order {order_id} is {event.status} by {event.fired_by} behind {before.status}"
            findings.that("each arming fires once, by a trigger", armed and event.fired_by is not None, told)


def _check_exits(findings: Findings, entry: OrderView, views: Mapping[str, OrderView]) -> None:
    exits = views.get(derived_id(entry.order_id, "exits"))
    executed = entry.status == Status.CONFIRMED
    if entry.exits is not None and executed:
        told = f"entry {entry.order_id} was executed, and its exits are {exits}"
        legs = {name for name, _ in entry.exits.legs()}
        there = exits is not None and exits.kind == Kind.EXITS and {leg.name for leg in exits.legs} == legs
        findings.that("an executed entry has its exits", there, told)
    else:
        told = f"order {entry.order_id} is {entry.status}, and has exits"
        findings.that("only an executed entry has exits", exits is None, told)
    if exits is None:
        return
    belongs = (exits.parent_id, exits.token_in, exits.token_out) == (entry.order_id, entry.token_out, entry.token_in)
    within = exits.amount_in is None or Decimal(exits.amount_in) <= Decimal(exits.amount)
    told = f"the exits of {entry.order_id} sell {exits.amount_in} of {exits.amount}"
    findings.that("exits sell what their entry received", belongs and within, told)


def _check_slices(findings: Findings, order: OrderView, slices: Sequence[OrderView]) -> None:
    numbers = [each.slice_number for each in slices]
    told = f"order {order.order_id} has begun {order.slices_begun} slices, and there are {numbers}"
    findings.that("every slice that began is there", numbers == list(range(1, order.slices_begun + 1)), told)
    amount = sum((Decimal(each.amount) for each in slices), Decimal())
    told = f"the slices of {order.order_id} are {amount} of {order.amount}"
    findings.that("slices are parts of their order", amount <= Decimal(order.amount), told)
    if order.status not in ENDS:
        return
    filled = [each for each in slices if each.status == Status.CONFIRMED and not each.gone]
    sums = [
        sum((Decimal(getattr(each, name) or 0) for each in filled), Decimal()) for name in ("amount_in", "amount_out")
    ]
    says = [Decimal(order.amount_in or 0), Decimal(order.amount_out or 0)]
    told = f"order {order.order_id} is {order.status} with {order.filled_slices} slices, {says}; they did {sums}"
    holds = says == sums and (order.filled_slices or 0) == len(filled)
    findings.that("a sliced order says what its slices did", holds, told)
