"""What a torture came to."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bestex.cli.views.text import clean, facts_table, plain_table, status_text, styled
from bestex.simulation.run import Outcome
from bestex.simulation.torture import Report


def report_view(report: Report) -> RenderableType:
    """The whole report; a violation, when there is one, stands last."""
    parts: list[RenderableType] = [_facts(report)]
    if report.faults:
        parts += [Text("\nfaults that struck", style="bold"), _counts("fault", "times", report.faults)]
    if report.places:
        parts += [Text("\ncrashed at", style="bold"), _counts("place", "times", report.places)]
    parts += [Text("\ninvariants", style="bold"), _counts("what must hold", "checked", report.checks), Text()]
    parts.append(_verdict(report) if report.violation is None else _violation(report, report.violation))
    return Group(*parts)


def progress_line(report: Report, total: int, seconds: float) -> str:
    return f"{report.runs:,} of {total:,} runs, {report.orders:,} orders, {report.crashes:,} crashes, {seconds:.0f} s"


def _facts(report: Report) -> Table:
    facts = facts_table()
    facts.add_row("runs", f"{report.runs:,}")
    ends = Text(f"{report.orders:,}")
    for status, count in sorted(report.ends.items()):
        ends.append("  ").append(status_text(status)).append(f" {count:,}")
    facts.add_row("orders", ends)
    facts.add_row("kinds", ", ".join(f"{kind} {count:,}" for kind, count in report.kinds.items()))
    facts.add_row("watched", f"fired {report.firings:,} times; {report.slices:,} slices")
    facts.add_row("attempts", f"{report.attempts:,} signed, {report.retries:,} retries")
    facts.add_row("crashes", f"{report.crashes:,} of the engine, {report.restarts:,} starts anew")
    facts.add_row("stalls", f"{report.stalls:,}, another took the place in {report.takeovers:,}")
    facts.add_row("stops", f"{report.stops:,} in order")
    if report.points:
        facts.add_row("crash points", _points_text(report))
    facts.add_row("simulated", f"{report.simulated_s / 3600:,.1f} h")
    seconds = max(report.seconds, 0.001)
    facts.add_row("took", f"{report.seconds:.1f} s, {report.orders / seconds:,.0f} orders/s")
    return facts


def _points_text(report: Report) -> str:
    text = f"{report.points:,} in all runs"
    if report.places:
        known = max(report.places_known, len(report.places))  # no single run has them all
        text += f", at {known:,} places in the code; crashed at {sum(report.places.values()):,} points"
        text += f", at {len(report.places):,} places"
    return text


def _counts(name: str, number: str, counts: Mapping[str, int]) -> Table:
    table = plain_table(name, number, numbers=frozenset({number}))
    for each, count in counts.items():
        table.add_row(styled(each), f"{count:,}")
    return table


def _verdict(report: Report) -> Text:
    if report.interrupted:
        return Text(f"interrupted: everything held in the {report.runs:,} runs made so far", style="yellow")
    return Text("everything held", style="green")


def _violation(report: Report, outcome: Outcome) -> RenderableType:
    violation = outcome.violation
    if violation is None:
        return Text()
    facts = facts_table()
    facts.add_row("violated", styled(violation.invariant, "bold red"))
    facts.add_row("what", styled(violation.what))
    if violation.order_id is not None:
        facts.add_row("order", styled(violation.order_id))
    facts.add_row("when", f"{violation.at_s:.6f} s into seed {outcome.seed}")
    story = [Text(clean(line), style="dim") for line in violation.story]
    repeat = Text.assemble("repeat it: ", (report.repeat or "", "bold"))
    return Group(facts, Text("\nits story", style="bold"), *story, Text(), repeat)
