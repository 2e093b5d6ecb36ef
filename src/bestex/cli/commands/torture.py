"""`bestex torture`: the deterministic simulation, and with --live or --cluster the real engine under real kills."""

import os
from enum import StrEnum
from typing import Annotated, Final, NoReturn

import typer

from bestex.cli.exit_codes import ExitCode
from bestex.cli.session import AsJson

VIOLATED: Final = 1
"""The exit code when an invariant did not hold."""


class Queue(StrEnum):
    POSTGRES = "postgres"
    BULLMQ = "bullmq"


class CrashAt(StrEnum):
    RANDOM = "random"
    EVERY = "every"
    NONE = "none"


def torture(
    context: typer.Context,
    seeds: Annotated[int, typer.Option(min=1, help="How many runs, each from its own seed.")] = 200,
    orders: Annotated[int, typer.Option(min=1, max=100_000, help="Orders in each run.")] = 3,
    faults: Annotated[
        str | None,
        typer.Option(
            help="What goes wrong: names, with probabilities if wanted, as in dropped=0.2,stall; or all, or none.",
            show_default="a random mix for each seed",
        ),
    ] = None,
    crash_at: Annotated[
        CrashAt,
        typer.Option(help="Kill the engine at random points, once at every point in turn, or not at all."),
    ] = CrashAt.RANDOM,
    seed: Annotated[int | None, typer.Option(min=0, help="This one seed alone.", show_default=False)] = None,
    point: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --seed and --crash-at every: this one point alone.",
            show_default="all points of the seed, one a run",
        ),
    ] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of the seeds.")] = 1,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes to run in.", show_default="one for each core")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="The real engine instead: a bestex serve under load, killed with -9.")
    ] = False,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Many processes instead: apis, workers, watchers and simnet over one database."),
    ] = False,
    seconds: Annotated[
        int, typer.Option(min=1, max=86_400, help="With --live or --cluster: how long it is under fire.")
    ] = 120,
    kills: Annotated[
        int, typer.Option(min=0, help="With --live or --cluster: how often a process is killed with -9.")
    ] = 20,
    queue: Annotated[
        Queue, typer.Option(help="With --cluster: what tells workers of orders. bullmq needs a Valkey or Redis server.")
    ] = Queue.POSTGRES,
    as_json: AsJson = False,
) -> None:
    """Run the whole engine in simulated worlds that break all that can break, and check what must hold.

    Each run repeats exactly from its seed. Needs no engine and no database. Exit code 1 when an invariant did not hold.

    With --live: loads a bestex serve of its own, kills it and PostgreSQL at random moments, and checks everything.

    With --cluster: the same with many processes over one database, also stopped for longer than their leases.
    """
    _check_options(context, live, cluster)
    if live or cluster:
        _real(cluster, queue, seed, seconds, kills, as_json)
    from bestex.cli.terminal import Terminal
    from bestex.cli.torturing import Torture
    from bestex.simulation.faults import chosen_faults
    from bestex.simulation.scenario import CrashAt as Points
    from bestex.simulation.scenario import Options
    from bestex.simulation.torture import Plan

    if point is not None and (seed is None or crash_at is not CrashAt.EVERY):
        raise typer.BadParameter("--point goes with --seed and --crash-at every")
    try:
        chosen = None if faults is None else chosen_faults(faults)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--faults") from error
    plan = Plan(
        options=Options(orders=orders, crash_at=Points(crash_at.value), faults=chosen),
        first_seed=first_seed if seed is None else seed,
        seeds=seeds if seed is None else 1,
        point=point,
        exhaust=seed is not None and point is None and crash_at is CrashAt.EVERY,
    )
    torturing = Torture(plan, Terminal(as_json=as_json), faults, jobs or os.cpu_count() or 1)
    held = torturing.run()
    if torturing.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if point is not None and held and not torturing.report.crashes:
        raise typer.BadParameter(f"the run has only {torturing.report.points} points", param_hint="--point")
    raise typer.Exit(ExitCode.DONE if held else VIOLATED)


_SIMULATED: Final = ("seeds", "orders", "faults", "crash_at", "point", "first_seed", "jobs")
_REAL: Final = ("seconds", "kills")
_CLUSTER: Final = ("queue",)


def _check_options(context: typer.Context, live: bool, cluster: bool) -> None:
    """`BadParameter` for what would be ignored."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if live and cluster:
        raise typer.BadParameter("goes without --live", param_hint="--cluster")
    without = "goes without --cluster" if cluster else "goes without --live"
    ignored = (
        dict.fromkeys(_SIMULATED, without) if live or cluster else dict.fromkeys(_REAL, "goes with --live or --cluster")
    )
    if not cluster:
        ignored |= dict.fromkeys(_CLUSTER, "goes with --cluster")
    for name, told in ignored.items():
        if name in given:
            raise typer.BadParameter(told, param_hint=f"--{name.replace('_', '-')}")
    if {"seed", "seeds"} <= given or {"seed", "first_seed"} <= given:
        raise typer.BadParameter("is one seed alone: leave --seeds and --first-seed out", param_hint="--seed")


def _real(cluster: bool, queue: Queue, seed: int | None, seconds: int, kills: int, as_json: bool) -> NoReturn:
    from bestex.ambient import SystemIds
    from bestex.cli.errors import CommandError
    from bestex.cli.ordeals import run_ordeal
    from bestex.cli.terminal import Terminal
    from bestex.ordeal import ClusterPlan, LivePlan, ValkeyMissingError
    from bestex.ordeal import Queue as QueueOfPlan

    terminal = Terminal(as_json=as_json)
    try:
        chosen = int.from_bytes(SystemIds().entropy()[:4], "big") if seed is None else seed
        plan = (
            ClusterPlan(seed=chosen, seconds=seconds, kills=kills, queue=QueueOfPlan(queue.value))
            if cluster
            else LivePlan(seed=chosen, seconds=seconds, kills=kills)
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        held = run_ordeal(plan, terminal)
    except ValkeyMissingError as error:
        terminal.fail(CommandError(str(error), ExitCode.REFUSED))
        raise typer.Exit(ExitCode.REFUSED) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise typer.Exit(ExitCode.DONE if held else VIOLATED)
