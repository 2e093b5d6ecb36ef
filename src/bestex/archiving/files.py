"""Archives as files: named by what they have, there whole or not at all, and read again line by line."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from bestex.audit.evidence import Checkpoint, Evidence
from bestex.audit.export.read import ExportError, read_export

LINE_BYTES_MAX: Final = 64 * 1024 * 1024
"""A longer line is read as more than one, and none of them makes sense."""
COMPRESSION: Final = 6
"""Of 9: what is above costs much and gives little."""

_GZIP: Final = b"\x1f\x8b"
_UNREADABLE: Final = (OSError, EOFError, zlib.error)
_LOG_LINE: Final = b'{"type":"log"'


def archive_name(journal_id: str, first: int, last: int) -> str:
    """The name of the archive of a journal's rows from one position to another."""
    return f"bestex-{journal_id[:8]}-{first:012d}-{last:012d}.jsonl.gz"


def archives_from(folder: Path, journal_id: str, first: int) -> list[Path]:
    """The archives in a folder that begin at a position."""
    return sorted(folder.glob(f"bestex-{journal_id[:8]}-{first:012d}-*.jsonl.gz"))


def remove_unfinished(folder: Path, journal_id: str) -> None:
    """Remove what killed runs have left unfinished. One run at a time archives a journal."""
    for path in folder.glob(f".bestex-{journal_id[:8]}-*.unfinished"):
        path.unlink()


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class ArchiveFile:
    """An archive that is being written, beside its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._packed = gzip.GzipFile("", "wb", COMPRESSION, self._file, mtime=0)
        self.write = self._packed.write

    def close(self) -> None:
        """Have it on disk."""
        if not self._file.closed:
            self._packed.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


@contextmanager
def whole_archive(path: Path) -> Iterator[ArchiveFile]:
    """Write an archive, readable by its owner only; it gets its name at the end, and is gone at an error. `OSError`."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    file = ArchiveFile(unfinished)
    try:
        yield file
        file.close()
        unfinished.replace(path)
        _sync_folder(path.parent)
    finally:
        file.close()
        unfinished.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Have a file and its name on disk, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lines_of(file: io.BufferedReader, name: str) -> Iterator[bytes]:
    """The lines of an export, compressed or not. Raises `ExportError` where it cannot be unpacked."""
    packed = file.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
    try:
        readline = gzip.GzipFile(fileobj=file).readline if packed else file.readline
        yield from iter(partial(readline, LINE_BYTES_MAX), b"")
    except _UNREADABLE as error:
        raise ExportError(f"{name} cannot be read: {error}") from error


def read_archive(path: Path, *, without_log: bool = False) -> Evidence:
    """The evidence in an archive, read as the audit goes on. Raises `ExportError`, also while it is read."""
    lines = _file_lines(path)
    if without_log:
        lines = (line for line in lines if not line.startswith(_LOG_LINE))
    return read_export(lines)


def _file_lines(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise ExportError(f"the archive {path} cannot be read: {error.strerror}") from error
    with file:
        yield from lines_of(file, str(path))


def archives_up_to(folder: Path, checkpoint: Checkpoint | None) -> tuple[list[Path], list[str]]:
    """All archives up to a checkpoint, the oldest first, and what is wrong with those that were changed.

    Each names the one before and its digest. `ExportError` when one is not there or cannot be read.
    """
    paths: list[Path] = []
    differing: list[str] = []
    while checkpoint is not None:
        path = folder / checkpoint.file
        if not path.is_file():
            raise ExportError(f"archive {checkpoint.number}, {checkpoint.file}, is not in {folder}")
        if digest_of(path) != checkpoint.digest:
            differing.append(f"archive {checkpoint.number}, {checkpoint.file}, is not the file that was recorded")
        paths.append(path)
        before = read_archive(path).checkpoint
        expected = before.number + 1 if before is not None else 1
        if expected != checkpoint.number:
            raise ExportError(f"{checkpoint.file} is archive {expected}, not {checkpoint.number}: one is missing")
        checkpoint = before
    return paths[::-1], differing[::-1]
