"""Watchers that share the books: each has one owner, and whatever becomes of that one, none is lost or fires twice."""

import asyncio
from random import Random

import pytest

from bestex.domain.errors import JournalUnavailableError
from bestex.domain.events import Changes, timestamp_text
from bestex.domain.launches import Launch, LaunchFilters
from bestex.domain.lifecycle import Status
from bestex.domain.orders import UNKNOWN_TOKEN
from bestex.domain.terms import ExitLeg, ExitTerms, Kind, Terms, TimeInForce
from bestex.domain.tokens import Pair, Token, pair_of
from bestex.engine.books import LAUNCHES, SWITCHES, book_key
from bestex.engine.intake import OrderRequest
from bestex.engine.ownership import EMPTY_S, RENEW_EVERY_S
from bestex.journal.trigger_store import MemoryTriggerStore, TriggerTables
from bestex.ports import BOOK_LEASE_S, BookStanding, Commitment, DeadMan, HaltCause, TransactionStatus
from tests.support.small_engine import SOL_USDC, TOKENS, signature
from tests.support.small_watchers import SmallCluster, SmallWatcher, small_cluster

TAKEN_OVER_S = 5.0
SOON_S = 0.5

_S = Status
MINT = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
PAIRS = [("SOL", "USDC"), ("BONK", "SOL"), ("JUP", "USDC"), ("SOL", "USDT"), ("JUP", "SOL"), ("BONK", "USDC")]
BOOKS = len(PAIRS) + 2
"""With the launches' and the switches'."""
KEY = SOL_USDC.name


async def resting_in_all_pairs(cluster: SmallCluster) -> list[str]:
    return [await cluster.order(Kind.LIMIT, paid, bought, limit_price="1000000") for paid, bought in PAIRS]


def shares(cluster: SmallCluster) -> list[int]:
    return sorted(len(each.keys) for each in cluster.watchers if each.tasks)


async def owner_of(cluster: SmallCluster, key: str) -> SmallWatcher:
    await cluster.until(lambda: cluster.owner(key) is not None)
    owner = cluster.owner(key)
    assert owner is not None
    return owner


def other_than(cluster: SmallCluster, watcher: SmallWatcher) -> SmallWatcher:
    [other] = [each for each in cluster.watchers if each is not watcher]
    return other


# --- Who owns what


async def test_the_books_are_shared_fairly_and_a_new_watcher_gets_its_part() -> None:
    async with small_cluster(watchers=1) as cluster:
        await resting_in_all_pairs(cluster)
        await cluster.until_watched(len(PAIRS))
        assert shares(cluster) == [BOOKS]
        cluster.watcher()
        await cluster.until(lambda: shares(cluster) == [4, 4])
        await cluster.until_watched(len(PAIRS))
        cluster.watcher()
        await cluster.until(lambda: shares(cluster) == [2, 3, 3])
        await cluster.until_watched(len(PAIRS))
        assert not cluster.watchers[0].keys & cluster.watchers[1].keys


async def test_a_dead_watchers_books_are_taken_over_within_five_seconds() -> None:
    async with small_cluster() as cluster:
        await resting_in_all_pairs(cluster)
        await cluster.until(lambda: shares(cluster) == [4, 4])
        await cluster.until_watched(len(PAIRS))
        await cluster.watchers[0].kill()
        await cluster.clock.advance(TAKEN_OVER_S)
        assert shares(cluster) == [BOOKS]
        assert len(cluster.watchers[1].engine.watch) == len(PAIRS)


async def test_a_watcher_that_leaves_leaves_its_books_at_once() -> None:
    async with small_cluster() as cluster:
        await resting_in_all_pairs(cluster)
        await cluster.until(lambda: shares(cluster) == [4, 4])
        leaver, stayer = cluster.watchers
        await leaver.engine.drain()
        await leaver.engine.leave()
        await leaver.kill()
        assert not leaver.keys
        await cluster.clock.advance(RENEW_EVERY_S + SOON_S)
        assert len(stayer.keys) == stayer.engine.books_owned == BOOKS
        assert stayer.engine.orders_watched == len(PAIRS)


async def test_the_first_order_of_a_pair_is_watched_without_delay() -> None:
    async with small_cluster() as cluster:
        await cluster.until(lambda: shares(cluster) == [1, 1])
        await cluster.order(limit_price="100")
        await cluster.clock.advance(SOON_S)
        assert cluster.owner(KEY) is not None
        assert sum(len(each.engine.watch) for each in cluster.watchers) == 1


