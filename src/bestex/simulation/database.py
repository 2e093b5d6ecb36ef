"""The journal's database as engines see it: a server that outlives them, answers late, loses answers and goes away."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any, Final, ParamSpec, TypeVar

from bestex.domain.errors import DuplicateKeyError, EngineFencedError, JournalUnavailableError
from bestex.domain.events import Event, StoredEvent
from bestex.domain.order_state import OrderView
from bestex.journal.memory import MemoryDatabase, MemoryJournal, MemoryStore
from bestex.journal.trigger_store import TriggerTables
from bestex.journal.writer import CommitUnknownError, GroupCommitWriter, MergedRows, StoreUnavailableError, Verdict
from bestex.ports import (
    Append,
    Clock,
    Halt,
    HaltCause,
    HeldOrder,
    Lease,
    LogHead,
    NewOrder,
    OrderFilter,
    OrderRow,
    RestingOrder,
)
from bestex.simulation.faults import Luck
from bestex.simulation.loop import VirtualLoop
from bestex.simulation.process import Process
from bestex.simulation.referee import Referee

T = TypeVar("T")
P = ParamSpec("P")

_COMMIT_S: Final = (0.0003, 0.003)  # the shortest and the longest time of a commit
_READ_S: Final = (0.0001, 0.001)
_LATE_S: Final = (0.0, 0.5)  # after its answer was lost, until a late commit is stored


class Request:
    """What one try of a client to place an order led to."""

    def __init__(self) -> None:
        self.order_id: str | None = None  # under which the engine tried to store it


REQUEST: Final[ContextVar[Request | None]] = ContextVar("bestex.simulation.request", default=None)
"""The client's try that a task of the engine serves."""


class DatabaseServer:
    """The server, outside of all engine processes."""

    def __init__(
        self, loop: VirtualLoop, database: MemoryDatabase, luck: Luck, referee: Referee, outside: Context
    ) -> None:
        self._loop = loop
        self.database = database
        self.triggers = TriggerTables()
        self.referee = referee
        self._luck = luck
        self._outside = outside
        self._away_until = 0.0
        self.answers_until = 0.0  # the latest time of an answer that is on its way

    def reachable(self) -> bool:
        """Whether it answers now; a fault may have it go away for a while."""
        if self._loop.time() < self._away_until:
            return False
        if self._luck.strikes("journal_unavailable"):
            self._away_until = self._loop.time() + self._luck.up_to("journal_away_s")
            return False
        return True

    def heal(self) -> None:
        self._away_until = 0.0

    def claim_is_lost(self) -> bool:
        lost = self._luck.strikes("claim_lost")
        self.referee.funds.is_blind |= lost
        return lost

    def receive(
        self, engine_id: str, number: int, rows: Sequence[MergedRows], answer: "asyncio.Future[Verdict]"
    ) -> None:
        """Take a commit from the network, and answer it in time, or not as one would wish."""
        luck = self._luck
        copied = [_copy(merged) for merged in rows]  # as the network does

        def store() -> Verdict:
            return self._store(engine_id, number, copied)

        def answer_truly() -> None:
            try:
                verdict = store()
            except EngineFencedError as error:
                _fail(answer, error)
            else:
                if not answer.done():
                    answer.set_result(verdict)

        def lose_answer() -> None:
            _fail(answer, CommitUnknownError("simulated: the answer was lost"))

        def store_and_lose() -> None:
            store_late()
            lose_answer()

        def store_late() -> None:
            with suppress(EngineFencedError):  # when the engine, or the commit, has been overtaken: nothing is stored
                store()

        took = luck.random.uniform(*_COMMIT_S)
        if luck.strikes("journal_slow"):
            took += luck.up_to("journal_slow_s")
            self.answers_until = max(self.answers_until, self._loop.time() + took)
        if luck.strikes("journal_unknown_before"):
            self._after(took, lose_answer)
        elif luck.strikes("journal_unknown_after"):
            self._after(took, store_and_lose)
        elif luck.strikes("journal_late"):
            self._after(took, lose_answer)
            self._after(took + luck.random.uniform(*_LATE_S), store_late)
        else:
            self._after(took, answer_truly)

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        self._loop.call_later(seconds, do, context=self._outside)

    def _store(self, engine_id: str, number: int, rows: Sequence[MergedRows]) -> Verdict:
        database = self.database
        known = database.engines.get(engine_id)
        repeated = known is not None and known[0] == number
        first = len(database.log)
        verdict = at_once(MemoryStore(database, engine_id).commit(number, rows))
        if not repeated:
            self.referee.committed(engine_id, rows, verdict, first)
        return verdict

    async def read_takes(self) -> None:
        await asyncio.sleep(self._luck.random.uniform(*_READ_S))

    def read_comes_late(self) -> bool:
        """Whether a read's answer travels long, and not its question."""
        return self._luck.random.random() < 0.5


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("it waits")


def _copy(merged: MergedRows) -> MergedRows:
    copy = MergedRows(merged.appends[0], merged.futures[0])
    for append, future in zip(merged.appends[1:], merged.futures[1:], strict=True):
        copy.add(append, future)
    return copy


