"""Tokens and their registry: symbol, mint address, decimals. The registry file is `tokens.json` beside this module."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import resources
from typing import Final

import msgspec

from bestex.domain.errors import UnknownTokenError

BASE58_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

WRAPPED_SOL_MINT: Final = "So11111111111111111111111111111111111111112"

_QUOTE_PRIORITY: Final = ("USDC", "USDT", "SOL")
"""A price is in the first of these that a pair has, else in the pair's output token."""


class Token(msgspec.Struct, frozen=True):
    symbol: str
    mint: str  # base58, 32 bytes
    decimals: int  # a token unit is 10**decimals base units

    @property
    def is_native_sol(self) -> bool:
        """Whether a swap must wrap it before, or unwrap it after."""
        return self.mint == WRAPPED_SOL_MINT


def is_mint_address(text: str) -> bool:
    """Whether `text` is the base58 form of 32 bytes, as every Solana mint address is."""
    if not 32 <= len(text) <= 44:
        return False
    number = 0
    for character in text:
        digit = BASE58_ALPHABET.find(character)
        if digit < 0:
            return False
        number = number * 58 + digit
    leading_zeros = len(text) - len(text.lstrip("1"))
    return leading_zeros + (number.bit_length() + 7) // 8 == 32


class TokenRegistry:
    """The tokens this engine trades, found by symbol or by mint address."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)
        self._by_name: dict[str, Token] = {}
        self._launched: dict[str, Token] = {}  # by mint; known by nothing else, for anybody may give himself any symbol
        for token in self._tokens:
            if not is_mint_address(token.mint):
                raise ValueError(f"{token.symbol}: {token.mint!r} is not a base58 mint address")
            if not 0 <= token.decimals <= 18:
                raise ValueError(f"{token.symbol}: decimals must be 0 to 18, not {token.decimals}")
            for name in (token.symbol, token.mint):
                if name in self._by_name:
                    raise ValueError(f"{name} stands twice in the token registry")
                self._by_name[name] = token

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    @property
    def launched(self) -> tuple[Token, ...]:
        """The tokens that were learnt, oldest first."""
        return tuple(self._launched.values())

    def find(self, name: str) -> Token | None:
        """The token with this symbol or mint address, or None."""
        return self._by_name.get(name) or self._launched.get(name)

    def learn(self, mint: str, decimals: int) -> Token:
        """The token of a mint that was launched, known by its mint address from now on."""
        known = self.find(mint)
        if known is None:
            known = self._launched[mint] = Token(mint, mint, decimals)
        return known

    def get(self, name: str) -> Token:
        """The token with this symbol or mint address, or `UnknownTokenError`."""
        token = self.find(name)
        if token is None:
            raise UnknownTokenError(f"{name} is not in the token registry")
        return token


class Pair(msgspec.Struct, frozen=True):
    """Two tokens in the order prices are quoted: `quote` token per `base` token."""

    base: Token
    quote: Token

    @property
    def name(self) -> str:
        return f"{self.base.symbol}/{self.quote.symbol}"

    @property
    def is_priced(self) -> bool:
        """Whether it has a token that prices are said in; else it is the other way round for orders the other way."""
        return self.quote.symbol in _QUOTE_PRIORITY


@lru_cache(maxsize=4096)
def pair_of(token_in: Token, token_out: Token) -> Pair:
    """The pair of a swap: its quote token is the first of USDC, USDT, SOL that it has, else `token_out`."""
    for symbol in _QUOTE_PRIORITY:
        if token_out.symbol == symbol:
            return Pair(token_in, token_out)
        if token_in.symbol == symbol:
            return Pair(token_out, token_in)
    return Pair(token_in, token_out)


def load_tokens(source: str | bytes | None = None) -> TokenRegistry:
    """The registry in `source`, JSON of `[{"symbol", "mint", "decimals"}, ...]`; the built-in one when None."""
    if source is None:
        source = resources.files("bestex.domain").joinpath("tokens.json").read_bytes()
    return TokenRegistry(msgspec.json.decode(source, type=list[Token]))
