"""Several processes over one database: news, halts, intake bounds and idempotency keys hold across them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from bestex.ambient import SystemClock, SystemIds
from bestex.api.following import follow_all, follow_order
from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import Status
from bestex.domain.terms import Kind
from bestex.engine.halt_following import HaltFollower
from bestex.engine.intake import Accepted, IntakeLimits, KeyReusedError, KeyUnderWayError, OrderRequest
from bestex.engine.signing import SigningGate
from bestex.hub.postgres import HALT_CHANNEL, PostgresSignals
from bestex.ports import EngineMode, HaltCause
from tests.support.apis import Api
from tests.support.hubs import AcrossProcesses, AnotherProcess
from tests.support.orders import HAPPY, DraftOrder
from tests.support.postgres import PostgresServer, until
from tests.support.redis import RedisServer
from tests.support.small_engine import TOKENS

MARKET = OrderRequest(Kind.MARKET, TOKENS.get("SOL"), TOKENS.get("USDC"), 1_500_000_000, 50)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[AcrossProcesses]:
    async with AcrossProcesses(database_url) as house:
        yield house


async def read_until_end(process: AnotherProcess, order_id: str, after: int = 0) -> list[StoredEvent]:
    got: list[StoredEvent] = []
    async with asyncio.timeout(30), aclosing(follow_order(process.journal, process.hub, order_id, after)) as batches:
        async for batch in batches:
            got += batch
    return got


async def read(process: AnotherProcess, after: int, count: int) -> list[StoredEvent]:
    got: list[StoredEvent] = []
    async with asyncio.timeout(30), aclosing(follow_all(process.journal, process.hub, after)) as batches:
        async for batch in batches:
            got += batch
            if len(got) >= count:
                break
    return got


# --- News


async def test_watchers_on_several_processes_get_everything_while_several_commit(house: AcrossProcesses) -> None:
    processes = [house.other, await house.process()]
    committing = [house.committing, await house.database.journal(mode=EngineMode.WORKER), processes[0].journal]
    orders = [DraftOrder(epoch=None) for _ in range(60)]
    for number, order in enumerate(orders):
        await committing[number % 3].append(order.next(Status.PENDING))
    feeds = [asyncio.create_task(read(process, 0, 5 * len(orders))) for process in processes]
    watchers = [
        asyncio.create_task(read_until_end(process, order.id)) for process in processes for order in orders[::3]
    ]

    async def write(number: int, order: DraftOrder) -> None:
        for status in HAPPY[1:]:
            await committing[number % 3].append(order.next(status))

    await asyncio.gather(*(write(number, order) for number, order in enumerate(orders)))
    log = await house.committing.feed(0, 1_000)
    assert await asyncio.gather(*feeds) == [log] * 2
    followed = [order.id for _ in processes for order in orders[::3]]
    of_each = [[each for each in log if each.event.order_id == order_id] for order_id in followed]
    assert await asyncio.gather(*watchers) == of_each


async def test_a_stream_goes_on_at_another_process_with_every_event_once(house: AcrossProcesses) -> None:
    one, other = house.other, await house.process()
    order = DraftOrder()
    await house.commit((order, HAPPY[:2]))
    got: list[StoredEvent] = []
    async with aclosing(follow_order(one.journal, one.hub, order.id, 0)) as batches:
        got += await anext(batches)
        committing = asyncio.create_task(house.commit((order, HAPPY[2:3])))
        got += await anext(batches)
        await committing
    await one.stop()
    resumed = asyncio.create_task(read_until_end(other, order.id, got[-1].event.seq))
    feed = asyncio.create_task(read(other, got[1].position, 3))
    for status in HAPPY[3:]:
        await house.committing.append(order.next(status))

    assert got + await resumed == await house.committing.events(order.id)
    assert got[:2] + await feed == await house.committing.events(order.id)


async def test_news_goes_on_when_the_listening_connection_is_killed(
    house: AcrossProcesses, postgres_server: PostgresServer
) -> None:
    order = DraftOrder()
    watching = asyncio.create_task(read_until_end(house.other, order.id))
    await house.commit((order, HAPPY[:1]))
    watching.cancel()
    watching = asyncio.create_task(read_until_end(house.other, order.id))
    for status in HAPPY[1:4]:
        await postgres_server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'bestex signals'"
        )
        await house.committing.append(order.next(status))
    await asyncio.wait_for(house.other.signals.listening(), 10)
    await house.committing.append(order.next(HAPPY[4]))

    assert await watching == await house.committing.events(order.id)


async def test_without_redis_news_is_only_late(database_url: str, redis_server: RedisServer) -> None:
    async with AcrossProcesses(database_url, redis_url=redis_server.url) as house:
        order, next_order = DraftOrder(), DraftOrder()
        await house.commit((order, HAPPY[:1]))
        watching = asyncio.create_task(read_until_end(house.other, order.id))
        redis_server.stop()
        try:
            await until(lambda: not house.other.signals.listens)
            await house.commit((order, HAPPY[1:]))
            assert len(await watching) == 5
        finally:
            redis_server.start()
        await asyncio.wait_for(house.other.signals.listening(), 10)
        watcher = house.hub.watch(next_order.id)
        events = await house.commit((next_order, HAPPY))
        assert list(await watcher.next() or ()) == events


# --- Halts


async def test_every_process_obeys_a_halt_and_its_end(house: AcrossProcesses) -> None:
    gates, running = [SigningGate(), SigningGate()], []
    refolded: list[str] = []
    for gate, journal in zip(gates, (house.committing, house.other.journal), strict=True):
        follower = HaltFollower(journal, gate, SystemClock(), refolded.append)
        signals = PostgresSignals(house.database.dsn, SystemClock())
        signals.on(HALT_CHANNEL, lambda _, follower=follower: follower.look())  # type: ignore[misc]
        running += [asyncio.create_task(follower.run()), asyncio.create_task(signals.run())]
        await signals.listening()
    try:
        await house.other.journal.halt("a look", HaltCause.OPERATOR)
        await until(lambda: all(gate.halt is not None and gate.halt.reason == "a look" for gate in gates))
        gates[0].held.add("an order")
        await house.committing.resume()
        await until(lambda: all(gate.halt is None for gate in gates))
        assert refolded == ["an order"]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_a_halt_and_a_resume_that_change_something_are_told(house: AcrossProcesses) -> None:
    told: list[str | None] = []
    signals = PostgresSignals(house.database.dsn, SystemClock())
    signals.on(HALT_CHANNEL, told.append)
    running = asyncio.create_task(signals.run())
    await signals.listening()
    journal = house.committing
    for cause in (HaltCause.OPERATOR, HaltCause.OPERATOR, HaltCause.JOURNAL_BEHIND, HaltCause.RECONCILED):
        await journal.halt("a look", cause)
    await journal.resume()
    await journal.resume()
    await until(lambda: len(told) == 1 + 4)
    assert told == [None, "", "", "", ""]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# --- Intake


LIMITS = IntakeLimits(waiting=40, open=60, watched=10)


async def test_two_apis_under_load_never_hold_more_orders_than_may_wait(house: AcrossProcesses) -> None:
    worker = house.committing
    apis = [Api(await house.database.journal(mode=EngineMode.API), SystemClock(), LIMITS) for _ in range(2)]
    running = [asyncio.create_task(api.limits.run()) for api in apis]
    done = asyncio.Event()

    async def load(api: Api) -> None:
        while not done.is_set():
            await asyncio.gather(*(api.post(MARKET) for _ in range(10)))

    loads = [asyncio.create_task(load(api)) for api in apis]
    life = await house.database.life()
    seen: list[int] = []

    async def count() -> int:
        waiting: int = await life.fetchval(
            "select count(*) from bestex.orders where lease_owner is null and not settled and not resting"
        )
        seen.append(waiting)
        return waiting

    async with asyncio.timeout(30):
        for _ in range(2):
            while await count() < 40:
                pass
            await worker.claim_waiting(12)
        while await count() < 60 - 24:  # no more may be open
            pass
    done.set()
    await asyncio.gather(*loads)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert max(seen) == 40
    assert await worker.unsettled() == 60
    assert all(api.full for api in apis)
    assert len(apis[0].accepted) + len(apis[1].accepted) == 60


async def test_a_key_sent_to_two_apis_at_once_is_one_order(house: AcrossProcesses) -> None:
    apis = [Api(await house.database.journal(mode=EngineMode.API), SystemClock(), LIMITS) for _ in range(2)]
    for api in apis * 3:
        await api.limits.look()  # the first has it all to itself, and lets go of it with its second look
    answers: list[Sequence[Accepted | BaseException]] = []
    for number in range(10):
        key = f"key {number}"
        at_once = [api.intake.accept(MARKET, "local", key) for api in (*apis, apis[0])]
        answers.append(await asyncio.gather(*at_once, return_exceptions=True))

    log = await house.committing.feed(0, 100)
    assert len(log) == 10
    for stored, (one, other, third) in zip(log, answers, strict=True):
        assert isinstance(one, Accepted)
        assert one == other
        assert (one.order_id, one.created_us) == (stored.event.order_id, stored.event.at_us)
        assert isinstance(third, KeyUnderWayError)  # the same process knows that it is being stored

    for api in apis:
        again = await api.intake.accept(MARKET, "local", "key 0")
        assert again == answers[0][0]
        with pytest.raises(KeyReusedError):
            await api.intake.accept(
                OrderRequest(Kind.MARKET, MARKET.token_in, MARKET.token_out, 7, 50), "local", "key 0"
            )
    assert await house.committing.head() == 10


async def test_another_body_under_a_key_is_refused_by_the_api_that_comes_second(house: AcrossProcesses) -> None:
    apis = [Api(await house.database.journal(mode=EngineMode.API), SystemClock(), LIMITS) for _ in range(2)]
    bodies = [MARKET, OrderRequest(Kind.MARKET, MARKET.token_in, MARKET.token_out, 7, 50)]
    for api in apis * 3:
        await api.limits.look()  # the first has it all to itself, and lets go of it with its second look
    for _ in range(10):
        key = SystemIds().order_id()
        at_once = [api.intake.accept(body, "local", key) for api, body in zip(apis, bodies, strict=True)]
        outcomes = await asyncio.gather(*at_once, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Accepted", "KeyReusedError"]
