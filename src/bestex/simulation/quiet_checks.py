"""What must hold, in time, of orders that rest: looked at again and again once nothing goes wrong any more.

A condition that an engine in good health ends within seconds is a violation when it lasts. Whatever excuses it, a
restart or a halt, begins the time anew.
"""

from typing import Final

from bestex.domain.events import LOST, CancelledDetail, Event, timestamp_us
from bestex.domain.order_state import OrderView
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.engine.open_orders import limits_loss
from bestex.engine.triggers.depth import Depth
from bestex.engine.triggers.trailing import marginal_price
from bestex.ports import Clock, DeadMan
from bestex.simulation.firing_checks import FiringChecks, Threshold, thresholds_of
from bestex.simulation.invariants import Checks, Invariant
from bestex.simulation.known_orders import KnownOrder, KnownOrders
from bestex.simulation.prices import MarketPrices

_I = Invariant
LASTS_S: Final = 8.0
"""How long a price must be there, or a time be up, until an engine that does nothing about it has lost the order."""

MARGIN_BPS: Final = 50
"""By how much a price must satisfy an order: less may be gone by the next look."""


class QuietChecks:
    """Times in seconds are the clock's monotonic ones."""

    def __init__(self, checks: Checks, orders: KnownOrders, firings: FiringChecks) -> None:
        self.prices: MarketPrices | None = None
        self._checks = checks
        self._orders = orders
        self._firings = firings
        self._since: dict[tuple[str, int, Invariant], float] = {}  # by order and since which event it waits
        self._extremes: dict[str, tuple[int, int]] = {}  # by order: how many prices were looked at, and the best
        self._miscounted_since: float | None = None
        self._switch: DeadMan | None = None  # that has gone off, or should have
        self._resting_then: dict[str, int] = {}  # what it is to cancel, with the event since which it waits

    # --- The dead-man switch

    def switch_is_due(self, switch: DeadMan) -> None:
        """Nobody renewed it: this is the moment."""
        self._switch = switch
        self._resting_then = {
            each.id: each.armed_seq
            for each in self._orders.unsettled.values()
            if each.rests and not (switch.keeps_stops and limits_loss(each.state.view()))
        }

    def cancelled(self, event: Event, view: OrderView) -> None:
        """An order was cancelled."""
        detail, switch = event.detail, self._switch
        if isinstance(detail, CancelledDetail) and detail.by == "deadman" and switch is not None:
            spared = switch.keeps_stops and limits_loss(view)
            self._checks.check(_I.DEAD_MAN, not spared, "it was cancelled, and was to be spared", event.order_id)

    # --- Looking

    def unquiet(self) -> None:
        """Something excuses what lasts: an engine that is not there, a halt, a fault."""
        self._since.clear()
        self._extremes.clear()
        self._miscounted_since = None

    def look(self, watched: int, clock: Clock) -> None:
        """All is well; the engine says that it watches so many orders."""
        now_us, now = clock.now_us(), clock.monotonic()
        busy = {
            each.order.pair.name
            for each in self._orders.unsettled.values()
            if each.order is not None and not each.rests and not each.state.ended
        }
        resting = [each for each in self._orders.unsettled.values() if each.rests and each.order is not None]
        for each in resting:
            order = each.order
            assert order is not None  # noqa: S101 -- just asked
            is_up = order.expires_us is not None and order.expires_us < now_us and order.kind is not Kind.TWAP
            self._lasts(_I.TIME_IS_UP, each, is_up, now, "its time is up")
            is_there = order.pair.name not in busy and not _pauses(each, now_us) and self._is_there(each, order)
            self._lasts(_I.STAYS_WATCHED, each, is_there, now, "its price is there, and it does not fire")
            left = self._resting_then.get(each.id) == each.armed_seq and not each.state.cancel_requested
            self._lasts(_I.DEAD_MAN, each, left, now, "the switch went off, and it rests")
        self._count(watched, sum(not _pauses(each, now_us) for each in resting), now)

    def _lasts(self, invariant: Invariant, known: KnownOrder, condition: bool, now: float, what: str) -> None:
        key = known.id, known.armed_seq, invariant
        if not condition:
            self._since.pop(key, None)
            return
        since = self._since.setdefault(key, now)
        self._checks.check(invariant, now - since < LASTS_S, f"{what} for {now - since:.1f} s", known.id)

    def _count(self, watched: int, resting: int, now: float) -> None:
        """The engine's index has as many orders as the journal."""
        if watched == resting:
            self._miscounted_since = None
        elif self._miscounted_since is None:
            self._miscounted_since = now
        since = now if self._miscounted_since is None else self._miscounted_since
        what = f"the engine watches {watched} orders, {resting} rest, for {now - since:.1f} s"
        self._checks.check(_I.STAYS_WATCHED, now - since < LASTS_S, what)

    # --- Prices

    def _is_there(self, known: KnownOrder, order: Order) -> bool:
        """Whether the market pays what the order, or one of its legs, waits for."""
        if self.prices is None or order.kind is Kind.TWAP:
            return False
        if order.kind is Kind.SNIPER:
            return order.terms.filters is None and self._is_listed(order)
        if order.kind is Kind.EXITS and self._is_lost(order.terms.parent_id or ""):
            return False
        thresholds = thresholds_of(known, order, self._extreme(known, order))
        return any(map(self._is_met, [order] * len(thresholds), thresholds))

    def _is_listed(self, order: Order) -> bool:
        """Whether an engine was shown the pool of the token that it waits for, and it would buy there."""
        shown = self._firings.launches.get(order.terms.mint or "", [])
        return bool(shown) and (order.terms.migrations or shown[-1].migrated_from is None)

    def _is_met(self, order: Order, threshold: Threshold) -> bool:
        assert self.prices is not None  # noqa: S101 -- its caller has asked
        amount_out = self.prices.best_out(order.token_in, order.token_out, threshold.amount_in)
        return threshold.is_met(amount_out, MARGIN_BPS)

    def _is_lost(self, entry_id: str) -> bool:
        entry = self._orders.find(entry_id)
        confirmed = entry.state.confirmed if entry is not None else None
        return confirmed is None or confirmed.commitment == LOST

    def _extreme(self, known: KnownOrder, order: Order) -> int:
        """The best price that the engine was shown since all is well; 0 for an order that follows none."""
        if order.terms.trail_bps is None and not any(leg.trail_bps for leg in order.terms.legs):
            return 0
        shown, sells = self._firings.shown[order.pair.name], order.sells_base
        seen, best = self._extremes.get(known.id, (len(shown), 0))
        for tick in shown[seen:]:
            price = marginal_price(Depth(tick.curves, sells), order.pair, sells)
            if price is not None and (not best or (price > best if sells else price < best)):
                best = price
        self._extremes[known.id] = len(shown), best
        return best


def _pauses(known: KnownOrder, now_us: int) -> bool:
    """Whether it may not fire yet."""
    not_before = known.state.not_before
    return not_before is not None and timestamp_us(not_before) > now_us
