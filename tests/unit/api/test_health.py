"""What supervisors ask of a worker and a watcher."""

from typing import Any

import msgspec
import pytest

from bestex.api.asgi import Message
from bestex.api.health import HealthApp
from bestex.domain.errors import JournalUnavailableError


class Asked:
    """A health application, and what it answers."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.error: Exception | None = None
        self.app = HealthApp(self._not_ready, lambda: b"bestex_books 3\n")

    async def _not_ready(self) -> str | None:
        if self.error is not None:
            raise self.error
        return self.reason

    async def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            raise AssertionError("it reads no body")

        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
        await self.app(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_it_is_alive_whatever_keeps_it_from_its_work(asked: Asked) -> None:
    asked.reason = "starting"
    status, body = await asked.get("/healthz")
    assert (status, msgspec.json.decode(body)) == (200, {"status": "alive"})


async def test_it_says_what_keeps_it_from_its_work(asked: Asked) -> None:
    asked.reason = "starting"
    status, body = await asked.get("/readyz")
    assert (status, msgspec.json.decode(body)) == (503, {"status": "not ready", "reason": "starting"})
    asked.reason, asked.error = None, JournalUnavailableError("the database cannot be read")
    status, body = await asked.get("/readyz")
    assert (status, msgspec.json.decode(body)["reason"]) == (503, "the database cannot be read")
    asked.error = None
    status, body = await asked.get("/readyz")
    assert (status, msgspec.json.decode(body)) == (200, {"status": "ready"})


async def test_it_gives_its_metrics(asked: Asked) -> None:
    assert await asked.get("/metrics") == (200, b"bestex_books 3\n")


@pytest.mark.parametrize(("path", "method", "status"), [("/api/orders", "GET", 404), ("/metrics", "POST", 405)])
async def test_it_answers_nothing_else(asked: Asked, path: str, method: str, status: int) -> None:
    assert (await asked.get(path, method))[0] == status


async def test_one_that_takes_orders_later_says_so(asked: Asked) -> None:
    asked.app = HealthApp(asked._not_ready, lambda: b"", otherwise="unavailable")
    status, body = await asked.get("/api/orders", "POST")
    assert (status, msgspec.json.decode(body)["type"]) == (503, "/problems/unavailable")
    assert (await asked.get("/healthz"))[0] == 200
