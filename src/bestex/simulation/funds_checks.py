"""Whether executing orders count on units that others are about to spend."""

from typing import Final

from bestex.domain.lifecycle import Status
from bestex.ports import Wallet
from bestex.simulation.invariants import Checks, Invariant
from bestex.simulation.known_orders import KnownOrder, KnownOrders
from bestex.simulation.ledger_watch import LedgerWatch

_FEES: Final = 10_000_000  # lamports: network fees are reserved by nobody


class FundsChecks:
    """Checks it when an order has been routed: from then on it counts on its input.

    The orders that count are those whose venue is chosen or whose transaction is open. What an open one has moved
    already is not in the wallet any more, and is not counted twice. An order that asks for more than the wallet shows
    counts on nothing: its venue refuses it. Where a fork gave something back, confirmed orders may take it again, and
    nothing can be said.
    """

    def __init__(self, checks: Checks, orders: KnownOrders, ledger: LedgerWatch) -> None:
        self.wallet: Wallet | None = None  # what it shows is ahead of the ledger
        self.is_blind = False  # an engine was given orders and does not know it: for a while it counts without them
        self._checks = checks
        self._orders = orders
        self._ledger = ledger

    def built(self, known: KnownOrder) -> None:
        """A venue was chosen for the order."""
        order, wallet = known.order, self.wallet
        if self.is_blind or order is None or wallet is None or order.token_in.mint in self._ledger.undone:
            return
        mint = order.token_in.mint
        shown = wallet.held(mint) or 0
        claims = {
            each.id: each.order.amount_in
            for each in self._orders.unsettled.values()
            if each.order is not None and each.order.token_in.mint == mint and self._counts(each, known.engine_id)
        }
        moved = sum(claim for order_id, claim in claims.items() if self._orders.get(order_id).executed)
        there = max(shown, self._ledger.held(mint) + moved) + _FEES
        claimed = sum(claim for claim in claims.values() if claim <= shown)
        holds = order.amount_in > shown or claimed <= there
        what = f"{len(claims)} orders count on {claimed} units of {order.token_in.symbol}, there are {there}"
        self._checks.check(Invariant.FUNDS_ONCE, holds, what, known.id)

    @staticmethod
    def _counts(known: KnownOrder, engine_id: str) -> bool:
        """A dead engine's choice of a venue counts for nothing: it is made again."""
        if known.state.status is Status.BUILDING:
            return known.engine_id == engine_id
        return known.state.status is Status.SUBMITTED