async def test_a_pair_that_is_heard_of_while_the_pairs_are_listed_is_not_forgotten() -> None:
    async with small_cluster(watchers=1) as cluster:
        [watcher] = cluster.watchers
        listing, told = asyncio.Event(), asyncio.Event()
        resting_pairs = watcher.journal.resting_pairs

        async def late() -> list[str]:
            pairs = await resting_pairs()
            listing.set()
            await told.wait()
            return pairs

        watcher.journal.resting_pairs = late  # type: ignore[method-assign]
        await cluster.until(listing.is_set)
        await cluster.order(limit_price="100")
        await cluster.clock.advance(SOON_S)
        told.set()
        await cluster.clock.advance(SOON_S)
        assert watcher.engine.orders_watched == 1


async def test_a_book_in_which_nothing_waits_any_more_is_forgotten() -> None:
    async with small_cluster(watchers=1) as cluster:
        order_id = await cluster.order(limit_price="100")
        await owner_of(cluster, KEY)
        await cluster.entry.orders.cancel(order_id)
        await cluster.clock.advance(EMPTY_S / 2)
        assert KEY in cluster.database.books
        await cluster.clock.advance(EMPTY_S)
        assert cluster.database.books.keys() == {LAUNCHES, SWITCHES}
        assert cluster.watchers[0].engine.books_owned == 2


@pytest.mark.parametrize(
    ("pair", "key"),
    [("SOL/USDC", "SOL/USDC"), ("*/SOL", LAUNCHES), ("BONK/*", LAUNCHES), ("M*nt/SOL", "M*nt/SOL")],
)
def test_snipers_wait_in_the_launches_book_and_others_in_their_pairs(pair: str, key: str) -> None:
    assert book_key(pair) == key


# --- Firing


async def test_a_watched_order_fires_once_whoever_owns_its_book_and_a_worker_executes_it() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(limit_price="100")
        await cluster.until_watched(1)
        cluster.price("100.5")
        assert (await cluster.until_status(order_id)).status == _S.CONFIRMED
        assert cluster.firings(order_id) == 1
        assert [each for watcher in cluster.watchers for each in watcher.rung] == [order_id]
        await cluster.until_watched(0)


async def test_what_a_watcher_fires_is_nobodys_until_a_worker_claims_it() -> None:
    async with small_cluster() as cluster:
        await cluster.worker.kill()
        order_id = await cluster.order(limit_price="100")
        await cluster.until_watched(1)
        cluster.price("100.5")
        await cluster.until_status(order_id, _S.ROUTING)
        order = cluster.database.orders[order_id]
        assert (order.owner, order.epoch) == (None, 1)


async def test_an_order_that_fired_in_vain_is_watched_again_by_its_books_owner() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(limit_price="150")  # the venue pays less
        await cluster.until_watched(1)
        cluster.price("151")
        await cluster.until(lambda: cluster.firings(order_id) == 1)
        await cluster.until_status(order_id, _S.WATCHING)
        await cluster.until_watched(0)  # it pauses
        await cluster.until_watched(1)
        cluster.venue.pays = 230_000_000
        cluster.price("151")
        assert (await cluster.until_status(order_id)).status == _S.CONFIRMED
        assert cluster.firings(order_id) >= 2


async def test_an_owner_stopped_past_its_lease_fires_nothing_when_it_goes_on() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(limit_price="100")
        stopped = await owner_of(cluster, KEY)
        await cluster.until_watched(1)
        stopped.clock.stop()
        await cluster.clock.advance(TAKEN_OVER_S)
        assert cluster.owner(KEY) is other_than(cluster, stopped)
        stopped.price("100.5")  # the first that it sees when it goes on, before it has heard of anything
        assert stopped.engine.firing == 0
        stopped.clock.go_on()
        await cluster.clock.advance(SOON_S)
        assert cluster.firings(order_id) == 0
        cluster.price("100.5")
        await cluster.until_status(order_id)
        assert cluster.firings(order_id) == 1
        assert stopped.rung == []


async def test_an_owner_that_does_not_notice_that_time_has_passed_is_refused_by_the_fence() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(limit_price="100")
        stale = await owner_of(cluster, KEY)
        await cluster.until_watched(1)
        stale.clock.stop()
        await cluster.clock.advance(TAKEN_OVER_S)
        assert cluster.owner(KEY) is other_than(cluster, stale)
        stale.clock.miss(TAKEN_OVER_S)
        stale.price("100.5")
        assert stale.engine.firing == 1
        await cluster.clock.settle()
        assert stale.engine.firing == 0
        assert (cluster.firings(order_id), stale.rung) == (0, [])
        stale.clock.go_on()
        cluster.price("100.5")
        await cluster.until_status(order_id)
        assert cluster.firings(order_id) == 1


async def test_a_lease_that_runs_out_between_a_price_and_the_firing_fires_nothing() -> None:
    async with small_cluster(watchers=1) as cluster:
        [watcher] = cluster.watchers
        order_id = await cluster.order(limit_price="100")
        await cluster.until_watched(1)
        watcher.price("100.5")
        assert watcher.engine.firing == 1
        before = watcher.journal.writer.commits
        watcher.engine.books.good_until(cluster.clock.monotonic())
        await cluster.clock.settle()
        assert (cluster.firings(order_id), watcher.journal.writer.commits) == (0, before)


async def test_an_order_in_anothers_book_is_let_be_though_something_has_it_read() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(limit_price="100")
        owner = await owner_of(cluster, KEY)
        await cluster.until_watched(1)
        other = other_than(cluster, owner)
        other.engine.watch.refresh(order_id)
        await cluster.clock.advance(SOON_S)
        assert other.engine.orders_watched == 0


async def test_an_owner_whose_renewals_fail_fires_until_its_lease_runs_out_and_again_once_it_is_renewed() -> None:
    async with small_cluster(watchers=1) as cluster:
        [watcher] = cluster.watchers
        first, second = [await cluster.order(limit_price=price) for price in ("100", "100.2")]
        await cluster.until_watched(2)
        renew = watcher.leases.renew

        async def unavailable() -> BookStanding:
            raise JournalUnavailableError("away")

        watcher.leases.renew = unavailable  # type: ignore[method-assign]
        await cluster.clock.advance(BOOK_LEASE_S - RENEW_EVERY_S - 0.1)
        cluster.price("100.1")
        await cluster.until(lambda: cluster.firings(first) == 1)
        await cluster.clock.advance(BOOK_LEASE_S)
        cluster.price("100.3")
        await cluster.clock.settle()
        assert cluster.firings(second) == 0
        watcher.leases.renew = renew  # type: ignore[method-assign]
        await cluster.clock.advance(RENEW_EVERY_S + SOON_S)
        cluster.price("100.3")
        await cluster.until(lambda: cluster.firings(second) == 1)


async def test_a_halt_that_an_api_ordered_holds_for_watchers_too() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(limit_price="100")
        await cluster.until_watched(1)
        await cluster.api.journal.halt("a person looks", HaltCause.OPERATOR)
        await cluster.clock.advance(1.5)
        cluster.price("100.5")
        await cluster.clock.settle()
        assert cluster.firings(order_id) == 0
        await cluster.api.journal.resume()
        await cluster.clock.advance(1.5)
        cluster.price("100.5")
        await cluster.until(lambda: cluster.firings(order_id) == 1)


# --- What others do to watched orders


async def test_what_an_api_changes_and_cancels_its_watcher_follows() -> None:
    async with small_cluster() as cluster:
        changed, cancelled = [await cluster.order(limit_price=price) for price in ("100", "90")]
        await cluster.until_watched(2)
        await cluster.entry.orders.amend(changed, Changes(limit_price="200"))
        await cluster.entry.orders.cancel(cancelled)
        await cluster.clock.advance(SOON_S)
        await cluster.until_watched(1)
        cluster.price("150")
        await cluster.clock.settle()
        assert [cluster.firings(each) for each in (changed, cancelled)] == [0, 0]
        cluster.price("201")
        await cluster.until(lambda: cluster.firings(changed) == 1)


async def test_the_exits_that_a_worker_makes_with_their_entry_are_watched() -> None:
    async with small_cluster() as cluster:
        exits = ExitTerms(take_profit=ExitLeg(gain_bps=1_000))
        entry_id = await cluster.order(Kind.MARKET, exits=exits)
        await cluster.until_status(entry_id)
        await cluster.until_watched(1)
        [child] = await cluster.api.journal.children(entry_id)
        cluster.venue.pays = 1_700_000_000
        cluster.price("90")  # it bought USDC with SOL: the SOL comes back for less
        assert (await cluster.until_status(child.order_id)).status == _S.CONFIRMED


async def test_orders_expire_though_their_watcher_died() -> None:
    async with small_cluster() as cluster:
        expires_at = timestamp_text(cluster.clock.now_us() + 10_000_000)
        order_id = await cluster.order(limit_price="100", time_in_force=TimeInForce.GTT, expires_at=expires_at)
        owner = await owner_of(cluster, KEY)
        await owner.kill()
        assert (await cluster.until_status(order_id)).status == _S.EXPIRED
        assert len(other_than(cluster, owner).engine.watch) == 0


async def test_a_book_that_is_given_back_takes_its_deadlines_with_it() -> None:
    async with small_cluster(watchers=1) as cluster:
        [watcher] = cluster.watchers
        expires_at = timestamp_text(cluster.clock.now_us() + 600_000_000)
        for paid, bought in PAIRS:
            terms = {"limit_price": "1000000", "time_in_force": TimeInForce.GTT, "expires_at": expires_at}
            await cluster.order(Kind.LIMIT, paid, bought, **terms)
        await cluster.until_watched(len(PAIRS))
        assert len(watcher.engine.watch._expiries) == len(PAIRS)
        cluster.watcher()
        await cluster.until(lambda: shares(cluster) == [4, 4])
        await cluster.until_watched(len(PAIRS))
        deadlines = [len(each.engine.watch._expiries) for each in cluster.watchers]
        assert deadlines == [len(each.engine.watch) for each in cluster.watchers]


async def test_what_a_watcher_did_itself_is_not_read_again_when_the_feed_brings_it() -> None:
    async with small_cluster(watchers=1) as cluster:
        [watcher] = cluster.watchers
        reads: list[int] = []
        read = watcher.journal.resting_these

        async def counted(order_ids: list[str]) -> object:
            reads.append(len(order_ids))
            return await read(order_ids)

        watcher.journal.resting_these = counted  # type: ignore[method-assign, assignment]
        orders = [await cluster.order(limit_price="100") for _ in range(5)]
        await cluster.order(Kind.TWAP, slices=2, interval_seconds=10)
        await cluster.until_watched(6)
        cluster.price("100.5")
        for order_id in orders:
            await cluster.until_status(order_id)
        assert reads == []


# --- What a take-over must not lose


async def test_a_trailing_stop_keeps_its_best_price_over_a_take_over() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(Kind.TRAILING_STOP, trail_bps=1_000)
        owner = await owner_of(cluster, KEY)
        for price in ("100", "120", "115"):
            cluster.price(price)
            await cluster.clock.advance(1.0)
        await owner.kill()
        await cluster.clock.advance(TAKEN_OVER_S)
        cluster.price("110")
        await cluster.clock.settle()
        assert cluster.firings(order_id) == 0
        cluster.price("107.9")  # a tenth below the 120 that the dead one saw
        await cluster.until(lambda: cluster.firings(order_id) == 1)
        trigger = cluster.view(order_id).trigger
        assert trigger is not None
        assert trigger.extreme == "120"


async def test_a_book_that_is_given_back_leaves_its_best_prices_on_disk_first() -> None:
    async with small_cluster(watchers=1) as cluster:
        [watcher] = cluster.watchers
        await cluster.order(Kind.TRAILING_STOP, trail_bps=1_000)
        await cluster.until_watched(1)
        await cluster.clock.advance(1.0)
        cluster.price("100")
        cluster.price("130")
        watcher.engine.books.let_go([KEY])
        await watcher.engine.watch.let_go([KEY])
        assert [mark.price for mark in cluster.tables.high_waters] == ["130"]
        assert watcher.engine.orders_watched == 0


async def test_a_sliced_orders_slices_begin_once_though_its_watcher_dies_between_two() -> None:
    async with small_cluster() as cluster:
        order_id = await cluster.order(Kind.TWAP, slices=3, interval_seconds=10)
        owner = await owner_of(cluster, KEY)
        await cluster.until(lambda: cluster.view(order_id).slices_begun == 1)
        await owner.kill()
        await cluster.until(lambda: cluster.view(order_id).slices_begun == 3)
        slices = await cluster.api.journal.children(order_id)
        assert [each.slice_number for each in slices] == [1, 2, 3]
        for each in slices:
            await cluster.until_status(each.order_id)
            landed = signature(each.order_id)
            cluster.chain.tell(landed, TransactionStatus(1_001, Commitment.FINALIZED))
        view = await cluster.until_status(order_id)
        assert (view.status, view.filled_slices) == (_S.CONFIRMED, 3)


async def test_a_stale_owner_begins_no_slice_and_ends_no_order() -> None:
    async with small_cluster() as cluster:
        sliced = await cluster.order(Kind.TWAP, slices=2, interval_seconds=10)
        expires_at = timestamp_text(cluster.clock.now_us() + 10_000_000)
        timed = await cluster.order(limit_price="100", time_in_force=TimeInForce.GTT, expires_at=expires_at)
        stale = await owner_of(cluster, KEY)
        await cluster.until_watched(2)
        await cluster.until(lambda: cluster.view(sliced).slices_begun == 1)
        stale.clock.stop()
        await cluster.clock.advance(TAKEN_OVER_S)
        heir = other_than(cluster, stale)
        assert KEY in heir.keys
        await heir.kill()
        stale.leases.renew = asyncio.Event().wait  # type: ignore[method-assign, assignment]
        stale.clock.miss(2 * TAKEN_OVER_S)
        stale.clock.go_on(knows=False)
        await cluster.clock.advance(TAKEN_OVER_S)
        assert stale.engine.books.may_fire(KEY)
        assert cluster.view(sliced).slices_begun == 1
        assert cluster.view(timed).status == _S.WATCHING
        await stale.kill()
        cluster.watcher()
        await cluster.until(lambda: cluster.view(sliced).slices_begun == 2)
        await cluster.until_status(timed, _S.EXPIRED)


# --- Dead-man switches


async def test_a_switch_that_an_api_armed_goes_off_at_its_owner_though_the_first_one_dies() -> None:
    async with small_cluster() as cluster:
        orders = await resting_in_all_pairs(cluster)
        await cluster.entry.dead_man.arm("local", 20, keeps_stops=False)
        await cluster.until(lambda: shares(cluster) == [4, 4])
        owner = await owner_of(cluster, SWITCHES)
        await owner.kill()
        await cluster.clock.advance(15.0)
        assert cluster.view(orders[0]).status == _S.WATCHING
        assert await cluster.entry.dead_man.switch("local") is not None
        await cluster.clock.advance(7.0)
        assert {cluster.view(each).status for each in orders} == {_S.CANCELLED}
        assert await cluster.entry.dead_man.switch("local") is None
        await cluster.until_watched(0)


async def test_a_switch_that_was_due_while_no_watcher_lived_goes_off_before_anything_fires() -> None:
    async with small_cluster(watchers=0) as cluster:
        order_id = await cluster.order(limit_price="100")
        await cluster.entry.dead_man.arm("local", 5, keeps_stops=False)
        await cluster.clock.advance(10.0)
        cluster.watcher()
        await cluster.clock.settle()
        cluster.price("100.5")
        await cluster.clock.advance(5.0)
        assert (cluster.view(order_id).status, cluster.firings(order_id)) == (_S.CANCELLED, 0)


class Late(MemoryTriggerStore):
    """A store whose switches are told only when that is let go on."""

    def __init__(self, tables: TriggerTables) -> None:
        super().__init__(tables)
        self.told = asyncio.Event()
        self.asked = asyncio.Event()

    async def dead_men(self) -> list[DeadMan]:
        switches = await super().dead_men()
        self.asked.set()
        await self.told.wait()
        return switches


async def test_an_owner_that_stood_still_while_a_switch_went_off_cancels_nothing_that_came_since() -> None:
    async with small_cluster() as cluster:
        before = await cluster.order(limit_price="100")
        owner = await owner_of(cluster, SWITCHES)
        await cluster.entry.dead_man.arm("local", 1, keeps_stops=False)
        await cluster.clock.advance(0.9)
        owner.engine._switches._store = late = Late(cluster.tables)
        await cluster.until(late.asked.is_set)
        owner.clock.stop()
        await cluster.until_status(before, _S.CANCELLED)  # at the other's hand
        await cluster.until(lambda: cluster.tables.dead_men == {})
        since = await cluster.order(limit_price="100")
        await cluster.entry.dead_man.arm("local", 60, keeps_stops=False)
        late.told.set()
        owner.clock.go_on()
        await cluster.clock.advance(SOON_S)
        assert cluster.view(since).status == _S.WATCHING


