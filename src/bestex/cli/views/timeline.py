"""An order's life as a waterfall: when each status began, how long it lasted, and what it said."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from bestex.cli.views.steps import Step, Swap, step_lines, swap_after
from bestex.cli.views.text import STATUS_MARKS, STATUS_STYLES, clean, duration_text
from bestex.domain.lifecycle import ENDS, Status

BAR_WIDTH_MAX: Final = 40
WATCH_DRAWN_MIN_US: Final = 1_000_000
"""A wait up to this is drawn to scale, and so is one that took no longer than all the rest."""
_TIME_WIDTH: Final = 10
_STATUS_WIDTH: Final = 10
_BEHIND_TIME: Final = 4  # the words of a step begin under its status
_SPENT_WIDTH: Final = 10


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
    began_us = accepted_us if accepted_us is not None else steps[0].at_us
    running = now_us is not None and steps[-1].status not in ENDS
    until_us = max(steps[-1].at_us, now_us) if running and now_us is not None else steps[-1].at_us
    ends_us = [after.at_us for _, after in pairwise(steps)] + [until_us]
    drawn_us = _drawn_us(steps, ends_us)
    time_width = max(_TIME_WIDTH, *(len(_since(step, began_us)) for step in steps))
    spent = [duration_text(end_us - step.at_us) for step, end_us in zip(steps, ends_us, strict=True)]
    spent_width = max(_SPENT_WIDTH, *map(len, spent))
    indent = time_width + _BEHIND_TIME
    bar_width = max(min(width - indent - _STATUS_WIDTH - spent_width - 2, BAR_WIDTH_MAX), 8)
    rows: list[RenderableType] = []
    behind_us = max(steps[0].at_us - began_us, 0)
    whole_us = behind_us + sum(drawn_us)
    for step, end_us, length_us, lasted in zip(steps, ends_us, drawn_us, spent, strict=True):
        is_last = step is steps[-1]
        swap = swap_after(swap, step)
        row = _headline(step, began_us, time_width, is_running=running and is_last)
        if not is_last or running:
            sign = "┅" if length_us < end_us - step.at_us else "━"
            bar = _bar((behind_us, behind_us + length_us), whole_us, bar_width, sign)
            row.append(bar, style=STATUS_STYLES.get(step.status, ""))
            row.append(f" {lasted:>{spent_width}}", style="dim")
        behind_us += length_us
        rows.append(row)
        lines = step_lines(step, swap, quotes=quotes)
        rows += [Padding(line, (0, 0, 0, indent)) for line in lines]
    return Group(*rows)


def step_text(step: Step, swap: Swap | None, began_us: int, console: Console) -> str:
    """One step for a pipe or a log: its row, and its words on lines of their own."""
    lines, indent = step_lines(step, swap), _TIME_WIDTH + _BEHIND_TIME
    with console.capture() as capture:
        console.print(_headline(step, began_us), soft_wrap=True)
        for line in lines:
            if isinstance(line, Text):
                console.print(Text(" " * indent) + line, soft_wrap=True)
            else:
                console.print(Padding(line, (0, 0, 0, indent)))
    return "\n".join(row.rstrip() for row in capture.get().splitlines())


def _since(step: Step, began_us: int) -> str:
    return f"+{duration_text(max(step.at_us - began_us, 0))}"


def _headline(step: Step, began_us: int, time_width: int = _TIME_WIDTH, *, is_running: bool = False) -> Text:
    style = STATUS_STYLES.get(step.status, "")
    mark = STATUS_MARKS.get(step.status, "○" if is_running else "●")
    status = clean(step.status)
    return Text.assemble(
        (f"{_since(step, began_us):>{time_width}}", "dim"),
        "  ",
        (mark, style),
        " ",
        (f"{status:<{_STATUS_WIDTH}} ", f"bold {style}".strip()),
        no_wrap=True,
    )


def _drawn_us(steps: Sequence[Step], ends_us: Sequence[int]) -> list[int]:
    """How long each step is drawn: what waits for hours must not make the rest invisible."""
    lasted = [max(end_us - step.at_us, 0) for step, end_us in zip(steps, ends_us, strict=True)]
    watched = [step.status == Status.WATCHING for step in steps]
    others_us = sum(each for each, waits in zip(lasted, watched, strict=True) if not waits)
    most_us = max(others_us, WATCH_DRAWN_MIN_US)
    return [min(each, most_us) if waits else each for each, waits in zip(lasted, watched, strict=True)]


def _bar(span_us: tuple[int, int], total_us: int, width: int, long_sign: str) -> str:
    """The part of `width` columns that stands for `span_us` of `total_us`; whatever took time is at least a tick."""
    start_us, end_us = span_us
    if total_us <= 0:
        return " " * width
    first = min(start_us * width // total_us, width - 1)
    last = max(-(-end_us * width // total_us), first + 1)
    sign = long_sign if end_us - start_us > total_us // (2 * width) else "╸"
    return " " * first + sign * (last - first) + " " * (width - last)
