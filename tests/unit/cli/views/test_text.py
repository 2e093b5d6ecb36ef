"""Times and words."""

import pytest

from bestex.cli.views.text import age_text, clean, duration_text, price_text, slippage_text


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 ms"),
        (999_499, "999 ms"),
        (999_500, "1.00 s"),
        (2_136_000, "2.14 s"),
        (12_340_000, "12.3 s"),
        (59_949_000, "59.9 s"),
        (59_951_000, "1 min 00 s"),
        (185_000_000, "3 min 05 s"),
        (7_500_000_000, "2 h 05 min"),
    ],
)
def test_durations_read_well(us: int, text: str) -> None:
    assert duration_text(us) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (12, "12s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (86_400 * 40, "40d")]
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert age_text(seconds * 1_000_000) == text


def test_slippage_says_which_way() -> None:
    assert slippage_text(1.73) == "1.73 bps worse than quoted"
    assert slippage_text(-0.5) == "0.50 bps better than quoted"
    assert slippage_text(0) == "exactly as quoted"


def test_a_price_names_both_tokens() -> None:
    assert price_text("162.9", "SOL/USDC") == "162.9 USDC per SOL"
    assert price_text("162.9", None) == "162.9"


def test_control_characters_become_visible() -> None:
    assert clean("a\x1b[31m\x07→") == "a�[31m�→"
