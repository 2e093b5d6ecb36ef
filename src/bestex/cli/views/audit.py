"""What an audit found."""

from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from bestex.audit.findings import CheckResult, Finding
from bestex.cli.views.text import clean, facts_table, plain_table, styled

if TYPE_CHECKING:
    from bestex.auditing import Verification

SHOWN_MAX: Final = 50
"""Findings that are shown to a person; --json has more."""


def verification_view(verification: "Verification") -> RenderableType:
    report = verification.report
    facts = facts_table()
    facts.add_row("journal", styled(report.journal_id))
    facts.add_row("head", styled(f"{report.head_position}, {report.head_hash}"))
    if report.published_head is not None:
        facts.add_row("published head", styled(f"{report.published_head.position}, from {verification.head_file}"))
    rate = f"{verification.seconds:.2f} s, {verification.events_per_second:,.0f} events/s"
    facts.add_row(
        "read", f"{report.events:,} events, {report.orders:,} orders, {report.transactions:,} transactions; {rate}"
    )
    parts: list[RenderableType] = [facts, Text(), _checks_table(report.checks), Text()]
    if report.clean:
        parts.append(Text("nothing found", style="bold green"))
        return Group(*parts)
    parts += [_finding_text(finding) for finding in report.findings[:SHOWN_MAX]]
    shown = min(len(report.findings), SHOWN_MAX)
    more = f"; the first {shown} are shown" if shown < report.violations else ""
    parts.append(Text(f"{report.violations:,} violation{'s' * (report.violations != 1)}{more}", style="bold red"))
    return Group(*parts)


def verification_document(verification: "Verification") -> dict[str, object]:
    """The same as a JSON object."""
    document: dict[str, object] = msgspec.to_builtins(verification.report)
    return {
        "clean": verification.report.clean,
        **document,
        "headFile": str(verification.head_file) if verification.head_file is not None else None,
        "seconds": round(verification.seconds, 3),
        "eventsPerSecond": round(verification.events_per_second),
    }


def _checks_table(checks: list[CheckResult]) -> RenderableType:
    numbers = frozenset({"checked", "violations"})
    table = plain_table("check", "checked", "violations", "", numbers=numbers, folding=frozenset({""}))
    for check in checks:
        if check.skipped is not None:
            table.add_row(styled(check.name), "-", "-", styled(check.skipped), style="dim")
        else:
            style = "bold red" if check.violations else ""
            table.add_row(styled(check.name), f"{check.checked:,}", Text(f"{check.violations:,}", style=style))
    return table


def _finding_text(finding: Finding) -> Text:
    return Text.assemble((finding.kind, "bold red"), "  ", clean(finding.message))
