"""Prices: integers that compare a swap's two amounts exactly, whichever way round the pair is traded.

A price is quote token per base token of a pair, in token units, times `PRICE_SCALE`. What an order demands of a price
becomes an amount of its output token: then nothing is divided, or compared, twice.
"""

from typing import Final

from bestex.domain.money import format_amount, parse_amount
from bestex.domain.tokens import Pair

PRICE_DECIMALS: Final = 18
PRICE_SCALE: Final = 10**PRICE_DECIMALS
MAX_PRICE: Final = 10**36
"""10**18 quote tokens for one base token."""


def parse_price(text: str) -> int:
    """The price in decimal `text`; exact, or `AmountError`."""
    return parse_amount(text, PRICE_DECIMALS, most=MAX_PRICE)


def format_price(price: int) -> str:
    return format_amount(price, PRICE_DECIMALS)


def inverse_text(price: int) -> str:
    """The same price as base token per quote token, rounded down at `PRICE_DECIMALS`."""
    return format_amount(PRICE_SCALE * PRICE_SCALE // price, PRICE_DECIMALS)


def least_out(price: int, amount_in: int, pair: Pair, *, sells_base: bool) -> int:
    """The least output, in base units, at which `amount_in` is traded at `price` or better; rounded up."""
    numerator, denominator = _output(price, amount_in, pair, sells_base=sells_base)
    return -(-numerator // denominator)


def most_out(price: int, amount_in: int, pair: Pair, *, sells_base: bool) -> int:
    """The most output, in base units, at which `amount_in` is traded at `price` or worse; rounded down."""
    numerator, denominator = _output(price, amount_in, pair, sells_base=sells_base)
    return numerator // denominator


def traded_price(amount_in: int, amount_out: int, pair: Pair, *, sells_base: bool) -> int:
    """The price of a swap, rounded down; 0 where nothing moved."""
    base_units, quote_units = (amount_in, amount_out) if sells_base else (amount_out, amount_in)
    if base_units == 0:
        return 0
    price: int = quote_units * 10**pair.base.decimals * PRICE_SCALE // (base_units * 10**pair.quote.decimals)
    return price


def _output(price: int, amount_in: int, pair: Pair, *, sells_base: bool) -> tuple[int, int]:
    """What `amount_in` comes to at exactly `price`, as a fraction."""
    base, quote = 10**pair.base.decimals, 10**pair.quote.decimals
    if sells_base:
        return amount_in * quote * price, base * PRICE_SCALE
    return amount_in * base * PRICE_SCALE, quote * price
