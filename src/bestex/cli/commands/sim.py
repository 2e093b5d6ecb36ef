"""`bestex sim`: the handles on the simulated world."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from bestex.cli.session import AsJson, run

if TYPE_CHECKING:
    from bestex.cli.engine_client import EngineClient
    from bestex.cli.terminal import Terminal

sim = typer.Typer(help="The simulated world: its state, its wallet, its faults.", no_args_is_help=True)


@sim.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Profile, seed, chain, faults, and how far apart the venues are."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.views.world import simulation_view
        from bestex.ports import SimulationStatus

        terminal.show(await engine.get("/api/sim"), SimulationStatus, simulation_view)

    run(context, as_json, command)


@sim.command()
def fund(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="A symbol or a mint address.", show_default=False)],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="How much to add.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Add to the paper wallet."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import Wallet
        from bestex.cli.views.world import wallet_view

        answer = await engine.post("/api/sim/fund", {"token": token, "amount": amount})
        terminal.show(answer, Wallet, wallet_view)

    run(context, as_json, command)


@sim.command()
def faults(
    context: typer.Context,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Such as raydium_down=1 quote_timeout=0.1.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the faults, or change some: how likely each is, how long or how large."""
    wanted = parse_changes(changes or [])

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import FaultValues
        from bestex.cli.views.world import faults_view

        path = "/api/sim/faults"
        answer = await (engine.patch(path, wanted) if wanted else engine.get(path))
        terminal.show(answer, FaultValues, faults_view)

    run(context, as_json, command)


@sim.command()
def reset(context: typer.Context, as_json: AsJson = False) -> None:
    """Wallet and pools as at the start, no faults; orders stay."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.views.world import simulation_view
        from bestex.ports import SimulationStatus

        terminal.show(await engine.post("/api/sim/reset"), SimulationStatus, simulation_view)

    run(context, as_json, command)


def parse_changes(changes: list[str]) -> dict[str, float]:
    """Faults by name; which there are is the engine's to say."""
    wanted: dict[str, float] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{change!r} must be NAME=VALUE, such as quote_timeout=0.1")
        if name in wanted:
            raise typer.BadParameter(f"{name} stands twice")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise typer.BadParameter(f"{name} must be a number, not {text!r}")
        wanted[name] = value
    return wanted
