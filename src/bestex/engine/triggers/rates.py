"""Rates, output per input in base units, as integers that sort like them, and sizes in classes.

A book compares orders of many sizes. What an order needs is a rate; the best rate that any swap of a size or more may
get is that of the size, for a pool pays the less the more it is asked. So a class of nearly equal sizes is bounded by
one look at the pools.
"""

from typing import Final

MANTISSA_BITS: Final = 52  # of a rate; rates that agree in them are one
_BIAS: Final = 128  # rates from 2**-127 to 2**127 have a key; no price and no amounts of a token lie beyond
_IMPLIED: Final = 1 << MANTISSA_BITS
KEY_MAX: Final = (1 << 60) - 1
"""Keys fit 60 bits: two digits of a Python integer."""

SUBCLASS_BITS: Final = 3
"""Sizes of one class differ by less than an eighth: so finely is the pools' answer for one of them good for all."""

ROUNDING_UNITS: Final = 4
"""Base units, of either token, that a curve may lose to its roundings: its rates fall with size but for these."""


def rate_key(out: int, amount_in: int) -> int:
    """A key of the rate `out / amount_in`, rounded down: a larger rate never has a smaller one."""
    if out <= 0:
        return 0
    exponent = out.bit_length() - amount_in.bit_length()
    shift = MANTISSA_BITS - exponent
    mantissa = (out << shift) // amount_in if shift >= 0 else out // (amount_in << -shift)
    if mantissa < _IMPLIED:
        exponent -= 1
        shift += 1
        mantissa = (out << shift) // amount_in if shift >= 0 else out // (amount_in << -shift)
    key = ((exponent + _BIAS) << MANTISSA_BITS) + mantissa - _IMPLIED
    return min(max(key, 0), KEY_MAX)


def size_class(amount: int) -> int:
    """The class of an amount, greater for greater ones."""
    bits = amount.bit_length()
    if bits <= SUBCLASS_BITS:
        return bits << SUBCLASS_BITS
    return (bits << SUBCLASS_BITS) + (amount >> (bits - SUBCLASS_BITS - 1)) - (1 << SUBCLASS_BITS)


def class_bounds(number: int) -> tuple[int, int]:
    """The smallest and the largest amount of a class."""
    bits, part = divmod(number, 1 << SUBCLASS_BITS)
    if bits <= SUBCLASS_BITS:
        return 1 << (bits - 1), (1 << bits) - 1
    step = 1 << (bits - SUBCLASS_BITS - 1)
    smallest = ((1 << SUBCLASS_BITS) + part) * step
    return smallest, smallest + step - 1


def most_rate_key(out: int, amount: int) -> int:
    """No swap of `amount` or more gets a rate with a greater key, where one of `ROUNDING_UNITS` more pays `out`."""
    return rate_key(out + ROUNDING_UNITS, amount)


def least_rate_key(out: int, amount: int, smallest: int) -> int:
    """No swap between `smallest` and `amount` gets a rate with a smaller key, where one of `amount` pays `out`."""
    numerator = out * (smallest - ROUNDING_UNITS) - ROUNDING_UNITS * amount
    return rate_key(numerator, amount * smallest)
