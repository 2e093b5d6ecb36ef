"""A worker process that is stopped for longer than its leases last, and continued, executes nothing twice."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bestex.domain.events import SubmittedDetail
from bestex.domain.lifecycle import Status
from tests.support.cluster import Cluster, until
from tests.support.journals import OnPostgres
from tests.support.valkey import running_valkey
from tests.support.worker_process import CONCURRENCY, dispatcher_over

TTL_S = 2.0
ORDERS = 12

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["postgres", "bullmq"])
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "postgres":
        yield ""
        return
    with running_valkey() as valkey:
        yield valkey.url


class WorkerProcess:
    """A running process, and what it has told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.building: list[str] = []
        self.built: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            word, _, order_id = line.decode().strip().partition(" ")
            if word == "building":
                self.building.append(order_id)
            if word == "built":
                self.built.append(order_id)

    def stop(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None


@asynccontextmanager
async def worker_process(dsn: str, redis_url: str, ledger: Path) -> AsyncIterator[WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.worker_process", dsn, redis_url, str(TTL_S), str(ledger)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    worker = WorkerProcess(process)
    try:
        yield worker
    finally:
        await worker.kill()


@pytest.fixture
async def apis(database_url: str, redis_url: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(OnPostgres(database_url), lambda: dispatcher_over(database_url, redis_url))
    yield cluster
    await cluster.close()


async def test_a_worker_stopped_past_its_lease_and_continued_executes_nothing_twice(
    apis: Cluster, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    async with worker_process(database_url, redis_url, ledger) as first:
        orders = await apis.accept(ORDERS)
        await until(lambda: len(first.building) > CONCURRENCY)  # the next ones are in its hand
        first.stop()
        async with worker_process(database_url, redis_url, ledger) as second:
            await until(lambda: all_confirmed(apis))
            first.go_on()
            while not set(first.built) - set(orders):  # it goes on, and has its share of what comes
                await apis.accept(ORDERS)
                await until(lambda: all_confirmed(apis))
            assert not first.ended

    assert set(first.built) & set(second.built), "nothing was begun by both: the test proves nothing"
    recorded = [await signatures(apis, order_id) for order_id in apis.orders]
    assert [len(each) for each in recorded] == [1] * len(apis.orders)
    assert set(ledger.read_text().split()) == {each[0] for each in recorded}


async def all_confirmed(apis: Cluster) -> bool:
    return all([(await apis.view(order_id)).status == Status.CONFIRMED for order_id in apis.orders])


async def signatures(apis: Cluster, order_id: str) -> list[str | None]:
    """Those that were recorded, in their order."""
    details = [stored.event.detail for stored in await apis.journal.events(order_id)]
    return [detail.signature for detail in details if isinstance(detail, SubmittedDetail) and detail.signature]
