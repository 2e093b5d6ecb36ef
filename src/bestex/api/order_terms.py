"""Read what an order demands beside its tokens and its amount: each field for the kinds that take it, and no other."""

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from bestex.api.fields import Fields
from bestex.api.order_exits import MAX_TRAIL_BPS, read_exits
from bestex.api.order_filters import read_filters
from bestex.domain.events import timestamp_text, timestamp_us
from bestex.domain.launches import LaunchFilters
from bestex.domain.money import MAX_BASE_UNITS, format_amount
from bestex.domain.price import least_out, parse_price
from bestex.domain.terms import NO_TERMS, Kind, OnSliceFailure, Terms, TimeInForce
from bestex.domain.tokens import Pair, Token, TokenRegistry, pair_of

MIN_SLICES, MAX_SLICES = 2, 1_000
MAX_INTERVAL_S: Final = 86_400
MAX_EXPIRY_S: Final = 366 * 86_400

_CLIENTS: Final = tuple(kind for kind in Kind if kind is not Kind.EXITS)
_TAKEN_BY: Final = MappingProxyType(
    {
        "limitPrice": (Kind.LIMIT, Kind.STOP, Kind.TAKE_PROFIT, Kind.TWAP),
        "minAmountOut": (Kind.LIMIT,),
        "triggerPrice": (Kind.STOP, Kind.TAKE_PROFIT),
        "trailBps": (Kind.TRAILING_STOP,),
        "timeInForce": _CLIENTS,
        "expiresAt": _CLIENTS,
        "allowImmediate": (Kind.STOP, Kind.TAKE_PROFIT),
        "exits": tuple(kind for kind in _CLIENTS if kind is not Kind.TWAP),
        "mint": (Kind.SNIPER,),
        "filters": (Kind.SNIPER,),
        "migrations": (Kind.SNIPER,),
        "slices": (Kind.TWAP,),
        "intervalSeconds": (Kind.TWAP,),
        "onSliceFailure": (Kind.TWAP,),
    }
)
"""The fields that not every kind has, and the kinds that take them."""

TERM_FIELDS: Final = tuple(_TAKEN_BY)
SNIPER_PAYS: Final = ("SOL", "USDC", "USDT")
"""What new pools are sold for."""

_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Asked(msgspec.Struct, frozen=True):
    """What is known of the order so far; None, and 0, for what was bad."""

    kind: Kind
    token_in: Token | None
    token_out: Token | None
    amount_in: int
    now_us: int | None  # None: an expiry in the past is taken

    @property
    def pair(self) -> Pair | None:
        if self.token_in is None or self.token_out is None or self.token_in is self.token_out:
            return None
        return pair_of(self.token_in, self.token_out)


def read_terms(fields: Fields, asked: Asked, tokens: TokenRegistry) -> Terms:
    """The terms of an order of a kind; what is wrong with them stands in `fields` then."""
    kind, pair = asked.kind, asked.pair
    _refuse_misplaced(fields, kind)
    time_in_force, expires_at = _read_time_in_force(fields, asked)
    limit_price = _read_limit_price(fields, asked)
    trigger_price = trail_bps = None
    if kind in _TAKEN_BY["triggerPrice"]:
        trigger_price = read_price(fields, "triggerPrice", pair, required=True)
    if kind is Kind.TRAILING_STOP:
        trail_bps = fields.optional_whole("trailBps", 1, MAX_TRAIL_BPS, required=True)
        if pair is not None and not pair.is_priced:
            fields.bad("kind", _unpriced(pair))
    slices, interval_seconds, on_slice_failure = _read_slices(fields, asked)
    mint, filters = _read_launch(fields, asked, tokens)
    terms = Terms(
        limit_price=limit_price,
        min_amount_out=_read_min_amount_out(fields, asked),
        trigger_price=trigger_price,
        trail_bps=trail_bps,
        time_in_force=time_in_force,
        expires_at=expires_at,
        allow_immediate=kind in _TAKEN_BY["allowImmediate"] and fields.flag("allowImmediate"),
        exits=read_exits(fields, kind, pair, asked.token_in) if kind in _TAKEN_BY["exits"] else None,
        mint=mint,
        filters=filters,
        migrations=kind is Kind.SNIPER and fields.flag("migrations"),
        slices=slices,
        interval_seconds=interval_seconds,
        on_slice_failure=on_slice_failure,
    )
    return NO_TERMS if terms == NO_TERMS else terms


def read_price(fields: Fields, field: str, pair: Pair | None, *, required: bool = False) -> str | None:
    """A price in its normal form; a pair that prices cannot be said of takes none."""
    if field in fields and pair is not None and not pair.is_priced:
        fields.bad(field, _unpriced(pair))
        return None
    return fields.price_text(field, required=required)


