"""Starting and stopping `bestex serve` while the database, or who has it, does not answer."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.engine import (
    PATIENCE_S,
    POLL_S,
    Json,
    Served,
    check_ledger,
    command,
    count_of,
    environment,
    free_port,
    serving,
)

STOP_S = 2.0  # a stop takes no longer
EVENTS_BEYOND = 99_999_999


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """These processes neither run nor die; afterwards they go on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def connected(dsn: str, application: str) -> int:
    """How many connections of that name the database has."""
    query = "select count(*) from pg_stat_activity where datname = current_database() and application_name = $1"
    return count_of(dsn, query, application)


def backends(dsn: str) -> list[int]:
    """The server's processes that serve the engine."""
    query = """
        select pid from pg_stat_activity
        where datname = current_database() and application_name like 'bestex%' order by pid offset $1 limit 1
    """
    number = count_of(
        dsn,
        "select count(*) from pg_stat_activity where datname = current_database() and application_name like $1",
        "bestex%",
    )
    return [count_of(dsn, query, offset) for offset in range(number)]


def test_sigterm_while_it_waits_for_a_frozen_engines_place_ends_it_and_leaves_the_place(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        with frozen(engine.process.pid), serving(DATABASE_URL=database_url, ready=False) as waiting:
            wait_for(lambda: connected(database_url, "bestex life") == 2)
            assert waiting.terminate() < STOP_S
            assert waiting.process.returncode == 0
            assert "engine.place_taken" not in waiting.log
        assert count_of(database_url, "select count(*) from bestex.engines") == 1
        assert engine.until(engine.order())["status"] == "confirmed"
        assert engine.process.poll() is None
    assert check_ledger(database_url) == {"confirmed": 1}


def test_an_unreachable_database_ends_it_with_one_line_that_names_the_database() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        port = closed.getsockname()[1]
        settings = {"PORT": free_port(), "DATABASE_URL": f"postgresql://someone:secret@127.0.0.1:{port}/none"}
        ended = subprocess.run(
            command("serve"),
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert ended.returncode == 1
    said = ended.stdout + ended.stderr
    assert len(said.splitlines()) == 1, said
    assert "database" in said
    assert f"127.0.0.1:{port}" in said
    assert "secret" not in said


def test_a_position_beyond_the_log_is_refused(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        answer = engine.http.get("/api/events", params={"after": EVENTS_BEYOND})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        [error] = answer.json()["errors"]
        assert error["parameter"] == "after"


@pytest.mark.parametrize("orders", [1, 5])
def test_sigterm_with_the_database_frozen_ends_it_in_time_and_answers_the_orders_under_way(
    database_url: str, orders: int
) -> None:
    with serving(DATABASE_URL=database_url, defects=True) as engine:
        assert engine.until(engine.order())["status"] == "confirmed"
        with frozen(*backends(database_url)), contextlib.ExitStack() as clients:
            posted = [clients.enter_context(post(engine)) for _ in range(orders)]
            assert engine.http.get("/metrics").status_code == 200  # what was sent before has been read
            assert engine.terminate() < STOP_S
            answers = [answer(each) for each in posted]
        assert engine.process.returncode == 0
        for status, problem in answers:
            assert status == 503, problem
            assert problem["type"] in ("/problems/outcome-unknown", "/problems/unavailable"), problem
        first = answers[0][1]
        assert first["type"] == "/problems/outcome-unknown"
        assert first["orderId"]
        assert "Traceback" not in engine.log


@contextlib.contextmanager
def post(engine: Served) -> Iterator[socket.socket]:
    """A connection on which an order has been sent."""
    body = json.dumps({"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"})
    head = "POST /api/orders/execute HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", engine.port), timeout=PATIENCE_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        yield connection


def answer(connection: socket.socket) -> tuple[int, Json]:
    """Status and problem document of the answer on the connection, which the engine has closed."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, received
    problem: Json = json.loads(body)
    return int(head.split()[1]), problem
