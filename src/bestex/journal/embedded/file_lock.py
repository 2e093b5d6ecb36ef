"""Locks on files and folders that end with the last process that holds them, however it ended."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bestex.journal.embedded.readiness import Report, Waiting

_RETRY_S = 0.02


def try_lock(fd: int) -> bool:
    """Lock the open file; False if another holds it. On a file system without locks it always succeeds."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@asynccontextmanager
async def locked_file(path: Path, report: Report) -> AsyncIterator[int]:
    """Hold the lock of the file at `path`, created if missing; gives its file descriptor."""
    waiting = Waiting(report)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        while not try_lock(fd):
            waiting.goes_on("another engine is starting PostgreSQL on this data folder")
            await asyncio.sleep(_RETRY_S)
        yield fd
    finally:
        os.close(fd)
