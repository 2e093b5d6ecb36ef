"""Venues side by side: the best marked, every other one with its reason."""

import msgspec

from bestex.cli.answers import Quotes
from bestex.cli.views.quotes import quotes_view
from tests.unit.cli.recorded import METEORA_LATE, QUOTES, RAYDIUM, printed


def test_the_best_is_marked_and_the_loser_has_its_reason() -> None:
    shown = printed(quotes_view(msgspec.convert(QUOTES, Quotes)))
    assert shown == (
        "quotes  1.5 SOL → USDC  SOL/USDC\n"
        "\n"
        "   venue    amount out            fee  impact     net out    took\n"
        "✔  raydium  244.451776    0.00375 SOL   1 bps  244.449367  206 ms\n"
        "   meteora  236.150595  0.473248 USDC   1 bps  236.148186  316 ms\n"
        "\n"
        "raydium is the best\n"
        "meteora pays 8.301181 USDC less (3.40 %)"
    )


def test_a_venue_without_a_quote_says_why() -> None:
    shown = printed(quotes_view(msgspec.convert({**QUOTES, "quotes": [RAYDIUM, METEORA_LATE]}, Quotes)))
    assert "✘  meteora    no quote" in shown
    assert "meteora did not answer within 1000 ms (quote_timeout)" in shown


def test_large_amounts_are_never_cut_at_80_columns() -> None:
    large = {
        **RAYDIUM,
        "amountOut": "384081742020.69924",
        "netAmountOut": "384081741888.41344",
        "fee": "769702889.82105",
    }
    shown = printed(quotes_view(msgspec.convert({**QUOTES, "quotes": [large]}, Quotes)))
    assert "384081742020.69924" in shown
    assert "384081741888.41344" in shown
    assert "…" not in shown
