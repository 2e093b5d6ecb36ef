"""A progress bar on stderr, where that is a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bestex.audit.audit import Progress as Reading
from bestex.audit.audit import ProgressListener


@contextmanager
def reading_bar(console: Console) -> Iterator[ProgressListener]:
    """Show how far a reading has come, a bar for each kind of rows; gone afterwards."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks = {}

        def on_progress(reading: Reading) -> None:
            if reading.what not in tasks:
                tasks[reading.what] = progress.add_task(reading.what, total=reading.of)
            progress.update(tasks[reading.what], completed=reading.done, total=reading.of)

        yield on_progress
