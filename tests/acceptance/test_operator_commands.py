"""The operator's hand through the real command line: an old backup restored, a halt, forks, outages and stops."""

import json
import signal
import subprocess
import time
from pathlib import Path

from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.embedded.cluster import find_binaries
from tests.support.command_line import answer, bestex
from tests.support.engine import PATIENCE_S, Json, Served, check_ledger, count_of, serving


def postgres_tool(name: str, *arguments: str) -> None:
    tool = find_binaries().postgres.with_name(name)
    subprocess.run([str(tool), *arguments], check=True, capture_output=True, timeout=PATIENCE_S)


def test_an_old_backup_restored_over_executed_orders_executes_nothing_again(data_dir: Path) -> None:
    dsn, backup = EmbeddedPostgres(data_dir).dsn, data_dir / "backup"
    with serving(DATA_DIR=data_dir) as engine:
        before = engine.order(amount="1.1")
        engine.until(before)
        waiting = answer(engine, "sim", "faults", "quote_timeout=1", "quote_timeout_s=60")
        assert waiting["faults"]["quote_timeout"] == 1
        open_then = [engine.order(amount="1.2") for _ in range(3)]  # accepted, and no venue answers yet
        postgres_tool("pg_dump", "-n", "bestex", "-Fc", "-f", str(backup), dsn)
        answer(engine, "sim", "faults", "quote_timeout=0")
        since = [engine.order(amount="1.3") for _ in range(5)]
        for order_id in [*open_then, *since]:
            assert engine.until(order_id)["status"] == "confirmed"
        executed = count_of(dsn, "select count(*) from sim.transactions where error is null")
        assert executed == 9
        engine.kill()
    postgres_tool("psql", "-q", "-c", "drop schema bestex cascade", dsn)
    postgres_tool("pg_restore", "-d", dsn, str(backup))

    with serving(DATA_DIR=data_dir) as engine:
        status = engine.http.get("/api/operator").json()
        assert (status["halted"], status["cause"]) == (True, "journal_behind")
        refused = bestex(engine, "order", "SOL", "USDC", "1")
        assert refused.returncode == 4
        assert "halted" in refused.stderr
        refused = bestex(engine, "resume")
        assert refused.returncode == 2
        assert "bestex reconcile" in refused.stderr
        found = answer(engine, "reconcile", "--resume")
        assert set(found["reconciled"]["adopted"]) == {*open_then, *since}
        assert set(found["reconciled"]["unknownOrders"]) == set(since)
        assert not found["halted"]
        for order_id in [before, *open_then, *since]:
            assert engine.until(order_id)["status"] == "confirmed"
        assert engine.until(engine.order())["status"] == "confirmed"
        assert check_ledger(dsn) == {"confirmed": 10}
        assert count_of(dsn, "select count(*) from sim.transactions where error is null") == executed + 1
    with serving(DATA_DIR=data_dir) as engine:
        assert not engine.http.get("/api/operator").json()["halted"], "the new history's head is the published one"


