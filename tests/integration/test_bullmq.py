"""BullMQ's queue on a real Valkey: what Redis loses delays and loses nothing, and Node's own BullMQ reads our jobs."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from bullmq import Queue, Worker
from structlog.testing import capture_logs

from bestex.ambient import SystemClock
from bestex.dispatch.bullmq import BullMqDispatcher
from bestex.dispatch.bullmq.adding import JobAdder
from bestex.dispatch.bullmq.queue import QUEUE, BullMqLimits
from bestex.dispatch.bullmq.serving import JobServer
from bestex.ports import UnheldOrder
from tests.support.cluster import until
from tests.support.orders import order_id
from tests.support.valkey import Valkey, running_valkey

LIMITS = BullMqLimits(look_every_s=0.1, hang_s=0.5, retry_s=0.1, call_s=1.0)
NPM_CACHE = Path.home() / ".cache" / "bestex" / "bullmq-peer"

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


class Served:
    """A dispatcher that rings and listens, and takes each order at once while it is told to."""

    def __init__(self, url: str) -> None:
        self.dispatcher = BullMqDispatcher(url, SystemClock(), LIMITS)
        self.seen: list[str] = []
        self.takes = True
        self.dispatcher.on_ring(self._rung)

    def _rung(self, order_ids: object) -> None:
        assert isinstance(order_ids, tuple)
        self.seen += order_ids
        if self.takes:
            self.dispatcher.taken(order_ids)


@pytest.fixture
async def served(valkey: Valkey) -> AsyncIterator[Served]:
    served = Served(valkey.url)
    running = asyncio.create_task(served.dispatcher.run())
    yield served
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def orders(count: int, kind: str = "market", priority: int = 5) -> list[UnheldOrder]:
    return [UnheldOrder(order_id(), kind, "SOL/USDC", priority) for _ in range(count)]


def ids(rung: list[UnheldOrder]) -> list[str]:
    return [order.order_id for order in rung]


async def test_a_job_is_done_once_its_order_is_taken_and_leaves_nothing_behind(valkey: Valkey, served: Served) -> None:
    served.takes = False
    rung = orders(3)
    served.dispatcher.ring(rung)
    await until(lambda: sorted(served.seen) == ids(rung))
    assert served.dispatcher.server.in_hand == valkey.jobs(QUEUE) == 3

    served.dispatcher.taken(ids(rung))
    await until(lambda: not valkey.jobs(QUEUE))
    assert valkey.job_keys(QUEUE) == 0


async def test_an_order_may_be_rung_for_again_once_its_job_is_done(valkey: Valkey, served: Served) -> None:
    [order] = orders(1)
    for times in (1, 2, 3):
        served.dispatcher.ring([order])
        await until(lambda times=times: len(served.seen) == times and not valkey.jobs(QUEUE))  # type: ignore[misc]


async def test_no_more_jobs_are_in_hand_than_may_be(valkey: Valkey, served: Served) -> None:
    served.takes = False
    served.dispatcher.ring(orders(LIMITS.in_hand + 10))
    await until(lambda: served.dispatcher.server.in_hand == LIMITS.in_hand)
    await until(lambda: valkey.jobs(QUEUE) == LIMITS.in_hand + 10)

    assert len(served.seen) == LIMITS.in_hand


async def test_after_redis_was_lost_with_all_it_knew_jobs_are_served_again(valkey: Valkey, served: Served) -> None:
    server = served.dispatcher.server
    served.dispatcher.ring(orders(2))
    await until(lambda: len(served.seen) == 2)
    valkey.stop()
    served.dispatcher.ring(orders(5))  # nobody waits for this, and nothing comes of it
    await until(lambda: served.dispatcher.adder.dropped == 5)
    await until(lambda: server.restarts >= 2)  # it looks for Redis again and again
    valkey.start()
    later = orders(3)

    async def served_again() -> bool:
        served.dispatcher.ring(later)
        await asyncio.sleep(0.05)
        return set(ids(later)) <= set(served.seen)

    await until(served_again)


async def test_a_client_that_hangs_is_replaced(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    makes = JobServer._worker
    made: list[Worker] = []

    def make(server: JobServer) -> Worker:
        """The first client brings nothing."""
        worker = makes(server)
        made.append(worker)
        if len(made) == 1:
            worker.run = asyncio.Event().wait
        return worker

    monkeypatch.setattr(JobServer, "_worker", make)
    served = Served(valkey.url)
    with capture_logs() as logs:
        running = asyncio.create_task(served.dispatcher.run())
        rung = orders(2)
        served.dispatcher.ring(rung)
        await until(lambda: sorted(served.seen) == ids(rung))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert served.dispatcher.server.restarts == 1
    assert [entry["reason"] for entry in logs if entry["event"] == "dispatch.client_restarted"] == [
        "it brings no jobs, and some wait"
    ]


async def test_who_rings_is_held_up_by_nothing_and_what_is_too_much_is_dropped() -> None:
    adder = JobAdder("redis://127.0.0.1:1/0", SystemClock(), BullMqLimits(rings=10))
    adder.add(orders(8))
    adder.add(orders(8))

    assert adder.dropped == 6


async def test_a_job_that_another_put_there_is_removed_and_told_of(valkey: Valkey, served: Served) -> None:
    queue = Queue(QUEUE, {"connection": valkey.url})
    with capture_logs() as logs:
        await queue.add("strange", {"orderId": "no id"}, {"jobId": "strange"})
        await until(lambda: served.dispatcher.server.served == 1 and not valkey.jobs(QUEUE))
    await queue.close()

    assert [entry["job_id"] for entry in logs if entry["event"] == "dispatch.strange_job"] == ["strange"]
    assert served.seen == []


@pytest.fixture(scope="module")
def node_bullmq(repository: Path) -> Path:
    """A folder in which Node finds BullMQ."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    NPM_CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(repository / "bench" / "peer" / name, NPM_CACHE)
    if not (NPM_CACHE / "node_modules" / ".package-lock.json").exists():
        installed = subprocess.run(
            ["npm", "install", "--no-save", "--no-audit", "--no-fund"],
            cwd=NPM_CACHE,
            capture_output=True,
            text=True,
            timeout=50,
        )
        if installed.returncode:
            pytest.skip(f"npm install failed: {installed.stderr.strip().splitlines()[-1:]}")
    return NPM_CACHE


