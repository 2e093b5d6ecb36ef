"""Amounts are integers of a token's base units; decimal text is read and written exactly, never through a float."""

import re
from typing import Final

MAX_BASE_UNITS: Final = 2**64 - 1
"""The largest amount a Solana token account can hold."""

PRICE_DECIMALS: Final = 12
"""Decimals a price is shown with at most; the rest is rounded down."""

_POWERS_OF_TEN: Final = tuple(10**power for power in range(19))  # for a token's decimals, 0 to 18
_DECIMAL: Final = re.compile(r"(-?)(\d{1,64})(?:\.(\d{1,64}))?(?:[eE]([+-]?\d{1,9}))?", re.ASCII)
_MAX_EXPONENT: Final = 64
"""Powers of ten beyond this are refused before any arithmetic: 10**999999 takes seconds to compute."""


class AmountError(ValueError):
    """Text that is not an amount of the token; the message says what was expected."""


def parse_amount(text: str, decimals: int, *, most: int = MAX_BASE_UNITS) -> int:
    """The base units in decimal `text` for a token of `decimals` decimals, at most `most`; exact, or `AmountError`."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise AmountError('must be a decimal number such as "1.5"')
    sign, whole, fraction, exponent = match.groups(default="")
    power = int(exponent) if exponent else 0
    digits = (whole + fraction).lstrip("0")
    if not digits:
        raise AmountError("must be above zero")
    if sign:
        raise AmountError("must be above zero")
    if power > _MAX_EXPONENT:
        raise AmountError(_too_large(decimals, most))
    if power < -2 * _MAX_EXPONENT:
        raise AmountError(_too_fine(decimals))
    shift = decimals + power - len(fraction)
    if shift >= 0:
        units = int(digits) * int(10**shift)
    else:
        if digits[shift:].strip("0") or len(digits) <= -shift:
            raise AmountError(_too_fine(decimals))
        units = int(digits[:shift])
    if units > most:
        raise AmountError(_too_large(decimals, most))
    return units


def read_amount(text: str | None, decimals: int) -> int:
    """The base units in an amount as `format_amount` writes it, which may be none; 0 for None."""
    return 0 if text is None or text == "0" else parse_amount(text, decimals)


def format_amount(units: int, decimals: int) -> str:
    """`units` as decimal text in token units, without trailing zeros: 1500000000 at 9 decimals is "1.5"."""
    if decimals == 0:
        return str(units)
    whole, fraction = divmod(units, _POWERS_OF_TEN[decimals])
    if not fraction:
        return str(whole)
    return f"{whole}.{str(fraction).rjust(decimals, '0').rstrip('0')}"


def price_text(quote_units: int, quote_decimals: int, base_units: int, base_decimals: int) -> str:
    """Quote token per base token as decimal text, rounded down at `PRICE_DECIMALS`."""
    if base_units == 0:
        return "0"  # nothing moved: there is no price
    scaled = quote_units * 10 ** (base_decimals + PRICE_DECIMALS) // (base_units * 10**quote_decimals)
    return format_amount(scaled, PRICE_DECIMALS)


def min_amount_out(quoted_units: int, slippage_bps: int) -> int:
    """The least output to accept for a quoted one: rounded up, so that the limit is never looser than asked."""
    return -(-quoted_units * (10_000 - slippage_bps) // 10_000)


def _too_fine(decimals: int) -> str:
    return f"has more decimals than the token's {decimals}"


def _too_large(decimals: int, most: int) -> str:
    return f"must be at most {format_amount(most, decimals)}"
