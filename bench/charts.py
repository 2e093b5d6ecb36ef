"""Charts as small SVG files: the same figures give the same bytes, readable on a light page and on a dark one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.results import number

INK: Final = "#7d858f"  # enough contrast on white and on near-black
OURS: Final = "#2f81f7"
THEIRS: Final = "#d97706"
SERIES: Final = ("#2f81f7", "#d97706", "#16a34a", "#c026d3", "#dc2626", "#0891b2")
WIDTH_IN: Final = 8.0
GRID_ALPHA: Final = 0.25

_STYLE: Final[dict[str, object]] = {
    "svg.hashsalt": "bestex",  # ids of elements, otherwise random
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


def figure(columns: int = 1, height_in: float = 3.6) -> tuple[Figure, list[Axes]]:
    """An empty chart of one or more panels side by side."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        made = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        axes = [made.add_subplot(1, columns, number + 1) for number in range(columns)]
    return made, axes


def write(made: Figure, path: Path) -> None:
    """No date, no random ids, no background."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        made.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # matplotlib ends some lines with a space
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def bars(axes: Axes, medians: Mapping[str, float], rounds: Mapping[str, Sequence[float]], label: str) -> None:
    """Horizontal bars of medians, the first on top, with a point for each round; what is not ours in its own colour."""
    names = list(medians)
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        colours = [THEIRS if name.startswith("peer") else OURS for name in names]
        places = range(len(names))
        axes.barh(places, list(medians.values()), color=colours, alpha=0.75, height=0.62)
        for place, name in enumerate(names):
            values = rounds.get(name, ())
            axes.plot(list(values), [place] * len(values), "|", color=INK, markersize=9)
            axes.annotate(
                number(medians[name]),
                (max([medians[name], *values]), place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(list(places), names)
        axes.invert_yaxis()
        axes.set_xlim(0, max(max([medians[name], *rounds.get(name, ())]) for name in names) * 1.15 if names else 1)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=GRID_ALPHA, color=INK)
        axes.set_axisbelow(True)


def tails(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]], label: str) -> None:
    """Latency over percentile; the axis stretches towards 100 %, where what matters is."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        for colour, (name, points) in zip(SERIES, curves.items(), strict=False):
            below = [(1 / (1 - percent / 100), value) for percent, value in points if percent < 100]
            axes.plot([x for x, _ in below], [y for _, y in below], marker="o", markersize=3, color=colour, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = {1.0: "0", 2.0: "50", 10.0: "90", 100.0: "99", 1_000.0: "99.9", 10_000.0: "99.99"}
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_xlabel("percentile")
        axes.set_ylabel(label)
        axes.grid(alpha=GRID_ALPHA, color=INK)
        axes.legend()


def line(axes: Axes, points: Sequence[tuple[float, float]], x_label: str, y_label: str, colour: str = OURS) -> None:
    """One line from 0."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=colour)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(alpha=GRID_ALPHA, color=INK)


def title(axes: Axes, text: str) -> None:
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        axes.set_title(text, fontsize=10, loc="left")


def short(value: float) -> str:
    """As a tick: millions as `5M`."""
    return f"{value / 1_000_000:g}M" if value >= 1_000_000 else number(value)
