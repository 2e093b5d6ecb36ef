"""A watched order as its row of the journal would give it, from what this process knows of it."""

from bestex.domain.events import timestamp_text
from bestex.domain.money import format_amount
from bestex.domain.orders import Order
from bestex.engine.order_log import OrderLog
from bestex.ports import RestingOrder


def resting_of(log: OrderLog) -> RestingOrder:
    state = log.state
    return resting_order(log.order, state.seq, log.epoch, state.not_before)


def resting_order(order: Order, seq: int, epoch: int, not_before: str | None = None) -> RestingOrder:
    terms = order.terms
    return RestingOrder(
        order_id=order.id,
        seq=seq,
        kind=order.kind.value,
        token_in=order.token_in.symbol,
        token_out=order.token_out.symbol,
        amount=format_amount(order.amount_in, order.token_in.decimals),
        epoch=epoch,
        limit_price=terms.limit_price,
        min_amount_out=terms.min_amount_out,
        trigger_price=terms.trigger_price,
        trail_bps=terms.trail_bps,
        expires_at=terms.expires_at,
        not_before=not_before,
        parent_id=terms.parent_id,
        legs=terms.legs,
        mint=terms.mint,
        filters=terms.filters,
        migrations=terms.migrations,
        created_at=timestamp_text(order.created_us),
    )
