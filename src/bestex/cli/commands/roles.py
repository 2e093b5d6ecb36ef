"""`bestex api`, `worker`, `watcher`, `simnet`: the parts of an engine that runs as several processes."""

from typing import Annotated

import typer

from bestex.cli.commands.serve import Profile

DatabaseUrl = Annotated[
    str | None, typer.Option(help="The PostgreSQL that all parts share.", show_default="DATABASE_URL")
]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.", show_default="PORT, else 4000")]
HealthPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        help="Port for /healthz, /readyz and /metrics.",
        show_default="BESTEX_HEALTH_PORT, else none",
    ),
]


def api(port: Port = None, database_url: DatabaseUrl = None) -> None:
    """Take orders and answer for them, beside other parts over the same database. It executes none itself.

    Any number may run. Settings come from the environment; an option goes before its variable.
    """
    from bestex.bootstrap import run_api

    raise typer.Exit(run_api(**_given(port=port, database_url=database_url)))


def worker(health_port: HealthPort = None, database_url: DatabaseUrl = None) -> None:
    """Execute orders that other parts accept, or have fired.

    Any number may run: each takes as many orders as it has room for, and a dead one's are taken over.
    """
    from bestex.bootstrap import run_worker

    raise typer.Exit(run_worker(**_given(health_port=health_port, database_url=database_url)))


def watcher(health_port: HealthPort = None, database_url: DatabaseUrl = None) -> None:
    """Watch prices and new pools for orders that wait, and fire them.

    Any number may run: each pair's orders are watched by one of them, and a dead one's pairs are taken over.
    """
    from bestex.bootstrap import run_watcher

    raise typer.Exit(run_watcher(**_given(health_port=health_port, database_url=database_url)))


def simnet(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on.", show_default="PORT, else 4100")
    ] = None,
    profile: Annotated[
        Profile | None,
        typer.Option(help="How long simulated venues take.", show_default="BESTEX_PROFILE, else realistic"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the simulated market.", show_default="BESTEX_SEED, else 1")
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Run the simulated market and chain for the other parts: one process, over their database.

    A real chain takes its place one day.
    """
    from bestex.bootstrap import run_simnet

    chosen = profile.value if profile is not None else None
    raise typer.Exit(run_simnet(**_given(port=port, profile=chosen, seed=seed, database_url=database_url)))


def _given(**overrides: object) -> dict[str, object]:
    return {name: value for name, value in overrides.items() if value is not None}
