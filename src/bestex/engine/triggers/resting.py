"""One watched order, or one leg of it, as a book holds it: as small as can be, for there are a million."""

from enum import Enum, StrEnum
from typing import Final, TypeVar, assert_never

import msgspec

from bestex.domain.money import MAX_BASE_UNITS, parse_amount
from bestex.domain.price import PRICE_SCALE, least_out, most_out, parse_price
from bestex.domain.terms import Kind, Leg, LegName
from bestex.domain.tokens import Pair, Token, pair_of
from bestex.engine.triggers.rates import KEY_MAX, rate_key
from bestex.ports import RestingOrder

T = TypeVar("T")


class Sense(Enum):
    """Which way the price must have gone for an order to fire."""

    RISE = 1  # its own size pays its threshold or more
    FALL = -1  # its own size pays its threshold or less, but something


class TriggerKind(StrEnum):
    """What makes an order fire, in the words of `events.Trigger`."""

    LIMIT = "limit"
    STOP = "stop"
    TAKE_PROFIT = "takeProfit"
    STOP_LOSS = "stopLoss"
    TRAILING_STOP = "trailingStop"

    @property
    def sense(self) -> Sense:
        return _SENSES[self]


_SENSES: Final = {
    TriggerKind.LIMIT: Sense.RISE,
    TriggerKind.TAKE_PROFIT: Sense.RISE,
    TriggerKind.STOP: Sense.FALL,
    TriggerKind.STOP_LOSS: Sense.FALL,
    TriggerKind.TRAILING_STOP: Sense.FALL,
}
_LEG_KINDS: Final = {
    LegName.TAKE_PROFIT: TriggerKind.TAKE_PROFIT,
    LegName.STOP_LOSS: TriggerKind.STOP_LOSS,
    LegName.TRAILING_STOP: TriggerKind.TRAILING_STOP,
}


class Resting(msgspec.Struct, frozen=True, gc=False):
    """A watched order, or one leg of an `exits` order. Its pair and direction are those of where it stands."""

    key: int  # the order's id as the number that a UUID is: later orders have greater ones
    seq: int  # of the order's last event
    epoch: int  # of its last lease
    amount_in: int  # base units of the input token
    threshold: int  # base units of the output token; 0 of a trailing stop, whose threshold follows the price
    rank: int  # where it stands among those of its sense: the easiest to fire have the smallest
    kind: TriggerKind
    trail_bps: int = 0  # of a trailing stop

    @property
    def order_id(self) -> str:
        return id_of(self.key)


def key_of(order_id: str) -> int:
    """The number that the UUID in canonical text is; `ValueError` when it is none."""
    return int(order_id.replace("-", ""), 16)


def id_of(key: int) -> str:
    """The UUID as canonical text."""
    text = f"{key:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def entries_of(order: RestingOrder, token_in: Token, token_out: Token) -> tuple[Resting, ...]:
    """What stands in the book of the pair for a watched order: one entry, or one for each leg of an `exits` order.

    Empty for kinds that wait for something else than a price. `ValueError` for an order without the price that its
    kind needs, or with one that cannot be read.
    """
    kind = Kind(order.kind)
    amount_in = parse_amount(order.amount, token_in.decimals)
    pair = pair_of(token_in, token_out)
    sells_base = pair.base == token_in
    match kind:
        case Kind.LIMIT:
            if order.limit_price is not None:
                return (_priced(order, TriggerKind.LIMIT, order.limit_price, amount_in, pair, sells_base),)
            least = parse_amount(_demanded(order, order.min_amount_out), token_out.decimals)
            rank = rate_key(least, amount_in)
            return (Resting(key_of(order.order_id), order.seq, order.epoch, amount_in, least, rank, TriggerKind.LIMIT),)
        case Kind.STOP:
            price = _demanded(order, order.trigger_price)
            return (_priced(order, TriggerKind.STOP, price, amount_in, pair, sells_base),)
        case Kind.TAKE_PROFIT:
            price = _demanded(order, order.trigger_price)
            return (_priced(order, TriggerKind.TAKE_PROFIT, price, amount_in, pair, sells_base),)
        case Kind.TRAILING_STOP:
            return (_trailing(order, order.trail_bps, amount_in),)
        case Kind.EXITS:
            return tuple(_leg(order, leg, amount_in, pair, sells_base) for leg in order.legs)
        case Kind.MARKET | Kind.SNIPER | Kind.TWAP:
            return ()
        case _:
            assert_never(kind)


def _leg(order: RestingOrder, leg: Leg, amount_in: int, pair: Pair, sells_base: bool) -> Resting:
    if leg.name is LegName.TRAILING_STOP:
        return _trailing(order, leg.trail_bps, amount_in)
    return _priced(order, _LEG_KINDS[leg.name], _demanded(order, leg.trigger_price), amount_in, pair, sells_base)


def _priced(
    order: RestingOrder, kind: TriggerKind, price_text: str, amount_in: int, pair: Pair, sells_base: bool
) -> Resting:
    price = parse_price(price_text)
    if kind.sense is Sense.RISE:
        threshold = least_out(price, amount_in, pair, sells_base=sells_base)
        rank = price_rate_key(price, pair, sells_base)
    else:
        threshold = most_out(price, amount_in, pair, sells_base=sells_base)
        rank = fall_rank(price, pair, sells_base)
    # Beyond what a token account can hold one threshold is as good as another.
    threshold = min(threshold, MAX_BASE_UNITS)
    return Resting(key_of(order.order_id), order.seq, order.epoch, amount_in, threshold, rank, kind)


def _trailing(order: RestingOrder, trail_bps: int | None, amount_in: int) -> Resting:
    trail_bps = _demanded(order, trail_bps)
    key = key_of(order.order_id)
    return Resting(key, order.seq, order.epoch, amount_in, 0, 0, TriggerKind.TRAILING_STOP, trail_bps)


def _demanded(order: RestingOrder, value: T | None) -> T:
    if value is None:
        raise ValueError(f"order {order.order_id} of kind {order.kind} waits for a price but names none")
    return value


def price_rate_key(price: int, pair: Pair, sells_base: bool) -> int:
    """The key of the rate at exactly `price`: orders at one price are equal, whatever their amounts round to."""
    base, quote = 10**pair.base.decimals, 10**pair.quote.decimals
    if sells_base:
        return rate_key(price * quote, PRICE_SCALE * base)
    return rate_key(PRICE_SCALE * base, price * quote)


def fall_rank(price: int, pair: Pair, sells_base: bool) -> int:
    """The rank of an order that fires at `price` or worse: the better the price, the sooner."""
    return KEY_MAX - price_rate_key(price, pair, sells_base)
