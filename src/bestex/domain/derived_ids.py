"""Ids of orders that others make: the same each time they are made, so that none is made twice."""

from hashlib import blake2b
from typing import Final

_RANDOM_BITS: Final = 74


def derived_id(parent_id: str, what: str, number: int = 1) -> str:
    """The UUIDv7 of what belongs to the order `parent_id` under the name `what`; greater for greater numbers.

    As old as that order, and `number` milliseconds.
    """
    time_ms = int(parent_id.replace("-", "")[:12], 16) + number
    digest = blake2b(f"{parent_id}\n{what}\n{number}".encode(), digest_size=16).digest()
    rest = int.from_bytes(digest, "big") >> (128 - _RANDOM_BITS)
    number = time_ms << 80 | 7 << 76 | rest >> 62 << 64 | 2 << 62 | rest & (1 << 62) - 1
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
