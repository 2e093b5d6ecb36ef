"""What the tests of the real command line share."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bestex.journal.embedded.process import running_server
from tests.support.engine import PATIENCE_S


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for an embedded database that its unprivileged user reaches too; no server is left on it."""
    with tempfile.TemporaryDirectory(prefix="bestex-acceptance-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        server = running_server(Path(folder) / "postgres")
        if server is not None:
            os.kill(server.pid, signal.SIGQUIT)
            deadline = time.monotonic() + PATIENCE_S
            while server.alive() and time.monotonic() < deadline:
                time.sleep(0.01)
