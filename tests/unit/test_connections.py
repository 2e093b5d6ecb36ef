"""The journal's connections: what becomes of one whose user is cancelled while it is given back."""

import asyncio
import gc
from typing import Any

import asyncpg
import pytest

from bestex.domain.errors import JournalUnavailableError
from bestex.journal.connections import ConnectionPool


class CutPool:
    """A pool whose connections are cut while they are given back."""

    def __init__(self) -> None:
        self.cut = asyncio.Event()
        self.releasing = asyncio.Event()

    async def acquire(self, timeout: float) -> object:
        return object()

    async def release(self, _: object) -> None:
        await asyncio.shield(self._reset())  # as the driver does

    async def _reset(self) -> None:
        self.releasing.set()
        await self.cut.wait()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


@pytest.fixture(name="cut")
def cut_fixture(monkeypatch: pytest.MonkeyPatch) -> CutPool:
    pool = CutPool()

    async def create_pool(*_: object, **__: object) -> CutPool:
        return pool

    monkeypatch.setattr("asyncpg.create_pool", create_pool)
    return pool


async def use(pool: ConnectionPool) -> None:
    async with pool.connection():
        pass


async def test_who_is_cancelled_while_a_cut_connection_is_given_back_leaves_no_error_behind(cut: CutPool) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    using = asyncio.create_task(use(ConnectionPool("", "bestex", 1)))
    await cut.releasing.wait()
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    cut.cut.set()
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_who_waits_for_a_cut_connection_to_be_given_back_learns_that_the_database_is_away(cut: CutPool) -> None:
    cut.cut.set()
    with pytest.raises(JournalUnavailableError, match="closed in the middle"):
        await use(ConnectionPool("", "bestex", 1))