def read_expiry(fields: Fields, now_us: int | None) -> str | None:
    """`expiresAt` in its normal form; without the time now, only what can be checked without it."""
    text = fields.text("expiresAt")
    if text is None:
        return None
    try:
        if _RFC_3339.fullmatch(text) is None:
            raise ValueError("not of the form")
        at_us = timestamp_us(text.upper()) // 1000 * 1000
    except (ValueError, OverflowError):
        fields.bad("expiresAt", 'must be a time with its zone (RFC 3339), such as "2027-01-31T18:00:00Z"')
        return None
    if now_us is not None and not now_us < at_us <= now_us + MAX_EXPIRY_S * 1_000_000:
        days = MAX_EXPIRY_S // 86_400
        fields.bad("expiresAt", f"must be in the future, at most {days} days from now, {timestamp_text(now_us)}")
        return None
    return timestamp_text(at_us)


def _refuse_misplaced(fields: Fields, kind: Kind) -> None:
    """Note every field that belongs to other kinds."""
    for field, kinds in _TAKEN_BY.items():
        if field in fields and kind not in kinds:
            fields.bad(field, f"is not for {kind} orders, only for {_listed(kinds)}")
    if kind is Kind.SNIPER and "tokenOut" in fields:
        fields.bad("tokenOut", "is not for sniper orders: they buy what is launched; mint names a token to wait for")


def _read_time_in_force(fields: Fields, asked: Asked) -> tuple[TimeInForce, str | None]:
    """An expiry alone is taken as GTT."""
    given = fields.one_of("timeInForce", TimeInForce)
    if given in (TimeInForce.IOC, TimeInForce.FOK) and asked.kind not in (Kind.MARKET, Kind.LIMIT):
        fields.bad("timeInForce", f"{given} is for market and limit orders; {asked.kind} orders take GTC and GTT")
    expires_at = read_expiry(fields, asked.now_us)
    if "expiresAt" not in fields:
        if given is TimeInForce.GTT:
            fields.bad("expiresAt", "is missing: GTT says until when")
        return given or TimeInForce.GTC, None
    if given not in (None, TimeInForce.GTT):
        fields.bad("expiresAt", f"contradicts timeInForce {given}: leave it out, or say GTT")
    return TimeInForce.GTT, expires_at


def _read_limit_price(fields: Fields, asked: Asked) -> str | None:
    kind, pair = asked.kind, asked.pair
    if kind not in _TAKEN_BY["limitPrice"]:
        return None
    if kind is Kind.LIMIT and "minAmountOut" not in fields and "limitPrice" not in fields:
        fields.bad("limitPrice", "is missing: a limit order says limitPrice or minAmountOut")
    text = read_price(fields, "limitPrice", pair)
    if text is None or pair is None or not asked.amount_in:
        return text
    if least_out(parse_price(text), asked.amount_in, pair, sells_base=pair.base == asked.token_in) > MAX_BASE_UNITS:
        fields.bad("limitPrice", "no swap can pay so much for this amount")
    return text


def _read_min_amount_out(fields: Fields, asked: Asked) -> str | None:
    if asked.kind is not Kind.LIMIT or "minAmountOut" not in fields:
        return None
    if "limitPrice" in fields:
        fields.bad("minAmountOut", "says the same as limitPrice: leave one of them out")
    units = fields.amount("minAmountOut", asked.token_out)
    if not units or asked.token_out is None:
        return None
    return format_amount(units, asked.token_out.decimals)


def _read_slices(fields: Fields, asked: Asked) -> tuple[int | None, int | None, OnSliceFailure]:
    if asked.kind is not Kind.TWAP:
        return None, None, OnSliceFailure.CONTINUE
    slices = fields.optional_whole("slices", MIN_SLICES, MAX_SLICES, required=True)
    interval_seconds = fields.optional_whole("intervalSeconds", 1, MAX_INTERVAL_S, required=True)
    if slices is not None and asked.token_in is not None and 0 < asked.amount_in < slices:
        unit = format_amount(1, asked.token_in.decimals)
        fields.bad(
            "slices", f"makes slices under {unit} {asked.token_in.symbol}, its smallest unit: at most {asked.amount_in}"
        )
    return slices, interval_seconds, fields.one_of("onSliceFailure", OnSliceFailure) or OnSliceFailure.CONTINUE


def _read_launch(fields: Fields, asked: Asked, tokens: TokenRegistry) -> tuple[str | None, LaunchFilters | None]:
    """What a sniper waits for."""
    if asked.kind is not Kind.SNIPER:
        return None, None
    token_in = asked.token_in
    if token_in is not None and token_in.symbol not in SNIPER_PAYS:
        fields.bad("tokenIn", f"must be what new pools are sold for: {_listed(SNIPER_PAYS, 'or')}")
    mint = fields.address("mint")
    listed = next((token for token in tokens if token.mint == mint), None)
    if listed is not None:
        fields.bad("mint", f"is {listed.symbol}'s, which is traded already: a market order buys it")
    if "mint" not in fields and "filters" not in fields:
        fields.bad("filters", "is missing: say filters, {} to buy whatever comes first, or the mint to wait for")
    return mint, read_filters(fields, token_in)


def _unpriced(pair: Pair) -> str:
    return f"{pair.name} has no USDC, USDT or SOL to say prices in: say minAmountOut, in a limit order"


def _listed(names: Sequence[str], conjunction: str = "and") -> str:
    """`a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} {conjunction} {last}" if others else last
