"""What an ordeal of the real engine came to."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bestex.cli.views.text import facts_table, plain_table, status_text, styled
from bestex.ordeal import LiveReport, Progress


def ordeal_view(report: LiveReport) -> RenderableType:
    """The whole report; violations, when there are any, stand last."""
    parts: list[RenderableType] = [
        _facts(report),
        Text("\nblows", style="bold"),
        _counts("blow", report.blows),
        Text("\nmeanwhile", style="bold"),
        _counts("what happened", report.world),
        Text("\norders by kind", style="bold"),
        _counts("kind", report.orders_by_kind),
        Text("\nwhat fired them", style="bold"),
        _counts("trigger", report.firings),
        Text("\nanswers to order entry", style="bold"),
        _counts("answer", report.answers),
        Text("\nchecked", style="bold"),
        _counts("what must hold", report.checks),
        Text(),
    ]
    if report.passed:
        parts.append(Text("no violation, none lost", style="green"))
    else:
        parts += [styled(each, "bold red") for each in report.violations]
        if report.kept is not None:
            parts.append(styled(f"database and logs are kept in {report.kept}", "yellow"))
    return Group(*parts)


def progress_text(progress: Progress) -> str:
    last = f" · last blow: {progress.last_blow}" if progress.last_blow else ""
    return f"{progress.phase} · {progress.accepted:,} orders · {progress.blows} blows{last}"


def _facts(report: LiveReport) -> Table:
    facts = facts_table()
    facts.add_row("seed", str(report.seed))
    facts.add_row("orders", _ends(f"{report.orders:,} accepted", report.orders_by_end))
    facts.add_row("exits", _ends(f"{sum(report.exits_by_end.values()):,} made", report.exits_by_end))
    facts.add_row("slices", f"{report.slices:,}")
    facts.add_row("events", f"{report.events:,}")
    facts.add_row("watchers", f"{report.watchers:,}, connected again {report.reconnects:,} times")
    facts.add_row("silence", f"{report.longest_without_acceptance_s:.1f} s at most without an accepted order")
    facts.add_row("starts", f"the longest took {report.longest_start_s:.1f} s, {report.failed_starts} failed")
    facts.add_row(
        "lost place", f"{report.fenced} times a process ended because it had no place on the database any more"
    )
    facts.add_row("took", f"{report.seconds:.0f} s")
    return facts


def _ends(how_many: str, by_end: Mapping[str, int]) -> Text:
    ends = Text(how_many)
    for status, count in sorted(by_end.items()):
        ends.append("  ").append(status_text(status)).append(f" {count:,}")
    return ends


def _counts(name: str, counts: Mapping[str, int]) -> Table:
    table = plain_table(name, "times", numbers=frozenset({"times"}))
    for each, count in sorted(counts.items()):
        table.add_row(styled(each), f"{count:,}")
    return table
