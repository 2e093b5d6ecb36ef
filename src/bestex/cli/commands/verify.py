"""`bestex verify`, `bestex export`: the audit of what is stored. They talk to the database, not to an engine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bestex.cli.exit_codes import ExitCode
from bestex.cli.session import AsJson

if TYPE_CHECKING:
    from bestex.auditing import Verification
    from bestex.cli.terminal import Terminal

DataDir = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="Where the embedded database lives.", show_default="BESTEX_DATA_DIR"),
]
DatabaseUrl = Annotated[
    str | None, typer.Option(help="A PostgreSQL to read instead of the embedded one.", show_default="DATABASE_URL")
]


def verify(
    export: Annotated[
        Path | None,
        typer.Option("--export", dir_okay=False, metavar="FILE", help="Check this export instead of a database."),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            metavar="FILE",
            help="The published head to hold the log against.",
            show_default="of a database: BESTEX_HEAD_FILE, else in the data folder",
        ),
    ] = None,
    archives: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            metavar="FOLDER",
            help="Check the archives in it, too: one log from its start.",
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Prove that journal and ledger are whole: nothing lost, changed, executed twice or reported wrong.

    Reads one snapshot; an engine may run meanwhile. Ends with 0 when nothing is found, with 1 when something is.
    """
    if export is not None and (data_dir is not None or database_url is not None):
        raise typer.BadParameter("an export needs no database", param_hint="--export")
    if export is not None and archives is not None:
        raise typer.BadParameter("an export is checked alone", param_hint="--export")

    def work(terminal: "Terminal") -> ExitCode:
        from bestex.auditing import verify_database, verify_export
        from bestex.cli.progress import reading_bar

        with reading_bar(terminal.err) as on_progress:
            if export is None:
                verification = verify_database(given(data_dir, database_url), head, on_progress, archives)
            else:
                with export.open("rb") as file:
                    verification = verify_export(file, head, on_progress)
        _show(terminal, verification)
        return ExitCode.DONE if verification.report.clean else ExitCode.VIOLATIONS

    run_offline(work, as_json)


def export(
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="FILE", help="Where to write.", show_default="stdout")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write journal and ledger as JSON Lines, as they are at this moment; an engine may run meanwhile.

    `bestex verify --export FILE` needs nothing but the file.
    """

    def work(terminal: "Terminal") -> None:
        import sys

        from bestex.auditing import export_database
        from bestex.cli.progress import reading_bar
        from bestex.cli.whole_file import whole_file

        with reading_bar(terminal.err) as on_progress:
            if out is None:
                export_database(given(data_dir, database_url), sys.stdout.buffer.write, on_progress)
                sys.stdout.buffer.flush()
                return
            with whole_file(out, overwrite=force) as write:
                counts = export_database(given(data_dir, database_url), write, on_progress)
        terminal.note(f"{out}: {counts.log:,} events of {counts.orders:,} orders, {counts.transactions:,} transactions")

    run_offline(work, as_json=False)


def given(data_dir: Path | None, database_url: str | None) -> dict[str, object]:
    """The settings that options name. A folder that is named goes before the environment's DATABASE_URL."""
    given: dict[str, object] = {}
    if data_dir is not None:
        given = {"data_dir": data_dir, "database_url": None}
    if database_url is not None:
        given["database_url"] = database_url
    return given


def run_offline(work: "Callable[[Terminal], ExitCode | None]", as_json: bool) -> None:
    """Do the work, and end with its exit code or its error's."""
    from bestex.archiving.archiver import ArchiveError
    from bestex.audit.export.read import ExportError
    from bestex.auditing import AuditImpossibleError, DatabaseUnreachableError
    from bestex.cli.errors import CommandError
    from bestex.cli.terminal import Terminal

    terminal = Terminal(as_json=as_json)
    try:
        exit_code = work(terminal) or ExitCode.DONE
    except CommandError as error:
        exit_code = error.exit_code
        terminal.fail(error)
    except (AuditImpossibleError, ArchiveError, ExportError, OSError) as error:
        exit_code = ExitCode.UNAVAILABLE if isinstance(error, DatabaseUnreachableError) else ExitCode.REFUSED
        terminal.fail(CommandError(str(error), exit_code))
    except KeyboardInterrupt:
        exit_code = ExitCode.INTERRUPTED
    raise typer.Exit(exit_code)


def _show(terminal: "Terminal", verification: "Verification") -> None:
    import msgspec

    from bestex.cli.views.audit import verification_document, verification_view

    if terminal.as_json:
        terminal.json(msgspec.json.encode(verification_document(verification)))
    else:
        terminal.say(verification_view(verification))
