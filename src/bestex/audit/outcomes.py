"""Each order at its end: its row against the fold, what it says it did against what the chain did."""

from collections.abc import Sequence
from typing import Final

import msgspec

from bestex.audit.account import Account
from bestex.audit.events import DECIMALS_MAX, EventChecks
from bestex.audit.evidence import UNREADABLE, LedgerTransaction, OrderImage
from bestex.audit.findings import Check, Findings, Kind
from bestex.domain.events import LOST, ConfirmedDetail, PendingDetail, SealedTokens, Trigger
from bestex.domain.lifecycle import UNFILLED, Status
from bestex.domain.money import AmountError, format_amount, parse_amount
from bestex.domain.order_state import OrderView
from bestex.domain.terms import Kind as OrderKind

_LAMPORT_DECIMALS: Final = 9
_view_decoder: Final = msgspec.json.Decoder(OrderView)
_VIEW_FIELDS: Final = tuple((field.name, field.encode_name) for field in msgspec.structs.fields(OrderView))


class OrderChecks:
    """Closes every order once its events and all landed transactions are known. Each is forgotten when closed."""

    def __init__(self, findings: Findings, events: EventChecks, executed: dict[str, LedgerTransaction] | None) -> None:
        """`executed` holds the executed swaps by order id; None: there is no ledger."""
        self._findings = findings
        self._events = events
        self._executed = executed

    def feed(self, images: Sequence[OrderImage]) -> None:
        for image in images:
            self._findings.checked[Check.PROJECTION] += 1
            account = self._events.account(image.order_id)
            if account is None:
                self._findings.add(
                    Kind.ROW_WITHOUT_ORDER,
                    f"the orders' table has order {image.order_id}, of which the log has no event",
                    order_id=image.order_id,
                )
                continue
            del self._events.accounts[image.order_id]
            if not account.broken:
                self._check_row(image, account)
                self._check_outcome(account)

    def finish(self) -> None:
        """Close the orders that have no row."""
        for order_id in list(self._events.accounts):
            account = self._events.account(order_id)
            self._findings.checked[Check.PROJECTION] += 1
            self._findings.add(
                Kind.ORDER_WITHOUT_ROW,
                f"the log has order {order_id}, of which the orders' table has no row",
                order_id=order_id,
            )
            if account is not None and not account.broken:
                self._check_outcome(account)

    def _check_row(self, image: OrderImage, account: Account) -> None:
        differing = _differences(image, account)
        if differing:
            self._findings.add(
                Kind.ROW_DIFFERS,
                f"the orders' table differs from the events of order {image.order_id}: {'; '.join(differing)}",
                order_id=image.order_id,
            )

    def _check_outcome(self, account: Account) -> None:
        executed = self._executed
        if executed is None:
            return
        state = account.state
        swap = executed.get(state.order_id)
        if account.pending is not None and account.pending.kind == OrderKind.TWAP:
            self._check_sliced(state.order_id, swap)
        elif state.status in UNFILLED:
            self._findings.checked[Check.OUTCOMES] += 1
            if swap is not None:
                self._findings.add(
                    Kind.EXECUTED_UNFILLED,
                    f"order {state.order_id} ended {state.status}, but its swap was executed: {swap.signature}",
                    order_id=state.order_id,
                    signature=swap.signature,
                )
        elif state.status is Status.CONFIRMED and state.confirmed is not None:
            self._findings.checked[Check.OUTCOMES] += 1
            if state.settled:  # else a fork may just have taken it, or brought it back
                self._check_settled(state.order_id, state.confirmed, swap)
        if swap is not None:
            self._check_amounts(account, swap)

    def _check_sliced(self, order_id: str, swap: LedgerTransaction | None) -> None:
        """A sliced order is executed by its slices, and by nothing else."""
        self._findings.checked[Check.OUTCOMES] += 1
        if swap is not None:
            self._findings.add(
                Kind.EXECUTED_UNFILLED,
                f"order {order_id} is executed in slices, but a swap of its own was executed: {swap.signature}",
                order_id=order_id,
                signature=swap.signature,
            )

    def _check_settled(self, order_id: str, confirmed: ConfirmedDetail, swap: LedgerTransaction | None) -> None:
        """A confirmed order for which nothing is left to do: executed, or lost for good."""
        decided = " by an operator's decision" if confirmed.resolved else ""
        is_lost = confirmed.commitment == LOST
        if swap is None and not is_lost:
            self._findings.add(
                Kind.CONFIRMED_UNEXECUTED,
                f"order {order_id} is confirmed and {confirmed.commitment}{decided}, but the ledger has no executed"
                f" swap of it; it reports {confirmed.tx_hash}",
                order_id=order_id,
                signature=confirmed.tx_hash,
            )
        elif swap is not None and is_lost:
            self._findings.add(
                Kind.EXECUTED_UNFILLED,
                f"order {order_id} is lost for good{decided}, but its swap was executed: {swap.signature}",
                order_id=order_id,
                signature=swap.signature,
            )

    def _check_amounts(self, account: Account, swap: LedgerTransaction) -> None:
        tokens, pending = account.tokens, account.pending
        if tokens is None or pending is None:
            return  # the finding is that they cannot be read
        self._findings.checked[Check.AMOUNTS] += 1
        amount_in = format_amount(swap.amount_in, tokens.decimals_in)
        mint_out, decimals_out = _bought(account, tokens)
        differing = _named(
            ("mintIn", tokens.mint_in, swap.mint_in),
            ("mintOut", mint_out, swap.mint_out),
        )
        if not _is_within(pending, account.state.trigger, swap.amount_in, tokens.decimals_in):
            differing += _named(("amount", pending.amount, amount_in))
        confirmed = account.state.confirmed
        if confirmed is not None and not _landed_again(account, confirmed, swap):
            amount_out = format_amount(swap.amount_out, decimals_out)
            differing += _reported(confirmed, swap, amount_in, amount_out)
        if differing:
            self._findings.add(
                Kind.AMOUNT_DIFFERS,
                f"order {swap.order_id} does not say what {swap.signature} did: {'; '.join(differing)}",
                order_id=swap.order_id,
                signature=swap.signature,
            )
        self._check_minimum(swap, decimals_out)

    def _check_minimum(self, swap: LedgerTransaction, decimals: int) -> None:
        signed = self._events.signed.get(swap.signature)
        limit = signed.min_amount_out if signed is not None else None
        if limit is None or limit == "0":
            return  # never submitted, which is a finding of its own; or adopted
        try:
            if swap.amount_out >= parse_amount(limit, decimals):
                return
        except AmountError:
            limit = f"{limit!r}, which is no amount"
        self._findings.add(
            Kind.BELOW_MINIMUM,
            f"order {swap.order_id} received {format_amount(swap.amount_out, decimals)} by {swap.signature};"
            f" its limit was {limit}",
            order_id=swap.order_id,
            signature=swap.signature,
        )


