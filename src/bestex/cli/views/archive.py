"""What an archive took, or would take."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.text import Text

from bestex.cli.views.text import facts_table, plain_table, styled

if TYPE_CHECKING:
    from bestex.archiving.archiver import Archived, Outcome, Plan

_NUMBERS: Final = frozenset({"number", "size", "to position", "orders", "events", "stay"})


def outcome_view(outcome: "Outcome", folder: Path) -> RenderableType:
    parts: list[RenderableType] = []
    if outcome.archives:
        table = plain_table(
            *("number", "file", "size", "to position", "orders", "events", "stay"),
            numbers=_NUMBERS,
            folding=frozenset({"file"}),
        )
        for each in outcome.archives:
            table.add_row(*_cells(each))
        orders = sum(each.orders for each in outcome.archives)
        events = sum(each.events for each in outcome.archives)
        size = decimal(sum(each.bytes_ for each in outcome.archives))
        last = outcome.archives[-1]
        told = (
            f"{orders:,} orders with {events:,} events left for {size} in {folder}; "
            f"{last.kept_events:,} events up to position {last.position:,} stay, with their orders"
        )
        parts += [table, Text(), Text(told)]
    else:
        parts.append(Text("nothing is old enough, or all of it was archived"))
    if outcome.forgotten:
        parts.append(Text(f"the keys of {outcome.forgotten:,} archived orders were forgotten"))
    return Group(*parts)


def plan_view(plan: "Plan") -> RenderableType:
    leaving, facts = plan.leaving, facts_table()
    facts.add_row("archived already", f"up to position {plan.after:,}")
    facts.add_row("would be archived", f"up to position {plan.position:,}: {plan.position - plan.after:,} events")
    facts.add_row("would leave", f"{leaving.orders:,} orders with {leaving.events:,} events")
    facts.add_row(
        "would stay", f"{leaving.staying_orders:,} of the orders there, with {leaving.staying_events:,} events"
    )
    return facts


def _cells(archived: "Archived") -> tuple[str | Text, ...]:
    return (
        str(archived.number),
        styled(archived.file),
        decimal(archived.bytes_),
        f"{archived.position:,}",
        f"{archived.orders:,}",
        f"{archived.events:,}",
        f"{archived.kept_events:,}",
    )
