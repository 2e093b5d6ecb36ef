"""The trigger store of a simulated engine: dead engines' words are kept, and the server may be away."""

import asyncio
from contextvars import copy_context

import pytest

from bestex.domain.errors import JournalUnavailableError
from bestex.domain.tokens import load_tokens
from bestex.journal.memory import MemoryDatabase
from bestex.ports import DeadMan, HighWater
from bestex.simulation.database import DatabaseServer
from bestex.simulation.faults import Luck
from bestex.simulation.invariants import Checks
from bestex.simulation.loop import Handle, VirtualLoop, new_loop
from bestex.simulation.process import Process
from bestex.simulation.referee import Referee
from bestex.simulation.trace import Trace
from bestex.simulation.trigger_store import ProcessTriggerStore

SWITCH = DeadMan("local", 10, keeps_stops=True)
MARK = HighWater("SOL/USDC", True, 1, "150")


def server_on(loop: VirtualLoop, **faults: float) -> DatabaseServer:
    database = MemoryDatabase()
    referee = Referee(Checks(), Trace(loop), database, load_tokens())
    return DatabaseServer(loop, database, Luck("", faults), referee, copy_context())


@pytest.mark.parametrize(("point", "kept"), [("before a call of the journal", []), ("after a write", [SWITCH])])
def test_what_an_engine_kept_before_it_was_killed_is_there_for_the_next(point: str, kept: list[DeadMan]) -> None:
    loop = new_loop()

    async def main() -> list[DeadMan]:
        server = server_on(loop)

        def kill_at(process: Process, where: str | Handle) -> None:
            if where == point:
                process.kill()

        first = Process(loop, "the first", kill_at)
        first.spawn(ProcessTriggerStore(server, first).set_dead_man(SWITCH))
        await asyncio.sleep(10)
        assert not first.alive
        second = Process(loop, "the second", None)
        return await second.spawn(ProcessTriggerStore(server, second).dead_men())

    assert loop.run(main()) == kept


def test_a_server_that_is_away_keeps_and_tells_nothing() -> None:
    loop = new_loop()

    async def main() -> None:
        server = server_on(loop, journal_unavailable=1.0)
        process = Process(loop, "an engine", None)
        store = ProcessTriggerStore(server, process)
        for call in (store.set_dead_man(SWITCH), store.keep_high_waters([MARK]), store.dead_men()):
            with pytest.raises(JournalUnavailableError):
                await process.spawn(call)
        assert (server.triggers.dead_men, server.triggers.high_waters) == ({}, [])

    loop.run(main())