def _differences(image: OrderImage, account: Account) -> list[str]:
    """Where an order's row is not the fold of its events."""
    state, pending = account.state, account.pending
    try:
        view = state.view()
    except (ValueError, OverflowError, OSError) as error:
        return [f"the events give no view: {error}"]
    columns = (image.status, image.seq, image.attempt, image.unfilled, image.settled, image.resting)
    rests = state.status is Status.WATCHING
    unfilled = view.status if view.status in UNFILLED else None
    differing: list[str] = []
    if columns != (view.status, view.seq, view.attempt, unfilled, state.settled, rests):
        differing = _named(
            ("status", image.status, view.status),
            ("seq", image.seq, view.seq),
            ("attempt", image.attempt, view.attempt),
            ("unfilled", image.unfilled, unfilled),
            ("settled", image.settled, state.settled),
            ("resting", image.resting, rests),
        )
    if (image.kind, image.pair) != (view.kind, view.pair):
        differing += _named(("kind", image.kind, view.kind), ("pair", image.pair, view.pair))
    if pending is not None and image.client_order_id != pending.client_order_id:
        differing += _named(("client_order_id", image.client_order_id, pending.client_order_id))
    if pending is not None and image.parent_id != pending.parent_id:
        differing += _named(("parent_id", image.parent_id, pending.parent_id))
    if not image.view and not state.settled and not rests:
        return differing  # its events are what shows it
    try:
        stored = _view_decoder.decode(image.view)
    except UNREADABLE as error:
        return [*differing, f"its view cannot be read: {error}"]
    if stored != view:
        pairs = ((f"view.{shown}", getattr(stored, name), getattr(view, name)) for name, shown in _VIEW_FIELDS)
        differing += _named(*pairs)
    return differing


def _bought(account: Account, tokens: SealedTokens) -> tuple[str, int]:
    """The mint that an order buys, and its decimals: a sniper's stands in its trigger."""
    trigger = account.state.trigger
    if trigger is None or trigger.mint is None:
        return tokens.mint_out, tokens.decimals_out
    decimals = trigger.decimals or 0
    return trigger.mint, decimals if 0 <= decimals <= DECIMALS_MAX else 0  # else that is a finding of its own


def _is_within(pending: PendingDetail, trigger: Trigger | None, swapped: int, decimals: int) -> bool:
    """Whether a swap took what was asked for; of an exit, at most what its trigger says is left, or that was."""
    limit = trigger.amount if trigger is not None and trigger.amount is not None else pending.amount
    try:
        asked = parse_amount(limit, decimals)
    except AmountError:
        return False
    return swapped <= asked if pending.kind == OrderKind.EXITS else swapped == asked


def _landed_again(account: Account, confirmed: ConfirmedDetail, swap: LedgerTransaction) -> bool:
    """Whether a fork had taken the swap that was reported, and the journal does not know yet what it did next."""
    return not account.state.settled and confirmed.slot is not None and confirmed.slot != swap.slot


def _reported(confirmed: ConfirmedDetail, swap: LedgerTransaction, amount_in: str, amount_out: str) -> list[str]:
    """Where what an order reports is not what its swap did. An operator's decision knows no fee."""
    differing = _named(
        ("txHash", confirmed.tx_hash, swap.signature),
        ("venue", confirmed.venue, swap.venue),
        ("amountIn", confirmed.amount_in, amount_in),
        ("amountOut", confirmed.amount_out, amount_out),
    )
    if not confirmed.resolved:
        differing += _named(("feePaid", confirmed.fee_paid, format_amount(swap.network_fee, _LAMPORT_DECIMALS)))
    if confirmed.slot is not None:  # an earlier release did not report it
        differing += _named(("slot", confirmed.slot, swap.slot))
    return differing


def _named(*pairs: tuple[str, object, object]) -> list[str]:
    """`name: found, not expected` for each that differs."""
    return [f"{name}: {_text(found)}, not {_text(expected)}" for name, found, expected in pairs if found != expected]


def _text(value: object) -> str:
    """A value as a person reads it: text in quotes, also that of an enumeration."""
    return repr(str(value)) if isinstance(value, str) else repr(value)
