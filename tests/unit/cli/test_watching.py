"""The live timeline: redrawn in place, never higher than the screen, whole at the end."""

import io

import msgspec
from rich.console import Console

from bestex.cli.answers import Update
from bestex.cli.terminal import Terminal
from bestex.cli.watching import JsonLines, LiveTimeline, PlainLines, presenter_for
from tests.unit.cli.recorded import HAPPY, ORDER_ID, SLIPPED, HastyClock, printed, raw_detail

RAW = msgspec.Raw(b"{}")


def screen(*, no_color: bool | None = None) -> Console:
    return Console(file=io.StringIO(), width=80, height=40, force_terminal=True, highlight=False, no_color=no_color)


def updates_of(recorded: list[dict[str, object]]) -> list[Update]:
    return [msgspec.convert(raw_detail(each), Update) for each in recorded]


def drawn(timeline: LiveTimeline, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=80, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(timeline)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_the_last_lines_that_fit_the_screen_are_drawn_while_it_runs() -> None:
    timeline = LiveTimeline(screen(), HastyClock(), ORDER_ID)
    with timeline:
        for update in updates_of(SLIPPED[:4]):
            timeline.show(update, RAW)
        assert len(drawn(timeline, height=8).splitlines()) == 7
        assert "meteora pays 8.301181 USDC less" in drawn(timeline, height=8)
    assert drawn(timeline, height=8).startswith(f"order {ORDER_ID}"), "whole at the end"


def test_the_running_status_grows_with_the_clock() -> None:
    clock = HastyClock()
    timeline = LiveTimeline(screen(), clock, ORDER_ID)
    first, second = updates_of(HAPPY[:2])
    with timeline:
        timeline.show(first, RAW)
        timeline.show(second, RAW)
        clock.at_us = second.at_us + 1_250_000
        assert "1.25 s" in drawn(timeline)
        clock.at_us += 1_000_000
        assert "2.25 s" in drawn(timeline)


def test_trouble_is_shown_until_the_next_update() -> None:
    timeline = LiveTimeline(screen(), HastyClock(), ORDER_ID)
    first, second = updates_of(HAPPY[:2])
    with timeline:
        timeline.show(first, RAW)
        timeline.trouble("the connection was lost; trying again")
        assert drawn(timeline).endswith("the connection was lost; trying again")
        timeline.show(second, RAW)
        assert "lost" not in drawn(timeline)


def test_the_finished_timeline_stays_on_the_screen() -> None:
    console = screen()
    timeline = LiveTimeline(console, HastyClock(), ORDER_ID)
    with timeline:
        for update in updates_of(HAPPY):
            timeline.show(update, RAW)
    assert isinstance(console.file, io.StringIO)
    assert "✔" in console.file.getvalue()
    assert "1.73 bps worse than quoted" in drawn(timeline)


def test_each_output_has_its_presenter() -> None:
    clock = HastyClock()
    pipe = Console(file=io.StringIO(), width=80, force_terminal=False)
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})

    def presenter(out: Console, *, as_json: bool = False) -> object:
        return presenter_for(Terminal(as_json=as_json, out=out), clock, ORDER_ID, None)

    assert isinstance(presenter(screen()), LiveTimeline)
    assert isinstance(presenter(pipe), PlainLines)
    assert isinstance(presenter(dumb), PlainLines)
    assert isinstance(presenter(screen(), as_json=True), JsonLines)


def test_plain_lines_begin_with_the_order_and_have_no_colours() -> None:
    out = Console(file=io.StringIO(), width=80, force_terminal=False)
    err = Console(file=io.StringIO(), width=80, force_terminal=False)
    lines = PlainLines(Terminal(as_json=False, out=out, err=err), None, None)
    with lines:
        for update in updates_of(HAPPY):
            lines.show(update, RAW)
        lines.trouble("the connection was lost")
    assert isinstance(out.file, io.StringIO)
    assert isinstance(err.file, io.StringIO)
    text = out.file.getvalue()
    assert text.startswith(f"order {ORDER_ID}\n     +0 ms  ● pending\n")
    assert "\x1b" not in text
    assert text.count("confirmed") == 1
    assert err.file.getvalue() == "the connection was lost\n"


def test_no_color_is_honoured_in_a_terminal() -> None:
    console = screen(no_color=True)
    timeline = LiveTimeline(console, HastyClock(), ORDER_ID)
    with timeline:
        timeline.show(updates_of(HAPPY)[0], RAW)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[3" not in console.file.getvalue()
    assert printed(timeline).startswith(f"order {ORDER_ID}")
