"""Percentiles of many latencies, kept as a ladder: close rungs where the tail is."""

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Final

RUNGS: Final = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0)
"""In percent. The last one is the maximum."""

NS_PER_MS: Final = 1e6

Ladder = dict[str, float]
"""Milliseconds by percentile, such as `{"50": 1.2, "99.9": 8.0}`; nothing where nothing was measured."""


def percentile(ascending: Sequence[int], percent: float) -> int:
    """The nearest-rank percentile: a value that was measured, never one between two."""
    rank = math.ceil(round(len(ascending) * percent / 100, 9))  # 99.9 % of 1,000 is 999, not a little more
    return ascending[max(0, rank - 1)]


def ladder(latencies_ns: "Sequence[int] | array[int]") -> Ladder:
    """Every rung that so many latencies can tell: the 99.99th of 50 is only their maximum, and left out."""
    ascending = sorted(latencies_ns)
    count = len(ascending)
    return {
        name(rung): percentile(ascending, rung) / NS_PER_MS
        for rung in RUNGS
        if count and (rung in (0.0, 100.0) or count * (100 - rung) >= 100)
    }


def name(rung: float) -> str:
    """99.0 as "99", 99.9 as "99.9"."""
    return f"{rung:g}"


def rungs(of: Mapping[str, float]) -> list[tuple[float, float]]:
    """Percent and milliseconds, ascending."""
    return sorted((float(rung), value) for rung, value in of.items())
