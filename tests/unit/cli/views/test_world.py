"""The wallet, the tokens and the simulated world as tables."""

from bestex.cli.answers import FaultValues, ListedToken, TokenBalance, Tokens, Wallet
from bestex.cli.views.world import faults_view, simulation_view, tokens_view, wallet_view
from bestex.ports import SimulationStatus
from tests.unit.cli.recorded import printed

MINT = "So11111111111111111111111111111111111111112"
FAULTS = {"raydium_down": 1.0, "quote_timeout": 0.0, "quote_timeout_s": 10.0}


def status(faults: dict[str, float]) -> SimulationStatus:
    return SimulationStatus(
        profile="instant",
        seed=7,
        slot=258,
        finalized_slot=226,
        block_height=246,
        transactions=3,
        in_flight=1,
        faults=faults,
        spreads={"SOL/USDC": 3.671, "JUP/SOL": -1.5},
    )


def test_the_wallet_shows_balances_of_known_and_unknown_mints() -> None:
    shown = printed(wallet_view(Wallet("wa11et", [TokenBalance(MINT, "1.5", "SOL"), TokenBalance("other", "3")])))
    assert f"SOL       1.5  {MINT}" in shown
    assert "?           3  other" in shown


def test_tokens_show_mint_and_decimals() -> None:
    assert f"SOL           9  {MINT}" in printed(tokens_view(Tokens([ListedToken("SOL", MINT, 9)])))


def test_the_world_shows_only_the_faults_that_may_strike() -> None:
    shown = printed(simulation_view(status(FAULTS)))
    assert "instant, seed 7" in shown
    assert "258, finalized 226" in shown
    assert "3 landed, 1 in flight" in shown
    assert "raydium_down" in shown
    assert "quote_timeout" not in shown
    assert "SOL/USDC   +3.67 %" in shown
    assert "JUP/SOL    -1.50 %" in shown


def test_a_world_without_faults_says_so() -> None:
    assert "faults        none" in printed(simulation_view(status({"raydium_down": 0.0, "quote_timeout_s": 10.0})))


def test_all_faults_are_listed_with_their_values() -> None:
    lines = printed(faults_view(FaultValues(FAULTS))).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["raydium_down", "1"],
        ["quote_timeout", "0"],
        ["quote_timeout_s", "10"],
    ]
