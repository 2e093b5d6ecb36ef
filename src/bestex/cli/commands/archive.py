"""`bestex archive`: what is old leaves the database for files. It talks to the database, not to an engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bestex.cli.commands.verify import DatabaseUrl, DataDir, given, run_offline
from bestex.cli.session import AsJson

if TYPE_CHECKING:
    from bestex.cli.terminal import Terminal


def archive(
    before: Annotated[
        str, typer.Option("--before", metavar="AGE|AT", help="What is older: 90d, 12h ago, or an RFC 3339 time.")
    ],
    to: Annotated[Path, typer.Option("--to", file_okay=False, metavar="FOLDER", help="Where the archives are.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would leave, and change nothing.")] = False,
    forget_keys: Annotated[
        str | None,
        typer.Option(
            "--forget-keys",
            metavar="AGE",
            help="Forget the keys of orders that were archived so long ago: 365d.",
            show_default="they are kept",
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Move orders that ended long ago from the database into files, while engines run.

    A file is checked as `verify` does before anything is removed. Killed in between, the next run goes on. Orders that
    are open, watched, not final yet, or that belong to one that is, stay.
    """

    def work(terminal: "Terminal") -> None:
        import msgspec

        from bestex.archiving.database import archive_database, plan_archive
        from bestex.cli.ages import read_age, read_time_before
        from bestex.cli.progress import reading_bar
        from bestex.cli.views.archive import outcome_view, plan_view

        before_us = read_time_before(before, "--before")
        kept_for = read_age(forget_keys, "--forget-keys") if forget_keys is not None else None
        where = given(data_dir, database_url)
        if dry_run:
            plan = plan_archive(where, before_us, to)
            view, document = plan_view(plan), msgspec.json.encode(plan)
        else:
            with reading_bar(terminal.err) as on_progress:
                outcome = archive_database(where, before_us, to, kept_for, on_progress)
            view, document = outcome_view(outcome, to), msgspec.json.encode(outcome)
        if as_json:
            terminal.json(document)
        else:
            terminal.say(view)

    run_offline(work, as_json)
