"""`bestex health`: what it asks, what it says, how it ends."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from bestex.cli import app
from tests.unit.cli.fake_engine import FakeEngine, running_engine

Health = Callable[..., Result]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def module_engine() -> Iterator[FakeEngine]:
    with running_engine() as engine:
        yield engine


@pytest.fixture
def engine(module_engine: FakeEngine) -> FakeEngine:
    module_engine.forget()
    return module_engine


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Health:
    for name in ("BESTEX_HEALTH_PORT", "BESTEX_URL", "PORT"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str, url: str | None = None, **environment: str) -> Result:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = ["--url", url] if url else []
        return CliRunner().invoke(app, [*given, "health", *words], prog_name="bestex")

    return run


def port_of(engine: FakeEngine) -> str:
    return engine.url.rpartition(":")[2]


def test_a_ready_engine_ends_it_with_0(engine: FakeEngine, health: Health) -> None:
    engine.answer("GET /readyz", {"status": "ready"})
    result = health(url=engine.url)
    assert (result.exit_code, result.stdout) == (0, "ready\n")


def test_an_engine_that_is_not_ready_ends_it_with_4_and_its_reason(engine: FakeEngine, health: Health) -> None:
    engine.answer("GET /readyz", {"status": "not ready", "reason": "the database cannot be read"}, 503)
    result = health(url=engine.url)
    assert result.exit_code == 4
    assert result.stderr == f"error: {engine.url} answers 503: the database cannot be read\n"


def test_alive_asks_only_whether_the_process_lives(engine: FakeEngine, health: Health) -> None:
    engine.answer("GET /healthz", {"status": "alive"})
    result = health("--alive", url=engine.url)
    assert (result.exit_code, result.stdout) == (0, "alive\n")
    assert engine.calls == ["GET /healthz"]


def test_without_a_url_it_asks_this_machine_at_PORT(engine: FakeEngine, health: Health) -> None:  # noqa: N802
    engine.answer("GET /readyz", {"status": "ready"})
    assert health(PORT=port_of(engine)).exit_code == 0


def test_the_health_port_of_a_worker_goes_before_PORT(engine: FakeEngine, health: Health) -> None:  # noqa: N802
    engine.answer("GET /readyz", {"status": "ready"})
    assert health(PORT="9", BESTEX_HEALTH_PORT=port_of(engine)).exit_code == 0


def test_a_url_goes_before_the_health_port(engine: FakeEngine, health: Health) -> None:
    engine.answer("GET /readyz", {"status": "ready"})
    assert health(url=engine.url, BESTEX_HEALTH_PORT="9").exit_code == 0


def test_where_nobody_listens_it_ends_with_4(health: Health) -> None:
    result = health(url=NOBODY)
    assert result.exit_code == 4
    assert result.stderr.startswith(f"error: {NOBODY} does not answer: ")


def test_an_engine_that_hangs_is_waited_for_no_longer_than_the_timeout(health: Health) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:  # takes connections, answers none
        result = health("--timeout", "0.1", url=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert result.exit_code == 4
    assert "timed out" in result.stderr


def test_an_answer_of_something_else_is_told(engine: FakeEngine, health: Health) -> None:
    engine.answer("GET /readyz", {"detail": "Not Found"}, 404)
    result = health(url=engine.url)
    assert result.exit_code == 4
    assert "answers 404: no health document; is it a bestex engine?" in result.stderr


def test_what_is_no_url_is_bad_usage(health: Health) -> None:
    for url in ("bestex", "ftp://host", "http://host:port"):
        result = health(url=url)
        assert result.exit_code == 2, url
        assert "is not the URL of an engine" in result.stderr.replace("\n", " ")
