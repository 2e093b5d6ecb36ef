"""Intake: what a client is told of an order, and what holds until the commit's outcome is known."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from bestex.domain.errors import EngineFencedError, JournalUnavailableError, OutcomeUnknownError
from bestex.domain.lifecycle import Status
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.engine.intake import (
    Intake,
    IntakeFullError,
    IntakeLimits,
    KeyReusedError,
    KeyUnderWayError,
    OrderRequest,
    PendingOutcomeError,
)
from bestex.engine.order_log import OrderLog
from bestex.engine.signing import SigningGate
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.journal.writer import CommitUnknownError, MergedRows, Verdict
from tests.support.clock import FakeClock
from tests.support.journals import HeldStore, holding
from tests.support.small_engine import HANG, LIMITS, PATIENCE_S, SHORT_S, TOKENS, FixedIds, small_engine

REQUEST = OrderRequest(Kind.MARKET, TOKENS.get("SOL"), TOKENS.get("USDC"), 1_500_000_000, 50)
HURRIED = IntakeLimits(answer_s=SHORT_S)
PATIENT = IntakeLimits(answer_s=PATIENCE_S * 10)


async def anything_goes(order: Order) -> None:
    pass


class Desk:
    """An intake whose commits a test can hold, and the orders that it handed on."""

    def __init__(self, limits: IntakeLimits) -> None:
        clock = FakeClock()
        self.journal = MemoryJournal(MemoryDatabase(), str(uuid.uuid4()), clock)
        self.store: HeldStore = holding(self.journal)
        self.handed_on: list[OrderLog] = []
        self.open = 0
        self.gate = SigningGate()
        self.intake = Intake(
            self.journal,
            clock,
            FixedIds(),
            limits,
            self.gate,
            lambda: 0,
            lambda: self.open,
            lambda: 0,
            anything_goes,
            lambda mint, units: None,
            self.handed_on.append,
        )

    def accepting(self, request: OrderRequest = REQUEST, key: str | None = None) -> "asyncio.Task[str]":
        async def accept() -> str:
            return (await self.intake.accept(request, "local", key)).order_id

        return asyncio.create_task(accept())

    async def accept(self, request: OrderRequest = REQUEST, key: str | None = None) -> str:
        async with asyncio.timeout(PATIENCE_S):
            return await self.accepting(request, key)

    async def stored(self, order_id: str) -> list[Status]:
        return [stored.event.status for stored in await self.journal.events(order_id)]


@asynccontextmanager
async def desk(limits: IntakeLimits = PATIENT, *, fenced: bool = False) -> AsyncIterator[Desk]:
    opened = Desk(limits)
    writer = asyncio.create_task(opened.journal.run())
    try:
        yield opened
        assert writer.done() is fenced
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


KEYED = [
    (REQUEST, "a key"),
    (replace(REQUEST, client_order_id="mine"), None),
    (replace(REQUEST, client_order_id="mine"), "a key"),
]
EACH_KEY = pytest.mark.parametrize(("request_", "key"), KEYED, ids=["idempotency-key", "client-order-id", "both"])


@EACH_KEY
async def test_a_key_is_held_until_the_outcome_is_known_though_its_client_was_answered(
    request_: OrderRequest, key: str | None
) -> None:
    async with desk(HURRIED) as open_desk:
        open_desk.store.hold()
        with pytest.raises(PendingOutcomeError) as pending:
            await open_desk.accept(request_, key)
        for _ in range(2):
            with pytest.raises(KeyUnderWayError):
                await open_desk.accept(request_, key)
        open_desk.store.release()
        await open_desk.journal.drain()
        assert await open_desk.accept(request_, key) == pending.value.order_id
        assert [log.order.id for log in open_desk.handed_on] == [pending.value.order_id]
        assert len(open_desk.journal.database.orders) == 1


async def test_a_key_is_held_though_its_client_went_away() -> None:
    async with desk() as open_desk:
        open_desk.store.hold()
        going = open_desk.accepting(key="a key")
        await open_desk.store.arrived()
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        with pytest.raises(KeyUnderWayError):
            await open_desk.accept(key="a key")
        open_desk.store.release()
        await open_desk.journal.drain()
        assert len(open_desk.handed_on) == 1
        assert await open_desk.accept(key="a key") == open_desk.handed_on[0].order.id


async def test_an_order_that_was_not_sent_to_the_database_in_time_is_taken_back_and_its_key_is_free() -> None:
    async with desk(HURRIED) as open_desk:
        open_desk.store.hold()
        with pytest.raises(PendingOutcomeError):
            await open_desk.accept()
        for _ in range(2):
            with pytest.raises(JournalUnavailableError, match="nothing was stored"):
                await open_desk.accept(key="a key")
        open_desk.store.release()
        await open_desk.journal.drain()
        assert len(open_desk.handed_on) == 1
        assert await open_desk.accept(key="a key") == open_desk.handed_on[1].order.id


async def test_answer_open_answers_those_who_wait_with_what_is_known() -> None:
    async with desk() as open_desk:
        open_desk.store.hold()
        sent = open_desk.accepting(key="a key")
        await open_desk.store.arrived()
        queued = [open_desk.accepting() for _ in range(3)]
        await asyncio.sleep(0)
        open_desk.intake.answer_open()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(PendingOutcomeError) as pending:
                await sent
            for each in queued:
                with pytest.raises(JournalUnavailableError):
                    await each
        open_desk.store.release()
        await open_desk.journal.drain()
        assert await open_desk.stored(pending.value.order_id) == [Status.PENDING]
        assert len(open_desk.journal.database.orders) == 1


class LosingStore:
    """A store that loses the answer of the first commit, and then the engine's place."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    async def commit(self, _number: int, rows: Sequence[MergedRows]) -> Verdict:
        if not self.orders:
            self.orders = [merged.first.order_id for merged in rows]
            raise CommitUnknownError("the connection was cut")
        raise EngineFencedError("another engine has this one's place")


