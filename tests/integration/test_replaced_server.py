"""Another server takes the database's place while processes run: one that lacks what was executed since."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from bestex.bootstrap.journal_process import JournalProcess
from bestex.config import Settings
from bestex.domain.tokens import load_tokens
from bestex.journal.postgres import PostgresJournal
from bestex.ports import EngineMode, HaltCause
from tests.support.journals import OnPostgres
from tests.support.orders import HAPPY, DraftOrder
from tests.support.postgres import TEMPLATE, PostgresServer, until

PENDING, ROUTING, *_ = HAPPY

pytestmark = pytest.mark.timeout(120)


class Part(JournalProcess):
    """A worker that claims when it is told to."""

    mode = EngineMode.WORKER
    journal: PostgresJournal

    def __init__(self, dsn: str, data_dir: Path) -> None:
        super().__init__(Settings(database_url=dsn, data_dir=data_dir), load_tokens(None))  # type: ignore[call-arg]
        self.ready = asyncio.Event()

    def _own_signals(self) -> None:
        pass

    async def _run(self, exits: AsyncExitStack) -> None:
        assert self._settings.database_url is not None
        self.journal = await self._open_journal(self._settings.database_url, exits)
        await self._halt_if_behind(self.journal, exits)
        exits.push_async_callback(self.journal.close)
        self._start("journal", self.journal.run(), exits)
        self.ready.set()
        await self._stopped()

    def stop(self) -> None:
        self._stop.set()


@asynccontextmanager
async def running(part: Part) -> AsyncIterator["asyncio.Task[int]"]:
    running = asyncio.create_task(part.run())
    try:
        async with asyncio.timeout(10):
            await part.ready.wait()
        yield running
    finally:
        part.stop()
        await running


async def test_a_worker_that_did_nothing_executes_nothing_on_a_server_that_lacks_what_others_did(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    server = postgres_server
    async with server.database(TEMPLATE) as dsn:
        idle = Part(dsn, tmp_path)
        async with running(idle) as idling:
            api = OnPostgres(dsn)
            order = DraftOrder()
            await (await api.journal(EngineMode.API)).append(order.next(PENDING))
            await server.stop()
            backup = tmp_path / "backup"
            subprocess.run(["cp", "-a", str(server.data_dir / "postgres"), str(backup)], check=True)
            await server.start()

            busy = Part(dsn, tmp_path)
            async with running(busy):
                [claimed] = await busy.journal.claim_waiting(10)
                await busy.journal.append(replace(order.next(ROUTING), lease_epoch=claimed.lease.epoch))
            await api.close()
            await server.stop()
            shutil.rmtree(server.data_dir / "postgres")
            backup.rename(server.data_dir / "postgres")
            await server.start()

            assert await idle.journal.claim_waiting(10) == []
            await until(idling.done, within_s=15)
            assert await idling == 1
            judge = PostgresJournal(dsn, order.id, idle._clock)
            halt = await judge.halted()
            await judge.close()
            assert halt is not None
            assert halt.cause is HaltCause.JOURNAL_BEHIND


async def test_a_worker_goes_on_once_it_has_met_a_server_that_has_restarted(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    server = postgres_server
    async with server.database(TEMPLATE) as dsn:
        worker = Part(dsn, tmp_path)
        async with running(worker) as working:
            await worker.journal.append(DraftOrder().next(PENDING))
            await server.stop()
            await server.start()
            api = OnPostgres(dsn)
            await (await api.journal(EngineMode.API)).append(DraftOrder().next(PENDING))
            async with asyncio.timeout(15):
                while not await worker.journal.claim_waiting(10):
                    await asyncio.sleep(0.02)
            assert not working.done()
            await api.close()
