"""Launches in a table: why each was refused, and what buying would have made."""

from typing import Any

import msgspec

from bestex.cli.answers import LaunchesPage, unix_us
from bestex.cli.views.launches import launches_view
from tests.unit.cli.recorded import LAUNCH, printed

NOW_US = unix_us(LAUNCH["listedAt"]) + 125_000_000


def page(*launches: dict[str, Any], cursor: str | None = None) -> LaunchesPage:
    return msgspec.convert({"data": launches, "nextCursor": cursor}, LaunchesPage)


def test_a_refused_launch_shows_each_failed_filter_with_its_value() -> None:
    shown = printed(launches_view(page(LAUNCH, cursor="179"), NOW_US), 140)
    for told in [
        "2m",
        "HAT",
        LAUNCH["mint"],
        "12.5 SOL",
        "✘ standard:",
        "minLiquidity 12.5",
        "freezeAuthorityRevoked false",
        "✔ 2 orders",
        "+23.45 %",
        "more: --cursor 179",
    ]:
        assert told in shown
    assert "mintAuthorityRevoked" not in shown, "it passed"


def test_a_pool_that_moved_says_from_where_and_one_without_a_price_nothing() -> None:
    moved = {**LAUNCH, "migratedFrom": "pump", "sinceListed": None, "boughtBy": 0}
    shown = printed(launches_view(page(moved), NOW_US), 140)
    assert "raydium from pump" in shown
    assert "%" not in shown


def test_a_pool_that_passed_not_often_enough_says_so() -> None:
    verdict = {"filters": {"consecutivePasses": 3}, "orders": 1, "passed": False, "checks": []}
    shown = printed(launches_view(page({**LAUNCH, "verdicts": [verdict]}), NOW_US), 140)
    assert "✘ 1 order: not yet often enough" in shown


def test_no_launches_are_said_to_be_none() -> None:
    assert printed(launches_view(page(), NOW_US)) == "no launches"


def test_what_a_launch_calls_itself_cannot_command_the_terminal() -> None:
    assert "\x1b" not in printed(launches_view(page({**LAUNCH, "ticker": "\x1b[2J"}), NOW_US), 140)
