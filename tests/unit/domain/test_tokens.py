"""Tokens are found by symbol or mint, and every pair has one quote token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.errors import UnknownTokenError
from bestex.domain.tokens import (
    BASE58_ALPHABET,
    WRAPPED_SOL_MINT,
    Token,
    TokenRegistry,
    is_mint_address,
    load_tokens,
    pair_of,
)

TOKENS = load_tokens()


def base58(raw: bytes) -> str:
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58_ALPHABET[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def test_the_built_in_registry_has_the_tokens_of_the_readme() -> None:
    assert {token.symbol: token.decimals for token in TOKENS} == {
        "SOL": 9,
        "USDC": 6,
        "USDT": 6,
        "RAY": 6,
        "JUP": 6,
        "BONK": 5,
        "WIF": 6,
        "MET": 6,
    }


def test_a_token_is_found_by_its_symbol_and_by_its_mint() -> None:
    for token in TOKENS:
        assert TOKENS.get(token.symbol) is TOKENS.get(token.mint) is TOKENS.find(token.symbol) is token
    assert TOKENS.get(WRAPPED_SOL_MINT).is_native_sol
    assert not TOKENS.get("USDC").is_native_sol


@pytest.mark.parametrize("name", ["sol", "DOGE", "", " SOL", WRAPPED_SOL_MINT.lower()])
def test_an_unknown_token_is_said_to_be_unknown(name: str) -> None:
    assert TOKENS.find(name) is None
    with pytest.raises(UnknownTokenError, match="not in the token registry"):
        TOKENS.get(name)


@given(st.binary(min_size=32, max_size=32) | st.binary(min_size=28, max_size=28).map(lambda raw: b"\0" * 4 + raw))
def test_the_base58_form_of_any_32_bytes_is_a_mint_address(raw: bytes) -> None:
    assert is_mint_address(base58(raw))


@given(st.binary(max_size=31) | st.binary(min_size=33, max_size=40))
def test_the_base58_form_of_other_lengths_is_no_mint_address(raw: bytes) -> None:
    assert not is_mint_address(base58(raw))


@pytest.mark.parametrize("text", ["", "SOL", "0" * 43, WRAPPED_SOL_MINT + "2", WRAPPED_SOL_MINT[:-1] + "l", "1" * 45])
def test_other_text_is_no_mint_address(text: str) -> None:
    assert not is_mint_address(text)


@pytest.mark.parametrize(
    ("pay", "receive", "name"),
    [
        ("SOL", "USDC", "SOL/USDC"),
        ("USDC", "SOL", "SOL/USDC"),
        ("USDC", "USDT", "USDT/USDC"),
        ("USDT", "USDC", "USDT/USDC"),
        ("USDT", "SOL", "SOL/USDT"),
        ("SOL", "JUP", "JUP/SOL"),
        ("JUP", "SOL", "JUP/SOL"),
        ("JUP", "WIF", "JUP/WIF"),
        ("WIF", "JUP", "WIF/JUP"),
    ],
)
def test_a_price_is_in_the_first_of_usdc_usdt_and_sol_that_the_pair_has(pay: str, receive: str, name: str) -> None:
    assert pair_of(TOKENS.get(pay), TOKENS.get(receive)).name == name


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ([Token("A", WRAPPED_SOL_MINT, 9), Token("B", WRAPPED_SOL_MINT, 9)], "stands twice"),
        ([Token("A", WRAPPED_SOL_MINT, 9), Token("A", base58(b"\7" * 32), 9)], "A stands twice"),
        ([Token("A", "no mint", 9)], "'no mint' is not a base58 mint address"),
        ([Token("A", WRAPPED_SOL_MINT, 19)], "decimals must be 0 to 18, not 19"),
        ([Token("A", WRAPPED_SOL_MINT, -1)], "decimals must be 0 to 18, not -1"),
    ],
)
def test_a_registry_with_a_mistake_is_refused_with_its_reason(tokens: list[Token], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TokenRegistry(tokens)


def test_a_registry_can_be_given_as_json() -> None:
    source = f'[{{"symbol": "WSOL", "mint": "{WRAPPED_SOL_MINT}", "decimals": 9}}]'
    assert [token.symbol for token in load_tokens(source)] == ["WSOL"]
