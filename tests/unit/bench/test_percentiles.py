"""Percentiles are values that were measured, and say no more than so many values can tell."""

import random

import pytest

from bench.percentiles import ladder, percentile, rungs


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [(1_000, 50.0, 500), (1_000, 99.0, 990), (1_000, 99.9, 999), (1_000, 100.0, 1_000), (1, 0.0, 1), (3, 50.0, 2)],
)
def test_a_percentile_is_the_value_at_its_nearest_rank(count: int, percent: float, rank: int) -> None:
    assert percentile(range(1, count + 1), percent) == rank


def test_a_ladder_is_in_milliseconds_and_ascends_whatever_the_order_of_the_values() -> None:
    values = list(range(1_000_000, 101_000_000, 1_000_000))  # 1 to 100 ms
    random.Random(1).shuffle(values)
    made = ladder(values)
    assert made["50"] == 50.0
    assert made["99"] == 99.0
    assert made["100"] == 100.0
    heights = [height for _, height in rungs(made)]
    assert heights == sorted(heights)


def test_few_values_tell_nothing_of_high_percentiles() -> None:
    made = ladder([1_000_000] * 99)
    assert "99" not in made
    assert "95" in made
    assert made["100"] == 1.0


def test_nothing_measured_makes_no_ladder() -> None:
    assert ladder([]) == {}
