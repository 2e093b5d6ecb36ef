"""`bestex simnet` without its command line: a world over its ledger, served until it is stopped or fenced off."""

import asyncio

import pytest

from bestex.ambient import SystemClock
from bestex.config import Settings
from bestex.domain.tokens import load_tokens
from bestex.simnet_process import run_simnet
from bestex.venues.simnet.remote_world import connect_simnet
from bestex.venues.simulated.ledger import LedgerFencedError
from tests.support.simnet import listening, postgres_server, until
from tests.support.simulation import empty_postgres_ledger

__all__ = ["postgres_server"]

SOL = load_tokens().get("SOL")


class Running:
    """One such process, in this one."""

    def __init__(self, dsn: str, port: int = 0) -> None:
        listener = listening(port)
        self.port = listener.getsockname()[1]
        self.stop = asyncio.Event()
        settings = Settings(profile="instant")  # type: ignore[call-arg] # all others have defaults
        self.work = asyncio.create_task(run_simnet(settings, dsn, load_tokens(), {}, listener, self.stop))


async def test_the_world_outlives_its_process_and_a_second_process_takes_it_over(postgres_dsn_of_ledgers: str) -> None:
    dsn = postgres_dsn_of_ledgers
    await (await empty_postgres_ledger(dsn)).close()
    first = Running(dsn)
    remote = await connect_simnet(f"http://127.0.0.1:{first.port}", load_tokens(), SystemClock())
    await remote.control.fund(SOL, 77)
    first.stop.set()
    await asyncio.wait_for(first.work, 10)
    await until(lambda: not remote.is_connected)

    second = Running(dsn, first.port)
    await until(lambda: remote.is_connected)
    assert remote.wallet.held(SOL.mint) == 1_000_000 * 10**9 + 77

    third = Running(dsn)
    other = await connect_simnet(f"http://127.0.0.1:{third.port}", load_tokens(), SystemClock())
    assert other.wallet.address == remote.wallet.address
    funding = asyncio.ensure_future(remote.control.fund(SOL, 1))
    with pytest.raises(LedgerFencedError):
        await asyncio.wait_for(second.work, 10)
    with pytest.raises(Exception, match=r"another process|broke"):
        await funding
    assert other.wallet.held(SOL.mint) == 1_000_000 * 10**9 + 77
    third.stop.set()
    await asyncio.wait_for(third.work, 10)
    await other.close()
    await remote.close()
