"""Whether a client's change of a watched order fits the order: pure."""

from msgspec.structs import replace

from bestex.domain.events import Changes
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.engine.errors import BadChangeError

_PRICED = frozenset({Kind.LIMIT, Kind.STOP, Kind.TAKE_PROFIT})
_TRIGGERED = frozenset({Kind.STOP, Kind.TAKE_PROFIT})


def check_changes(order: Order, changes: Changes, now_us: int) -> Changes:
    """The changes as they are recorded; `BadChangeError` names the field that does not fit the order."""
    if changes == Changes():
        raise BadChangeError("", "names nothing to change: limitPrice, triggerPrice, expiresAt, slippageBps")
    if changes.limit_price is not None:
        _check(order, "limitPrice", has_it=order.kind in _PRICED or order.terms.limit_price is not None)
        if order.kind is Kind.LIMIT and order.terms.limit_price is None:
            raise BadChangeError("limitPrice", "the order has minAmountOut for its limit: change that")
    if changes.min_amount_out is not None:
        _check(order, "minAmountOut", has_it=order.terms.min_amount_out is not None)
    if changes.trigger_price is not None:
        _check(order, "triggerPrice", has_it=order.kind in _TRIGGERED)
    if changes.slippage_bps is not None:
        _check(order, "slippageBps", has_it=order.kind is not Kind.EXITS)
    if changes.expires_at is not None:
        expires_us = replace(order, terms=replace(order.terms, expires_at=changes.expires_at)).expires_us
        if expires_us is not None and expires_us <= now_us:
            raise BadChangeError("expiresAt", "must be in the future")
    return changes


def _check(order: Order, field: str, *, has_it: bool) -> None:
    if not has_it:
        raise BadChangeError(field, f"an order of kind {order.kind} has none to change")