async def test_an_outcome_that_the_journal_will_never_know_is_told_with_the_orders_id() -> None:
    async with desk(fenced=True) as open_desk:
        store = open_desk.journal.writer._store = LosingStore()
        accepting = open_desk.accepting(key="a key")
        clock = open_desk.journal.writer._clock
        assert isinstance(clock, FakeClock)
        await clock.advance(1)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(PendingOutcomeError) as pending:
                await accepting
        assert [pending.value.order_id] == store.orders
        assert type(pending.value.__cause__) is OutcomeUnknownError


async def test_no_more_orders_may_be_open_than_the_bound() -> None:
    async with desk(replace(PATIENT, open=3)) as open_desk:
        open_desk.open = 2
        await open_desk.accept()
        open_desk.open = 3
        with pytest.raises(IntakeFullError, match="open"):
            await open_desk.accept()
        open_desk.open = 2
        open_desk.store.hold()
        committing = open_desk.accepting()
        await open_desk.store.arrived()
        with pytest.raises(IntakeFullError, match="open"):
            await open_desk.accept()
        open_desk.store.release()
        await committing
        assert len(open_desk.journal.database.orders) == 2


async def test_orders_that_wait_for_proof_count_against_the_bound() -> None:
    async with small_engine(limits=replace(LIMITS, chain_deadline_s=60.0, intake=IntakeLimits(open=2))) as small:
        small.chain.lands = False
        waits = await small.order()
        await small.until(lambda: len(small.engine.landing) == 1 and not small.engine.dispatcher.executing)
        small.chain.trouble["send"] = [HANG]
        await small.order()
        await small.until(lambda: len(small.chain.trouble["send"]) == 0)
        with pytest.raises(IntakeFullError):
            await small.order()
        assert await small.statuses(waits)


async def test_a_key_of_one_order_and_a_client_order_id_of_another_belong_to_no_one_request() -> None:
    async with desk() as open_desk:
        mine = replace(REQUEST, client_order_id="mine")
        first = await open_desk.accept(replace(REQUEST, client_order_id="other"), "a key")
        second = await open_desk.accept(mine, "another key")
        for request, key in ((mine, "a key"), (replace(mine, client_order_id="other"), "another key")):
            with pytest.raises(KeyReusedError):
                await open_desk.accept(request, key)
        assert await open_desk.accept(mine, "another key") == second
        assert [log.order.id for log in open_desk.handed_on] == [first, second]


async def test_a_key_alone_and_a_client_order_id_alone_do_not_answer_for_both_together() -> None:
    """Each belongs to an order with the very same request otherwise: still no order has both."""
    async with desk() as open_desk:
        mine = replace(REQUEST, client_order_id="mine")
        await open_desk.accept(mine)
        await open_desk.accept(REQUEST, "a key")
        with pytest.raises(KeyReusedError):
            await open_desk.accept(mine, "a key")
        assert len(open_desk.handed_on) == 2
