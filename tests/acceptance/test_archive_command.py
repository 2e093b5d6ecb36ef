"""`bestex archive` through the real command line, beside an engine that trades."""

import json
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bestex.journal.embedded import EmbeddedPostgres
from tests.support.command_line import answer, bestex
from tests.support.engine import PATIENCE_S, POLL_S, Json, command, count_of, environment, serving


def run(data_dir: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command(*words), env=environment(DATA_DIR=data_dir), capture_output=True, timeout=60)


def archive(data_dir: Path, folder: Path, *words: str) -> Json:
    done = run(data_dir, "archive", "--before", "0s", "--to", str(folder), "--json", *words)
    assert done.returncode == 0, done.stderr
    archived: Json = json.loads(done.stdout)
    return archived


def verify(data_dir: Path, *words: str) -> None:
    done = run(data_dir, "verify", *words)
    assert done.returncode == 0, done.stdout + done.stderr


def until_settled(dsn: str, orders: int) -> None:
    """Wait until so many orders are final."""
    deadline = time.monotonic() + PATIENCE_S
    while count_of(dsn, "select count(*) from bestex.orders where settled") < orders:
        assert time.monotonic() < deadline, "the orders are not final"
        time.sleep(POLL_S)


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"]


def test_what_has_left_is_told_from_what_never_was_and_the_engine_goes_on(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    dsn = EmbeddedPostgres(data_dir).dsn
    with serving(DATA_DIR=data_dir) as engine:
        key = {"Idempotency-Key": "once"}
        first = engine.post(key, amount="1.5").json()
        left = [first["orderId"], *(engine.order() for _ in range(4))]
        for order_id in left:
            engine.until(order_id)
        resting = engine.order(kind="limit", limitPrice="100000")
        engine.until(resting, "watching")
        until_settled(dsn, len(left))

        plan = archive(data_dir, folder, "--dry-run")
        assert plan["leaving"]["orders"] == 5
        assert list(folder.iterdir()) == []
        [made] = archive(data_dir, folder)["archives"]
        assert (made["orders"], made["keptEvents"]) == (5, 2)

        http = engine.http
        for path in (f"/api/orders/{left[1]}", f"/api/orders/{left[1]}/history", f"/api/orders/{left[1]}/receipt"):
            gone = http.get(path)
            assert problem(gone) == (410, "/problems/order-archived")
            assert made["file"] in gone.json()["detail"]
        assert problem(http.delete(f"/api/orders/{left[1]}")) == (410, "/problems/order-archived")
        assert problem(http.get("/api/events?after=0")) == (410, "/problems/log-archived")
        assert problem(http.get(f"/api/events?after={made['position'] - 1}")) == (410, "/problems/log-archived")
        assert bestex(engine, "watch", left[1]).returncode == 3
        address = f"ws://127.0.0.1:{engine.port}/api/orders/{left[1]}/status"
        with connect(address) as socket, pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, made["file"] in closed.value.rcvd.reason) == (4410, True)
        again = engine.post(key, amount="1.5")
        assert (again.status_code, again.json()["orderId"]) == (202, first["orderId"])
        assert again.json()["createdAt"] == first["createdAt"]
        assert problem(engine.post(key, amount="1.6")) == (422, "/problems/key-reused")
        engine.kill()

    with serving(DATA_DIR=data_dir) as engine:
        assert not engine.http.get("/api/operator").json()["halted"]
        assert engine.view(resting)["status"] == "watching"
        assert answer(engine, "cancel", resting)["status"] == "cancelled"
        answer(engine, "halt")
        found = answer(engine, "reconcile", "--resume")
        assert found["reconciled"]["adopted"] == []  # the archived orders' swaps stand in the wallet's history
        engine.until(engine.order())
        until_settled(dsn, 2)
    verify(data_dir)
    [made] = archive(data_dir, folder)["archives"]
    assert (made["number"], made["orders"], made["keptEvents"]) == (2, 2, 0)
    verify(data_dir)
    verify(data_dir, "--archives", str(folder))
    alone = subprocess.run(command("verify", "--export", str(folder / made["file"])), capture_output=True, timeout=60)
    assert alone.returncode == 0, alone.stdout
