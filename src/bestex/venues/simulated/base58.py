"""Base58 as Solana writes addresses, blockhashes and signatures; fast for the 64 bytes of a signature."""

from typing import Final

from bestex.domain.tokens import BASE58_ALPHABET

_TWO_DIGITS: Final = 58**2
_CHUNK_DIGITS: Final = 12
_CHUNK: Final = 58**_CHUNK_DIGITS  # a chunk is below 2**71, small enough for quick divisions
_PAIRS: Final = tuple(high + low for high in BASE58_ALPHABET for low in BASE58_ALPHABET)


def encode(data: bytes) -> str:
    """`data` as base58 text; each leading zero byte becomes a leading "1"."""
    number = int.from_bytes(data, "big")
    parts: list[str] = []  # two digits each, least significant first
    while number:
        number, chunk = divmod(number, _CHUNK)
        for _ in range(_CHUNK_DIGITS // 2):
            chunk, two = divmod(chunk, _TWO_DIGITS)
            parts.append(_PAIRS[two])
    parts.reverse()
    digits = "".join(parts).lstrip("1")
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits
