"""Watchers that share the books: each has one owner, and whatever becomes of that one, none is lost or fires twice."""

from bestex.domain.lifecycle import Status
from bestex.domain.terms import Kind
from tests.support.small_watchers import SmallCluster, small_cluster

TAKEN_OVER_S = 5.0

_S = Status
PAIRS = [("SOL", "USDC"), ("BONK", "SOL"), ("JUP", "USDC"), ("SOL", "USDT"), ("JUP", "SOL"), ("BONK", "USDC")]


async def resting_in_all_pairs(cluster: SmallCluster) -> list[str]:
    return [await cluster.order(Kind.LIMIT, paid, bought, limit_price="1000000") for paid, bought in PAIRS]


def shares(cluster: SmallCluster) -> list[int]:
    return sorted(len(each.keys) for each in cluster.watchers if each.tasks)


async def test_a_watched_order_fires_once_whoever_owns_its_book_and_a_worker_executes_it() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(limit_price="100")
        await cluster.until_watched(1)
        cluster.price("100.5")
        assert (await cluster.until_status(order_id)).status == _S.CONFIRMED
        assert cluster.firings(order_id) == 1
        assert [each for watcher in cluster.watchers for each in watcher.rung] == [order_id]
        await cluster.until_watched(0)


async def test_the_books_are_shared_fairly_and_a_new_watcher_gets_its_part() -> None:
    async with small_cluster(watchers=1) as cluster:
        await resting_in_all_pairs(cluster)
        await cluster.until_watched(len(PAIRS))
        assert shares(cluster) == [8]
        cluster.watcher()
        await cluster.until(lambda: shares(cluster) == [4, 4])
        await cluster.until_watched(len(PAIRS))
        cluster.watcher()
        await cluster.until(lambda: shares(cluster) == [2, 3, 3])
        await cluster.until_watched(len(PAIRS))
        assert not cluster.watchers[0].keys & cluster.watchers[1].keys


async def test_a_dead_watchers_books_are_taken_over_within_five_seconds() -> None:
    async with small_cluster() as cluster:
        orders = await resting_in_all_pairs(cluster)
        await cluster.until(lambda: shares(cluster) == [4, 4])
        await cluster.until_watched(len(PAIRS))
        await cluster.watchers[0].kill()
        await cluster.clock.advance(TAKEN_OVER_S)
        assert shares(cluster) == [8]
        assert len(cluster.watchers[1].engine.watch) == len(orders)
