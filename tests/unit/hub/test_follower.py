"""The follower of the log: whoever subscribes and then reads the journal gets everything once and in order."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestex.api.following import follow_all, follow_order
from bestex.domain.errors import JournalUnavailableError
from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import Status
from bestex.hub import follower as follower_module
from bestex.hub.follower import LogFollower
from bestex.hub.local import LocalHub
from bestex.ports import Journal
from tests.support.clock import FakeClock
from tests.support.orders import HAPPY, DraftOrder, stored

pytestmark = pytest.mark.timeout(20)


class Log:
    """The reads of a journal: each looks, then waits until it may answer."""

    def __init__(self) -> None:
        self.events_: list[StoredEvent] = []
        self.reads: list[str] = []
        self.held: list[asyncio.Future[None]] = []  # answers on their way
        self.holds = False
        self.away = False

    def commit(self, *events: StoredEvent) -> int:
        self.events_ += events
        return len(self.events_)

    def let_one_go(self, which: int = 0) -> None:
        if self.held:
            self.held.pop(which % len(self.held)).set_result(None)

    async def _read(self, what: str, found: list[StoredEvent]) -> list[StoredEvent]:
        self.reads.append(what)
        if self.away:
            raise JournalUnavailableError("away")
        if self.holds:
            answer = asyncio.get_running_loop().create_future()
            self.held.append(answer)
            await answer
        return found

    async def events(self, order_id: str, after_seq: int = 0) -> list[StoredEvent]:
        found = [each for each in self.events_ if each.event.order_id == order_id and each.event.seq > after_seq]
        return await self._read("events", found)

    async def feed(self, after: int, limit: int) -> list[StoredEvent]:
        return await self._read("feed", self.events_[after : after + limit])

    async def feed_of(self, order_ids: Collection[str], after: int, to: int) -> list[StoredEvent]:
        found = [each for each in self.events_[after:to] if each.event.order_id in order_ids]
        return await self._read("feed_of", found)

    async def head(self) -> int:
        found = list(self.events_)
        return len(await self._read("head", found))


class House:
    """A follower over a log, and time that stands still."""

    def __init__(self, queue_events: int = 256) -> None:
        self.log = Log()
        self.clock = FakeClock()
        self.hub = LocalHub(queue_events)
        self.journal: Journal = self.log  # type: ignore[assignment] # the reads are all that following needs
        self.follower = LogFollower(self.journal, self.hub, self.clock)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "House":
        await self.follower.open()
        self._running = asyncio.create_task(self.follower.run())
        await self.clock.advance(0.5)
        self.log.reads.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def commit(self, *events: StoredEvent, told: bool = True) -> None:
        position = self.log.commit(*events)
        if told:
            self.follower.signal(position)


def some_orders(count: int = 2, statuses: Sequence[Status] = HAPPY) -> list[StoredEvent]:
    """Their events, each order's i-th before every order's next."""
    drafts = [DraftOrder() for _ in range(count)]
    for draft in drafts:
        draft.next(*statuses)
    return stored([draft.events[number] for number in range(len(statuses)) for draft in drafts])


async def test_a_watcher_hears_of_his_order_at_once_and_only_his_is_read() -> None:
    log = some_orders()
    async with House() as house:
        house.commit(*log[:2])
        watcher = house.hub.watch(log[0].event.order_id)
        house.commit(*log[2:6])
        await house.clock.settle()

        assert list(await watcher.next() or ()) == [log[2], log[4]]
        assert house.log.reads == ["feed_of"]


async def test_nothing_is_read_while_nobody_watches() -> None:
    log = some_orders()
    async with House() as house:
        for event in log:
            house.commit(event)
            await house.clock.advance(0.01)

        assert house.log.reads == []
        assert (house.follower.position, house.follower.behind) == (len(log), 0)


async def test_many_signals_make_one_step() -> None:
    log = some_orders(100)
    async with House() as house:
        watcher = house.hub.watch(log[0].event.order_id)
        house.commit(log[0])
        await house.clock.settle()
        for event in log[1:]:
            house.commit(event)
        await house.clock.advance(0.1)

        assert house.log.reads == ["feed_of", "feed_of"]
        got = [*(await watcher.next() or ())]
        assert [each.event.seq for each in got] == [1, 2, 3, 4, 5]


async def test_without_signals_a_watcher_hears_within_a_second() -> None:
    log = some_orders()
    async with House() as house:
        watcher, all_ = house.hub.watch(log[0].event.order_id), house.hub.watch_all()
        house.commit(*log, told=False)
        await house.clock.advance(1.0)

        assert [each.event.seq for each in await watcher.next() or ()] == [1, 2, 3, 4, 5]
        assert list(await all_.next() or ()) == log


async def test_a_signal_that_may_have_been_lost_is_a_signal() -> None:
    log = some_orders()
    async with House() as house:
        watcher = house.hub.watch(log[0].event.order_id)
        house.commit(*log, told=False)
        house.follower.hear(None)
        await house.clock.settle()

        assert len(await watcher.next() or ()) == 5


async def test_a_listener_gets_every_event_of_the_log_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "STEP_POSITIONS_MAX", 7)
    log = some_orders(8)
    async with House() as house:
        heard: list[StoredEvent] = []
        house.follower.listen(heard.extend)
        house.commit(*log)
        await house.clock.settle()

        assert heard == log


async def test_a_listener_that_breaks_stops_nobody() -> None:
    def breaks(_: Sequence[StoredEvent]) -> None:
        raise ZeroDivisionError

    log = some_orders()
    async with House() as house:
        heard: list[StoredEvent] = []
        house.follower.listen(breaks)
        house.follower.listen(heard.extend)
        house.commit(*log)
        await house.clock.settle()

        assert heard == log


async def test_a_journal_that_is_away_only_delays() -> None:
    log = some_orders()
    async with House() as house:
        all_ = house.hub.watch_all()
        house.log.away = True
        house.commit(*log[:4])
        await house.clock.advance(5)
        house.log.away = False
        house.commit(*log[4:], told=False)
        await house.clock.advance(1)

        assert list(await all_.next() or ()) == log


async def test_a_signal_that_goes_too_far_passes_nothing_by() -> None:
    log = some_orders()
    async with House() as house:
        all_ = house.hub.watch_all()
        house.commit(*log[:4])
        house.follower.signal(1_000)
        await house.clock.advance(0.1)
        house.commit(*log[4:])
        await house.clock.advance(1)

        assert list(await all_.next() or ()) == log


async def test_when_the_log_is_another_and_older_every_watcher_reads_the_journal() -> None:
    log = some_orders()
    async with House() as house:
        house.commit(*log)
        one, all_ = house.hub.watch(log[0].event.order_id), house.hub.watch_all()
        del house.log.events_[4:]
        await house.clock.advance(1)

        assert await one.next() is None
        assert await all_.next() is None
        assert house.follower.position == 4


# --- Whatever happens between two reads


Moves = list[tuple[str, int, int]]
MOVES: st.SearchStrategy[Moves] = st.lists(
    st.tuples(
        st.sampled_from(["commit", "commit", "commit untold", "answer", "answer", "time", "watch", "all"]),
        st.integers(0, 11),  # how much of it, or which
        st.integers(0, 4),  # turns of the event loop behind it
    ),
    max_size=40,
)


class Followers:
    """Clients of the streams, and what each got and was to get."""

    def __init__(self, house: House, log: Sequence[StoredEvent]) -> None:
        self._house = house
        self._log = log
        self._tasks: list[asyncio.Task[None]] = []
        self.got: list[list[StoredEvent]] = []
        self.due: list[list[StoredEvent]] = []

    def of_one(self, order_id: str) -> None:
        follows = follow_order(self._house.journal, self._house.hub, order_id, 0)
        self._start(follows, [each for each in self._log if each.event.order_id == order_id])

    def of_all(self, after: int) -> None:
        self._start(follow_all(self._house.journal, self._house.hub, after), list(self._log[after:]))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, follows: AsyncGenerator[Sequence[StoredEvent], None], due: list[StoredEvent]) -> None:
        got: list[StoredEvent] = []
        self.got.append(got)
        self.due.append(due)
        self._tasks.append(asyncio.create_task(_collect(follows, got)))


async def _collect(follows: AsyncGenerator[Sequence[StoredEvent], None], got: list[StoredEvent]) -> None:
    async with aclosing(follows):
        async for batch in follows:
            got += batch


@settings(max_examples=300, deadline=None)
@given(MOVES, st.sampled_from([1, 2, 256]))
async def test_whoever_follows_gets_every_event_once_and_in_order(moves: Moves, queue: int) -> None:
    """Commits, signals lost or not, watchers that come at any moment, and answers of the journal at any later one."""
    log = some_orders(3)
    async with House(queue) as house:
        followers = Followers(house, log)
        house.log.holds = True
        house.commit(*log[:3])
        try:
            for move, number, turns in moves:
                committed = len(house.log.events_)
                match move:
                    case "commit" | "commit untold":
                        house.commit(*log[committed : committed + 1 + number % 3], told=move == "commit")
                    case "answer":
                        house.log.let_one_go(number)
                    case "time":
                        await house.clock.advance((0.001, 0.01, 1.0)[number % 3])
                    case "watch":
                        followers.of_one(log[number % 3].event.order_id)
                    case _:
                        followers.of_all(min(number, committed))
                for _ in range(turns):
                    await asyncio.sleep(0)
            house.commit(*log[len(house.log.events_) :])
            house.log.holds = False
            while house.log.held:
                house.log.let_one_go()
            await house.clock.advance(2)
        finally:
            await followers.stop()
        assert followers.got == followers.due
