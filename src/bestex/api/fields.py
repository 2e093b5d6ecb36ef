"""Read the fields of JSON objects: numbers exactly, all bad fields at once, nothing guessed."""

import json
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

from bestex.api.problems import FieldProblem, ProblemError
from bestex.domain.money import MAX_BASE_UNITS, AmountError, parse_amount
from bestex.domain.price import PRICE_DECIMALS, format_price, parse_price
from bestex.domain.tokens import Token, TokenRegistry, is_mint_address

MAX_BODY_BYTES: Final = 64 * 1024
MAX_FIELD_PROBLEMS: Final = 50
MAX_UNKNOWN_FIELDS: Final = 20
"""Unknown and repeated fields that an answer names, each: so that they leave room for the known ones."""

WHOLE: Final = re.compile(r"-?\d{1,9}", re.ASCII)
_ANY_DECIMALS: Final = 18
"""What an amount is read with whose token is not known: no token has more."""
_ANY_UNITS: Final = MAX_BASE_UNITS * 10**_ANY_DECIMALS
"""The most that it may be then: of a token without decimals."""

Choice = TypeVar("Choice", bound=StrEnum)


class Number(str):
    """The text of a JSON number, exactly as it was written."""

    __slots__ = ()


class JsonObject(dict[str, Any]):
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
    object_pairs_hook=JsonObject, parse_float=Number, parse_int=Number, parse_constant=Number
)


