"""The page of results, docs/explanation/performance.md, from the JSON files of the last runs. `python -m bench.page`.

Charts are drawn anew from the same files, so that page and charts never tell of two runs.
"""

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.catalogue import BENCHMARKS
from bench.processes import REPOSITORY
from bench.results import Medians, Result, load, number, rows_of
from bench.suite import BUSY_BEFORE_MAX, Benchmark, draw

PAGE: Final = REPOSITORY / "docs" / "explanation" / "performance.md"

WIDTH: Final = 118  # characters of a line of prose

HEAD: Final = """\
# Performance

`make bench-all` measures all of this on your machine and writes this page; `BENCH_QUICK=1 make bench-all` is a short
pass, to see that it works. Every figure is here, met or missed, and every round is in `bench/results/*.json`.

Read **ratios, not absolute figures**. Both systems of a ratio ran on the same machine, in rounds that interleave. The
load generator, the databases and the queues run on that machine too and take their part of its cores, so the absolute
figures are lower than what the same processor gives a server of its own.
"""


def page(found: Mapping[str, Result], benchmarks: Sequence[Benchmark] = BENCHMARKS) -> str:
    """The whole page; what was not measured is said to be so."""
    lines = [HEAD, *_machines(found), "", *_goals(found, benchmarks)]
    for benchmark in benchmarks:
        lines += ["", f"## {benchmark.title}", "", *_section(benchmark, found.get(benchmark.name))]
    return "\n".join(lines) + "\n"


def _machines(found: Mapping[str, Result]) -> Iterator[str]:
    """What they were taken on: one list, most likely."""
    told: dict[str, list[str]] = {}
    for name, result in found.items():
        its = result.machine
        facts = (
            f"{its.processor}, {its.cores} cores, {its.memory_mb / 1e3:.0f} GB, {its.system}; Python {its.python}, "
            f"{its.postgres or 'PostgreSQL unknown'} (fsync on), Node.js {its.node or 'none'}, Valkey {its.valkey}; "
            f"revision {(its.commit or 'unknown')[:12]}{' with changes' if '+' in (its.commit or '') else ''}"
        )
        told.setdefault(facts, []).append(name)
    if len(told) == 1:
        yield from _wrapped(f"Measured on: {next(iter(told))}.")
    else:
        yield from (f"- {', '.join(names)}: {facts}." for facts, names in told.items())


def _goals(found: Mapping[str, Result], benchmarks: Sequence[Benchmark]) -> Iterator[str]:
    yield "| figure | goal | measured |"
    yield "|---|---|---|"
    for benchmark in benchmarks:
        result = found.get(benchmark.name)
        for goal in benchmark.goals:
            measured = goal.read(result.medians) if result is not None else None
            verdict = goal.verdict(measured)
            yield f"| {goal.what} | {goal.wanted} | {f'**{verdict}**' if verdict.endswith('missed') else verdict} |"


def _section(benchmark: Benchmark, result: Result | None) -> Iterator[str]:
    if result is None:
        yield f"Not measured yet: `make bench-{benchmark.name}`."
        return
    yield f"![{benchmark.alt}](performance/{benchmark.name}.svg)"
    yield ""
    yield from _wrapped(benchmark.describe(result))
    yield ""
    yield from _table(result.medians)
    if result.ratios:
        yield ""
        yield from _wrapped("; ".join(f"{name}: {number(times)}" for name, times in result.ratios.items()) + ".")
    yield ""
    yield from (f"- {name}: {text}" for name, text in {"taken": _taken(result), **result.settings}.items())
    yield from (f"- skipped: {skipped}" for skipped in result.skipped)
    if result.machine.busy_before > BUSY_BEFORE_MAX:
        yield f"- **others used {result.machine.busy_before:.0%} of the cores just before: doubt these figures**"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _taken(result: Result) -> str:
    rounds = max((reading.round for reading in result.readings), default=0)
    quick = "; **a short pass, rough figures**" if result.quick else ""
    return f"{result.taken_at:%Y-%m-%d}, medians of {rounds} round{'s' if rounds != 1 else ''}{quick}"


def _table(medians: Medians) -> Iterator[str]:
    head, *rows = rows_of(medians)
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def write(path: Path = PAGE) -> dict[str, Result]:
    """Write the page and its charts; what it was made of."""
    found = {each.name: result for each in BENCHMARKS if (result := load(each.name)) is not None}
    for benchmark in BENCHMARKS:
        if benchmark.name in found:
            draw(benchmark, found[benchmark.name])
    path.write_text(page(found))
    return found


def main() -> int:
    found = write()
    Console().print(f"{PAGE.relative_to(REPOSITORY)}, of {', '.join(found) or 'nothing: run `make bench-all`'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
