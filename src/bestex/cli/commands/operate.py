"""`bestex halt`, `resume`, `resolve`, `reconcile`: the operator's hand on a running engine."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from bestex.cli.exit_codes import ExitCode
from bestex.cli.session import AsJson, OrderId, run

if TYPE_CHECKING:
    from bestex.cli.answers import OperatorStatus
    from bestex.cli.engine_client import Answer, EngineClient
    from bestex.cli.terminal import Terminal

RECONCILE_POLL_S: Final = 0.2


def halt(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, for the record.", show_default="by the operator")] = "",
    as_json: AsJson = False,
) -> None:
    """Sign nothing from now on, over restarts too. What was signed is still resolved; new orders are refused."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import OperatorStatus
        from bestex.cli.views.operator import operator_view

        answer = await engine.post("/api/operator/halt", {"reason": reason})
        if reason and answer.read(OperatorStatus).reason != reason:
            terminal.note("it was halted already: the first reason stands")
        terminal.show(answer, OperatorStatus, operator_view)

    run(context, as_json, command)


def resume(context: typer.Context, as_json: AsJson = False) -> None:
    """Sign again. Refused while the journal is older than its published head: reconcile it first."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import OperatorStatus
        from bestex.cli.views.operator import operator_view

        terminal.show(await engine.post("/api/operator/resume"), OperatorStatus, operator_view)

    run(context, as_json, command)


def resolve(
    context: typer.Context,
    order_id: OrderId,
    executed: Annotated[str | None, typer.Option(metavar="SIGNATURE", help="It executed, by this transaction.")] = None,
    not_executed: Annotated[bool, typer.Option("--not-executed", help="It did not execute, and never will.")] = False,
    amount_in: Annotated[str | None, typer.Option(help="What it took, where the chain does not show it.")] = None,
    amount_out: Annotated[str | None, typer.Option(help="What it paid, where the chain does not show it.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Decide although it may still land, or the chain does not answer."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Decide what became of an order whose outcome stays unknown, or that a fork took away.

    What the chain shows goes before what a person says. The decision is an event of the order, for all to see.
    """
    if (executed is not None) == not_executed:
        raise typer.BadParameter("say one of --executed SIGNATURE and --not-executed")
    given: dict[str, object] = {
        "executed": executed,
        "notExecuted": not_executed or None,
        "amountIn": amount_in,
        "amountOut": amount_out,
        "note": note,
        "force": force or None,
    }

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.engine_client import order_path
        from bestex.cli.views.orders import order_view
        from bestex.domain.order_state import OrderView

        body = {name: value for name, value in given.items() if value is not None}
        terminal.show(await engine.post(order_path(order_id, "/resolve"), body), OrderView, order_view)

    run(context, as_json, command)


def reconcile(
    context: typer.Context,
    and_resume: Annotated[
        bool, typer.Option("--resume", help="Sign again afterwards, when nothing contradicts.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Adopt what the wallet signed and the journal does not know, such as after an old backup was restored.

    Only while halted. First it waits until nothing that was signed before can land any more: about a minute.
    """

    async def command(engine: "EngineClient", terminal: "Terminal") -> ExitCode:
        from bestex.cli.answers import OperatorStatus
        from bestex.cli.views.operator import operator_view

        await engine.post("/api/operator/reconcile")
        terminal.if_interrupted = "the engine goes on reconciling; the same command follows it again"
        answer, status = await _until_reconciled(engine, terminal)
        found = status.reconciled
        clean = found is not None and not found.contradictions
        if and_resume and clean:
            answer = await engine.post("/api/operator/resume")
        terminal.show(answer, OperatorStatus, operator_view)
        return ExitCode.DONE if clean else ExitCode.NOT_EXECUTED

    run(context, as_json, command)


async def _until_reconciled(engine: "EngineClient", terminal: "Terminal") -> "tuple[Answer, OperatorStatus]":
    from bestex.ambient import SystemClock
    from bestex.cli.answers import OperatorStatus
    from bestex.cli.views.operator import ReconcileProgress, stage_text

    clock = SystemClock()
    told: str | None = None
    with ReconcileProgress(terminal.err, shown=terminal.can_animate and not terminal.as_json) as progress:
        while True:
            answer = await engine.get("/api/operator")
            status = answer.read(OperatorStatus)
            if not status.reconciling:
                return answer, status
            progress.show(status)
            stage = status.reconcile_progress.stage if status.reconcile_progress is not None else None
            if stage is not None and stage != told and not progress.shown:
                told = stage
                terminal.note(stage_text(stage))
            await clock.sleep(RECONCILE_POLL_S)