def read_object(body: bytes) -> JsonObject:
    """The JSON object in `body`, numbers as their text. `ProblemError` malformed-json."""
    try:
        value = _decoder.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProblemError("malformed-json", f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ProblemError("malformed-json", f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ProblemError("malformed-json", "nested too deeply") from error
    if not isinstance(value, JsonObject):
        raise ProblemError("validation", "one JSON object was expected", (FieldProblem("must be an object", ""),))
    return value


class Fields:
    """Reads the fields of one object and collects what is wrong with them, and with the objects in it."""

    def __init__(
        self,
        values: JsonObject,
        known: Sequence[str],
        noun: str = "field",
        path: str = "",
        problems: list[FieldProblem] | None = None,
    ) -> None:
        """`noun` is what its fields are called; `path` the pointer of an object within another."""
        self.values = values
        self.problems: list[FieldProblem] = [] if problems is None else problems
        self._path = path
        for key in values.repeated[:MAX_UNKNOWN_FIELDS]:
            self.bad(key, "stands in the object more than once")
        unknown = [key for key in values if key not in known]
        for key in unknown[:MAX_UNKNOWN_FIELDS]:
            self.bad(key, f"is no {noun}; the {noun}s are {', '.join(known)}")

    def __contains__(self, field: str) -> bool:
        return field in self.values

    def bad(self, field: str, detail: str) -> None:
        if len(self.problems) < MAX_FIELD_PROBLEMS:
            self.problems.append(FieldProblem(detail, self._path + _pointer(field)))

    def text(self, field: str, *, required: bool = False) -> str | None:
        """A JSON string, or None with the problem noted."""
        if field not in self.values:
            if required:
                self.bad(field, "is missing")
            return None
        value = self.values[field]
        if type(value) is not str:
            self.bad(field, f"must be a string, not {type_name(value)}")
            return None
        return value

    def one_of(self, field: str, choices: type[Choice]) -> Choice | None:
        name = self.text(field)
        if name is None:
            return None
        if name not in tuple(choices):
            self.bad(field, f"must be one of {', '.join(choices)}")
            return None
        return choices(name)

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

    def address(self, field: str) -> str | None:
        """The base58 form of 32 bytes, such as a mint's."""
        text = self.text(field)
        if text is not None and not is_mint_address(text):
            self.bad(field, "must be a base58 address of 32 bytes")
            return None
        return text

    def addresses(self, field: str, most: int) -> tuple[str, ...]:
        if field not in self.values:
            return ()
        value = self.values[field]
        if not isinstance(value, list):
            self.bad(field, f"must be an array of base58 addresses, not {type_name(value)}")
            return ()
        if not 1 <= len(value) <= most:
            self.bad(field, f"must have 1 to {most} addresses")
            return ()
        numbered = JsonObject([(str(number), each) for number, each in enumerate(value)])
        inner = Fields(numbered, tuple(numbered), path=self._path + _pointer(field), problems=self.problems)
        return tuple(each for number in numbered if (each := inner.address(number)) is not None)

    def amount(self, field: str, token: Token | None, *, required: bool = True) -> int:
        """Base units of `token`; without one, only what can be checked without its decimals. 0 for none."""
        value = self.values.get(field)
        text = value if type(value) is str else self._decimal(field, required=required)
        if text is None:
            return 0
        try:
            if token is None:
                return parse_amount(text, _ANY_DECIMALS, most=_ANY_UNITS)
            return parse_amount(text, token.decimals)
        except AmountError as error:
            self.bad(field, str(error))
            return 0

    def price(self, field: str, *, required: bool = False) -> int | None:
        """A price times `PRICE_SCALE`."""
        text = self._decimal(field, required=required)
        if text is None:
            return None
        try:
            return parse_price(text)
        except AmountError:
            self.bad(
                field,
                'must be a price: a decimal number above zero such as "150.25",'
                f" with at most {PRICE_DECIMALS} decimals and at most 10^18",
            )
            return None

    def price_text(self, field: str, *, required: bool = False) -> str | None:
        """A price in its normal form."""
        price = self.price(field, required=required)
        return None if price is None else format_price(price)

    def whole(self, field: str, default: int, low: int, high: int) -> int:
        if field not in self.values:
            return default
        found = self.optional_whole(field, low, high)
        return default if found is None else found

    def optional_whole(self, field: str, low: int, high: int, *, required: bool = False) -> int | None:
        if field not in self.values:
            if required:
                self.bad(field, f"is missing: a whole number from {low} to {high}")
            return None
        value = self.values[field]
        if not isinstance(value, Number):
            self.bad(field, f"must be a whole number, not {type_name(value)}")
        elif WHOLE.fullmatch(value) is None or not low <= int(value) <= high:
            self.bad(field, f"must be a whole number from {low} to {high}")
        else:
            return int(value)
        return None

    def flag(self, field: str) -> bool:
        """True or false; false where it is not said."""
        value = self.values.get(field, False)
        if not isinstance(value, bool):
            self.bad(field, f"must be true or false, not {type_name(value)}")
            return False
        return value

    def nested(self, field: str, known: Sequence[str], noun: str = "field") -> "Fields | None":
        """The fields of the object in a field; None with the problem noted when it is none."""
        if field not in self.values:
            return None
        value = self.values[field]
        if not isinstance(value, JsonObject):
            self.bad(field, f"must be an object, not {type_name(value)}")
            return None
        return Fields(value, known, noun, self._path + _pointer(field), self.problems)

    def finish(self) -> None:
        """Raise all that was found bad."""
        if self.problems:
            raise bad_fields(self.problems)

    def _decimal(self, field: str, *, required: bool) -> str | None:
        """The text of a number, whether it stood there as one or as text."""
        if field not in self.values:
            if required:
                self.bad(field, "is missing")
            return None
        value = self.values[field]
        if type(value) is not str and not isinstance(value, Number):
            self.bad(field, f"must be a decimal number or its text, not {type_name(value)}")
            return None
        return value


def bad_fields(problems: Sequence[FieldProblem]) -> ProblemError:
    """The refusal that names them."""
    count = len(problems)
    detail = "1 field is bad" if count == 1 else f"{count} fields are bad"
    return ProblemError("validation", detail, tuple(problems))


def _pointer(field: str) -> str:
    """The JSON pointer (RFC 6901) of a field, safe to send back whatever the field is called."""
    shown = field if len(field) <= 64 else f"{field[:64]}…"
    shown = shown.encode("utf-8", "replace").decode("utf-8")
    return "/" + shown.replace("~", "~0").replace("/", "~1")


def type_name(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case Number():
            return "a number"
        case str():
            return "a string"
        case None:
            return "null"
        case dict():
            return "an object"
        case _:
            return "an array"
