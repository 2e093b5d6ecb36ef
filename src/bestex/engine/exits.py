"""The exits of a position: one order with a leg for each, made in the commit that confirms its entry.

What holds of it:

- It sells what its entry received, for what its entry paid with; its id follows from its entry's.
- Its legs' prices are reckoned from what the entry really executed at.
- It waits from its first event on, so there is no moment in which the position stands without it.
"""

from typing import Final

from bestex.domain.derived_ids import derived_id
from bestex.domain.events import LOST, ConfirmedDetail
from bestex.domain.money import read_amount
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.price import MAX_PRICE, format_price, traded_price
from bestex.domain.terms import ExitLeg, ExitTerms, Kind, Leg, LegName, Terms
from bestex.engine.order_log import OrderLog
from bestex.ports import Append, Clock, Journal, NewOrder

BPS: Final = 10_000
PRICE_DIGITS: Final = 12  # of a leg's price that is reckoned from its entry's


def exits_of(entry: Order, confirmed: ConfirmedDetail, caller: str, now_us: int) -> tuple[Order, NewOrder] | None:
    """The exits that an executed entry asks for; None when it asks for none, or received nothing."""
    terms = entry.terms.exits
    received = read_amount(confirmed.amount_out, entry.token_out.decimals)
    if terms is None or received == 0:
        return None
    amount_in = read_amount(confirmed.amount_in, entry.token_in.decimals)
    entry_price = traded_price(amount_in, received, entry.pair, sells_base=entry.sells_base)
    legs = _legs(terms, entry, entry_price)
    order = Order(
        id=derived_id(entry.id, "exits"),
        kind=Kind.EXITS,
        token_in=entry.token_out,
        token_out=entry.token_in,
        amount_in=received,
        slippage_bps=entry.slippage_bps,
        created_us=now_us,
        terms=Terms(legs=legs, parent_id=entry.id),
    )
    return order, NewOrder(order.id, order.kind.value, order.pair.name, caller, parent_id=entry.id)


def exits_append(
    journal: Journal, clock: Clock, entry: Order, confirmed: ConfirmedDetail, caller: str
) -> Append | None:
    """The rows that make an executed entry's exits, to be stored with its `confirmed`; None when there are none."""
    made = exits_of(entry, confirmed, caller, clock.now_us())
    if made is None:
        return None
    order, new = made
    return OrderLog(journal, clock, order, OrderState(), 0).draft_new(new)


def _legs(terms: ExitTerms, entry: Order, entry_price: int) -> tuple[Leg, ...]:
    """Absolute prices; an exit that buys the base token back gains as the price falls. Rounded down."""
    legs = []
    for name, leg in terms.legs():
        slippage_bps = entry.slippage_bps if leg.slippage_bps is None else leg.slippage_bps
        price = _trigger_price(name, leg, entry_price, sells_base=not entry.sells_base)
        legs.append(Leg(name, slippage_bps, price, leg.trail_bps, leg.limit_price))
    return tuple(legs)


def _trigger_price(name: LegName, leg: ExitLeg, entry_price: int, *, sells_base: bool) -> str | None:
    if name is LegName.TRAILING_STOP:
        return None
    if leg.trigger_price is not None:
        return leg.trigger_price
    bps = (leg.gain_bps or 0) if name is LegName.TAKE_PROFIT else -(leg.loss_bps or 0)
    if not sells_base:
        bps = -bps
    price = min(entry_price * (BPS + bps) // BPS, MAX_PRICE)
    return format_price(_readable(max(1, price)))


def _readable(price: int) -> int:
    """A price of at most `PRICE_DIGITS` digits, rounded down: an executed price may have dozens."""
    grain: int = 10 ** max(0, len(str(price)) - PRICE_DIGITS)
    return price // grain * grain


def position_left(exits: Order, entry: OrderState) -> int | None:
    """How much of the position stands by what the chain says of its entry now, base units.

    None where a fork took the entry away, and it may land again; 0 where it never will.
    """
    confirmed = entry.confirmed
    if confirmed is None or confirmed.amount_out is None:
        return 0
    if confirmed.gone:
        return 0
    if confirmed.commitment == LOST:
        return None
    received = read_amount(confirmed.amount_out, exits.token_in.decimals)
    return min(received, exits.amount_in)
