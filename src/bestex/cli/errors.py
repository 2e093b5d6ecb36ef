"""Why a command ends without what was asked of it.

CommandError                carries the exit code
├── EngineUnavailableError  not reachable, silent, or unable to answer now: another try may help
└── ProblemError            the engine refused, with a problem document
"""

from bestex.api.problems import KINDS, Problem
from bestex.cli.exit_codes import ExitCode


class CommandError(Exception):
    """The command cannot go on; the message says it to a person, `problem` to a machine."""

    def __init__(self, message: str, exit_code: ExitCode, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.problem = problem


class EngineUnavailableError(CommandError):
    """No answer, or none of use; `maybe_done` when what was asked may have been done all the same."""

    def __init__(
        self,
        message: str,
        *,
        maybe_done: bool = False,
        retry_after_s: float | None = None,
        problem: Problem | None = None,
    ) -> None:
        super().__init__(message, ExitCode.UNAVAILABLE, problem)
        self.maybe_done = maybe_done
        self.retry_after_s = retry_after_s  # when the engine asked for a pause


class ProblemError(CommandError):
    """The engine answered that it will not."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title, exit_code_of(problem.status), problem)


def exit_code_of(http_status: int) -> ExitCode:
    if http_status in (404, 410):
        return ExitCode.NOT_FOUND
    return ExitCode.REFUSED if 400 <= http_status < 500 else ExitCode.UNAVAILABLE


def problem_code(problem: Problem) -> str:
    """`validation` of `/problems/validation`."""
    return problem.type.rpartition("/")[2]


def problem_of_kind(code: str, detail: str = "") -> Problem:
    """The problem document of a kind, where the engine names only the kind."""
    kind = KINDS[code]
    return Problem(f"/problems/{code}", kind.title, kind.status, detail or None)


def no_engine(url: str) -> str:
    return f"no engine at {url}: start one with `bestex serve`, or set BESTEX_URL"
