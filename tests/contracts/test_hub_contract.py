"""The contract of the Hub port: what a watcher gets, in which order, and what he is told when he is too slow."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import Status
from bestex.hub import LocalHub
from bestex.ports import Hub, Subscription
from tests.support.orders import HAPPY, DraftOrder, stored

QUEUE_EVENTS = 4

pytestmark = pytest.mark.timeout(20)


@pytest.fixture(params=["local"])
def hub(request: pytest.FixtureRequest) -> Hub:
    """A hub whose watchers of one order may fall `QUEUE_EVENTS` behind."""
    assert request.param == "local"
    return LocalHub(queue_events=QUEUE_EVENTS)


def an_order(statuses: Sequence[Status] = HAPPY, first_position: int = 1) -> list[StoredEvent]:
    draft = DraftOrder()
    draft.next(*statuses)
    return stored(draft.events, first_position)


def id_of(events: Sequence[StoredEvent]) -> str:
    return events[0].event.order_id


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


async def test_a_watcher_gets_each_event_of_his_order_once_and_in_order(hub: Hub) -> None:
    events = an_order()
    watcher = hub.watch(id_of(events))
    for event in events:
        hub.publish([event])
        assert await following(watcher, 1) == [event]
    await assert_nothing_comes(watcher)


async def test_events_published_together_come_together_and_in_order(hub: Hub) -> None:
    events = an_order()[:QUEUE_EVENTS]
    watcher = hub.watch(id_of(events))
    hub.publish(events[:3])
    hub.publish(events[3:])

    assert await following(watcher, 4) == events
    await assert_nothing_comes(watcher)


async def test_a_watcher_who_waits_already_is_woken(hub: Hub) -> None:
    events = an_order()
    watcher = hub.watch(id_of(events))
    task = waiting(watcher)
    await asyncio.sleep(0)
    hub.publish(events[:2])

    assert list(await task or ()) == events[:2]


async def test_a_watcher_gets_nothing_of_other_orders(hub: Hub) -> None:
    mine, other = an_order(), an_order(first_position=6)
    watcher = hub.watch(id_of(mine))
    hub.publish([other[0], mine[0], other[1], mine[1]])

    assert await following(watcher, 2) == mine[:2]
    await assert_nothing_comes(watcher)


async def test_a_watcher_gets_nothing_from_before_he_watched(hub: Hub) -> None:
    events = an_order()
    hub.publish(events[:2])
    watcher = hub.watch(id_of(events))
    hub.publish(events[2:4])

    assert await following(watcher, 2) == events[2:4]


async def test_two_watchers_each_get_every_event_at_their_own_pace(hub: Hub) -> None:
    events = an_order()
    quick, slow = hub.watch(id_of(events)), hub.watch(id_of(events))
    got = []
    for event in events[:4]:
        hub.publish([event])
        got += await following(quick, 1)

    assert got == events[:4]
    assert await following(slow, 4) == events[:4]


async def test_a_watcher_whose_queue_overflowed_is_told_once_and_then_gets_what_comes_later(hub: Hub) -> None:
    events = an_order()
    watcher = hub.watch(id_of(events))
    hub.publish(events)
    assert await watcher.next() is None
    await assert_nothing_comes(watcher)

    hub.publish(events[:2])
    assert await following(watcher, 2) == events[:2]


async def test_what_comes_between_an_overflow_and_its_telling_is_in_the_journal_and_not_told_twice(hub: Hub) -> None:
    events = an_order()
    watcher = hub.watch(id_of(events))
    hub.publish(events)
    hub.publish(events[:2])

    assert await watcher.next() is None
    await assert_nothing_comes(watcher)


async def test_a_watcher_who_overflows_does_not_hold_up_another(hub: Hub) -> None:
    events = an_order()
    slow, quick = hub.watch(id_of(events)), hub.watch(id_of(events))
    got = []
    for event in events:
        hub.publish([event])
        got += await following(quick, 1)

    assert got == events
    assert await slow.next() is None


async def test_a_closed_watcher_gets_nothing_more_and_others_do(hub: Hub) -> None:
    events = an_order()
    closed, open_ = hub.watch(id_of(events)), hub.watch(id_of(events))
    closed.close()
    hub.publish(events[:1])

    assert await following(open_, 1) == events[:1]
    await assert_nothing_comes(closed)
    closed.close()
    open_.close()
    hub.publish(events[1:])
    await assert_nothing_comes(open_)


async def test_closing_leaves_nothing_behind(hub: Hub) -> None:
    assert isinstance(hub, LocalHub)
    watchers: list[Subscription] = [hub.watch(id_of(an_order())) for _ in range(5)]
    watchers += [hub.watch_all(), hub.watch_all()]
    assert hub.watchers == 7
    for watcher in watchers:
        watcher.close()

    assert hub.watchers == 0
    assert not hub._by_order


async def test_a_watcher_who_gave_up_waiting_misses_nothing(hub: Hub) -> None:
    events = an_order()
    watcher = hub.watch(id_of(events))
    task = waiting(watcher)
    await asyncio.sleep(0)
    hub.publish(events[:1])
    task.cancel()  # its event is there already, but it has not run yet
    await asyncio.gather(task, return_exceptions=True)
    hub.publish(events[1:2])

    assert await following(watcher, 2) == events[:2]


async def test_a_watcher_of_all_gets_every_event_in_position_order(hub: Hub) -> None:
    first, second = an_order(), an_order(first_position=6)
    watcher = hub.watch_all()
    hub.publish([*first, *second[:2]])
    hub.publish(second[2:])

    assert await following(watcher, 10) == [*first, *second]
    await assert_nothing_comes(watcher)


async def test_a_watcher_of_all_who_falls_too_far_behind_is_told(hub: Hub) -> None:
    watcher = hub.watch_all()
    for _ in range(QUEUE_EVENTS * 100):
        hub.publish(an_order()[:1])
    assert await watcher.next() is None

    events = an_order()
    hub.publish(events)
    assert await following(watcher, 5) == events


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["publish", "publish", "read"]), max_size=40))
async def test_a_watcher_who_reads_the_journal_when_told_to_sees_every_event_once_and_in_order(
    hub: Hub, moves: list[str]
) -> None:
    """As the stream does it: after None, go on from the journal behind the last event seen, and drop what is known."""
    draft = DraftOrder()
    draft.next(Status.PENDING, *[Status.ROUTING] * (2 * len(moves) + 1))
    log = stored(draft.events)
    watcher = hub.watch(draft.id)
    published = 0
    seen: list[StoredEvent] = []

    async def read() -> None:
        events = await watcher.next()
        fresh = log[len(seen) : published] if events is None else events
        seen.extend(event for event in fresh if not seen or event.position > seen[-1].position)

    for move in moves:
        if move == "publish":
            hub.publish(log[published : published + 2])
            published += 2
        elif len(seen) < published:
            await read()
    while len(seen) < published:
        await read()

    assert seen == log[:published]
    watcher.close()
