"""An order's life as a waterfall: when each status began, how long it lasted, and what it said."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from bestex.cli.views.steps import Step, Swap, step_lines, swap_of_steps
from bestex.cli.views.text import STATUS_MARKS, STATUS_STYLES, clean, duration_text
from bestex.domain.lifecycle import ENDS

BAR_WIDTH_MAX: Final = 40
_TIME_WIDTH: Final = 10
_STATUS_WIDTH: Final = 10
_INDENT: Final = _TIME_WIDTH + 4  # where the words of a step begin: under its status
_BESIDE_BAR: Final = _INDENT + _STATUS_WIDTH + 1 + 11


def timeline_view(
    steps: Sequence[Step],
    width: int,
    *,
    swap: Swap | None = None,
    accepted_us: int | None = None,
    now_us: int | None = None,
    quotes: bool = True,
) -> Group:
    """`steps` as rows of at most `width` columns.

    `accepted_us` is needed where the first step is not `pending`, `swap` likewise. With `now_us` the last status
    goes on until then, unless it is the order's end.
    """
    if not steps:
        return Group()
    swap = swap if swap is not None else swap_of_steps(tuple(steps))
    began_us = accepted_us if accepted_us is not None else steps[0].at_us
    running = now_us is not None and steps[-1].status not in ENDS
    until_us = max(steps[-1].at_us, now_us) if running and now_us is not None else steps[-1].at_us
    ends_us = [after.at_us for _, after in pairwise(steps)] + [until_us]
    bar_width = max(min(width - _BESIDE_BAR, BAR_WIDTH_MAX), 8)
    rows: list[RenderableType] = []
    for step, end_us in zip(steps, ends_us, strict=True):
        is_last = step is steps[-1]
        row = _headline(step, began_us, is_running=running and is_last)
        if not is_last or running:
            span = (step.at_us - began_us, end_us - began_us)
            row.append(_bar(span, until_us - began_us, bar_width), style=STATUS_STYLES.get(step.status, ""))
            row.append(f" {duration_text(end_us - step.at_us):>10}", style="dim")
        rows.append(row)
        lines = step_lines(step, swap, quotes=quotes)
        rows += [Padding(line, (0, 0, 0, _INDENT)) for line in lines]
    return Group(*rows)


def step_text(step: Step, swap: Swap | None, began_us: int, console: Console) -> str:
    """One step for a pipe or a log: its row, and its words on lines of their own."""
    lines = step_lines(step, swap)
    with console.capture() as capture:
        console.print(_headline(step, began_us), soft_wrap=True)
        for line in lines:
            if isinstance(line, Text):
                console.print(Text(" " * _INDENT) + line, soft_wrap=True)
            else:
                console.print(Padding(line, (0, 0, 0, _INDENT)))
    return "\n".join(row.rstrip() for row in capture.get().splitlines())


def _headline(step: Step, began_us: int, *, is_running: bool = False) -> Text:
    style = STATUS_STYLES.get(step.status, "")
    mark = STATUS_MARKS.get(step.status, "○" if is_running else "●")
    since = f"+{duration_text(max(step.at_us - began_us, 0))}"
    status = clean(step.status)
    return Text.assemble(
        (f"{since:>{_TIME_WIDTH}}", "dim"),
        "  ",
        (mark, style),
        " ",
        (f"{status:<{_STATUS_WIDTH}} ", f"bold {style}".strip()),
        no_wrap=True,
    )


def _bar(span_us: tuple[int, int], total_us: int, width: int) -> str:
    """The part of `width` columns that stands for `span_us` of `total_us`; whatever took time is at least a tick."""
    start_us, end_us = span_us
    if total_us <= 0:
        return " " * width
    first = min(start_us * width // total_us, width - 1)
    last = max(-(-end_us * width // total_us), first + 1)
    sign = "━" if end_us - start_us > total_us // (2 * width) else "╸"
    return " " * first + sign * (last - first) + " " * (width - last)
