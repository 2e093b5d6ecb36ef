"""The chain's side of the truth: what its ledger says landed, whatever its nodes answer, and what that moved."""

from typing import Final

from bestex.domain.events import SignedTransaction
from bestex.domain.money import parse_amount
from bestex.domain.tokens import TokenRegistry
from bestex.simulation.invariants import Checks, Invariant
from bestex.simulation.known_orders import KnownOrder, KnownOrders
from bestex.simulation.trace import Trace
from bestex.venues.simulated.chain import SimulatedChain
from bestex.venues.simulated.ledger import Batch, LandedTransaction
from bestex.venues.simulated.market import SOL_MINT
from bestex.venues.simulated.slots import block_height

_I = Invariant
_LAMPORT_DECIMALS: Final = 9


class LedgerWatch:
    """Checks what lands."""

    def __init__(self, checks: Checks, trace: Trace, orders: KnownOrders, tokens: TokenRegistry) -> None:
        self.chain: SimulatedChain | None = None
        self.rows: dict[str, LandedTransaction] = {}  # the ledger, by signature
        self.undone: dict[str, None] = {}  # mints of which a fork gave something back
        self._checks = checks
        self._trace = trace
        self._orders = orders
        self._tokens = tokens
        self._once: dict[str, list[LandedTransaction]] = {}  # all that ever stood in it, by signature
        self._balances: dict[str, int] = {}  # by mint, from what moved

    def held(self, mint: str) -> int:
        """What the wallet holds, base units."""
        return self._balances.get(mint, 0)

    def landed(self, batch: Batch) -> None:
        """The chain's ledger has made a commit."""
        balances = self._balances
        for adjustment in batch.adjustments:
            balances[adjustment.mint] = balances.get(adjustment.mint, 0) + adjustment.units
        for signature in batch.undone:
            if (row := self.rows.pop(signature, None)) is not None:
                self._move(row, -1)
                self.undone[row.mint_in] = None
                self._trace.note("taken back by a fork", row.order_id, signature[:12])
                self._orders.get(row.order_id).executed.pop(signature, None)
        for row in batch.landed:
            if (before := self.rows.pop(row.signature, None)) is not None:
                self._move(before, -1)
            self._move(row, 1)
            self._land(row)
        for mint, units in batch.balances.items():
            self._checks.check(_I.BALANCES_RECONCILE, balances.get(mint, 0) == units, f"{mint} holds {units}")

    def _land(self, row: LandedTransaction) -> None:
        checks = self._checks
        self.rows[row.signature] = row
        self._once.setdefault(row.signature, []).append(row)
        self._trace.note(
            "landed", row.order_id, f"attempt {row.attempt}", row.signature[:12], f"slot {row.slot}", row.error or ""
        )
        order = self._orders.find(row.order_id)
        if order is None or row.signature not in order.signed:
            checks.fail(_I.DISK_BEFORE_CHAIN, "landed, and not in the journal", row.order_id)
        elif row.error is None:
            order.executed[row.signature] = None
            checks.check(_I.ONE_SWAP, len(order.executed) == 1, "its swap executed twice", row.order_id)
            enough = row.amount_out >= order.least[row.attempt]
            checks.check(_I.LEAST_OUTPUT, enough, "it paid less than minAmountOut", row.order_id)
            if limit := order.limits[row.attempt]:
                at_limit = row.amount_out >= limit
                checks.check(_I.LIMIT_HOLDS, at_limit, f"it paid {row.amount_out}, its limit is {limit}", row.order_id)
            expires_us = order.order.expires_us if order.order is not None else None
            if expires_us is not None:
                in_time = row.landed_us < expires_us
                checks.check(_I.IN_TIME, in_time, f"it landed at {row.landed_us}, after its expiry", row.order_id)

    def _move(self, row: LandedTransaction, sign: int) -> None:
        balances = self._balances
        balances[SOL_MINT] = balances.get(SOL_MINT, 0) - sign * row.network_fee
        if row.error is None:
            balances[row.mint_in] = balances.get(row.mint_in, 0) - sign * row.amount_in
            balances[row.mint_out] = balances.get(row.mint_out, 0) + sign * row.amount_out

    # --- What the ledger proves

    def finalized_slot(self) -> int:
        return self.chain.view().finalized_slot if self.chain is not None else 0

    def never_executes(self, transaction: SignedTransaction) -> bool:
        """Whether it is known that it has not executed and never will."""
        final = self.finalized_slot()
        row = self.rows.get(transaction.signature)
        if row is None:
            return block_height(final) > transaction.last_valid_block_height
        return row.error is not None and row.slot <= final

    def fate(self, transaction: SignedTransaction) -> str:
        """The same in words."""
        final = self.finalized_slot()
        row = self.rows.get(transaction.signature)
        if row is None:
            return f"may land up to height {transaction.last_valid_block_height}; {block_height(final)} is final"
        return f"stands in slot {row.slot} with {row.error or 'its swap executed'}; slot {final} is final"

    def executed(self, signature: str | None) -> list[LandedTransaction]:
        """The blocks in which it ever stood executed."""
        return [row for row in self._once.get(signature or "", ()) if row.error is None]

    def moved(self, order: KnownOrder, row: LandedTransaction) -> bool:
        """Whether the order's view reports what the transaction did."""
        view = order.state.view()
        if view.amount_in is None or view.amount_out is None or view.fee_paid is None or order.order is None:
            return False
        token_in, token_out = self._tokens.get(view.token_in), self._tokens.get(view.token_out)
        return (
            (row.mint_in, row.mint_out, row.venue, row.order_id)
            == (token_in.mint, token_out.mint, view.venue, view.order_id)
            and parse_amount(view.amount_in, token_in.decimals) == row.amount_in
            and order.order.amount_in == row.amount_in
            and parse_amount(view.amount_out, token_out.decimals) == row.amount_out
            and parse_amount(view.fee_paid, _LAMPORT_DECIMALS) == row.network_fee
        )
