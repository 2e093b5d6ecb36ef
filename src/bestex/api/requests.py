"""Read what requests carry beside orders: queries, ids, headers, and the bodies of the simulated world."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from bestex.api.fields import WHOLE, Fields, JsonObject, Number, read_object, type_name
from bestex.api.problems import FieldProblem, ProblemError
from bestex.domain.lifecycle import Status
from bestex.domain.terms import Kind
from bestex.domain.tokens import Token, TokenRegistry
from bestex.ports import OrderFilter

MAX_QUERY_PARAMETERS: Final = 32
DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 500
MAX_PAIR: Final = 96
"""Characters; of a launched token's mint and its quote token there are fewer."""
_FOREIGN_CURSOR: Final = "is not a cursor that this engine gave"

_KEY: Final = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?", re.ASCII)
_POSITION: Final = re.compile(r"\d{1,18}", re.ASCII)
_ORDER_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


def read_funding(body: bytes, tokens: TokenRegistry) -> tuple[Token, int]:
    """Token and base units in `{"token", "amount"}`."""
    fields = Fields(read_object(body), ("token", "amount"))
    token = fields.token("token", tokens)
    amount = fields.amount("amount", token)
    fields.finish()
    if token is None:
        raise ProblemError("validation")
    return token, amount


def read_faults(body: bytes) -> dict[str, float]:
    """Fault names and their numbers; which names there are is the simulation's to say."""
    values = read_object(body)
    fields = Fields(values, tuple(values))
    faults: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Number) and len(value) <= 32:
            faults[name] = float(value)
        else:
            fields.bad(name, f"must be a number, not {type_name(value)}")
    fields.finish()
    return faults


def read_quote_query(query: Mapping[str, str], tokens: TokenRegistry) -> tuple[Token, Token, int]:
    """tokenIn, tokenOut and amount of a query string."""
    fields = Fields(JsonObject(list(query.items())), ("tokenIn", "tokenOut", "amount"))
    token_in = fields.token("tokenIn", tokens)
    token_out = fields.token("tokenOut", tokens)
    if token_in is not None and token_in is token_out:
        fields.bad("tokenOut", "must be another token than tokenIn")
    amount = fields.amount("amount", token_in)
    _finish_query(fields)
    if token_in is None or token_out is None:
        raise ProblemError("validation")
    return token_in, token_out, amount


def read_page_query(query: Mapping[str, str]) -> tuple[OrderFilter, int, str | None]:
    """The filter, the page's size and the cursor of a query string."""
    names = ("status", "pair", "kind", "parentId", "limit", "cursor")
    fields = Fields(JsonObject(list(query.items())), names)
    status = fields.one_of("status", Status)
    pair, kind = _read_pair(fields), fields.one_of("kind", Kind)
    parent_id = fields.text("parentId")
    if parent_id is not None and _ORDER_ID.fullmatch(parent_id) is None:
        fields.bad("parentId", "must be an order's id, a UUID")
    limit = _read_limit(fields)
    cursor = fields.text("cursor")
    if cursor is not None and _ORDER_ID.fullmatch(cursor) is None:
        fields.bad("cursor", _FOREIGN_CURSOR)
    _finish_query(fields)
    return OrderFilter(status, pair, kind, parent_id.lower() if parent_id is not None else None), limit, cursor


def read_launches_query(query: Mapping[str, str]) -> tuple[int, int | None, str | None]:
    """The page's size, when the last launch of the page before was seen, and the mint of a query string."""
    fields = Fields(JsonObject(list(query.items())), ("limit", "cursor", "mint"))
    limit = _read_limit(fields)
    cursor = fields.text("cursor")
    if cursor is not None and _POSITION.fullmatch(cursor) is None:
        fields.bad("cursor", _FOREIGN_CURSOR)
    mint = fields.address("mint")
    _finish_query(fields)
    return limit, int(cursor) if cursor is not None else None, mint


def read_cancel_query(query: Mapping[str, str]) -> tuple[str | None, Kind | None]:
    """Which orders are to be cancelled: of a pair, of a kind, or with neither, and only if so said, all."""
    fields = Fields(JsonObject(list(query.items())), ("pair", "kind", "all"))
    pair, kind = _read_pair(fields), fields.one_of("kind", Kind)
    everything = fields.text("all")
    if everything is None:
        if "pair" not in fields and "kind" not in fields:
            fields.bad("all", "say which orders, by pair or kind or both; or all=true")
    elif everything != "true":
        fields.bad("all", "must be true, or left out")
    elif "pair" in fields or "kind" in fields:
        fields.bad("all", "contradicts pair and kind: leave it out, or them")
    _finish_query(fields)
    return pair, kind


def _read_pair(fields: Fields) -> str | None:
    pair = fields.text("pair")
    if pair is not None and (len(pair) > MAX_PAIR or "\0" in pair):
        fields.bad("pair", "must be a pair such as SOL/USDC")
    return pair


def _read_limit(fields: Fields) -> int:
    limit = fields.text("limit") or str(DEFAULT_PAGE)
    if WHOLE.fullmatch(limit) is None or not 1 <= int(limit) <= MAX_PAGE:
        fields.bad("limit", f"must be a whole number from 1 to {MAX_PAGE}")
        return DEFAULT_PAGE
    return int(limit)


def read_query(query_string: bytes) -> dict[str, str]:
    """The parameters of a query string; `ProblemError` when one stands twice."""
    try:
        text = query_string.decode("latin-1")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_PARAMETERS)
    except ValueError as error:
        raise ProblemError("validation", f"at most {MAX_QUERY_PARAMETERS} query parameters are read") from error
    query = dict(pairs)
    if len(query) != len(pairs):
        raise ProblemError("validation", "a query parameter stands there more than once")
    return query


def read_after(text: str | None, parameter: str = "after") -> int | None:
    """A sequence number or position, 0 or above, of a query or a Last-Event-ID."""
    if text is None:
        return None
    if _POSITION.fullmatch(text) is None:
        problem = FieldProblem("must be a whole number, 0 or above", parameter=parameter)
        raise ProblemError("validation", "1 parameter is bad", (problem,))
    return int(text)


def read_until(text: str | None) -> bool:
    """Whether a stream goes on behind the first `confirmed`, as `?until=finalized` asks."""
    if text not in (None, "finalized"):
        problem = FieldProblem("must be finalized, or left out", parameter="until")
        raise ProblemError("validation", "1 parameter is bad", (problem,))
    return text is not None


def read_order_id(text: str) -> str:
    """An order id in its canonical form. `ProblemError` malformed-id."""
    if _ORDER_ID.fullmatch(text) is None:
        raise ProblemError("malformed-id")
    return text.lower()


def read_idempotency_key(value: bytes | None) -> str | None:
    if value is None:
        return None
    text = value.decode("latin-1")
    if _KEY.fullmatch(text) is None:
        problem = FieldProblem("must be 1 to 255 printable ASCII characters", header="Idempotency-Key")
        raise ProblemError("validation", "1 header is bad", (problem,))
    return text


def _finish_query(fields: Fields) -> None:
    if fields.problems:
        problems = tuple(FieldProblem(each.detail, parameter=(each.pointer or "/")[1:]) for each in fields.problems)
        count = len(problems)
        detail = "1 parameter is bad" if count == 1 else f"{count} parameters are bad"
        raise ProblemError("validation", detail, problems)
