"""The real command line: killed in the middle of orders and started again, and refused with a clear reason."""

import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.embedded.process import running_server
from tests.support.engine import PATIENCE_S, Served, check_ledger, command, count_of, environment, free_port, serving

ORDERS = 200


def database_of(data_dir: Path) -> str:
    """The DSN of the database in the folder, where its server runs."""
    return EmbeddedPostgres(data_dir).dsn


def statuses_of(dsn: str) -> str:
    return "\n".join(
        f"{status}: {count_of(dsn, 'select count(*) from bestex.orders where status = $1', status)}"
        for status in ("pending", "routing", "building", "submitted", "confirmed", "failed")
    )


def test_kill_9_in_the_middle_of_200_orders_loses_none_and_executes_none_twice(data_dir: Path) -> None:
    settings = {"DATA_DIR": data_dir, "PROFILE": "realistic", "SIM_SLOT_MS": 40}
    with serving(**settings) as engine:  # type: ignore[arg-type]
        ids = [engine.order() for _ in range(ORDERS // 2)]
        engine.until(ids[0], "submitted")
        ids += [engine.order() for _ in range(ORDERS // 2)]
        engine.until(ids[0])  # some have ended, some are signed, some are routing
        engine.kill()
    dsn = database_of(data_dir)
    open_orders = count_of(dsn, "select count(*) from bestex.orders where status <> 'confirmed' and unfilled is null")
    assert 0 < open_orders < ORDERS, statuses_of(dsn)
    signed = count_of(dsn, "select count(*) from bestex.orders where status = 'submitted'")
    assert signed > 0, statuses_of(dsn)

    with serving(**settings) as engine:  # type: ignore[arg-type]
        views = [engine.until(order_id) for order_id in ids]
        statuses = check_ledger(dsn)
        assert statuses.total() == ORDERS
        assert statuses["confirmed"] == count_of(dsn, "select count(*) from sim.transactions where error is null")
        assert statuses["confirmed"] >= ORDERS * 0.9
        hashes = [view["txHash"] for view in views if "txHash" in view]
        assert len(set(hashes)) == len(hashes)


def test_kill_9_again_and_again_while_the_chain_misbehaves(data_dir: Path) -> None:
    settings = {
        "DATA_DIR": data_dir,
        "SIM_SLOT_MS": 10,
        "SIM_FAULTS": "dropped=0.2,late_landing=0.5,lost_status=0.3,send_error_after=0.3,dying_fork_error=0.1",
    }
    ids: list[str] = []
    for _ in range(3):
        with serving(**settings) as engine:  # type: ignore[arg-type]
            ids += [engine.order() for _ in range(25)]
            engine.until(ids[-25])
            engine.kill()
    with serving(**settings) as engine:  # type: ignore[arg-type]
        for order_id in ids:
            engine.until(order_id)
        statuses = check_ledger(database_of(data_dir))
    assert statuses.total() == 75
    assert statuses["confirmed"] >= 60


def test_a_clean_stop_leaves_running_orders_to_the_next_start(data_dir: Path) -> None:
    settings = {"DATA_DIR": data_dir, "PROFILE": "realistic"}
    with serving(**settings) as engine:  # type: ignore[arg-type]
        ids = [engine.order() for _ in range(20)]
        assert engine.terminate() < 2.0
        assert engine.process.returncode == 0
    _until_gone(data_dir)
    with serving(**settings) as engine:  # type: ignore[arg-type]
        for order_id in ids:
            assert engine.until(order_id)["status"] == "confirmed"
        assert check_ledger(database_of(data_dir)) == {"confirmed": 20}


def refused(**settings: object) -> subprocess.CompletedProcess[str]:
    """`bestex serve` that ends by itself."""
    return subprocess.run(
        command("serve"),
        env=environment(**({"PORT": free_port()} | settings)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def complains(result: subprocess.CompletedProcess[str], code: int, *words: str) -> bool:
    """Whether it ended with this code and one clear line with these words, without a trace."""
    said = result.stderr
    assert result.returncode == code, said
    assert "Traceback" not in said, said
    [complaint] = [line for line in said.splitlines() if line.startswith("bestex: ")]
    assert all(word in complaint for word in words), complaint
    return True


def test_a_second_engine_on_a_living_ones_database_is_refused(data_dir: Path) -> None:
    with serving(DATA_DIR=data_dir) as engine:
        assert complains(refused(DATA_DIR=data_dir), 1, "another engine runs on this database", "BESTEX_DATA_DIR")
        assert engine.http.get("/readyz").status_code == 200
        assert engine.until(engine.order())["status"] == "confirmed"


def test_a_dead_engines_place_is_taken_within_ten_seconds(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        engine.kill()
    began = time.monotonic()
    with serving(DATABASE_URL=database_url) as engine:
        assert time.monotonic() - began < 10
        assert engine.until(engine.order())["status"] == "confirmed"


def test_a_stopped_engine_that_wakes_up_is_fenced_and_executes_nothing(database_url: str) -> None:
    """It slept through its lease: another took its place. What it held is executed once, by the other."""
    with serving(DATABASE_URL=database_url, SIM_FAULTS="quote_timeout=1,quote_timeout_s=0.3", defects=True) as sleeper:
        ids = [sleeper.order() for _ in range(10)]
        sleeper.process.send_signal(signal.SIGSTOP)
        try:
            with serving(DATABASE_URL=database_url) as engine:
                for order_id in ids:
                    assert engine.until(order_id)["status"] == "confirmed"
                sleeper.process.send_signal(signal.SIGCONT)
                sleeper.process.wait(PATIENCE_S)
                assert sleeper.process.returncode == 1
                assert "engine.fenced" in sleeper.log
                assert engine.http.get("/readyz").status_code == 200
                assert engine.until(engine.order())["status"] == "confirmed"
        finally:
            if sleeper.process.poll() is None:
                sleeper.process.send_signal(signal.SIGCONT)
    assert check_ledger(database_url) == {"confirmed": 11}


def test_a_port_in_use_is_refused_before_anything_slow_is_begun(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = refused(PORT=port, DATA_DIR=tmp_path / "never made")
    assert complains(result, 1, f"127.0.0.1:{port}", "PORT")
    assert not (tmp_path / "never made").exists()


def test_two_engines_that_start_on_one_port_are_not_both_started(data_dir: Path, database_url: str) -> None:
    """The second one must not find the port free only because the first one is still starting."""
    port = free_port()
    with (
        serving(ready=False, PORT=port, DATA_DIR=data_dir) as first,
        serving(ready=False, PORT=port, DATABASE_URL=database_url) as second,
    ):
        deadline = time.monotonic() + PATIENCE_S
        while first.process.poll() is None and second.process.poll() is None:
            assert time.monotonic() < deadline, "both run"
            time.sleep(0.01)
        loser = first if first.process.poll() is not None else second
        winner = second if loser is first else first
        assert loser.process.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in loser.log
        winner.until_ready()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"PORT": "http"}, ["PORT"]),
        ({"PORT": "0"}, ["PORT"]),
        ({"PORT": "65536"}, ["PORT"]),
        ({"HOST": "0.0.0.0"}, ["BESTEX_HOST"]),
        ({"PROFILE": "fast"}, ["BESTEX_PROFILE", "realistic", "instant"]),
        ({"CONCURRENCY": "0"}, ["BESTEX_CONCURRENCY"]),
        ({"INTAKE": "many"}, ["BESTEX_INTAKE"]),
        ({"SEED": "-1"}, ["BESTEX_SEED"]),
        ({"SIM_SLOT_MS": "0"}, ["BESTEX_SIM_SLOT_MS"]),
        ({"RETRY_ATTEMPTS": "4"}, ["BESTEX_RETRY_ATTEMPTS"]),
        ({"RETRY_JITTER": "nan"}, ["BESTEX_RETRY_JITTER"]),
        ({"SIM_FAULTS": "no_such_fault=1"}, ["no_such_fault"]),
        ({"SIM_FAULTS": "dropped=2"}, ["dropped"]),
        ({"SIM_FAULTS": "dropped"}, ["NAME=VALUE"]),
        ({"TOKENS_FILE": "/nowhere/tokens.json"}, ["/nowhere/tokens.json"]),
    ],
    ids=str,
)
def test_a_bad_setting_is_named(settings: dict[str, str], words: list[str]) -> None:
    assert complains(refused(**settings), 2, *words)


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '[{"symbol": "SOL"}]', '[{"symbol": "X", "mint": "0", "decimals": 1}]']
)
def test_a_bad_token_registry_is_refused(tmp_path: Path, content: str) -> None:
    registry = tmp_path / "tokens.json"
    registry.write_text(content)
    assert complains(refused(TOKENS_FILE=registry), 2)


def test_an_unreachable_database_is_refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://someone:secret@127.0.0.1:{closed.getsockname()[1]}/bestex"
        result = refused(DATABASE_URL=url)
    assert complains(result, 1, "127.0.0.1")
    assert "secret" not in result.stderr


@pytest.mark.parametrize("url", ["not a url", "mysql://localhost/x", "postgresql://localhost:notaport/x"])
def test_a_database_url_that_is_none_is_refused(url: str) -> None:
    assert complains(refused(DATABASE_URL=url), 2, "DATABASE_URL")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_a_database_that_goes_away_refuses_orders_and_comes_back(data_dir: Path) -> None:
    """503, never a 202; the orders that were accepted go on afterwards."""
    with serving(DATA_DIR=data_dir, SIM_FAULTS="late_landing=1,late_landing_slots=100", SIM_SLOT_MS=20) as engine:
        ids = [engine.order() for _ in range(10)]
        server = running_server(data_dir / "postgres")
        assert server is not None
        keys = ["one", "two", "three"]
        frozen = [server.pid, *_children(server.pid)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)  # it neither answers nor refuses
        try:
            with ThreadPoolExecutor(3) as clients:  # the first may be in a commit, the others wait behind it
                answers = list(clients.map(lambda key: engine.post({"Idempotency-Key": key}), keys))
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        stored = []
        for key, answer in zip(keys, answers, strict=True):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            if answer.json()["type"] == "/problems/outcome-unknown":
                stored.append(_until_accepted(engine, key))
                assert stored[-1] == answer.json()["orderId"]
            else:
                assert answer.json()["type"] == "/problems/unavailable"
        ids.append(_until_accepted(engine, "after it hung"))  # behind every commit of before
        ids += stored
        assert count_of(database_of(data_dir), "select count(*) from bestex.orders") == len(ids)

        os.kill(server.pid, signal.SIGQUIT)  # it dies, and is started again
        accepted = _until_accepted(engine, "while it is gone")
        for order_id in (*ids, accepted):
            assert engine.until(order_id)["status"] == "confirmed"
        assert check_ledger(database_of(data_dir)) == {"confirmed": len(ids) + 1}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _until_accepted(engine: Served, key: str) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = engine.post({"Idempotency-Key": key})
        if answer.status_code == 202:
            order_id: str = answer.json()["orderId"]
            return order_id
        assert answer.status_code in (409, 503), answer.text
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_clean_stop_takes_the_database_with_it_after_a_kill_too(data_dir: Path) -> None:
    with serving(DATA_DIR=data_dir) as engine:
        engine.kill()
    with serving(DATA_DIR=data_dir) as engine:
        assert engine.http.get("/readyz").status_code == 200
    _until_gone(data_dir)


def _until_gone(data_dir: Path) -> None:
    """Wait until no database server runs on the folder: it finishes its last checkpoint by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while (server := running_server(data_dir / "postgres")) is not None and server.alive():
        assert time.monotonic() < deadline
        time.sleep(0.02)
