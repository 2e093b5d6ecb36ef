"""The `bestex` command: reads arguments, calls the engine, prints answers."""

from typing import Annotated, Final

import typer

from bestex import __version__
from bestex.cli.commands import archive, health, look, operate, rest, roles, serve, sim, torture, trade, verify
from bestex.cli.exit_codes import EPILOG

ENGINE: Final = "Engine"
PARTS: Final = "Engine, as several processes"
TRADE: Final = "Trade"
LOOK: Final = "Look"
OPERATE: Final = "Operate"

app = typer.Typer(
    name="bestex",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # they may hold a database's password
)


def print_version_and_exit(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bestex {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=EPILOG)
def root(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="BESTEX_URL", help="The engine to talk to.", show_default="http://127.0.0.1:${PORT:-4000}"),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=print_version_and_exit, is_eager=True),
    ] = False,
) -> None:
    """Best execution for Solana DEXs: one command to run the engine, and one for everything it does."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command(rich_help_panel=TRADE, epilog=EPILOG)(trade.order)
app.command(rich_help_panel=TRADE, epilog=EPILOG)(trade.snipe)
app.command(rich_help_panel=TRADE, epilog=EPILOG)(trade.watch)
app.command(rich_help_panel=TRADE, epilog=EPILOG)(rest.cancel)
app.command(rich_help_panel=TRADE, epilog=EPILOG)(rest.change)
app.command(rich_help_panel=TRADE, epilog=EPILOG)(rest.deadman)
app.command(rich_help_panel=LOOK, epilog=EPILOG)(look.quote)
app.command(rich_help_panel=LOOK, epilog=EPILOG)(look.orders)
app.command(rich_help_panel=LOOK, epilog=EPILOG)(look.show)
app.command(rich_help_panel=LOOK, epilog=EPILOG)(look.launches)
app.command(rich_help_panel=LOOK, epilog=EPILOG)(look.wallet)
app.command(rich_help_panel=LOOK, epilog=EPILOG)(look.tokens)
app.command(rich_help_panel=ENGINE)(serve.serve)
for role in (roles.api, roles.worker, roles.watcher, roles.simnet):
    app.command(rich_help_panel=PARTS)(role)
app.command(rich_help_panel=ENGINE, epilog=EPILOG)(health.health)
app.command(rich_help_panel=ENGINE, epilog=EPILOG)(verify.verify)
app.command(rich_help_panel=ENGINE, epilog=EPILOG)(verify.export)
app.command(rich_help_panel=ENGINE, epilog=EPILOG)(archive.archive)
app.command(rich_help_panel=ENGINE)(torture.torture)
for command in (operate.halt, operate.resume, operate.resolve, operate.reconcile):
    app.command(rich_help_panel=OPERATE, epilog=EPILOG)(command)
app.add_typer(sim.sim, name="sim", rich_help_panel=ENGINE, epilog=EPILOG)


def main() -> None:
    app()
