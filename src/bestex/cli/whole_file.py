"""A file that is there whole or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bestex.cli.errors import CommandError
from bestex.cli.exit_codes import ExitCode


@contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[Callable[[bytes], object]]:
    """Write to a name beside `path`, readable by its owner only, and give it its own name when all is on disk.

    `CommandError` when `path` exists and may not be overwritten; `OSError`.
    """
    _refuse_existing(path, overwrite=overwrite)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(path, overwrite=overwrite)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise CommandError(f"{path} exists; --force overwrites it", ExitCode.REFUSED)
