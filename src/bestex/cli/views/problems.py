"""Errors on stderr."""

from rich.console import Group, RenderableType
from rich.text import Text

from bestex.api.problems import FieldProblem
from bestex.cli.errors import CommandError, problem_code
from bestex.cli.views.text import clean, facts_table


def error_view(error: CommandError) -> RenderableType:
    """What went wrong, each bad field on its own line."""
    problem = error.problem
    headline = Text.assemble(("error: ", "bold red"), clean(str(error)))
    if problem is None:
        return headline
    code = f"{problem_code(problem)}, {problem.status}"
    if problem.detail is not None and problem.detail != problem.title:
        headline = Text.assemble(("error: ", "bold red"), clean(problem.title), ": ", clean(problem.detail))
    headline.append(clean(f" ({code})"), style="dim")
    if not problem.errors:
        return headline
    fields = facts_table()
    fields.columns[0].style = "bold"
    for each in problem.errors:
        fields.add_row(Text("  " + clean(_place(each))), Text(clean(each.detail)))
    return Group(headline, fields)


def _place(problem: FieldProblem) -> str:
    """Where the bad value stands."""
    if problem.header is not None:
        return f"header {problem.header}"
    if problem.parameter is not None:
        return f"parameter {problem.parameter}"
    return problem.pointer or "/"
