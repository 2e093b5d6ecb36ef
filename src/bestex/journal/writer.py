"""Group commit: everything that queued while the last commit ran goes into the next one.

One writer per engine, one commit in flight. The writer knows nothing of SQL: a `Store` makes the commit.

- An order's queued appends are merged while each builds on the one before; one that does not waits for a later
  commit, where the store decides.
- An append that is refused takes the order's appends queued behind it with it.
- An append's companion, a new order, is in the commit that the append is in, and is stored only if that is.
- A commit whose answer was lost is sent again, the same rows under the same number, until it is answered.
- While the store cannot be reached, new orders are refused at once and running orders' rows wait.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from bestex.domain.errors import (
    AppendRefusedError,
    EngineFencedError,
    JournalError,
    JournalUnavailableError,
    OutcomeUnknownError,
)
from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import Status
from bestex.ports import Append, Clock, HeadListener, JournalListener

MAX_COMMIT_EVENTS: Final = 4_000
MAX_QUEUED_APPENDS: Final = 200_000
# Whoever waited for a large commit goes on when it is done, and most of them write again at once. The next commit waits
# for them, or they would take turns with those who wrote meanwhile, in commits of half the size for the same cost.
FEW_ORDERS: Final = 8  # a commit of no more gathers nothing
GATHERED_SHARE: Final = 0.3  # of the time that the last commit took
GATHERS_FROM_S: Final = 0.0005  # quicker ones cost too little
GATHERS_MAX_S: Final = 0.004
RECONNECT_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)

_log = structlog.get_logger(__name__)


class StoreUnavailableError(Exception):
    """The store was not reached, or refused the whole commit: nothing of it is stored."""


class CommitUnknownError(Exception):
    """The commit was sent and its answer lost: it may be stored now or a moment later."""


class RowsRejectedError(Exception):
    """The store rejects a row for what it holds: a defect; nothing of the commit is stored."""


class Verdict:
    """A commit's answer."""

    __slots__ = ("first_position", "head_hash", "refused")

    def __init__(self, first_position: int, refused: dict[str, JournalError], head_hash: bytes) -> None:
        self.first_position = first_position  # of the first event of the first order not refused
        self.refused = refused  # by order id
        self.head_hash = head_hash  # of the log's last row after the commit


class MergedRows:
    """All of one order's rows in one commit: appends that build on each other, and the new orders they bring along."""

    __slots__ = ("appends", "carrier", "companions", "futures", "last")

    def __init__(self, append: Append, future: "asyncio.Future[int] | None", carrier: str | None = None) -> None:
        self.appends = [append]
        self.futures = [] if future is None else [future]  # nobody waits for a companion
        self.last = append
        self.carrier = carrier  # of a companion: the order whose rows bring it
        self.companions: tuple[MergedRows, ...] = ()
        if append.companion is not None:
            self._bring(append.companion)

    @property
    def first(self) -> Append:
        return self.appends[0]

    def continues(self, append: Append) -> bool:
        last = self.last.events[-1]
        return (
            append.base_seq == last.seq
            and append.base_status is last.status
            and append.lease_epoch == self.first.lease_epoch
            and not append.takes_lease
            and append.fence == self.first.fence
            and self.last.run_after_us is None  # its lease ended there
            and (append.lease_epoch is None or last.status is not Status.WATCHING)  # its lease ended there
        )

    def add(self, append: Append, future: "asyncio.Future[int]") -> None:
        self.appends.append(append)
        self.futures.append(future)
        self.last = append
        if append.companion is not None:
            self._bring(append.companion)

    def _bring(self, companion: Append) -> None:
        self.companions += (MergedRows(companion, None, self.first.order_id),)


def with_companions(rows: Sequence[MergedRows]) -> Sequence[MergedRows]:
    """The rows of all orders in the order of their positions."""
    if not any(merged.companions for merged in rows):
        return rows
    return [each for merged in rows for each in (merged, *merged.companions)]


class Store(Protocol):
    async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
        """Store each order's rows, all or none. Called again with the same number, give the same answer.

        The events of an order's rows come before those of its companions. A companion that is not stored, because its
        carrier is not or because it is there already, is among the refused.

        Raises the three errors above, or `EngineFencedError`.
        """


