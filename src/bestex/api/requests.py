"""Read requests: JSON numbers exactly, all bad fields at once, nothing guessed."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from bestex.api.problems import FieldProblem, ProblemError
from bestex.domain.lifecycle import Status
from bestex.domain.money import AmountError, parse_amount
from bestex.domain.terms import Kind
from bestex.domain.tokens import Token, TokenRegistry, is_mint_address
from bestex.engine.intake import OrderRequest
from bestex.ports import OrderFilter

MAX_BODY_BYTES: Final = 64 * 1024
MAX_FIELD_PROBLEMS: Final = 50
MAX_UNKNOWN_FIELDS: Final = 20
"""Unknown and repeated fields that an answer names, each: so that they leave room for the known ones."""
MAX_QUERY_PARAMETERS: Final = 32
DEFAULT_SLIPPAGE_BPS: Final = 50
MAX_SLIPPAGE_BPS: Final = 10_000
DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 500

_ORDER_FIELDS: Final = ("tokenIn", "tokenOut", "amount", "kind", "slippageBps", "clientOrderId")
_WHOLE: Final = re.compile(r"-?\d{1,9}", re.ASCII)
_CLIENT_ORDER_ID: Final = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?", re.ASCII)
_KEY: Final = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?", re.ASCII)
_ORDER_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class _Number(str):
    """The text of a JSON number, exactly as it was written."""

    __slots__ = ()


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys stood in it twice."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: list[str] = []
        if len(self) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.repeated.append(key)
                seen.add(key)


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_Object, parse_float=_Number, parse_int=_Number, parse_constant=_Number
)


def read_object(body: bytes) -> _Object:
    """The JSON object in `body`, numbers as their text. `ProblemError` malformed-json."""
    try:
        value = _decoder.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProblemError("malformed-json", f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ProblemError("malformed-json", f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ProblemError("malformed-json", "nested too deeply") from error
    if not isinstance(value, _Object):
        raise ProblemError("validation", "one JSON object was expected", (FieldProblem("must be an object", ""),))
    return value


class _Fields:
    """Reads the fields of one object and collects what is wrong with them."""

    def __init__(self, values: _Object, known: tuple[str, ...]) -> None:
        self.values = values
        self.problems: list[FieldProblem] = []
        for key in values.repeated[:MAX_UNKNOWN_FIELDS]:
            self.bad(key, "stands in the object more than once")
        unknown = [key for key in values if key not in known]
        for key in unknown[:MAX_UNKNOWN_FIELDS]:
            self.bad(key, f"is not a field; the fields are {', '.join(known)}")

    def bad(self, field: str, detail: str) -> None:
        if len(self.problems) < MAX_FIELD_PROBLEMS:
            self.problems.append(FieldProblem(detail, _pointer(field)))

    def text(self, field: str, *, required: bool) -> str | None:
        """A JSON string, or None with the problem noted."""
        if field not in self.values:
            if required:
                self.bad(field, "is missing")
            return None
        value = self.values[field]
        if type(value) is not str:
            self.bad(field, f"must be a string, not {_type_name(value)}")
            return None
        return value

    def token(self, field: str, tokens: TokenRegistry) -> Token | None:
        name = self.text(field, required=True)
        if name is None:
            return None
        token = tokens.find(name)
        if token is None:
            known = ", ".join(each.symbol for each in tokens)
            what = "this mint is not in the token registry" if is_mint_address(name) else "unknown token"
            self.bad(field, f"{what}; known are {known} and their mint addresses")
        return token

    def amount(self, field: str, token: Token | None) -> int:
        """Base units of `token`; without one, only what can be checked without its decimals."""
        if field not in self.values:
            self.bad(field, "is missing")
            return 0
        value = self.values[field]
        if type(value) is not str and not isinstance(value, _Number):
            self.bad(field, f"must be a decimal number or its text, not {_type_name(value)}")
            return 0
        try:
            return parse_amount(value, token.decimals if token is not None else 18)
        except AmountError as error:
            self.bad(field, str(error))
            return 0

    def whole(self, field: str, default: int, low: int, high: int) -> int:
        if field not in self.values:
            return default
        value = self.values[field]
        if not isinstance(value, _Number):
            self.bad(field, f"must be a whole number, not {_type_name(value)}")
        elif _WHOLE.fullmatch(value) is None or not low <= int(value) <= high:
            self.bad(field, f"must be a whole number from {low} to {high}")
        else:
            return int(value)
        return default

    def finish(self) -> None:
        """Raise all that was found bad."""
        if self.problems:
            count = len(self.problems)
            detail = "1 field is bad" if count == 1 else f"{count} fields are bad"
            raise ProblemError("validation", detail, tuple(self.problems))


def read_order(body: bytes, tokens: TokenRegistry) -> OrderRequest:
    """The order in a request body. `ProblemError` with every bad field."""
    fields = _Fields(read_object(body), _ORDER_FIELDS)
    token_in = fields.token("tokenIn", tokens)
    token_out = fields.token("tokenOut", tokens)
    if token_in is not None and token_in is token_out:
        fields.bad("tokenOut", "must be another token than tokenIn")
    amount = fields.amount("amount", token_in)
    kind = fields.text("kind", required=False)
    if kind is not None and kind not in tuple(Kind):
        fields.bad("kind", f"must be one of {', '.join(Kind)}")
    slippage_bps = fields.whole("slippageBps", DEFAULT_SLIPPAGE_BPS, 0, MAX_SLIPPAGE_BPS)
    client_order_id = fields.text("clientOrderId", required=False)
    if client_order_id is not None and _CLIENT_ORDER_ID.fullmatch(client_order_id) is None:
        fields.bad("clientOrderId", "must be 1 to 64 printable ASCII characters")
    fields.finish()
    if token_in is None or token_out is None:  # `finish` has raised then
        raise ProblemError("validation")
    return OrderRequest(Kind(kind or Kind.MARKET), token_in, token_out, amount, slippage_bps, client_order_id)


def read_funding(body: bytes, tokens: TokenRegistry) -> tuple[Token, int]:
    """Token and base units in `{"token", "amount"}`."""
    fields = _Fields(read_object(body), ("token", "amount"))
    token = fields.token("token", tokens)
    amount = fields.amount("amount", token)
    fields.finish()
    if token is None:
        raise ProblemError("validation")
    return token, amount


def read_faults(body: bytes) -> dict[str, float]:
    """Fault names and their numbers; which names there are is the simulation's to say."""
    values = read_object(body)
    fields = _Fields(values, tuple(values))
    faults: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, _Number) and len(value) <= 32:
            faults[name] = float(value)
        else:
            fields.bad(name, f"must be a number, not {_type_name(value)}")
    fields.finish()
    return faults


