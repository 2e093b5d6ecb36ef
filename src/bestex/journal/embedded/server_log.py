"""The server's log: one file beside the database, appended to by the server, kept bounded by the engine."""

import os
from contextlib import suppress
from pathlib import Path

LOG_BYTES_MAX = 8 * 1024 * 1024  # of the file, and of its predecessor `.1`
_TAIL_BYTES = 16 * 1024


class ServerLog:
    """The file that holds the server's standard output and error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._previous = path.with_name(path.name + ".1")
        self._start_offset = 0

    def open_for_start(self) -> int:
        """Open the log for a server that is about to start; the caller closes the file descriptor."""
        # Appending writers go on at the new end after a truncation, so that the log can shrink under a
        # running server.
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._start_offset = os.fstat(fd).st_size
        return fd

    def tail(self, lines_max: int = 15) -> str:
        """The last lines since the last start."""
        try:
            with self.path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                begin = self._start_offset if self._start_offset <= end else 0
                log.seek(max(begin, end - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines_max:])

    def keep_bounded(self) -> None:
        """When the log has outgrown its bound, move its end to `.1` and empty it."""
        with suppress(OSError):  # a log that cannot be kept must not stop the database
            if self.path.stat().st_size > LOG_BYTES_MAX:
                self._move_on()

    def _move_on(self) -> None:
        # A rename would not do: the server holds the file open and would go on writing to the renamed one.
        log_fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        with os.fdopen(log_fd, "r+b") as log:
            log.seek(-LOG_BYTES_MAX, os.SEEK_END)
            kept = log.read(LOG_BYTES_MAX)
            log.truncate(0)  # first: with a full disk, room matters more than old lines
            previous_fd = os.open(self._previous, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(previous_fd, "wb") as previous:
                previous.write(kept)
