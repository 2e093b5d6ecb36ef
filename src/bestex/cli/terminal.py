"""What a command prints: pictures for people, JSON for machines, errors on stderr."""

import os
import sys
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from rich.console import Console, RenderableType
from rich.text import Text

from bestex.cli.engine_client import Answer
from bestex.cli.errors import CommandError
from bestex.cli.views.problems import error_view

T = TypeVar("T")

PIPE_WIDTH: Final = 160
"""Columns of a table that goes into a pipe or a file, where COLUMNS does not say."""


class Terminal:
    """stdout and stderr of one command."""

    def __init__(self, *, as_json: bool, out: Console | None = None, err: Console | None = None) -> None:
        self.as_json = as_json
        self.out = out if out is not None else _console(stderr=False)
        self.err = err if err is not None else _console(stderr=True)
        self.if_interrupted: str | None = None  # what to tell who pressed Ctrl-C

    @property
    def can_animate(self) -> bool:
        return self.out.is_terminal and not self.out.is_dumb_terminal

    def show(self, answer: Answer, kind: type[T], view: Callable[[T], RenderableType]) -> None:
        """Print an answer: as it came with --json, else as `view` draws it."""
        if self.as_json:
            self.json(answer.raw)
        else:
            self.say(view(answer.read(kind)))

    def say(self, what: RenderableType) -> None:
        self.out.print(what)

    def json(self, raw: bytes | msgspec.Raw) -> None:
        """One JSON document, indented."""
        self._write(bytes(raw), self.out)

    def json_line(self, raw: bytes | msgspec.Raw) -> None:
        """One JSON document on one line."""
        self._write(bytes(raw), self.out, indent=-1)

    def note(self, text: str) -> None:
        """Something about how it goes, beside the output."""
        self.err.print(Text(text, style="yellow"), soft_wrap=True)

    def fail(self, error: CommandError) -> None:
        if self.as_json:
            document: dict[str, object] = {"type": "about:blank", "title": str(error)}
            if error.problem is not None:
                document = msgspec.to_builtins(error.problem)
            document["exitCode"] = error.exit_code.value
            self._write(msgspec.json.encode(document), self.err)
        else:
            self.err.print(error_view(error))

    @staticmethod
    def _write(document: bytes, where: Console, indent: int = 2) -> None:
        where.file.write(msgspec.json.format(document, indent=indent).decode() + "\n")
        where.file.flush()


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a terminal that cannot show a sign gets a "?", not a traceback
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console
