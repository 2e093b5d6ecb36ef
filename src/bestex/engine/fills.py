"""What an executed swap did, as the order's `confirmed` event says it."""

from typing import Final

from msgspec.structs import replace

from bestex.domain.events import BuildingDetail, ConfirmedDetail, Timings
from bestex.domain.money import format_amount, parse_amount, price_text
from bestex.domain.orders import Order
from bestex.domain.route import Fill

_LAMPORT_DECIMALS: Final = 9


def confirmed_detail(
    order: Order,
    building: BuildingDetail | None,
    signature: str,
    fill: Fill,
    *,
    commitment: str,
    slot: int | None,
    note: str | None = None,
    resolved: bool = False,
    timings: Timings | None = None,
) -> ConfirmedDetail:
    """Amounts as the transaction moved them, against what `building` quoted; the first `confirmed` of the order."""
    if building is None:
        raise ValueError(f"order {order.id} was submitted without a chosen venue")
    pair, paid, got = order.pair, fill.amount_in, fill.amount_out
    base, quote = (paid, got) if pair.base is order.token_in or pair.base == order.token_in else (got, paid)
    return ConfirmedDetail(
        venue=building.venue,
        tx_hash=signature,
        amount_in=format_amount(paid, order.token_in.decimals),
        amount_out=format_amount(got, order.token_out.decimals),
        executed_price=price_text(quote, pair.quote.decimals, base, pair.base.decimals),
        slippage_bps=_slippage_bps(building, fill, order.token_out.decimals),
        fee_paid=format_amount(fill.fee_paid, _LAMPORT_DECIMALS),
        commitment=commitment,
        slot=slot,
        note=note,
        resolved=resolved,
        timings=timings,
    )


def _slippage_bps(building: BuildingDetail, fill: Fill, decimals: int) -> float:
    """How much less the fill paid than quoted; negative when more."""
    if building.amount_out == "0":  # nothing was quoted: the attempt was adopted
        return 0.0
    quoted = parse_amount(building.amount_out, decimals)
    return round((quoted - fill.amount_out) * 10_000 / quoted, 2)


def note_of(detail: ConfirmedDetail) -> ConfirmedDetail:
    """`detail` as a note on an order that is confirmed already: without what stays the same."""
    return replace(detail, venue=None, tx_hash=None, timings=None)
