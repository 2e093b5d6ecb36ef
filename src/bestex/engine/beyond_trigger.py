"""Whether an order's trigger would fire as soon as it waits: then it is refused, unless it allows that."""

from typing import Final

from bestex.domain.orders import Order
from bestex.domain.price import format_price, traded_price
from bestex.domain.terms import Kind
from bestex.engine.errors import BeyondTriggerError
from bestex.engine.resting_orders import resting_order
from bestex.engine.triggers.book import MAX_PRICE_AGE_US
from bestex.engine.triggers.resting import Sense, entries_of
from bestex.ports import Clock, MarketData

_IMMEDIATE: Final = frozenset({Kind.STOP, Kind.TAKE_PROFIT})


async def check_not_beyond(order: Order, market: MarketData, clock: Clock) -> None:
    """Raise `BeyondTriggerError` for a trigger that the price is beyond already, unless the order allows that.

    The market is asked only where it matters.
    """
    if order.kind not in _IMMEDIATE or order.terms.allow_immediate or order.terms.trigger_price is None:
        return
    tick = market.latest(order.pair) or await market.read(order.pair)
    if tick is None or clock.now_us() - tick.at_us > MAX_PRICE_AGE_US:
        return  # no price fires nothing
    amount_out = max((curve.amount_out(order.amount_in, order.sells_base) for curve in tick.curves), default=0)
    [entry] = entries_of(resting_order(order, 0, 0), order.token_in, order.token_out)
    rises = entry.kind.sense is Sense.RISE
    if amount_out and (amount_out >= entry.threshold if rises else amount_out <= entry.threshold):
        price = format_price(traded_price(order.amount_in, amount_out, order.pair, sells_base=order.sells_base))
        wanted = "below" if (order.sells_base is not rises) else "above"
        raise BeyondTriggerError(
            "triggerPrice",
            f"the price is {price} already, for this amount: give one {wanted} it, or allowImmediate",
        )