def test_a_halt_outlives_a_restart_and_ends_by_resume(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        halted = answer(engine, "halt", "--reason", "a look at the wallet")
        assert (halted["halted"], halted["reason"]) == (True, "a look at the wallet")
    with serving(DATABASE_URL=database_url) as engine:
        assert engine.post().status_code == 503
        assert engine.post().json()["type"] == "/problems/halted"
        assert engine.gauge("bestex_halted") == 1
        answer(engine, "resume")
        assert engine.until(engine.order())["status"] == "confirmed"


def test_a_fork_after_confirmed_is_noted_and_the_same_transaction_becomes_final(database_url: str) -> None:
    with serving(DATABASE_URL=database_url, SIM_FAULTS="fork_after_confirmed=1") as engine:
        order_id = engine.order()
        first = engine.until(order_id)
        until_commitment(engine, order_id, "lost")
        engine.faults(fork_after_confirmed=0)
        last = until_commitment(engine, order_id, "finalized")
        assert last["txHash"] == first["txHash"], "the same bytes landed again"
        commitments = [
            each["detail"]["commitment"] for each in engine.history(order_id) if "commitment" in each["detail"]
        ]
        assert commitments[0] == "confirmed"
        assert commitments[-1] == "finalized"
        assert "lost" in commitments
        assert check_ledger(database_url) == {"confirmed": 1}


def test_one_that_a_fork_took_for_good_stays_confirmed_lost_until_a_person_closes_it(database_url: str) -> None:
    with serving(DATABASE_URL=database_url, SIM_FAULTS="fork_after_confirmed=1", SIM_SLOT_MS=2) as engine:
        order_id = engine.order()
        engine.until(order_id)
        engine.faults(dropped=1)  # what is sent again never arrives
        deadline = time.monotonic() + PATIENCE_S
        while not any(each["detail"].get("gone") for each in engine.history(order_id)):
            assert time.monotonic() < deadline, engine.history(order_id)
            time.sleep(0.02)
        shown = answer(engine, "resolve", order_id, "--not-executed", "--note", "the client was told")
        assert (shown["status"], shown["commitment"]) == ("confirmed", "lost")
        assert engine.history(order_id)[-1]["detail"]["resolved"] is True
        again = bestex(engine, "resolve", engine.order(), "--not-executed")
        assert again.returncode == 2


def until_commitment(engine: Served, order_id: str, commitment: str) -> Json:
    """Wait until a note says so; the order's view then. It may have changed again since."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        said = [each["detail"].get("commitment") for each in engine.history(order_id)]
        if commitment in said:
            return engine.view(order_id)
        assert time.monotonic() < deadline, said
        time.sleep(0.01)


def test_a_chain_that_is_gone_for_a_while_leaves_orders_submitted_with_a_note_and_then_ends_them(
    database_url: str,
) -> None:
    with serving(DATABASE_URL=database_url, SIM_FAULTS="dropped=1") as engine:
        order_id = engine.order()
        engine.until(order_id, "submitted")
        engine.faults(dropped=0, chain_unreachable=1, chain_unreachable_s=12)
        deadline = time.monotonic() + PATIENCE_S
        while not (noted := [each["detail"] for each in engine.history(order_id) if "note" in each["detail"]]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert noted[0]["note"] == "the chain's endpoint does not answer"
        assert noted[0]["nextLookAt"] > engine.view(order_id)["createdAt"]
        engine.faults(chain_unreachable=0)
        assert engine.until(order_id)["status"] == "confirmed"
        assert check_ledger(database_url) == {"confirmed": 1}


def test_a_stream_that_waits_for_finality_ends_with_it(database_url: str) -> None:
    from websockets.sync.client import connect

    with serving(DATABASE_URL=database_url) as engine:
        order_id = engine.order()
        seen: list[Json] = []
        with connect(f"{engine.ws_url}/api/orders/{order_id}/status?until=finalized") as stream:
            for text in stream:
                message = json.loads(text)
                seen += message["data"] if message["type"] == "history" else [message["data"]]
        assert [each["status"] for each in seen][-2:] == ["confirmed", "confirmed"]
        assert seen[-1]["detail"]["commitment"] == "finalized"


def test_sigterm_in_mid_flight_sends_what_is_signed_and_loses_nothing(data_dir: Path) -> None:
    settings = {"DATA_DIR": data_dir, "PROFILE": "realistic", "SIM_SLOT_MS": 40}
    with serving(**settings) as engine:  # type: ignore[arg-type]
        ids = [engine.order() for _ in range(30)]
        engine.until(ids[0], "submitted")
        ids += [engine.order() for _ in range(30)]
        assert engine.terminate() < 3.0
        assert engine.process.returncode == 0
        assert "engine.stopping" in engine.log
    with serving(**settings) as engine:  # type: ignore[arg-type]
        for order_id in ids:
            assert engine.until(order_id)["status"] == "confirmed"
        assert check_ledger(EmbeddedPostgres(data_dir).dsn) == {"confirmed": 60}


def test_a_second_sigterm_exits_now_and_loses_nothing(database_url: str) -> None:
    slow = "quote_timeout=1,quote_timeout_s=30"
    with serving(DATABASE_URL=database_url, SIM_FAULTS=slow, QUOTE_TIMEOUT_MS=60_000) as engine:
        ids = [engine.order() for _ in range(10)]
        engine.process.send_signal(signal.SIGTERM)
        engine.process.send_signal(signal.SIGTERM)
        engine.process.wait(PATIENCE_S)
    with serving(DATABASE_URL=database_url) as engine:
        for order_id in ids:
            assert engine.until(order_id)["status"] == "confirmed"
        assert check_ledger(database_url) == {"confirmed": 10}
