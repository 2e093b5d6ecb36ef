"""`bestex torture`: its report, its exit code, and the command that repeats a violation."""

import json
import shlex

import pytest
from typer.testing import CliRunner

from bestex.cli import app
from tests.simulation.broken_engines import retry_on_timeout

RUNNER = CliRunner()


def test_it_reports_what_it_did_and_ends_with_0() -> None:
    result = RUNNER.invoke(app, ["torture", "--seeds", "10", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    for said in ("runs", "orders", "kinds", "fired", "slices", "crashes"):
        assert said in result.stdout
    for said in ("faults that struck", "invariants", "everything held"):
        assert said in result.stdout


def test_json_holds_the_whole_report() -> None:
    result = RUNNER.invoke(app, ["torture", "--seeds", "6", "--jobs", "1", "--crash-at", "every", "--json"])
    report = json.loads(result.stdout)
    assert (report["runs"], report["violation"]) == (6, None)
    assert report["crashes"] == sum(report["places"].values()) == 6
    assert report["checks"]["at most one executed swap per order"] > 0


@pytest.mark.parametrize("crash_at", ["random", "every"])
def test_a_violation_ends_with_1_and_one_command_repeats_it(monkeypatch: pytest.MonkeyPatch, crash_at: str) -> None:
    retry_on_timeout(monkeypatch)
    result = RUNNER.invoke(app, ["torture", "--crash-at", crash_at, "--jobs", "1", "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert report["violation"]["violation"]["story"]
    again = RUNNER.invoke(app, [*shlex.split(report["repeat"])[1:], "--json"])
    assert again.exit_code == 1
    assert json.loads(again.stdout)["violation"]["violation"] == report["violation"]["violation"]


@pytest.mark.parametrize("words", [["--faults", "nonsense"], ["--point", "3"], ["--seeds", "0"]])
def test_bad_usage_ends_with_2(words: list[str]) -> None:
    assert RUNNER.invoke(app, ["torture", *words]).exit_code == 2
