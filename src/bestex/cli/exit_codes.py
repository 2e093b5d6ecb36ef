"""What the `bestex` command's exit codes mean: the only list, for the code and for `--help`."""

from enum import IntEnum
from typing import Final

from bestex.domain.lifecycle import Status


class ExitCode(IntEnum):
    DONE = 0
    NOT_EXECUTED = 1  # a watched order ended without executing
    VIOLATIONS = 1  # `verify` found some; scripts tell it from an audit that could not be made
    REFUSED = 2  # bad usage, an unusable file, or the engine refused the request; typer uses 2 for bad usage, too
    NOT_FOUND = 3
    UNAVAILABLE = 4  # the engine or the database is not there, or cannot answer now
    INTERRUPTED = 130  # Ctrl-C; typer uses it, too


def exit_code_of(end: str) -> ExitCode:
    """The exit code for a watched order that ended with the status `end`."""
    return ExitCode.DONE if end == Status.CONFIRMED else ExitCode.NOT_EXECUTED


EPILOG: Final = """[bold]Exit codes[/bold]
  0  done; a watched order was confirmed
  1  the watched order ended without executing; verify found violations
  2  bad usage, a file that cannot be used, or refused by the engine
  3  not found
  4  the engine or the database is not reachable, or unavailable
130  interrupted"""
