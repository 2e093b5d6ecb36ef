"""What is made of the rounds: medians, ratios, goals, charts and the page."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench import growth, latency, memory, punctuality, recovery, resting, results, throughput, watchers
from bench.catalogue import BENCHMARKS
from bench.drive import others_share
from bench.machine import Machine
from bench.page import page
from bench.results import Reading, Result, median_curve, medians, ratio, rows_of
from bench.suite import Benchmark, draw, parse, rotated

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


def test_many_systems_stand_below_each_other_and_few_side_by_side() -> None:
    few = {"a": {"x": 1.0}, "b": {"x": 2.0, "y": 3.0}}
    assert rows_of(few) == [["", "a", "b"], ["x", "1", "2"], ["y", "", "3"]]
    many = {name: {"x": 1.0} for name in "abcde"}
    assert rows_of(many) == [["", "x"], *([name, "1"] for name in "abcde")]


LATENCIES = {"accept p99, ms": 12.0, "accept to confirmed p99, ms": 20.0}
CURVE = {"0": 1.0, "50": 2.0, "99": 5.0, "100": 9.0}

SAMPLES: dict[str, list[Reading]] = {
    "throughput": [Reading("peer", 1, {"completed/s": 100.0}), Reading("bestex", 1, {"completed/s": 120.0})],
    "latency": [
        Reading(latency.system_of(share), 1, {"share, %": share, **LATENCIES}, {"accept": CURVE, "confirm": CURVE})
        for share in latency.SHARES
    ],
    "punctuality": [Reading(punctuality.system_of(1_000), 1, {punctuality.LATEST: 100.0}, {"beyond": CURVE})],
    "watchers": [
        Reading(
            "10,000 watchers",
            1,
            {
                watchers.HELD: 10_000.0,
                watchers.AT_RATE: 999.0,
                "memory without watchers, MB": 80.0,
                "memory with idle watchers, MB": 300.0,
                watchers.MEMORY: 390.0,
                watchers.P99: 200.0,
            },
            {"update": CURVE},
        )
    ],
    "resting": [
        Reading(
            resting.system_of(size), 1, {resting.RESTING: size, resting.START: 1, resting.MEMORY: 2, resting.FIRED: 3}
        )
        for size in resting.SIZES
    ],
    "recovery": [
        Reading(recovery.system_of(size), 1, {recovery.OPEN: size, recovery.READY: 1.0, recovery.MEMORY: 100.0})
        for size in recovery.SIZES
    ],
    "growth": [
        Reading(growth.EMPTY, 1, {"completed/s": 100.0, growth.HISTORY: 0.0}),
        Reading(growth.FULL, 1, {"completed/s": 95.0, growth.HISTORY: float(growth.ORDERS)}),
    ],
    "memory": [
        Reading(memory.system_of(level), 1, {memory.IN_FLIGHT: level, memory.BYTES: 9_000.0, "memory, MB": 100.0})
        for level in memory.LEVELS
    ],
}


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_every_benchmark_draws_describes_and_judges_what_it_finds(benchmark: Benchmark, tmp_path: Path) -> None:
    result = replace(throughput_result(), benchmark=benchmark.name, readings=SAMPLES[benchmark.name])
    result = replace(result, medians=medians(result.readings))
    assert draw(benchmark, result, tmp_path).read_text().startswith("<?xml")
    assert 100 < len(benchmark.describe(result)) < 700
    figures = [goal.read(result.medians) for goal in benchmark.goals]
    if benchmark.name != "throughput":  # its sample has not all systems
        assert None not in figures
    if benchmark.name == "growth":
        assert figures == [95.0]


def test_a_short_history_or_few_watchers_meet_no_goal() -> None:
    short = {
        growth.EMPTY: {"completed/s": 1.0, growth.HISTORY: 0.0},
        growth.FULL: {"completed/s": 1.0, growth.HISTORY: 9.0},
    }
    assert [goal.read(short) for goal in growth.GOALS] == [None]
    few = {"9 watchers": {watchers.HELD: 9.0, watchers.AT_RATE: 1_000.0, watchers.MEMORY: 1.0, watchers.P99: 1.0}}
    assert [goal.read(few) for goal in watchers.GOALS] == [None, None]


def test_what_others_used_is_what_nobody_measured_accounts_for() -> None:
    ticks_a_second = os.sysconf("SC_CLK_TCK")
    before, after = (0, 0), (10 * ticks_a_second, 4 * ticks_a_second)  # 6 of 10 core seconds were used
    assert others_share(before, after, measured_seconds=5.0) == pytest.approx(0.1)
    assert others_share(before, after, measured_seconds=7.0) == 0.0
