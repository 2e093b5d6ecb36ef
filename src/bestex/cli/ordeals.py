"""An ordeal of the real engine under way: its progress, its report."""

import asyncio
from collections.abc import Callable

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bestex.ambient import SystemClock
from bestex.cli.terminal import Terminal
from bestex.cli.views.ordeal import ordeal_view, progress_text
from bestex.ordeal import ClusterPlan, LivePlan, LiveReport, Queue, cluster_schedule, run_live
from bestex.ordeal import Progress as Stage

LINE_EVERY_S = 10.0
"""Between two lines of progress where nothing can be drawn."""


def run_ordeal(plan: LivePlan, terminal: Terminal) -> bool:
    """Run to the end and report; whether nothing was violated. Ctrl-C stops everything, then `KeyboardInterrupt`.

    Raises `ValkeyMissingError`.
    """
    terminal.note(f"seed {plan.seed}: the blows and their moments; the load itself does not repeat")
    if isinstance(plan, ClusterPlan):
        for blow in cluster_schedule(plan.seed, plan.seconds, plan.kills, valkey=plan.queue is Queue.BULLMQ):
            terminal.note(f"  {blow.told}")
    if terminal.can_animate and not terminal.as_json:
        report = _drawn(plan, terminal)
    else:
        report = asyncio.run(run_live(plan, SystemClock(), _telling(terminal)))
    if terminal.as_json:
        terminal.json(msgspec.json.encode(report))
    else:
        terminal.say(ordeal_view(report))
    return report.passed


def _drawn(plan: LivePlan, terminal: Terminal) -> LiveReport:
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=terminal.out, transient=True) as bar:
        task = bar.add_task("starting", total=float(plan.seconds))

        def show(stage: Stage) -> None:
            bar.update(task, completed=stage.elapsed_s, total=stage.total_s, description=progress_text(stage))

        return asyncio.run(run_live(plan, SystemClock(), show))


def _telling(terminal: Terminal) -> Callable[[Stage], None]:
    """A line now and then, and one for each new phase."""
    clock = SystemClock()
    told_at, phase = 0.0, ""

    def tell(stage: Stage) -> None:
        nonlocal told_at, phase
        now = clock.monotonic()
        if stage.phase != phase or now - told_at >= LINE_EVERY_S:
            told_at, phase = now, stage.phase
            terminal.note(progress_text(stage))

    return tell
