"""The contract of the Dispatcher port: whatever brings orders to workers, each is executed once, the urgent ones first.

Kept within one process, over PostgreSQL, and over BullMQ on Valkey; by whole workers over a scripted venue and chain.
"""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from msgspec.structs import replace

from bestex.ambient import SystemClock
from bestex.dispatch.bullmq import BullMqDispatcher
from bestex.dispatch.bullmq.queue import QUEUE, BullMqLimits
from bestex.dispatch.inline import Bell, InlineDispatcher
from bestex.dispatch.postgres import PostgresDispatcher
from bestex.domain.errors import VenueDownError
from bestex.domain.events import CancelledDetail, RoutingDetail
from bestex.domain.lifecycle import Status
from bestex.ports import Append
from tests.support.cluster import DEAF, QUICK, Cluster, until
from tests.support.journals import InMemory, OnPostgres
from tests.support.valkey import Valkey, running_valkey

pytestmark = pytest.mark.timeout(40)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(params=["inline", "postgres", "bullmq"])
def adapter(request: pytest.FixtureRequest) -> Callable[[], Cluster]:
    """Makes the cluster, within the test's loop."""
    if request.param == "inline":
        bell = Bell()
        return lambda: Cluster(InMemory(), lambda: InlineDispatcher(bell))
    dsn: str = request.getfixturevalue("database_url")
    if request.param == "postgres":
        return lambda: Cluster(OnPostgres(dsn), lambda: PostgresDispatcher(dsn, SystemClock()))
    valkey: Valkey = request.getfixturevalue("valkey")
    valkey.forget()
    return lambda: Cluster(
        OnPostgres(dsn),
        lambda: BullMqDispatcher(valkey.url, SystemClock(), BullMqLimits()),
        lambda: valkey.jobs(QUEUE),
    )


@pytest.fixture
async def shop(adapter: Callable[[], Cluster]) -> AsyncIterator[Cluster]:
    cluster = adapter()
    yield cluster
    await cluster.close()


async def test_accepted_orders_are_executed_once_by_one_executor(shop: Cluster) -> None:
    for _ in range(3):
        await shop.worker(concurrency=7)
    for _ in range(2):
        await shop.api()
    for api in (0, 1, 0, 1):
        await shop.accept(20, api=api)

    await shop.all_confirmed()
    assert len(shop.venue.built) == len(shop.orders)


async def test_an_order_is_executed_as_soon_as_it_is_rung_for(shop: Cluster) -> None:
    worker = await shop.worker(DEAF)
    await shop.accept()
    await shop.all_confirmed()
    for _ in range(3):
        await shop.accept(2)
        await shop.all_confirmed()
    assert worker.worker.claiming.claimed == 7


async def test_the_most_urgent_are_executed_first_and_of_those_the_oldest(shop: Cluster) -> None:
    slices = await shop.accept(3, parent_id="01900000-0000-7000-8000-0000000fffff")
    market = await shop.accept(3)
    await shop.worker(concurrency=1)
    await shop.all_confirmed()

    assert [request.order_id for request in shop.venue.built] == [*market, *slices]


async def test_a_worker_holds_no_more_than_it_may_execute_and_the_others_get_the_rest(shop: Cluster) -> None:
    shop.venue.gate.clear()
    await shop.accept(9)
    first = await shop.worker(concurrency=3)
    await until(lambda: len(shop.venue.built) == 3)
    second = await shop.worker(concurrency=4)
    await until(lambda: len(shop.venue.built) == 7)
    assert len(await first.held()) == 3
    assert len(await second.held()) == 4

    shop.venue.gate.set()
    await shop.all_confirmed()


async def test_a_worker_whose_signatures_wait_for_the_disk_leaves_orders_to_others(shop: Cluster) -> None:
    full = await shop.worker(replace(QUICK, submitting=0))
    await shop.accept(5)
    await shop.worker(replace(QUICK, submitting=1))
    await shop.all_confirmed()
    assert full.worker.claiming.claimed == 0


