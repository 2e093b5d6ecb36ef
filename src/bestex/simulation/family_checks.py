"""Orders that belong together: an entry and its exits, a sliced order and its slices."""

from collections.abc import Sequence

from bestex.domain.derived_ids import derived_id
from bestex.domain.events import ConfirmedDetail, Event, PendingDetail, Slice, WatchingDetail
from bestex.domain.lifecycle import Status
from bestex.domain.money import parse_amount
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.simulation.invariants import Checks, Invariant
from bestex.simulation.known_orders import KnownOrder, KnownOrders

_I = Invariant


class FamilyChecks:
    """Checks them at each commit. Amounts are base units."""

    def __init__(self, checks: Checks, orders: KnownOrders) -> None:
        self._checks = checks
        self._orders = orders
        self._exits: dict[str, list[KnownOrder]] = {}  # by entry
        self._slices: dict[str, list[KnownOrder]] = {}  # by sliced order

    def committed(self, events: Sequence[Event]) -> None:
        """One commit's events have been folded."""
        begun = {event.order_id for event in events if event.status is Status.PENDING}
        for event in events:
            known = self._orders.get(event.order_id)
            order = known.order
            if order is None:
                continue
            match event.detail:
                case PendingDetail(parent_id=str(parent_id)):
                    self._begun(known, order, self._orders.find(parent_id), events)
                case ConfirmedDetail(tx_hash=str()):
                    self._executed(known, order, begun)
                case ConfirmedDetail(filled_slices=int()) as detail:
                    self._summed(known, order, detail)
                case WatchingDetail(slice=Slice() as begins):
                    there = begins.order_id in begun
                    self._checks.check(_I.SLICES_ADD_UP, there, f"slice {begins.number} was not made with it", known.id)
                case _:
                    pass

    def _begun(self, known: KnownOrder, order: Order, parent: KnownOrder | None, events: Sequence[Event]) -> None:
        if parent is None or parent.order is None:
            self._checks.fail(_I.EXITS_WITH_ENTRY, "its parent is not in the journal", known.id)
        elif order.kind is Kind.EXITS:
            self._begun_exits(known, order, parent, parent.order, events)
        else:
            self._begun_slice(known, order, parent, parent.order, events)

    def _begun_exits(
        self, known: KnownOrder, order: Order, parent: KnownOrder, entry: Order, events: Sequence[Event]
    ) -> None:
        exits = self._exits.setdefault(parent.id, [])
        exits.append(known)
        confirmed = next((event.detail for event in events if _confirms(event, parent.id)), None)
        what = f"order {parent.id} confirms in another commit, or has {len(exits)} exits"
        self._checks.check(_I.EXITS_WITH_ENTRY, confirmed is not None and len(exits) == 1, what, known.id)
        received = confirmed.amount_out if isinstance(confirmed, ConfirmedDetail) else None
        true = (
            received is not None
            and order.amount_in == parse_amount(received, order.token_in.decimals)
            and (order.token_in, order.token_out) == (entry.token_out, entry.token_in)
        )
        self._checks.check(_I.EXIT_WITHIN_POSITION, true, f"its entry received {received}", known.id)

    def _begun_slice(
        self, known: KnownOrder, order: Order, parent: KnownOrder, whole: Order, events: Sequence[Event]
    ) -> None:
        slices = self._slices.setdefault(parent.id, [])
        slices.append(known)
        noted = any(
            event.order_id == parent.id
            and isinstance(event.detail, WatchingDetail)
            and event.detail.slice is not None
            and event.detail.slice.order_id == known.id
            for event in events
        )
        number = order.terms.slice_number
        self._checks.check(
            _I.SLICES_ADD_UP, noted and number == len(slices), f"it is slice {number}, begun as {len(slices)}", known.id
        )
        amount = sum(each.order.amount_in for each in slices if each.order is not None)
        fits = amount <= whole.amount_in and len(slices) <= (whole.terms.slices or 0)
        self._checks.check(
            _I.SLICES_ADD_UP, fits, f"{len(slices)} slices come to {amount} of {whole.amount_in}", parent.id
        )

    def _executed(self, known: KnownOrder, order: Order, begun: set[str]) -> None:
        """An order has been confirmed, for the first time."""
        if order.terms.exits is not None:
            there = derived_id(known.id, "exits") in begun
            self._checks.check(_I.EXITS_WITH_ENTRY, there, "it was confirmed without its exits", known.id)
        if order.kind is Kind.EXITS:
            self._check_one_leg(order)

    def _check_one_leg(self, order: Order) -> None:
        executed = sum(len(each.executed) for each in self._exits.get(order.terms.parent_id or "", ()))
        self._checks.check(_I.ONE_LEG, executed <= 1, f"{executed} exits executed", order.id)

    def _summed(self, known: KnownOrder, order: Order, detail: ConfirmedDetail) -> None:
        """A sliced order has ended with slices that executed."""
        slices = self._slices.get(known.id, [])
        settled = all(each.is_settled for each in slices)
        self._checks.check(_I.SLICES_ADD_UP, settled, "it ended before its slices were settled", known.id)
        filled = [each.state.confirmed for each in slices if _is_filled(each)]
        for field, decimals in (("amount_in", order.token_in.decimals), ("amount_out", order.token_out.decimals)):
            told = parse_amount(getattr(detail, field) or "0", decimals)
            parts = (parse_amount(getattr(each, field) or "0", decimals) for each in filled)
            true = told == sum(parts)
            self._checks.check(_I.SLICES_ADD_UP, true, f"its {field} is not the sum of its slices'", known.id)
        true = detail.filled_slices == len(filled)
        self._checks.check(_I.SLICES_ADD_UP, true, f"it says {detail.filled_slices}, {len(filled)} filled", known.id)

    def fired(self, known: KnownOrder, order: Order) -> None:
        """An order's firing was committed."""
        if order.kind is not Kind.EXITS:
            return
        entry = self._orders.find(order.terms.parent_id or "")
        told = [stored.event.detail for stored in entry.history] if entry is not None else []
        received = [
            parse_amount(detail.amount_out, order.token_in.decimals)
            for detail in told
            if isinstance(detail, ConfirmedDetail) and detail.amount_out is not None
        ]
        within = order.amount_in <= max(received, default=0)
        self._checks.check(
            _I.EXIT_WITHIN_POSITION, within, f"it sells {order.amount_in}, received: {received}", known.id
        )

    def finish(self) -> None:
        for exits in self._exits.values():
            for each in exits:
                if each.order is not None:
                    self._check_one_leg(each.order)
        for parent_id, slices in self._slices.items():
            parent = self._orders.get(parent_id)
            filled = sum(_is_filled(each) for each in slices)
            true = (parent.state.status is Status.CONFIRMED) is (filled > 0)
            self._checks.check(
                _I.SLICES_ADD_UP, true, f"it ended as {parent.state.status}, {filled} slices filled", parent_id
            )


def _confirms(event: Event, order_id: str) -> bool:
    """Whether it is that order's first `confirmed`: in the same commit it may have landed again, for another amount."""
    return event.order_id == order_id and isinstance(event.detail, ConfirmedDetail) and event.detail.tx_hash is not None


def _is_filled(known: KnownOrder) -> bool:
    confirmed = known.state.confirmed
    return confirmed is not None and not confirmed.gone
