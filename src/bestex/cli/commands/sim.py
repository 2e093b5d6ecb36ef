"""`bestex sim`: the handles on the simulated world."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bestex.cli.session import AsJson, run

if TYPE_CHECKING:
    from bestex.cli.engine_client import EngineClient
    from bestex.cli.terminal import Terminal

sim = typer.Typer(
    help="The simulated world: its state, its wallet, its faults, its prices, its launches.", no_args_is_help=True
)

SOUND: Final[Mapping[str, object]] = {
    "liquidity": "50",
    "mintAuthorityRevoked": True,
    "freezeAuthorityRevoked": True,
    "lpBurntBps": 10_000,
    "lpLockedBps": 0,
    "topHoldersBps": 1_000,
}
"""What a launch is like unless something else is said: nothing is wrong with it."""


class Flaw(StrEnum):
    """What may be wrong with a launch."""

    MINT_AUTHORITY = "mint-authority"
    FREEZE_AUTHORITY = "freeze-authority"
    LP = "lp"
    HOLDERS = "holders"
    LIQUIDITY = "liquidity"


FLAWED: Final[Mapping[Flaw, Mapping[str, object]]] = {
    Flaw.MINT_AUTHORITY: {"mintAuthorityRevoked": False},
    Flaw.FREEZE_AUTHORITY: {"freezeAuthorityRevoked": False},
    Flaw.LP: {"lpBurntBps": 0, "lpLockedBps": 0},
    Flaw.HOLDERS: {"topHoldersBps": 6_000},
    Flaw.LIQUIDITY: {"liquidity": "0.5"},
}


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


@sim.command(context_settings={"ignore_unknown_options": True})  # a percent may begin with a minus
def price(
    context: typer.Context,
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="Such as SOL/USDC.", show_default=False)],
    percent: Annotated[
        str, typer.Argument(metavar="PERCENT", help="By how much, such as 10 or -5.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Make a pair's base token dearer or cheaper, from now on and against all."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import PriceMove
        from bestex.cli.views.world import price_move_view

        answer = await engine.post("/api/sim/price", {"pair": pair, "percent": percent})
        terminal.show(answer, PriceMove, price_move_view)

    run(context, as_json, command)


@sim.command()
def launch(
    context: typer.Context,
    liquidity: Annotated[str | None, typer.Option(help="SOL in the pool.", show_default="50")] = None,
    bad: Annotated[list[Flaw] | None, typer.Option(help="What is wrong with it; may stand several times.")] = None,
    ticker: Annotated[str | None, typer.Option(help="What it calls itself.", show_default="a random one")] = None,
    venue: Annotated[str | None, typer.Option(help="Where it is listed.", show_default="a random one")] = None,
    creator: Annotated[str | None, typer.Option(help="Whose it is.", show_default="a new one's")] = None,
    drift_bps: Annotated[
        int | None,
        typer.Option(help="Where its price goes, bps a minute; down when negative.", show_default="a random way"),
    ] = None,
    at_random: Annotated[bool, typer.Option("--random", help="Leave to chance what is not said.")] = False,
    as_json: AsJson = False,
) -> None:
    """List a new token, with a pool against SOL. Nothing is wrong with it unless --bad or --random says so."""
    wish: dict[str, object] = {} if at_random else dict(SOUND)
    for flaw in bad or []:
        wish |= FLAWED[flaw]
    said = {
        "liquidity": liquidity,
        "ticker": ticker,
        "venue": venue,
        "creator": creator,
        "driftBpsPerMinute": drift_bps,
    }
    wish |= {name: value for name, value in said.items() if value is not None}

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import LaunchedPool
        from bestex.cli.views.world import launched_view

        terminal.show(await engine.post("/api/sim/launch", wish), LaunchedPool, launched_view)

    run(context, as_json, command)


@sim.command()
def migrate(
    context: typer.Context,
    mint: Annotated[str, typer.Argument(metavar="MINT", help="A launched token's mint.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Move a launched token's pool to the other venue, at its price."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import LaunchedPool
        from bestex.cli.views.world import launched_view

        terminal.show(await engine.post("/api/sim/migrate", {"mint": mint}), LaunchedPool, launched_view)

    run(context, as_json, command)


@sim.command()
def reset(context: typer.Context, as_json: AsJson = False) -> None:
    """Wallet, prices and pools as at the start, no faults; orders stay."""

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
