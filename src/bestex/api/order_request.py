"""Read orders: what every kind has; what a kind demands beside that, `order_terms` reads."""

import re
from typing import Final, Literal

import msgspec

from bestex.api.fields import WHOLE, Fields, JsonObject, read_object
from bestex.api.order_exits import MAX_SLIPPAGE_BPS
from bestex.api.order_terms import TERM_FIELDS, Asked, read_terms
from bestex.api.problems import ProblemError
from bestex.domain.money import AmountError, parse_amount
from bestex.domain.orders import UNKNOWN_TOKEN
from bestex.domain.terms import NO_TERMS, Kind
from bestex.domain.tokens import TokenRegistry
from bestex.engine.intake import OrderRequest

DEFAULT_SLIPPAGE_BPS: Final = 50
SNIPER_SLIPPAGE_BPS: Final = 500
"""A new pool moves far within the time that a transaction needs."""

CLIENT_KINDS: Final = tuple(kind for kind in Kind if kind is not Kind.EXITS)
COMMON_FIELDS: Final = ("tokenIn", "tokenOut", "amount", "kind", "slippageBps", "clientOrderId")
ORDER_FIELDS: Final = (*COMMON_FIELDS, *TERM_FIELDS)
_COMMON: Final = frozenset(COMMON_FIELDS)
_CLIENT_ORDER_ID: Final = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?", re.ASCII)


def read_order(body: bytes, tokens: TokenRegistry, now_us: int, *, has_key: bool = False) -> OrderRequest:
    """The order in a request body; `now_us` is what its expiry is held against. `ProblemError` with every bad field.

    `has_key`: it came with an idempotency key. With that, or an id of the client's, an expiry may be past: the engine
    knows whether the order is a repetition.
    """
    plain = _read_plain(body, tokens)
    return plain if plain is not None else read_order_object(read_object(body), tokens, now_us, has_key=has_key)


def read_order_object(values: JsonObject, tokens: TokenRegistry, now_us: int, *, has_key: bool = False) -> OrderRequest:
    """The same of a body that was decoded."""
    fields = Fields(values, ORDER_FIELDS)
    kind = _read_kind(fields) if "kind" in fields.values else Kind.MARKET
    token_in = fields.token("tokenIn", tokens)
    token_out = UNKNOWN_TOKEN if kind is Kind.SNIPER else fields.token("tokenOut", tokens)
    if token_in is not None and token_in is token_out:
        fields.bad("tokenOut", "must be another token than tokenIn")
    amount = fields.amount("amount", token_in)
    usual_bps = SNIPER_SLIPPAGE_BPS if kind is Kind.SNIPER else DEFAULT_SLIPPAGE_BPS
    slippage_bps = fields.whole("slippageBps", usual_bps, 0, MAX_SLIPPAGE_BPS)
    client_order_id = fields.text("clientOrderId")
    if client_order_id is not None and _CLIENT_ORDER_ID.fullmatch(client_order_id) is None:
        fields.bad("clientOrderId", "must be 1 to 64 printable ASCII characters")
    terms = NO_TERMS
    if kind is not None and not (kind is Kind.MARKET and fields.values.keys() <= _COMMON):
        may_repeat = has_key or client_order_id is not None
        terms = read_terms(fields, Asked(kind, token_in, token_out, amount, now_us, may_repeat), tokens)
    fields.finish()
    if kind is None or token_in is None or token_out is None:  # `finish` has raised then
        raise ProblemError("validation")
    return OrderRequest(kind, token_in, token_out, amount, slippage_bps, client_order_id, terms)


class _Plain(msgspec.Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    """A market order without terms, as most are; what is to be read exactly stays as it was written."""

    token_in: str
    token_out: str
    amount: msgspec.Raw
    slippage_bps: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    client_order_id: str | msgspec.UnsetType = msgspec.UNSET
    kind: Literal["market"] | msgspec.UnsetType = msgspec.UNSET


_plain_decoder: Final = msgspec.json.Decoder(_Plain)
_PLAIN_FIELDS: Final = 3


def _read_plain(body: bytes, tokens: TokenRegistry) -> OrderRequest | None:
    """A plain order that nothing is wrong with, quickly; None of any other, and whatever looks unusual."""
    try:
        plain = _plain_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    slippage, client_order_id = plain.slippage_bps, plain.client_order_id
    unset = msgspec.UNSET
    given = _PLAIN_FIELDS + (slippage is not unset) + (client_order_id is not unset) + (plain.kind is not unset)
    if body.count(b":") != given:  # a field that stands there twice, or a colon in a text
        return None
    token_in, token_out = tokens.find(plain.token_in), tokens.find(plain.token_out)
    if token_in is None or token_out is None or token_in is token_out:
        return None
    slippage_bps = DEFAULT_SLIPPAGE_BPS
    if slippage is not unset:
        written = bytes(slippage).decode()
        if WHOLE.fullmatch(written) is None or not 0 <= (slippage_bps := int(written)) <= MAX_SLIPPAGE_BPS:
            return None
    name = None
    if client_order_id is not unset:
        name = client_order_id
        if _CLIENT_ORDER_ID.fullmatch(name) is None:
            return None
    amount = bytes(plain.amount)
    if amount.startswith(b'"'):
        amount = amount[1:-1]  # with an escape in it, it is no amount
    try:
        amount_in = parse_amount(amount.decode(), token_in.decimals)
    except AmountError:
        return None
    return OrderRequest(Kind.MARKET, token_in, token_out, amount_in, slippage_bps, name)


def _read_kind(fields: Fields) -> Kind | None:
    name = fields.text("kind")
    if name is None:
        return None
    if name in CLIENT_KINDS:
        return Kind(name)
    if name == Kind.EXITS:
        fields.bad("kind", f"{name} are made when their entry executes: say them in the field exits of that order")
    else:
        fields.bad("kind", f"must be one of {', '.join(CLIENT_KINDS)}")
    return None
