"""A torture under way: its runs, its progress, its report."""

from collections.abc import Iterator
from contextlib import closing
from typing import Final

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bestex.ambient import SystemClock
from bestex.cli.terminal import Terminal
from bestex.cli.views.torture import progress_line, report_view
from bestex.simulation.run import Outcome
from bestex.simulation.scenario import CrashAt
from bestex.simulation.torture import Plan, Report, outcomes, works

LINE_EVERY_S: Final = 10.0
"""Between two lines of progress where nothing can be drawn."""


class Torture:
    """Runs a plan in front of somebody."""

    def __init__(self, plan: Plan, terminal: Terminal, faults: str | None, jobs: int) -> None:
        """`faults` as it was given, for the command that repeats a run."""
        self._plan = plan
        self._terminal = terminal
        self._faults = faults
        self._jobs = jobs
        self._clock = SystemClock()
        self.report = Report()
        self.interrupted = False

    def run(self) -> bool:
        """Run to the end, to the first violation or to Ctrl-C, and report; whether everything held."""
        began = self._clock.monotonic()
        try:
            self._make_runs(began)
        except KeyboardInterrupt:
            self.interrupted = True
        report = self.report
        report.seconds = round(self._clock.monotonic() - began, 3)
        report.interrupted = self.interrupted
        if report.violation is not None:
            report.repeat = self._command(report.violation)
        if self._terminal.as_json:
            self._terminal.json(msgspec.json.encode(report))
        else:
            self._terminal.say(report_view(report))
        return report.violation is None

    def _make_runs(self, began: float) -> None:
        all_works = works(self._plan)
        with closing(outcomes(all_works, self._jobs)) as ended:
            told = self._drawn(ended, len(all_works)) if self._draws else self._told(ended, len(all_works), began)
            for outcome in told:
                self.report.add(outcome)
                if outcome.violation is not None:
                    return

    @property
    def _draws(self) -> bool:
        return self._terminal.can_animate and not self._terminal.as_json

    def _drawn(self, ended: Iterator[Outcome], total: int) -> Iterator[Outcome]:
        """With a bar on the terminal."""
        columns = (TextColumn("torture"), BarColumn(), MofNCompleteColumn(), TextColumn("seeds"), TimeRemainingColumn())
        with Progress(*columns, console=self._terminal.out, transient=True) as progress:
            bar = progress.add_task("", total=total)
            for outcome in ended:
                yield outcome
                progress.advance(bar)

    def _told(self, ended: Iterator[Outcome], total: int, began: float) -> Iterator[Outcome]:
        """With a line now and then."""
        told_at = began
        for outcome in ended:
            yield outcome
            now = self._clock.monotonic()
            if now - told_at >= LINE_EVERY_S:
                told_at = now
                self._terminal.note(progress_line(self.report, total, now - began))

    def _command(self, outcome: Outcome) -> str:
        """What repeats a run exactly."""
        options = self._plan.options
        words = ["bestex torture", f"--seed {outcome.seed}", f"--orders {options.orders}"]
        if self._faults is not None:
            words.append(f"--faults '{self._faults}'")
        words.append(f"--crash-at {options.crash_at}")
        if options.crash_at is CrashAt.EVERY and outcome.point is not None:
            words.append(f"--point {outcome.point}")
        return " ".join(words)