LIST_JOBS = """
import { Queue } from "bullmq";
const [port, name] = process.argv.slice(2);
const queue = new Queue(name, { connection: { host: "127.0.0.1", port: Number(port) } });
const counts = await queue.getJobCounts("waiting", "prioritized", "active", "completed", "failed");
const jobs = await queue.getJobs(["waiting", "prioritized"]);
console.log(JSON.stringify({
  counts, jobs: jobs.map((job) => ({ id: job.id, name: job.name, data: job.data, priority: job.opts.priority })),
}));
await queue.close();
"""


async def test_nodes_own_bullmq_counts_and_shows_our_jobs_while_no_worker_takes_them(
    valkey: Valkey, node_bullmq: Path
) -> None:
    adder = JobAdder(valkey.url, SystemClock(), LIMITS)
    running = asyncio.create_task(adder.run())
    slow, urgent = orders(3), orders(1, "sniper", 1)
    adder.add([*slow, *urgent])
    await until(lambda: adder.added == 4)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    script = node_bullmq / "list_jobs.mjs"
    script.write_text(LIST_JOBS)
    process = await asyncio.create_subprocess_exec(
        "node", str(script), str(valkey.port), QUEUE, cwd=node_bullmq, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    shown = json.loads(output)

    assert shown["counts"] == {"waiting": 0, "prioritized": 4, "active": 0, "completed": 0, "failed": 0}
    assert sorted(shown["jobs"], key=lambda job: (job["priority"], job["id"])) == [
        {
            "id": order.order_id,
            "name": order.kind,
            "data": {"orderId": order.order_id, "kind": order.kind, "pair": "SOL/USDC"},
            "priority": order.priority,
        }
        for order in (*urgent, *slow)
    ]