def read_quote_query(query: Mapping[str, str], tokens: TokenRegistry) -> tuple[Token, Token, int]:
    """tokenIn, tokenOut and amount of a query string."""
    fields = _Fields(_Object(list(query.items())), ("tokenIn", "tokenOut", "amount"))
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
    fields = _Fields(_Object(list(query.items())), ("status", "pair", "kind", "limit", "cursor"))
    status = query.get("status")
    if status is not None and status not in tuple(Status):
        fields.bad("status", f"must be one of {', '.join(Status)}")
    kind = query.get("kind")
    if kind is not None and kind not in tuple(Kind):
        fields.bad("kind", f"must be one of {', '.join(Kind)}")
    pair = query.get("pair")
    if pair is not None and (len(pair) > 64 or "\0" in pair):
        fields.bad("pair", "must be a pair such as SOL/USDC")
    limit = query.get("limit", str(DEFAULT_PAGE))
    if _WHOLE.fullmatch(limit) is None or not 1 <= int(limit) <= MAX_PAGE:
        fields.bad("limit", f"must be a whole number from 1 to {MAX_PAGE}")
    cursor = query.get("cursor")
    if cursor is not None and _ORDER_ID.fullmatch(cursor) is None:
        fields.bad("cursor", "is not a cursor that this engine gave")
    _finish_query(fields)
    return OrderFilter(Status(status) if status else None, pair, kind), int(limit), cursor


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
    if re.fullmatch(r"\d{1,18}", text, re.ASCII) is None:
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


def _finish_query(fields: _Fields) -> None:
    if fields.problems:
        problems = tuple(FieldProblem(each.detail, parameter=(each.pointer or "/")[1:]) for each in fields.problems)
        count = len(problems)
        detail = "1 parameter is bad" if count == 1 else f"{count} parameters are bad"
        raise ProblemError("validation", detail, problems)


def _pointer(field: str) -> str:
    """The JSON pointer (RFC 6901) of a top-level field, safe to send back whatever the field is called."""
    shown = field if len(field) <= 64 else f"{field[:64]}…"
    shown = shown.encode("utf-8", "replace").decode("utf-8")
    return "/" + shown.replace("~", "~0").replace("/", "~1")


def _type_name(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case _Number():
            return "a number"
        case str():
            return "a string"
        case None:
            return "null"
        case dict():
            return "an object"
        case _:
            return "an array"
