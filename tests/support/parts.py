"""The parts of an engine as processes of their own over one database: `bestex api`, `worker`, `watcher`, `simnet`."""

import contextlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
from websockets.sync.client import connect

from tests.support.engine import (
    DEFECTS,
    PATIENCE_S,
    POLL_S,
    Json,
    Served,
    command,
    die_with_parent,
    environment,
    free_port,
)

SERVE_ON_PORT = ("api", "simnet")


class Part(Served):
    """A running part. What is not an API answers at its `url` to those who ask for its health."""

    def __init__(self, role: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        super().__init__(process, port, log)
        self.role = role

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def until_said(self, *words: str) -> None:
        """Wait until its log has one of these."""
        deadline = time.monotonic() + PATIENCE_S
        while not any(word in self.log for word in words):
            assert time.monotonic() < deadline, f"the {self.role} does not say {words}:\n{self.log}"
            time.sleep(POLL_S)


class House:
    """The parts over one database, and a simnet; started when they are asked for."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self._folder = folder
        self._simnet_port = free_port()
        self.parts: list[Part] = []
        self.simnet = self.start("simnet")

    def start(self, role: str) -> Part:
        """Start another one, and wait until it is ready."""
        part = self.begin(role)
        part.until_ready()
        return part

    def begin(self, role: str, **settings: object) -> Part:
        """Start another one."""
        port = self._simnet_port if role == "simnet" else free_port()
        given: dict[str, object] = {
            "PROFILE": "instant",
            "LOG_JSON": "true",
            "RETRY_BASE_MS": 10,
            "DRAIN_S": 3,
            "DATABASE_URL": self.dsn,
            "SIMNET_URL": f"http://127.0.0.1:{self._simnet_port}",
            "PORT" if role in SERVE_ON_PORT else "HEALTH_PORT": port,
        }
        log = self._folder / f"{role}-{len(self.parts)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command(role),
                env=environment(**(given | settings)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        part = Part(role, process, port, log)
        self.parts.append(part)
        return part

    def of(self, role: str, count: int) -> list[Part]:
        """So many living ones of a role, no more and no fewer."""
        living = [part for part in self.parts if part.role == role and part.lives]
        for part in living[count:]:
            part.terminate()
        parts = living[:count] + [self.begin(role) for _ in range(count - len(living))]
        for part in parts:
            part.until_ready()
        return parts

    def stop(self) -> None:
        """End all, the last one first; none of them has said anything of a defect."""
        for part in reversed(self.parts):
            if part.lives:
                part.go_on()
                part.terminate()
        for part in self.parts:
            said = part.log
            first = min((said.find(defect) for defect in DEFECTS if defect in said), default=None)
            assert first is None, f"{part.role}: {said[max(0, first - 1_000) :][:8_000]}"

    def end(self) -> None:
        """Leave no process, however the tests went."""
        for part in self.parts:
            part.http.close()
            if part.lives:
                part.process.kill()
            part.process.wait(PATIENCE_S)


@contextlib.contextmanager
def housing(dsn: str) -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="bestex-parts-") as folder:
        house = House(dsn, Path(folder))
        try:
            yield house
            house.stop()
        finally:
            house.end()


def status_updates(api: Part, order_id: str, after: int, until_seq: int) -> list[Json]:
    """By WebSocket: the order's updates behind `after`, up to `until_seq`."""
    got: list[Json] = []
    with connect(f"{api.ws_url}/api/orders/{order_id}/status?after={after}", proxy=None) as socket:
        while not got or got[-1]["seq"] < until_seq:
            envelope = msgspec.json.decode(socket.recv(PATIENCE_S))
            got += envelope["data"] if envelope["type"] == "history" else [envelope["data"]]
    return got


def feed_updates(api: Part, after: int, count: int) -> list[tuple[int, Json]]:
    """By server-sent events: so many events of the feed behind a position, each with its own."""
    got: list[tuple[int, Json]] = []
    position = 0
    with httpx.stream(
        "GET",
        f"{api.url}/api/events",
        headers={"Last-Event-ID": str(after)},
        timeout=PATIENCE_S,
        trust_env=False,
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                position = int(line.removeprefix("id: "))
            elif line.startswith("data: "):
                got.append((position, msgspec.json.decode(line.removeprefix("data: "))))
                if len(got) == count:
                    break
    return got
