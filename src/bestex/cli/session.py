"""One run of a command: the engine's client, the terminal, and errors as exit codes."""

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bestex.cli.exit_codes import ExitCode

if TYPE_CHECKING:  # what `bestex --help` need not load
    from bestex.cli.engine_client import EngineClient
    from bestex.cli.terminal import Terminal

DEFAULT_PORT: Final = "4000"

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]
OrderId = Annotated[str, typer.Argument(metavar="ORDER_ID", help="The order's id, a UUID.", show_default=False)]
TokenIn = Annotated[
    str, typer.Argument(metavar="TOKEN_IN", help="What to pay with: a symbol or a mint address.", show_default=False)
]
TokenOut = Annotated[str, typer.Argument(metavar="TOKEN_OUT", help="What to get for it.", show_default=False)]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="How much of TOKEN_IN, as in 1.5.", show_default=False)]

EngineCommand = Callable[["EngineClient", "Terminal"], Awaitable[ExitCode | None]]


def run(context: typer.Context, as_json: bool, command: EngineCommand) -> None:
    """Run `command` against the engine, and end with its exit code or its error's."""
    import asyncio

    from bestex.cli.errors import CommandError
    from bestex.cli.terminal import Terminal

    terminal = Terminal(as_json=as_json)
    try:
        exit_code = asyncio.run(_with_engine(engine_url(context), command, terminal))
    except CommandError as error:
        terminal.fail(error)
        exit_code = error.exit_code
    except KeyboardInterrupt:
        if terminal.if_interrupted is not None:
            terminal.note(terminal.if_interrupted)
        exit_code = ExitCode.INTERRUPTED
    raise typer.Exit(exit_code)


async def _with_engine(url: str, command: EngineCommand, terminal: "Terminal") -> ExitCode:
    from bestex.ambient import SystemClock
    from bestex.cli.engine_client import EngineClient

    async with EngineClient(url, SystemClock()) as engine:
        return await command(engine, terminal) or ExitCode.DONE


def engine_url(context: typer.Context) -> str:
    """The engine to talk to: --url, else BESTEX_URL, else this machine's own."""
    given = context.find_root().params.get("url")
    return str(given) if given else f"http://127.0.0.1:{os.environ.get('PORT') or DEFAULT_PORT}"
