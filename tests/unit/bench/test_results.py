"""What is made of the rounds: medians, ratios, goals, charts and the page."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import results, throughput
from bench.catalogue import BENCHMARKS
from bench.machine import Machine
from bench.page import page
from bench.results import Reading, Result, median_curve, medians, ratio
from bench.suite import draw, parse, rotated

MACHINE = Machine("a processor", 2, 8_000, "Linux", 0.0, "3.11", "v20", "postgres 18", "9", "abc")


def throughput_result(**rates: list[float]) -> Result:
    """Of each system, its rounds; names with underscores for spaces."""
    readings = [
        Reading(system.replace("_", " "), number, {"completed/s": rate})
        for system, of_system in rates.items()
        for number, rate in enumerate(of_system, start=1)
    ]
    middle = medians(readings)
    return Result(
        benchmark="throughput",
        taken_at=datetime(2026, 11, 25, tzinfo=UTC),
        quick=False,
        machine=MACHINE,
        settings={"a round": "8 s"},
        readings=readings,
        medians=middle,
        ratios=throughput.ratios(middle),
        skipped=["the moon, because it is far"],
    )


def test_medians_are_of_each_system_and_figure() -> None:
    readings = [Reading("a", number, {"x": value}) for number, value in enumerate([3.0, 100.0, 5.0], start=1)]
    assert medians([*readings, Reading("b", 1, {"y": 1.0})]) == {"a": {"x": 5.0}, "b": {"y": 1.0}}


def test_a_curves_median_leaves_out_what_not_every_round_could_tell() -> None:
    readings = [
        Reading("a", 1, {}, {"accept": {"50": 1.0, "99.9": 9.0}}),
        Reading("a", 2, {}, {"accept": {"50": 3.0}}),
    ]
    assert median_curve(readings, "a", "accept") == {"50": 2.0}
    assert median_curve(readings, "a", "confirm") == {}


def test_a_ratio_with_what_was_not_measured_is_none() -> None:
    assert ratio({"a": {"x": 3.0}, "b": {"x": 2.0}}, "a", "b", "x") == 1.5
    assert ratio({"a": {"x": 3.0}}, "a", "b", "x") is None


def test_every_round_begins_with_another_system() -> None:
    assert [rotated("abc", number)[0] for number in (1, 2, 3, 4)] == ["a", "b", "c", "a"]
    assert sorted(rotated("abc", 2)) == ["a", "b", "c"]


def test_a_result_is_kept_and_read_again(tmp_path: Path) -> None:
    result = throughput_result(peer=[1_000.0], bestex=[1_500.0])
    results.save(result, tmp_path)
    assert results.load("throughput", tmp_path) == result
    assert results.load("latency", tmp_path) is None


def test_the_page_shows_met_missed_and_unmeasured_figures_and_what_was_skipped() -> None:
    text = page({"throughput": throughput_result(peer=[1_000.0], bestex=[1_500.0], peer_with_history=[1_000.0])})
    assert "at least 1.2 times | 1.5 times, met |" in text
    assert "at least 4 times | **1.5 times, missed** |" in text
    assert "| not measured |" in text
    assert "- skipped: the moon, because it is far" in text
    for benchmark in BENCHMARKS:
        assert f"## {benchmark.title}" in text
        for goal in benchmark.goals:
            assert goal.what in text


def test_the_best_number_of_workers_counts() -> None:
    result = throughput_result(peer=[1_000.0])
    middle = {
        **result.medians,
        throughput.ONE_WORKER: {"completed/s": 900.0},
        throughput.TWO_WORKERS: {"completed/s": 1_100.0},
    }
    goal = next(goal for goal in throughput.GOALS if "separate processes" in goal.what)
    assert goal.read(middle) == 1.1


def test_a_chart_of_the_same_figures_is_the_same_file(tmp_path: Path) -> None:
    result = throughput_result(peer=[1_000.0, 1_200.0], bestex=[1_500.0])
    first = draw(throughput.BENCHMARK, result, tmp_path).read_bytes()
    assert draw(throughput.BENCHMARK, result, tmp_path).read_bytes() == first
    assert b"bestex" in first
    assert b"<dc:date>" not in first


def test_a_quick_pass_has_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(throughput.BENCHMARK, []).rounds == 3
    assert parse(throughput.BENCHMARK, ["--quick"]).rounds == 1
    monkeypatch.setenv("BENCH_QUICK", "1")
    assert parse(throughput.BENCHMARK, []).quick
    assert parse(throughput.BENCHMARK, ["--rounds", "2"]).rounds == 2