def _fail(answer: "asyncio.Future[Verdict]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # whoever asked may be dead


class _Connection:
    """`Store`: an engine's way to the server."""

    def __init__(self, server: DatabaseServer, engine_id: str, process: Process, loop: VirtualLoop) -> None:
        self._server = server
        self._engine_id = engine_id
        self._process = process
        self._loop = loop

    async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
        process = self._process
        await process.at("before a commit")
        if not self._server.reachable():
            raise StoreUnavailableError("simulated: the database is away")
        answer: asyncio.Future[Verdict] = self._loop.create_future()
        self._server.receive(self._engine_id, number, rows, answer)
        try:
            verdict = await answer
        except CommitUnknownError:
            await process.at("after a commit's answer was lost")
            raise
        await process.at("after a commit")
        return verdict


class DatabaseCalls:
    """What an engine process asks of the server beside its commits."""

    def __init__(self, server: DatabaseServer, process: Process) -> None:
        self._server = server
        self._process = process

    async def read(self, ask: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **named: P.kwargs) -> T:
        """The answer as it stands when the question arrives; on the way there or back time passes."""
        await self._reach()
        if self._server.read_comes_late():
            answer = at_once(ask(*args, **named))
            await self._server.read_takes()
        else:
            await self._server.read_takes()
            answer = at_once(ask(*args, **named))
        await self._process.at("after a read")
        return answer

    async def write(self, do: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **named: P.kwargs) -> T:
        await self._reach()
        await self._server.read_takes()
        answer = at_once(do(*args, **named))
        await self._process.at("after a write")
        return answer

    async def _reach(self) -> None:
        await self._process.at("before a call of the journal")
        if not self._server.reachable():
            raise JournalUnavailableError("simulated: the database is away")


class ProcessJournal(MemoryJournal):
    """`Journal` of one engine process, over the server."""

    def __init__(
        self, server: DatabaseServer, engine_id: str, clock: Clock, process: Process, loop: VirtualLoop
    ) -> None:
        super().__init__(server.database, engine_id, clock)
        self.writer = GroupCommitWriter(_Connection(server, engine_id, process, loop), clock)
        self._server = server
        self._process = process
        self._calls = DatabaseCalls(server, process)

    def append(self, append: Append) -> "asyncio.Future[int]":
        self._process.check()
        if append.new is not None and (request := REQUEST.get()) is not None:
            request.order_id = append.order_id
        self._server.referee.queued(self.engine_id, append)
        return super().append(append)

    def withdraw(self, appended: "asyncio.Future[int]") -> bool:
        self._process.check()
        return super().withdraw(appended)

    async def events(self, order_id: str, after_seq: int = 0) -> list[StoredEvent]:
        return await self._calls.read(super().events, order_id, after_seq)

    async def histories(self, order_ids: Sequence[str]) -> dict[str, list[Event]]:
        return await self._calls.read(self._histories, order_ids)

    async def _histories(self, order_ids: Sequence[str]) -> dict[str, list[Event]]:
        orders = self.database.orders
        return {each: [stored.event for stored in orders[each].events] for each in order_ids}

    async def feed(self, after_position: int, limit: int) -> list[StoredEvent]:
        return await self._calls.read(super().feed, after_position, limit)

    async def head(self) -> int:
        return await self._calls.read(super().head)

    async def log_head(self) -> LogHead:
        return await self._calls.read(super().log_head)

    async def hash_at(self, position: int) -> bytes | None:
        return await self._calls.read(super().hash_at, position)

    async def order(self, order_id: str) -> OrderRow | None:
        return await self._calls.read(super().order, order_id)

    async def orders(self, where: OrderFilter, limit: int, before_id: str | None) -> list[OrderView]:
        return await self._calls.read(super().orders, where, limit, before_id)

    async def holder(self, new: NewOrder) -> DuplicateKeyError | None:
        return await self._calls.read(super().holder, new)

    async def unsettled(self) -> int:
        return await self._calls.read(super().unsettled)

    async def resting(self, after_id: str | None, limit: int) -> list[RestingOrder]:
        return await self._calls.read(super().resting, after_id, limit)

    async def leases_of_resting(self, order_ids: Sequence[str]) -> list[Lease]:
        return await self._calls.read(super().leases_of_resting, order_ids)

    async def count_resting(self) -> int:
        return await self._calls.read(super().count_resting)

    async def children(self, parent_id: str) -> list[OrderView]:
        return await self._calls.read(super().children, parent_id)

    async def held(self, after_id: str | None, limit: int) -> list[HeldOrder]:
        return await self._calls.read(super().held, after_id, limit)

    async def halted(self) -> Halt | None:
        return await self._calls.read(super().halted)

    async def halt(self, reason: str, cause: HaltCause) -> None:
        await self._calls.write(super().halt, reason, cause)

    async def resume(self) -> None:
        await self._calls.write(super().resume)

    async def claim(self, limit: int) -> list[Lease]:
        leases = await self._calls.write(super().claim, limit)
        if leases and self._server.claim_is_lost():
            raise JournalUnavailableError("simulated: the answer was lost")
        return leases

    async def sign_of_life(self) -> None:
        """`EngineFencedError` when another engine has this one's place."""
        await self._calls.read(_nothing)
        if self.engine_id not in self.database.engines:
            raise EngineFencedError("another engine took this one's place on the database")


async def _nothing() -> None:
    pass
