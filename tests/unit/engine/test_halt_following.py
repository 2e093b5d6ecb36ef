"""A halt is obeyed by every process, and a halt's end too, whoever was told."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from bestex.domain.errors import JournalUnavailableError
from bestex.engine.halt_following import HaltFollower
from bestex.engine.signing import SigningGate
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.ports import Halt, HaltCause
from tests.support.clock import FakeClock

pytestmark = pytest.mark.timeout(20)


class SlowJournal(MemoryJournal):
    """Says whether there is a halt; can be away, or answer late."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(MemoryDatabase(), str(uuid.uuid4()), clock)
        self.away = False
        self.late: asyncio.Future[None] | None = None

    async def halted(self) -> Halt | None:
        if self.away:
            raise JournalUnavailableError("away")
        halt = await super().halted()
        if self.late is not None:
            await self.late
        return halt


class Process:
    """One process's gate, kept as the journal says."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.journal = SlowJournal(self.clock)
        self.gate = SigningGate()
        self.read_anew: list[str] = []
        self.follower = HaltFollower(self.journal, self.gate, self.clock, self.read_anew.append)

    @property
    def is_halted(self) -> bool:
        return self.gate.halt is not None


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    process = Process()
    running = asyncio.create_task(process.follower.run())
    await process.clock.settle()
    yield process
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_halt_and_its_end_are_obeyed_within_a_second_without_a_signal(process: Process) -> None:
    await process.journal.halt("look", HaltCause.OPERATOR)
    await process.clock.advance(1)
    assert process.gate.halt == await process.journal.halted()
    process.gate.held |= {"b", "a"}
    await process.journal.resume()
    await process.clock.advance(1)

    assert not process.is_halted
    assert process.read_anew == ["a", "b"]


async def test_a_signal_has_it_obeyed_at_once(process: Process) -> None:
    await process.journal.halt("look", HaltCause.OPERATOR)
    process.follower.look()
    await process.clock.settle()
    assert process.is_halted


async def test_a_halt_that_becomes_another_is_obeyed_as_that(process: Process) -> None:
    for cause in (HaltCause.OPERATOR, HaltCause.JOURNAL_BEHIND, HaltCause.RECONCILED):
        await process.journal.halt("look", cause)
        await process.clock.advance(1)
        assert process.gate.halt is not None
        assert process.gate.halt.cause is cause
    assert process.read_anew == []


async def test_an_answer_of_before_an_operators_word_does_not_undo_it(process: Process) -> None:
    process.journal.late = asyncio.get_running_loop().create_future()
    process.follower.look()
    await process.clock.settle()  # it was asked, and will hear of no halt
    await process.journal.halt("look", HaltCause.OPERATOR)
    process.gate.close(Halt("look", HaltCause.OPERATOR, process.clock.now_us()))
    process.journal.late.set_result(None)
    await process.clock.settle()

    assert process.is_halted


async def test_an_answer_of_before_a_resume_does_not_halt_again(process: Process) -> None:
    await process.journal.halt("look", HaltCause.OPERATOR)
    await process.clock.advance(1)
    process.journal.late = asyncio.get_running_loop().create_future()
    process.follower.look()
    await process.clock.settle()
    await process.journal.resume()
    process.gate.open()
    process.journal.late.set_result(None)
    await process.clock.settle()

    assert not process.is_halted


async def test_while_the_journal_is_away_the_gate_stays_as_it_is(process: Process) -> None:
    await process.journal.halt("look", HaltCause.OPERATOR)
    await process.clock.advance(1)
    process.journal.away = True
    await process.journal.resume()
    await process.clock.advance(5)
    assert process.is_halted
    process.journal.away = False
    await process.clock.advance(1)
    assert not process.is_halted
