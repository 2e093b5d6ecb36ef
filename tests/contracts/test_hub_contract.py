"""The contract of the Hub port: what a watcher gets, in which order, and what he is told when he is too slow."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import Status
from bestex.ports import Subscription
from tests.support.engine import database_for_module
from tests.support.hubs import AcrossProcesses, HubUnderTest, WithinOneProcess
from tests.support.orders import HAPPY, DraftOrder, events_of
from tests.support.postgres import PostgresServer

QUEUE_EVENTS = 4
LONG = (Status.PENDING, *[Status.ROUTING] * 100)
"""An order that is routed again and again."""

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with database_for_module(postgres_server) as dsn:
        yield dsn


@pytest.fixture(params=["local", "postgres", "redis"])
def adapter(request: pytest.FixtureRequest) -> WithinOneProcess | AcrossProcesses:
    """A hub whose watchers of one order may fall `QUEUE_EVENTS` behind."""
    if request.param == "local":
        return WithinOneProcess(QUEUE_EVENTS)
    redis_url = request.getfixturevalue("redis_server").url if request.param == "redis" else None
    return AcrossProcesses(request.getfixturevalue("database"), QUEUE_EVENTS, redis_url)


@pytest.fixture
async def house(adapter: WithinOneProcess | AcrossProcesses) -> AsyncIterator[HubUnderTest]:
    async with adapter as house:
        yield house


async def following(subscription: Subscription, count: int) -> list[StoredEvent]:
    """The next `count` events."""
    got: list[StoredEvent] = []
    async with asyncio.timeout(5):
        while len(got) < count:
            events = await subscription.next()
            assert events is not None
            got += events
    return got


def waiting(subscription: Subscription) -> "asyncio.Task[Sequence[StoredEvent] | None]":
    return asyncio.create_task(as_coroutine(subscription))


async def as_coroutine(subscription: Subscription) -> Sequence[StoredEvent] | None:
    return await subscription.next()


async def assert_nothing_comes(subscription: Subscription) -> None:
    task = waiting(subscription)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_watcher_gets_each_event_of_his_order_once_and_in_order(house: HubUnderTest) -> None:
    draft = DraftOrder()
    watcher = house.hub.watch(draft.id)
    for status in HAPPY:
        events = await house.commit((draft, [status]))
        assert await following(watcher, 1) == events
    assert events_of(await house.commit((DraftOrder(), HAPPY)))
    await assert_nothing_comes(watcher)


async def test_events_committed_together_come_together_and_in_order(house: HubUnderTest) -> None:
    draft = DraftOrder()
    watcher = house.hub.watch(draft.id)
    events = await house.commit((draft, HAPPY[:3]))
    assert list(await watcher.next() or ()) == events
    events = await house.commit((draft, HAPPY[3:4])) + await house.commit((draft, HAPPY[4:]))
    assert await following(watcher, 2) == events
    await assert_nothing_comes(watcher)


async def test_a_watcher_who_waits_already_is_woken(house: HubUnderTest) -> None:
    draft = DraftOrder()
    task = waiting(house.hub.watch(draft.id))
    await asyncio.sleep(0)
    events = await house.commit((draft, HAPPY[:2]))

    assert list(await task or ()) == events


async def test_a_watcher_gets_nothing_of_other_orders(house: HubUnderTest) -> None:
    mine, other = DraftOrder(), DraftOrder()
    watcher = house.hub.watch(mine.id)
    got = []
    for status in HAPPY[:2]:
        events = await house.commit((other, [status]), (mine, [status]))
        got += [each for each in events if each.event.order_id == mine.id]

    assert await following(watcher, 2) == got
    await assert_nothing_comes(watcher)


async def test_a_watcher_gets_nothing_from_before_he_watched(house: HubUnderTest) -> None:
    draft = DraftOrder()
    await house.commit((draft, HAPPY[:2]))
    watcher = house.hub.watch(draft.id)
    events = await house.commit((draft, HAPPY[2:4]))

    assert await following(watcher, 2) == events


async def test_two_watchers_each_get_every_event_at_their_own_pace(house: HubUnderTest) -> None:
    draft = DraftOrder()
    quick, slow = house.hub.watch(draft.id), house.hub.watch(draft.id)
    events = []
    for status in HAPPY[:4]:
        events += await house.commit((draft, [status]))
        assert await following(quick, 1) == events[-1:]

    assert await following(slow, 4) == events


async def test_a_watcher_whose_queue_overflowed_is_told_once_and_then_gets_what_comes_later(
    house: HubUnderTest,
) -> None:
    draft = DraftOrder()
    watcher = house.hub.watch(draft.id)
    await house.commit((draft, LONG[:6]))
    assert await watcher.next() is None
    await assert_nothing_comes(watcher)

    events = await house.commit((draft, LONG[6:8]))
    assert await following(watcher, 2) == events


async def test_what_comes_between_an_overflow_and_its_telling_is_in_the_journal_and_not_told_twice(
    house: HubUnderTest,
) -> None:
    draft = DraftOrder()
    watcher = house.hub.watch(draft.id)
    await house.commit((draft, LONG[:6]))
    await house.commit((draft, LONG[6:8]))

    assert await watcher.next() is None
    await assert_nothing_comes(watcher)


async def test_a_watcher_who_overflows_does_not_hold_up_another(house: HubUnderTest) -> None:
    draft = DraftOrder()
    slow, quick = house.hub.watch(draft.id), house.hub.watch(draft.id)
    for status in HAPPY:
        events = await house.commit((draft, [status]))
        assert await following(quick, 1) == events

    assert await slow.next() is None


async def test_a_closed_watcher_gets_nothing_more_and_others_do(house: HubUnderTest) -> None:
    draft = DraftOrder()
    closed, open_ = house.hub.watch(draft.id), house.hub.watch(draft.id)
    closed.close()
    events = await house.commit((draft, HAPPY[:1]))

    assert await following(open_, 1) == events
    await assert_nothing_comes(closed)
    closed.close()
    open_.close()
    await house.commit((draft, HAPPY[1:]))
    await assert_nothing_comes(open_)


async def test_closing_leaves_nothing_behind(house: HubUnderTest) -> None:
    hub = house.hub
    watchers: list[Subscription] = [hub.watch(DraftOrder().id) for _ in range(5)]
    watchers += [hub.watch_all(), hub.watch_all()]
    assert hub.watchers == 7
    for watcher in watchers:
        watcher.close()

    assert hub.watchers == 0
    assert not hub.watched
    assert not hub.is_followed


async def test_a_watcher_who_gave_up_waiting_misses_nothing(house: HubUnderTest) -> None:
    draft = DraftOrder()
    watcher = house.hub.watch(draft.id)
    task = waiting(watcher)
    await asyncio.sleep(0)
    commit = asyncio.ensure_future(house.commit((draft, HAPPY[:1])))
    while not watcher._events:
        await asyncio.sleep(0)
    task.cancel()  # its event is there already, but it has not run yet
    await asyncio.gather(task, return_exceptions=True)
    events = await commit + await house.commit((draft, HAPPY[1:2]))

    assert await following(watcher, 2) == events


async def test_a_watcher_of_all_gets_every_event_in_position_order(house: HubUnderTest) -> None:
    first, second = DraftOrder(), DraftOrder()
    watcher = house.hub.watch_all()
    events = await house.commit((first, HAPPY), (second, HAPPY[:2]))
    events += await house.commit((second, HAPPY[2:]))

    assert await following(watcher, 10) == events
    await assert_nothing_comes(watcher)


async def test_a_watcher_of_all_who_falls_too_far_behind_is_told(house: HubUnderTest) -> None:
    watcher = house.hub.watch_all()
    await house.commit(*((DraftOrder(), HAPPY) for _ in range(QUEUE_EVENTS * 16)))
    assert await watcher.next() is None

    events = await house.commit((DraftOrder(), HAPPY))
    assert await following(watcher, 5) == events


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["commit", "commit", "read"]), max_size=40))
async def test_a_watcher_who_reads_the_journal_when_told_to_sees_every_event_once_and_in_order(
    local: HubUnderTest, moves: list[str]
) -> None:
    """As the stream does it: after None, go on from the journal behind the last event seen, and drop what is known."""
    draft = DraftOrder()
    log: list[StoredEvent] = []
    watcher = local.hub.watch(draft.id)
    seen: list[StoredEvent] = []

    async def read() -> None:
        events = await watcher.next()
        fresh = log[len(seen) :] if events is None else events
        seen.extend(event for event in fresh if not seen or event.position > seen[-1].position)

    for move in moves:
        if move == "commit":
            log += await local.commit((draft, LONG[len(log) : len(log) + 2]))
        elif len(seen) < len(log):
            await read()
    while len(seen) < len(log):
        await read()

    assert seen == log
    watcher.close()


@pytest.fixture
def local() -> HubUnderTest:
    return WithinOneProcess(QUEUE_EVENTS)