class GroupCommitWriter:
    """The engine's only writer of the journal."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()  # asked once: each asking is a system call before Python 3.12
        self._clock = clock
        self._queue: deque[tuple[Append, asyncio.Future[int]]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._number = 0
        self._listeners: list[JournalListener] = []
        self._head_listeners: list[HeadListener] = []
        self._committing: Sequence[MergedRows] = ()
        self._futures: set[asyncio.Future[int]] | None = None  # of these rows, once somebody asks
        self._fenced: EngineFencedError | None = None
        self._closed = False
        self.available = True
        self.commits = 0
        self.events = 0

    def listen(self, listener: JournalListener) -> None:
        """Call `listener` with every commit's events, after the commit and before its waiters go on."""
        self._listeners.append(listener)

    def on_head(self, listener: HeadListener) -> None:
        """Call `listener` with every commit's head of the log, after the commit and before anybody learns of it."""
        self._head_listeners.append(listener)

    def append(self, append: Append) -> "asyncio.Future[int]":
        if append.companion is not None or append.takes_lease:
            _check(append)
        future: asyncio.Future[int] = self._loop.create_future()
        if self._fenced is not None:
            future.set_exception(self._fenced)
        elif self._closed or len(self._queue) >= MAX_QUEUED_APPENDS or (append.new and not self.available):
            future.set_exception(_unreachable())
        else:
            self._queue.append((append, future))
            self._wake.set()
            self._idle.clear()
        if future.done():
            future.exception()  # not awaiting it is the caller's right
        return future

    def withdraw(self, future: "asyncio.Future[int]") -> bool:
        """Take a queued append back; False when its commit is under way or done."""
        if future.done() or future in self._in_flight():
            return False
        future.cancel()
        return True

    async def run(self) -> None:
        """Commit what is queued, for ever. Ends only by `EngineFencedError` or cancellation."""
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            rows = self._take()
            if not rows:
                continue
            self._committing, self._futures = rows, None
            began = self._clock.monotonic()
            await self._commit(rows)
            took_s = self._clock.monotonic() - began
            self._committing, self._futures = (), None
            if len(rows) > FEW_ORDERS and took_s > GATHERS_FROM_S:
                await self._clock.sleep(min(GATHERED_SHARE * took_s, GATHERS_MAX_S))
            else:
                await asyncio.sleep(0)  # what those who waited write at once goes into the next commit

    def _in_flight(self) -> "set[asyncio.Future[int]]":
        """Those who wait for the commit that is under way."""
        if self._futures is None:
            self._futures = {future for merged in self._committing for future in merged.futures}
        return self._futures

    async def drain(self) -> None:
        """Wait until everything queued has been committed."""
        await self._idle.wait()

    def close(self) -> None:
        """Take no more appends."""
        self._closed = True

    def _take(self) -> list[MergedRows]:
        taken: dict[str, MergedRows] = {}
        kept: list[tuple[Append, asyncio.Future[int]]] = []
        behind: set[str] = set()  # orders whose further appends wait for a later commit
        queue = self._queue
        events = 0
        while queue and events < MAX_COMMIT_EVENTS:
            item = queue.popleft()
            append, future = item
            if future.cancelled():
                continue
            order_id, companion = append.order_id, append.companion
            rows = taken.get(order_id)
            waits = order_id in behind or (rows is not None and not rows.continues(append))
            if companion is not None:
                waits = waits or companion.order_id in taken or companion.order_id in behind
            if waits:
                behind.add(order_id)
                kept.append(item)
                continue
            if rows is None:
                taken[order_id] = MergedRows(append, future)
            else:
                rows.add(append, future)
            events += len(append.events)
            if companion is not None:
                behind.add(companion.order_id)  # until it is known whether it is stored
                events += len(companion.events)
        queue.extendleft(reversed(kept))
        return list(taken.values())

    async def _commit(self, rows: list[MergedRows]) -> None:
        """Commit `rows`, however long it takes."""
        number = self._number + 1
        sent = False
        tries = 0
        verdict = None
        while verdict is None:
            if tries:
                await self._clock.sleep(RECONNECT_PAUSES_S[min(tries, len(RECONNECT_PAUSES_S)) - 1])
            tries += 1
            try:
                verdict = await self._store.commit(number, rows)
            except CommitUnknownError as error:
                sent = True
                _log.warning("journal.commit_unknown", commit=number, orders=len(rows), error=str(error))
            except StoreUnavailableError as error:
                if self.available:
                    _log.warning("journal.unavailable", error=str(error))
                self.available = False
                self._release_queued_new_orders()
                if not sent:
                    rows = self._release_new_orders(rows)
                    if not rows:
                        self.available = True  # nothing to try again with: the next order is the probe
                        return
            except RowsRejectedError as error:
                await self._isolate(rows, error)
                return
            except EngineFencedError as error:
                self._fence(error, sent=sent)
                raise
        if not self.available:
            _log.info("journal.available")
        self.available = True
        self._number = number
        self._settle(rows, verdict)

    def _release_new_orders(self, rows: list[MergedRows]) -> list[MergedRows]:
        """Answer new orders that reached no commit; keep the rows of running ones."""
        kept = []
        for merged in rows:
            if merged.first.new is None:
                kept.append(merged)
            else:
                self._fail(merged, _unreachable())
        return kept

    def _release_queued_new_orders(self) -> None:
        kept: deque[tuple[Append, asyncio.Future[int]]] = deque()
        for append, future in self._queue:
            if append.new is None:
                kept.append((append, future))
            else:
                _fail_future(future, _unreachable())
        self._queue = kept

    async def _isolate(self, rows: list[MergedRows], error: RowsRejectedError) -> None:
        """One bad row must not stop the others: commit the halves apart."""
        if len(rows) == 1:
            _log.error("journal.rows_rejected", order_id=rows[0].first.order_id, error=str(error))
            self._fail(rows[0], JournalError(f"the journal rejects the rows: {error}"))
            self._refuse_queued_behind(rows[0])
            return
        middle = len(rows) // 2
        await self._commit(rows[:middle])
        await self._commit(rows[middle:])

    def _settle(self, rows: list[MergedRows], verdict: Verdict) -> None:
        self.commits += 1
        position = verdict.first_position
        refused = verdict.refused
        stored: list[StoredEvent] = []
        answers: list[tuple[asyncio.Future[int], int]] = []
        for merged in rows:
            if refused and (error := refused.get(merged.first.order_id)) is not None:
                self._fail(merged, error)
                self._refuse_queued_behind(merged)
                continue
            for append, future in zip(merged.appends, merged.futures, strict=True):
                for event in append.events:
                    stored.append(StoredEvent(position, event))
                    position += 1
                answers.append((future, position - 1))
            if not merged.companions:
                continue
            for companion in merged.companions:
                if companion.first.order_id in refused:
                    self._refuse_queued(companion.first.order_id)
                    continue
                for event in companion.first.events:
                    stored.append(StoredEvent(position, event))
                    position += 1
        self.events += len(stored)
        if stored:
            for tell in self._head_listeners:
                _call_safely(tell, stored[-1].position, verdict.head_hash)
        for listener in self._listeners:
            _call_safely(listener, stored)
        for future, last_position in answers:
            if not future.done():
                future.set_result(last_position)

    def _refuse_queued_behind(self, merged: MergedRows) -> None:
        """Refuse what is queued behind refused rows, and behind the companions that are not stored with them."""
        self._refuse_queued(merged.first.order_id)
        for companion in merged.companions:
            self._refuse_queued(companion.first.order_id)

    def _refuse_queued(self, order_id: str) -> None:
        """Refuse what is queued behind a refused append of the order."""
        kept: deque[tuple[Append, asyncio.Future[int]]] = deque()
        for item in self._queue:
            append, future = item
            if append.order_id == order_id:
                _fail_future(future, AppendRefusedError(f"an earlier row of order {order_id} was refused"))
            else:
                kept.append(item)
        self._queue = kept

    def _fence(self, error: EngineFencedError, *, sent: bool) -> None:
        """Answer everyone. Of a commit that was sent before, nobody here will know what became of it."""
        self._fenced = error
        unknown = OutcomeUnknownError("the database did not answer, and another engine has this one's place now")
        for future in self._in_flight():
            _fail_future(future, unknown if sent else error)
        self._committing, self._futures = (), None
        for _, future in self._queue:
            _fail_future(future, error)
        self._queue.clear()
        self._idle.set()

    def _fail(self, merged: MergedRows, error: JournalError) -> None:
        for future in merged.futures:
            _fail_future(future, error)


def _check(append: Append) -> None:
    """`ValueError` for an append that says what no append can mean: a defect of its writer."""
    if append.takes_lease and append.lease_epoch is None:
        raise ValueError(f"an append of order {append.order_id} takes the lease under no epoch")
    companion = append.companion
    if companion is None:
        return
    if append.new is not None:
        raise ValueError(f"the new order {append.order_id} carries a companion: only one that is there already may")
    if companion.new is None or companion.companion is not None:
        raise ValueError(f"the companion of order {append.order_id} is no new order, or has one of its own")


def _call_safely(listener: Callable[..., None], *news: object) -> None:
    try:
        listener(*news)
    except Exception:  # noqa: BLE001 -- what listens must not stop what writes
        _log.exception("journal.listener_broke")


def _unreachable() -> JournalUnavailableError:
    return JournalUnavailableError("the database cannot be reached; nothing was stored")


def _fail_future(future: "asyncio.Future[int]", error: JournalError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a caller that does not wait for it asks its order's log later
