"""Read the exits that an entry asks for: how the position that it opens is to be closed."""

from typing import Final

from bestex.api.fields import Fields
from bestex.domain.price import parse_price
from bestex.domain.terms import ExitLeg, ExitTerms, Kind
from bestex.domain.tokens import Pair, Token

MAX_GAIN_BPS: Final = 1_000_000
MAX_LOSS_BPS: Final = 9_999
MAX_TRAIL_BPS: Final = 9_000
MAX_SLIPPAGE_BPS: Final = 10_000

EXITS: Final = ("takeProfit", "stopLoss", "trailingStop")
_LEG_FIELDS: Final = {
    "takeProfit": ("triggerPrice", "gainBps", "limitPrice", "slippageBps"),
    "stopLoss": ("triggerPrice", "lossBps", "limitPrice", "slippageBps"),
    "trailingStop": ("trailBps", "slippageBps"),
}


def read_exits(order: Fields, kind: Kind, pair: Pair | None, token_in: Token | None) -> ExitTerms | None:
    """The exits of an order of a kind; what is wrong with them stands in `order` then."""
    fields = order.nested("exits", EXITS, "exit")
    if fields is None:
        return None
    if not fields.values:
        order.bad("exits", f"names no exit; say one or more of {', '.join(EXITS)}")
    if pair is not None and kind is not Kind.SNIPER and not pair.is_priced:
        order.bad("exits", f"the pair {pair.name} has no USDC, USDT or SOL to say prices in: it takes no exits")
        pair = None
    take_profit, stop_loss = (_priced_leg(fields, name, kind) for name in ("takeProfit", "stopLoss"))
    if take_profit is not None and stop_loss is not None and pair is not None:
        _check_order(fields, take_profit, stop_loss, buys_base=pair.base != token_in)
    return ExitTerms(take_profit=take_profit, stop_loss=stop_loss, trailing_stop=_trailing_leg(fields))


def _priced_leg(exits: Fields, name: str, kind: Kind) -> ExitLeg | None:
    fields = exits.nested(name, _LEG_FIELDS[name])
    if fields is None:
        return None
    share, most = ("gainBps", MAX_GAIN_BPS) if name == "takeProfit" else ("lossBps", MAX_LOSS_BPS)
    if kind is Kind.SNIPER:
        for field in ("triggerPrice", "limitPrice"):
            if field in fields:
                fields.bad(field, f"is not known of a token before it is launched: say {share}")
        if share not in fields:
            fields.bad(share, f"is missing: a whole number from 1 to {most}")
    elif "triggerPrice" in fields and share in fields:
        fields.bad("triggerPrice", f"contradicts {share}: say one of them")
    elif "triggerPrice" not in fields and share not in fields:
        fields.bad("triggerPrice", f"is missing: say it, or {share}")
    bps = fields.optional_whole(share, 1, most)
    return ExitLeg(
        trigger_price=fields.price_text("triggerPrice"),
        gain_bps=bps if share == "gainBps" else None,
        loss_bps=bps if share == "lossBps" else None,
        limit_price=fields.price_text("limitPrice"),
        slippage_bps=fields.optional_whole("slippageBps", 0, MAX_SLIPPAGE_BPS),
    )


def _trailing_leg(exits: Fields) -> ExitLeg | None:
    fields = exits.nested("trailingStop", _LEG_FIELDS["trailingStop"])
    if fields is None:
        return None
    return ExitLeg(
        trail_bps=fields.optional_whole("trailBps", 1, MAX_TRAIL_BPS, required=True),
        slippage_bps=fields.optional_whole("slippageBps", 0, MAX_SLIPPAGE_BPS),
    )


def _check_order(exits: Fields, take_profit: ExitLeg, stop_loss: ExitLeg, *, buys_base: bool) -> None:
    """A profit is on the other side of the entry's price than a loss."""
    if take_profit.trigger_price is None or stop_loss.trigger_price is None:
        return
    profit, loss = parse_price(take_profit.trigger_price), parse_price(stop_loss.trigger_price)
    if profit == loss or (profit > loss) is not buys_base:
        side, entry = ("above", "buys") if buys_base else ("below", "sells")
        exits.bad("takeProfit", f"must trigger {side} stopLoss, for the order {entry} the pair's base token")