async def test_a_lost_ring_only_delays(shop: Cluster) -> None:
    await shop.worker()
    await shop.accept()
    await shop.all_confirmed()
    shop.lose_rings = True
    await shop.accept(5)

    await shop.all_confirmed()


async def test_a_dead_executors_orders_are_taken_over(shop: Cluster) -> None:
    shop.venue.gate.clear()
    dead = await shop.worker()
    await shop.accept(5)
    await until(lambda: len(shop.venue.built) == 5)
    await dead.kill()
    await shop.database.silence(dead.journal)
    shop.venue.gate.set()
    living = await shop.worker()

    await shop.all_confirmed()
    assert sorted(await living.held()) == sorted(shop.orders)
    assert await dead.held() == []


async def test_a_drained_worker_hands_its_orders_back_and_rings_for_them(shop: Cluster) -> None:
    shop.venue.gate.clear()
    drained = await shop.worker()
    await shop.accept(5)
    await until(lambda: len(shop.venue.built) == 5)
    other = await shop.worker(DEAF)
    await until(lambda: other.worker.claiming.rounds and not shop.rings_under_way())
    await drained.drain()
    shop.venue.gate.set()

    await shop.all_confirmed()
    assert await drained.held() == []
    assert other.worker.claiming.claimed == 5


async def test_what_was_sent_is_handed_back_too_and_looked_after_by_another(shop: Cluster) -> None:
    shop.chain.lands = False
    drained = await shop.worker()
    [order_id] = await shop.accept()
    await until(lambda: shop.chain.sent)
    await drained.drain()
    assert await shop.holder(order_id) is None
    assert (await shop.view(order_id)).status == Status.SUBMITTED

    shop.chain.lands = True
    await shop.worker()
    await shop.all_confirmed()
    assert len(shop.venue.built) == 1


async def test_a_pause_before_the_next_attempt_is_spent_in_nobodys_hands(shop: Cluster) -> None:
    await shop.worker(concurrency=1)
    shop.venue.builds = [VenueDownError("it is down")]
    [order_id] = await shop.accept()
    await until(lambda: shop.venue.built)
    await until(lambda: nobody_holds(shop, order_id))
    [other] = await shop.accept()  # there is room for another meanwhile
    await until(lambda: has_status(shop, order_id, Status.CONFIRMED))

    events = [stored.event for stored in await shop.journal.events(order_id)]
    assert [event.status.value for event in events] == [
        *("pending", "routing", "building", "routing", "building", "submitted", "confirmed")
    ]
    again = events[3]
    assert again.attempt == 2
    assert isinstance(again.detail, RoutingDetail)
    assert again.detail.pause_ms == 300
    assert again.detail.previous is not None
    assert again.detail.previous.message == "it is down"
    assert events[4].at_us - again.at_us >= 300_000
    await until(lambda: has_status(shop, other, Status.CONFIRMED))
    assert [request.order_id for request in shop.venue.built] == [order_id, other, order_id]


async def test_an_order_cancelled_in_its_pause_is_not_executed(shop: Cluster) -> None:
    await shop.worker()
    shop.venue.builds = [VenueDownError("it is down")]
    [order_id] = await shop.accept()
    await until(lambda: nobody_holds(shop, order_id, Status.ROUTING))
    await cancel(shop, order_id)
    await shop.accept()
    await until(lambda: has_status(shop, shop.orders[-1], Status.CONFIRMED))

    assert (await shop.view(order_id)).status == Status.CANCELLED
    assert [request.order_id for request in shop.venue.built] == shop.orders


async def nobody_holds(shop: Cluster, order_id: str, status: Status | None = None) -> bool:
    row = await shop.journal.order(order_id)
    assert row is not None
    return row.lease_owner is None and (row.view.seq > 1 if status is None else row.view.status == status)


async def has_status(shop: Cluster, order_id: str, status: Status) -> bool:
    return (await shop.view(order_id)).status == status


async def cancel(shop: Cluster, order_id: str) -> None:
    """As an api does it: as nobody's executor."""
    draft = await shop.draft(order_id)
    append: Append = draft.add((Status.CANCELLED, CancelledDetail("client")))
    await shop.journal.append(append)
