"""Whether the engine signs, and what a reconciliation found."""

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from bestex.cli.answers import OperatorStatus, Reconciled
from bestex.cli.views.text import clean, facts_table, styled

_STAGES: Final = {
    "waiting": "waiting until nothing signed before can land",
    "reading": "reading the wallet's history",
}


def operator_view(status: OperatorStatus) -> RenderableType:
    facts = facts_table()
    if status.halted:
        facts.add_row("signing", Text("halted: nothing is signed", style="bold yellow"))
        facts.add_row("reason", styled(status.reason or ""))
        facts.add_row("since", styled(status.since or ""))
    else:
        facts.add_row("signing", Text("on", style="green"))
    facts.add_row("open orders", styled(str(status.open_orders)))
    facts.add_row("log", styled(f"{status.head.position} rows · {status.head.hash}"))
    parts: list[RenderableType] = [facts]
    if status.reconcile_error is not None:
        parts.append(Text.assemble(("the reconciliation failed: ", "bold red"), clean(status.reconcile_error)))
    if status.reconciled is not None:
        parts.append(_reconciled(status.reconciled))
    if status.halted and status.reconciled is not None:
        parts.append(Text("to sign again: bestex resume", style="dim"))
    return Group(*parts)


def _reconciled(found: Reconciled) -> RenderableType:
    unknown = set(found.unknown_orders)
    told = "  the journal did not know the order"
    return Group(
        Text(f"reconciled: {found.transactions} transactions looked at, {len(found.adopted)} orders adopted"),
        *(styled(f"  {order_id}{told if order_id in unknown else ''}") for order_id in found.adopted),
        *(styled(f"  {each}  not adopted: its token is not in the registry", "yellow") for each in found.foreign),
        *(styled(f"  {each.order_id}  {each.reason}: {each.signature}", "bold red") for each in found.contradictions),
    )


def stage_text(stage: str) -> str:
    return _STAGES.get(stage, stage)


class ReconcileProgress:
    """A bar while it goes on; nothing where it would not be seen."""

    def __init__(self, console: Console, *, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeRemainingColumn())
        self.shown = shown
        self._bar = Progress(*columns, console=console, transient=True, disable=not shown)
        self._task = self._bar.add_task("reconciling", total=None)

    def __enter__(self) -> "ReconcileProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, status: OperatorStatus) -> None:
        progress = status.reconcile_progress
        if progress is not None:
            self._bar.update(
                self._task, description=stage_text(progress.stage), completed=progress.done, total=progress.of
            )
