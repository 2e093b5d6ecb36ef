"""`bestex serve`: run the engine."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Profile(StrEnum):
    REALISTIC = "realistic"
    INSTANT = "instant"


def serve(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on.", show_default="PORT, else 4000")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address of this machine's own to listen on.", show_default="127.0.0.1")
    ] = None,
    profile: Annotated[
        Profile | None,
        typer.Option(help="How long simulated venues take.", show_default="BESTEX_PROFILE, else realistic"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the simulated market.", show_default="BESTEX_SEED, else 1")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where the embedded database lives.", show_default="BESTEX_DATA_DIR"),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL to use instead of the embedded one.", show_default="DATABASE_URL"),
    ] = None,
) -> None:
    """Run the engine until Ctrl-C or SIGTERM.

    Settings come from the environment; an option goes before its variable.
    """
    from bestex.bootstrap import run_server

    overrides: dict[str, object] = {
        "port": port,
        "host": host,
        "profile": profile.value if profile is not None else None,
        "seed": seed,
        "data_dir": data_dir,
        "database_url": database_url,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    raise typer.Exit(run_server(**given))