# --- Launches


async def test_a_launch_that_came_while_the_launches_had_no_owner_is_bought_once() -> None:
    async with small_cluster() as cluster:
        first, second = [await snipe(cluster) for _ in range(2)]
        owner = await owner_of(cluster, LAUNCHES)
        await cluster.until_watched(2)
        await cluster.entry.orders.cancel(second)
        await owner.kill()
        heir = other_than(cluster, owner)
        cluster.venue.pays = 10**9
        heir.market.launch(a_launch(cluster.clock.now_us()))  # before it is the heir's
        await cluster.clock.advance(SOON_S)
        assert cluster.tables.launches == {}
        assert (await cluster.until_status(first)).status == _S.CONFIRMED
        assert (cluster.firings(first), heir.rung) == (1, [first])
        [record] = cluster.tables.launches.values()
        assert record.bought_by == 1


async def test_a_sniper_hears_of_a_launch_at_its_owner_only() -> None:
    async with small_cluster() as cluster:
        order_id = await snipe(cluster)
        owner = await owner_of(cluster, LAUNCHES)
        await cluster.until_watched(1)
        for watcher in cluster.watchers:
            watcher.market.launch(a_launch(cluster.clock.now_us()))
        await cluster.until_status(order_id)
        assert (cluster.firings(order_id), owner.rung) == (1, [order_id])


async def snipe(cluster: SmallCluster) -> str:
    terms = Terms(filters=LaunchFilters(min_liquidity="20"))
    request = OrderRequest(Kind.SNIPER, SOL_USDC.base, UNKNOWN_TOKEN, 10**9, 500, terms=terms)
    return await cluster.accept(request)


def a_launch(listed_us: int) -> Launch:
    return Launch(
        token=Token(MINT, MINT, 6),
        name="A dog",
        ticker="DOG",
        venue="raydium",
        pool="pool-dog",
        quote=SOL_USDC.base,
        liquidity=50 * 10**9,
        mint_authority_revoked=True,
        freeze_authority_revoked=True,
        lp_burnt_bps=10_000,
        lp_locked_bps=0,
        top_holders_bps=1_000,
        creator="c" * 40,
        listed_us=listed_us,
        slot=7,
    )


# --- Whatever happens


@pytest.mark.parametrize("seed", range(2))
async def test_every_order_fires_exactly_once_whatever_becomes_of_its_watchers(seed: int) -> None:
    dice = Random(seed)
    async with small_cluster(watchers=3) as cluster:
        cluster.venue.pays = 10**12
        orders: list[str] = []
        for _ in range(25):
            for paid, bought in dice.sample(PAIRS, 3):
                orders.append(await cluster.order(Kind.LIMIT, paid, bought, limit_price=dice.choice(["100", "101"])))
            victim = dice.choice(cluster.watchers)
            match dice.randrange(6):
                case 0 if sum(bool(each.tasks) for each in cluster.watchers) > 1:
                    await victim.kill()
                case 1:
                    victim.clock.stop()
                case 2:
                    victim.clock.miss(dice.choice([1.0, TAKEN_OVER_S]))
                case 3:
                    for watcher in cluster.watchers:
                        watcher.clock.go_on()
                case 4 if len(cluster.watchers) < 8:
                    cluster.watcher()
                case _:
                    pass
            await cluster.clock.advance(dice.choice([0.1, 0.5, 2.0]))
            for pair in priced():
                for watcher in cluster.watchers:
                    if watcher.tasks:  # also those that are stopped: they see it as the first when they go on
                        watcher.price(dice.choice(["90", "100.5"]), pair)
        for watcher in cluster.watchers:
            watcher.clock.go_on()
        await cluster.clock.advance(2 * TAKEN_OVER_S)
        for pair in priced():
            cluster.price("102", pair)
        for order_id in orders:
            assert (await cluster.until_status(order_id)).status == _S.CONFIRMED
            assert cluster.firings(order_id) == 1
        rung = [each for watcher in cluster.watchers for each in watcher.rung]
        assert len(rung) == len(set(rung))


def priced() -> list[Pair]:
    return [pair_of(TOKENS.get(paid), TOKENS.get(bought)) for paid, bought in PAIRS]
