"""What a benchmark found: every round's figures, their medians, the goals they are held against. Kept as JSON."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench.machine import Machine
from bench.percentiles import Ladder

RESULTS: Final = Path(__file__).parent / "results"

SYSTEMS_ACROSS_MAX: Final = 4

Figures = dict[str, float]
"""By name, with the unit in the name."""

Medians = dict[str, Figures]
"""Of each system, in the order in which they are shown."""


class Reading(msgspec.Struct, frozen=True, rename="camel"):
    """One round of one system."""

    system: str
    round: int  # 1, 2, 3 ...
    figures: Figures
    curves: dict[str, Ladder] = {}


class Findings(msgspec.Struct, frozen=True, rename="camel"):
    """What a benchmark hands to the suite."""

    readings: list[Reading]
    settings: dict[str, str]  # what was set, for a person to read
    skipped: list[str] = []  # what was not measured, and why


class Result(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The file `bench/results/NAME.json`."""

    benchmark: str
    taken_at: datetime
    quick: bool  # a short pass, to see that all of it works: its figures are rough
    machine: Machine
    settings: dict[str, str]
    readings: list[Reading]
    medians: Medians
    ratios: Figures
    skipped: list[str]


@dataclass(frozen=True)
class Goal:
    """A figure to reach: at least, or at most."""

    what: str
    limit: float
    unit: str  # as it is written behind the figure
    read: Callable[[Medians], float | None]  # nothing when it was not measured
    at_least: bool = True

    def met_by(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit

    @property
    def wanted(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {number(self.limit)}{self.unit}"

    def verdict(self, measured: float | None) -> str:
        if measured is None:
            return "not measured"
        return f"{number(measured)}{self.unit}, {'met' if self.met_by(measured) else 'missed'}"


def number(value: float) -> str:
    """Three digits, or all of a large number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def medians(readings: Iterable[Reading]) -> Medians:
    """Of each system, figure by figure, over its rounds."""
    by_system: dict[str, dict[str, list[float]]] = {}
    for reading in readings:
        columns = by_system.setdefault(reading.system, {})
        for name, value in reading.figures.items():
            columns.setdefault(name, []).append(value)
    return {system: {name: median(values) for name, values in columns.items()} for system, columns in by_system.items()}


def median_curve(readings: Sequence[Reading], system: str, curve: str) -> Ladder:
    """Rung by rung, over the system's rounds; a rung that not every round could tell is left out."""
    ladders = [reading.curves[curve] for reading in readings if reading.system == system and curve in reading.curves]
    if not ladders:
        return {}
    return {rung: median(ladder[rung] for ladder in ladders) for rung in ladders[0] if all(rung in x for x in ladders)}


def ratio(of: Medians, system: str, to: str, figure: str) -> float | None:
    """How many times another system's figure one's is; nothing when either was not measured."""
    ours, theirs = of.get(system, {}).get(figure), of.get(to, {}).get(figure)
    return ours / theirs if ours is not None and theirs else None


def rows_of(medians: Medians) -> list[list[str]]:
    """A table, its head first: figures down and systems across, or the other way round where systems are many."""
    names = list(dict.fromkeys(name for figures in medians.values() for name in figures))
    if len(medians) <= SYSTEMS_ACROSS_MAX:
        rows = [[name, *(_cell(figures, name) for figures in medians.values())] for name in names]
        return [["", *medians], *rows]
    return [["", *names], *([system, *(_cell(figures, name) for name in names)] for system, figures in medians.items())]


def _cell(figures: Figures, name: str) -> str:
    return number(figures[name]) if name in figures else ""


def save(result: Result, folder: Path = RESULTS) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{result.benchmark}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    return path


def load(benchmark: str, folder: Path = RESULTS) -> Result | None:
    """What the last run found, if there was one."""
    path = folder / f"{benchmark}.json"
    return msgspec.json.decode(path.read_bytes(), type=Result) if path.exists() else None
