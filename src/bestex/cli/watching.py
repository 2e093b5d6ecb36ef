"""Watch one order to its end: a live timeline in a terminal, plain lines in a pipe, JSON Lines for machines."""

import contextlib
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment

from bestex.cli.answers import Update, unix_us
from bestex.cli.engine_client import EngineClient, order_path
from bestex.cli.errors import EngineUnavailableError
from bestex.cli.exit_codes import ExitCode, exit_code_of
from bestex.cli.order_stream import OrderStream
from bestex.cli.terminal import Terminal
from bestex.cli.views.steps import Step, Swap, step_of, swap_after, swap_of_view
from bestex.cli.views.text import styled
from bestex.cli.views.timeline import step_text, timeline_view
from bestex.domain.lifecycle import ENDS
from bestex.domain.order_state import OrderView
from bestex.ports import Clock

REFRESHES_PER_SECOND: Final = 10


class Presenter(Protocol):
    """Shows updates as they come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, update: Update, raw: msgspec.Raw) -> None: ...

    def trouble(self, text: str) -> None:
        """Say that the connection was lost, and what is done about it."""


async def watch_order(
    engine: EngineClient,
    terminal: Terminal,
    clock: Clock,
    order_id: str,
    *,
    after: int = 0,
    engine_seen: bool = False,
) -> ExitCode:
    """Show the order's updates behind `after` until it ends, and tell by the exit code how it did."""
    order = None
    if after > 0 and not terminal.as_json:  # what the updates left out would have told
        order = (await engine.get(order_path(order_id))).read(OrderView)
    presenter = presenter_for(terminal, clock, order_id, order)
    stream = OrderStream(engine.url, order_id, clock, presenter.trouble, after=after)
    end: str | None = None
    try:
        with presenter:
            async with contextlib.aclosing(stream.updates(engine_seen=engine_seen or order is not None)) as updates:
                async for update, raw in updates:
                    presenter.show(update, raw)
                    if update.is_end:
                        end = update.status
    finally:
        terminal.if_interrupted = f"the order goes on; to follow it: bestex watch {order_id} --after {stream.seq}"
    if end is None:
        end = await _ended_before(engine, order_id)
        if not terminal.as_json:
            terminal.say(f"order {order_id} had ended: {end}")
    return exit_code_of(end)


async def _ended_before(engine: EngineClient, order_id: str) -> str:
    """The end of an order whose stream had nothing more to tell."""
    order = (await engine.get(order_path(order_id))).read(OrderView)
    if order.status not in ENDS:
        raise EngineUnavailableError(f"the engine closed the stream while order {order_id} is {order.status}")
    return order.status


def presenter_for(terminal: Terminal, clock: Clock, order_id: str, order: OrderView | None) -> Presenter:
    """`order` is given when the first updates will not be shown."""
    if terminal.as_json:
        return JsonLines(terminal)
    swap = swap_of_view(order) if order is not None else None
    accepted_us = unix_us(order.created_at) if order is not None else None
    if terminal.can_animate:
        return LiveTimeline(terminal.out, clock, order_id, swap, accepted_us)
    return PlainLines(terminal, swap, accepted_us)


class JsonLines:
    """One update a line, as the engine sent it."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, update: Update, raw: msgspec.Raw) -> None:
        self._terminal.json_line(raw)

    def trouble(self, text: str) -> None:
        self._terminal.note(text)


class PlainLines:
    """Each update once, as text that a pipe or a log can keep."""

    def __init__(self, terminal: Terminal, swap: Swap | None, accepted_us: int | None) -> None:
        self._terminal = terminal
        self._console = terminal.out
        self._swap = swap
        self._accepted_us = accepted_us
        self._has_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, update: Update, raw: msgspec.Raw) -> None:
        step = step_of(update)
        if not self._has_begun:
            self._console.print(styled(f"order {update.order_id}", "bold"), soft_wrap=True)
            self._has_begun = True
        if self._accepted_us is None:
            self._accepted_us = step.at_us
        self._swap = swap_after(self._swap, step)
        self._console.out(step_text(step, self._swap, self._accepted_us, self._console), highlight=False)

    def trouble(self, text: str) -> None:
        self._terminal.note(text)


class LiveTimeline:
    """The waterfall, drawn again and again until the end; then it stays."""

    def __init__(
        self, console: Console, clock: Clock, order_id: str, swap: Swap | None = None, accepted_us: int | None = None
    ) -> None:
        self._clock = clock
        self._order_id = order_id
        self._swap = swap
        self._accepted_us = accepted_us
        self._steps: tuple[Step, ...] = ()  # replaced whole: the refreshing thread sees one state or the next
        self._trouble: str | None = None  # shown below until the next update
        self._is_over = False
        self._live = Live(self, console=console, refresh_per_second=REFRESHES_PER_SECOND, vertical_overflow="visible")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._live.stop()

    def show(self, update: Update, raw: msgspec.Raw) -> None:
        self._steps = (*self._steps, step_of(update))
        self._trouble = None
        self._live.refresh()

    def trouble(self, text: str) -> None:
        self._trouble = text
        self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """All of it at the end; before that as many of the last lines as the screen holds."""
        view = timeline_view(
            self._steps,
            options.max_width,
            swap=self._swap,
            accepted_us=self._accepted_us,
            now_us=None if self._is_over else self._clock.now_us(),
        )
        lines = console.render_lines(styled(f"order {self._order_id}", "bold"), options, pad=False)
        lines += console.render_lines(view, options.update(height=None), pad=False)
        if self._trouble is not None:
            lines += console.render_lines(styled(self._trouble, "yellow"), options, pad=False)
        if not self._is_over:
            lines = lines[-max(console.height - 1, 1) :]
        for number, line in enumerate(lines):
            if number:
                yield Segment.line()
            yield from line
