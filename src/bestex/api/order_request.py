"""Read orders: what every kind has; what a kind demands beside that, `order_terms` reads."""

import re
from typing import Final

from bestex.api.fields import Fields, read_object
from bestex.api.order_exits import MAX_SLIPPAGE_BPS
from bestex.api.order_terms import TERM_FIELDS, Asked, read_terms
from bestex.api.problems import ProblemError
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


def read_order(body: bytes, tokens: TokenRegistry, now_us: int | None) -> OrderRequest:
    """The order in a request body. `ProblemError` with every bad field.

    `now_us` is what its expiry is held against; None: against nothing.
    """
    fields = Fields(read_object(body), ORDER_FIELDS)
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
        terms = read_terms(fields, Asked(kind, token_in, token_out, amount, now_us), tokens)
    fields.finish()
    if kind is None or token_in is None or token_out is None:  # `finish` has raised then
        raise ProblemError("validation")
    return OrderRequest(kind, token_in, token_out, amount, slippage_bps, client_order_id, terms)


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
