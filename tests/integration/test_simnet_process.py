"""`bestex simnet` without its command line: a world over its ledger, served until it is stopped or fenced off."""

import asyncio

import pytest

from bestex.ambient import SystemClock
from bestex.bootstrap.simnet import SimnetProcess
from bestex.config import Settings
from bestex.domain.tokens import load_tokens
from bestex.venues.simnet.remote_world import connect_simnet
from tests.support.engine import free_port
from tests.support.simnet import postgres_server, until
from tests.support.simulation import empty_postgres_ledger

__all__ = ["postgres_server"]

SOL = load_tokens().get("SOL")


class Running(SimnetProcess):
    """One such process, in this one."""

    def __init__(self, dsn: str, port: int = 0) -> None:
        self.port = port or free_port()
        settings = Settings(profile="instant", port=self.port, database_url=dsn)  # type: ignore[call-arg] # defaults
        super().__init__(settings, load_tokens(), {})
        self.work = asyncio.create_task(self.run())

    def _own_signals(self) -> None:
        pass

    async def end(self) -> int:
        self._stop.set()
        return await asyncio.wait_for(self.work, 10)


async def test_the_world_outlives_its_process_and_a_second_process_takes_it_over(postgres_dsn_of_ledgers: str) -> None:
    dsn = postgres_dsn_of_ledgers
    await (await empty_postgres_ledger(dsn)).close()
    first = Running(dsn)
    remote = await connect_simnet(f"http://127.0.0.1:{first.port}", load_tokens(), SystemClock())
    await remote.control.fund(SOL, 77)
    assert await first.end() == 0
    await until(lambda: not remote.is_connected)

    second = Running(dsn, first.port)
    await until(lambda: remote.is_connected)
    assert remote.wallet.held(SOL.mint) == 1_000_000 * 10**9 + 77

    third = Running(dsn)
    other = await connect_simnet(f"http://127.0.0.1:{third.port}", load_tokens(), SystemClock())
    assert other.wallet.address == remote.wallet.address
    funding = asyncio.ensure_future(remote.control.fund(SOL, 1))
    assert await asyncio.wait_for(second.work, 10) == 1
    with pytest.raises(Exception, match=r"another process|broke"):
        await funding
    assert other.wallet.held(SOL.mint) == 1_000_000 * 10**9 + 77
    assert await third.end() == 0
    await other.close()
    await remote.close()
