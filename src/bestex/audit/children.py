"""Orders that belong to another: exits sell no more than their entry received, slices are parts of their order.

Each is checked when its event is read: the log has an entry's fill before its exits, and a sliced order's end behind
the ends of its slices.
"""

from collections.abc import Callable
from typing import Final

from bestex.audit.account import Account
from bestex.audit.evidence import LogRow
from bestex.audit.findings import Check, Findings, Kind
from bestex.domain.events import ConfirmedDetail, PendingDetail, Trigger
from bestex.domain.lifecycle import Status
from bestex.domain.money import AmountError, format_amount, parse_amount
from bestex.domain.terms import Kind as OrderKind

_DECIMALS: Final = 18
"""All amounts are compared at this many: no token has more."""
_MOST: Final = 2**64 * 10**_DECIMALS


class _Family:
    """What belongs to one order."""

    __slots__ = ("amount", "children")

    def __init__(self) -> None:
        self.children: list[str] = []
        self.amount = 0  # of all of them together


class ChildrenChecks:
    """Memory: the ids of orders that belong to others."""

    def __init__(self, findings: Findings, account: Callable[[str], Account | None]) -> None:
        """`account` gives an order as far as the log has been read."""
        self._findings = findings
        self._account = account
        self._families: dict[str, _Family] = {}  # by the order that they belong to
        self._received: dict[str, int] = {}  # the most that an order was said to have received, where that changed

    def begins(self, row: LogRow, pending: PendingDetail) -> None:
        """An order's first event."""
        parent_id = pending.parent_id
        if parent_id is None:
            return
        self._findings.checked[Check.CHILDREN] += 1
        parent = self._account(parent_id)
        if parent is None:
            self._add(Kind.PARENT_MISSING, row, f"belongs to order {parent_id}, of which the log has no event before")
            return
        family = self._families.setdefault(parent_id, _Family())
        family.children.append(row.order_id)
        family.amount += _units(pending.amount, otherwise=_MOST)
        if parent.broken or parent.pending is None:
            return
        if parent.pending.kind == OrderKind.TWAP:
            if family.amount > _units(parent.pending.amount):
                what = f"makes the slices of order {parent_id} {_text(family.amount)}: it is of {parent.pending.amount}"
                self._add(Kind.SLICES_EXCEED_ORDER, row, what)
            return
        confirmed = parent.state.confirmed
        received = max(_units(confirmed.amount_out if confirmed else None), self._received.get(parent_id, 0))
        if family.amount > received:
            what = f"makes the exits of order {parent_id} {_text(family.amount)}: it has received {_text(received)}"
            self._add(Kind.EXIT_EXCEEDS_ENTRY, row, what)

    def lands_again(self, order_id: str, before: str | None) -> None:
        """A fork has an order receive another amount than `before`, for which its exits may have been made already."""
        self._received[order_id] = max(self._received.get(order_id, 0), _units(before))

    def fires(self, row: LogRow, trigger: Trigger, pending: PendingDetail | None) -> None:
        """A watched order's trigger: an exit's may name a smaller amount, never a larger one."""
        if pending is None or trigger.amount is None:
            return
        if _units(trigger.amount, otherwise=_MOST) > _units(pending.amount):
            self._add(Kind.EXIT_EXCEEDS_ENTRY, row, f"sells {trigger.amount} of an order of {pending.amount}")

    def ends_sliced(self, row: LogRow, confirmed: ConfirmedDetail) -> None:
        """A sliced order's end as executed."""
        self._findings.checked[Check.CHILDREN] += 1
        family = self._families.get(row.order_id)
        slices = [self._account(child) for child in family.children] if family is not None else []
        if any(each is None or each.broken for each in slices):
            return
        fills = [
            each.state.confirmed
            for each in slices
            if each is not None
            and each.state.status is Status.CONFIRMED
            and each.state.confirmed is not None
            and not each.state.confirmed.gone
        ]
        sums = (
            ("amountIn", confirmed.amount_in, sum(_units(fill.amount_in) for fill in fills)),
            ("amountOut", confirmed.amount_out, sum(_units(fill.amount_out) for fill in fills)),
        )
        differing = [f"{name}: {told}, not {_text(true)}" for name, told, true in sums if _units(told) != true]
        if confirmed.filled_slices != len(fills):
            differing.append(f"filledSlices: {confirmed.filled_slices}, not {len(fills)}")
        if differing:
            self._add(Kind.SLICES_DIFFER, row, f"is not the sum of its slices: {'; '.join(differing)}")

    def _add(self, kind: Kind, row: LogRow, what: str) -> None:
        self._findings.add(
            kind,
            f"event {row.seq} of order {row.order_id}, {row.status}, {what}",
            position=row.position,
            order_id=row.order_id,
        )


def _units(amount: str | None, *, otherwise: int = 0) -> int:
    """An amount in the finest units that any token has; `otherwise` for what is none."""
    try:
        return parse_amount(amount or "", _DECIMALS, most=_MOST)
    except AmountError:
        return otherwise


def _text(units: int) -> str:
    return format_amount(units, _DECIMALS)
