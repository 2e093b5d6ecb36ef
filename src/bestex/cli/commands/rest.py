"""`bestex cancel`, `change`, `deadman`: what is done to orders that wait."""

from typing import TYPE_CHECKING, Annotated

import typer

from bestex.cli.exit_codes import ExitCode
from bestex.cli.order_options import Expires, expiry_of, given, only_one, seconds_in
from bestex.cli.session import AsJson, OrderId, run

if TYPE_CHECKING:
    from bestex.cli.engine_client import EngineClient
    from bestex.cli.terminal import Terminal


def cancel(
    context: typer.Context,
    order_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ORDER_ID", help="Orders' ids.", show_default=False)
    ] = None,
    pair: Annotated[str | None, typer.Option(help="All orders of this pair, such as SOL/USDC.")] = None,
    kind: Annotated[str | None, typer.Option(help="All orders of this kind, such as limit.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All orders.")] = False,
    as_json: AsJson = False,
) -> None:
    """Cancel orders: at once before they are signed, else from their next attempt on."""
    many = given({"pair": pair, "kind": kind, "all": "true" if everything else None})
    if everything and len(many) > 1:
        raise typer.BadParameter("--all contradicts --pair and --kind: leave it out, or them")
    if bool(many) == bool(order_ids):
        raise typer.BadParameter("say which: some ORDER_IDs, or --pair and --kind, or --all")

    async def command(engine: "EngineClient", terminal: "Terminal") -> ExitCode | None:
        if order_ids:
            return await _cancel_each(engine, terminal, order_ids)
        from bestex.cli.answers import CancelledOrders
        from bestex.cli.views.orders import cancelled_many_view

        query = {name: str(value) for name, value in many.items()}
        terminal.show(await engine.delete("/api/orders", query), CancelledOrders, cancelled_many_view)
        return None

    run(context, as_json, command)


async def _cancel_each(engine: "EngineClient", terminal: "Terminal", order_ids: list[str]) -> ExitCode:
    """One after the other; one that is refused keeps no other from being cancelled."""
    from bestex.cli.engine_client import order_path
    from bestex.cli.errors import EngineUnavailableError, ProblemError
    from bestex.cli.views.orders import cancelled_view
    from bestex.domain.order_state import OrderView

    code = ExitCode.DONE
    for order_id in order_ids:
        try:
            terminal.show(await engine.delete(order_path(order_id)), OrderView, cancelled_view)
        except EngineUnavailableError:
            raise
        except ProblemError as error:
            if len(order_ids) > 1 and not terminal.as_json:
                terminal.note(f"{order_id}:")
            terminal.fail(error)
            code = code or error.exit_code
    return code


def change(
    context: typer.Context,
    order_id: OrderId,
    limit: Annotated[str | None, typer.Option(metavar="PRICE", help="Its limit.")] = None,
    min_out: Annotated[str | None, typer.Option(metavar="AMOUNT", help="The same as an amount to receive.")] = None,
    trigger: Annotated[str | None, typer.Option(metavar="PRICE", help="What it waits for.")] = None,
    expires: Expires = None,
    slippage_bps: Annotated[int | None, typer.Option(help="How much less than quoted the swap may pay.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change an order while it waits. It keeps its place: there is no moment without it."""
    from bestex.ambient import SystemClock

    only_one(limit=limit, min_out=min_out)
    changes = given(
        {
            "limitPrice": limit,
            "minAmountOut": min_out,
            "triggerPrice": trigger,
            "expiresAt": expiry_of(expires, SystemClock().now_us()),
            "slippageBps": slippage_bps,
        }
    )
    if not changes:
        raise typer.BadParameter("say what to change: --limit, --min-out, --trigger, --expires, --slippage-bps")

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.engine_client import order_path
        from bestex.cli.views.orders import order_view
        from bestex.domain.order_state import OrderView

        terminal.show(await engine.patch(order_path(order_id), changes), OrderView, order_view)

    run(context, as_json, command)


def deadman(
    context: typer.Context,
    within: Annotated[
        str | None,
        typer.Argument(metavar="SECONDS", help="When it strikes: 30, 30s, 5m, 1h.", show_default=False),
    ] = None,
    keep_stops: Annotated[bool, typer.Option("--keep-stops", help="Spare stops, trailing stops and exits.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Disarm it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have all resting orders cancelled unless this is said again in time; without SECONDS: how the switch stands."""
    seconds = seconds_in(within) if within is not None else None
    if within is not None and not seconds:
        raise typer.BadParameter(f"{within!r} is no duration such as 30s or 5m")
    if off and (within is not None or keep_stops):
        raise typer.BadParameter("--off contradicts SECONDS and --keep-stops")
    if keep_stops and within is None:
        raise typer.BadParameter("--keep-stops needs SECONDS")

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.ambient import SystemClock
        from bestex.cli.answers import DeadManState
        from bestex.cli.views.orders import dead_man_view

        path = "/api/deadman"
        if off:
            answer = await engine.delete(path)
        elif seconds is None:
            answer = await engine.get(path)
        else:
            answer = await engine.post(path, {"seconds": seconds, "keepStops": keep_stops})
        terminal.show(answer, DeadManState, lambda state: dead_man_view(state, SystemClock().now_us()))

    run(context, as_json, command)
