"""Fires watched orders: reads them, records why they fire, and has them executed once that is on disk.

An order is in here from the moment its trigger was seen until its `routing` event is on disk. Compare-and-set decides a
race with a cancel or a change: one of the two is recorded, and who lost reads the order anew.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from bestex.domain.errors import EngineFencedError, JournalError, OrderError
from bestex.domain.events import CancelledDetail, Trigger
from bestex.domain.lifecycle import Status
from bestex.domain.money import format_amount
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.engine.books import Books, key_of_order
from bestex.engine.exits import position_left
from bestex.engine.order_log import OrderLog
from bestex.engine.rearming import is_expired
from bestex.engine.recovery import Recovery
from bestex.engine.signing import SigningGate
from bestex.ports import Clock, Journal, Lease

BATCH: Final = 500  # orders read at a time
CACHED_LOGS: Final = 20_000  # watched orders kept whole, so that they need not be read before they fire
FIRES_WITHIN_US: Final = 3_000_000
"""Microseconds from the sight of a price that was fresh then: ten thousand orders fire in less."""

ENTRY_LOST: Final = "a fork took its entry away for good: there is no position to close"
_RETRY_S: Final = 0.2
_LOST_ENTRY_S: Final = 1.0  # until an exit whose entry a fork took away is looked at again

_log = structlog.get_logger(__name__)


class Fired(msgspec.Struct, frozen=True):
    """An order whose trigger was seen."""

    order_id: str
    seq: int  # the order's, as it stood then
    epoch: int  # of its last lease
    trigger: Callable[[], Trigger]  # put into words when it fires, not while the prices wait
    seen_us: int | None = None  # when its price was seen, Unix microseconds; None: it goes by none


class _Round:
    """Orders that fire together."""

    __slots__ = ("is_over", "on_disk")

    def __init__(self) -> None:
        self.on_disk: list[OrderLog] = []  # to be executed once all have been fired
        self.is_over = False


class FiringDesk:
    """From a trigger to an execution."""

    def __init__(
        self,
        journal: Journal,
        recovery: Recovery,
        clock: Clock,
        gate: SigningGate,
        books: Books,
        execute: Callable[[OrderLog], None],
        refresh: Callable[[str, float], None],
    ) -> None:
        """`execute` gets orders whose firing is on disk; `refresh` those to be read anew, after so many seconds."""
        self._journal = journal
        self._recovery = recovery
        self._clock = clock
        self._gate = gate
        self._books = books
        self._execute = execute
        self._refresh = refresh
        self._queue: deque[Fired] = deque()
        self._cached: dict[str, OrderLog] = {}
        self._under_way: set[str] = set()
        self._round = _Round()
        self._closed = False
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """How many fire at this moment."""
        return len(self._under_way)

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._under_way

    def keep(self, log: OrderLog) -> None:
        """Keep a watched order whole, as long as there is room."""
        if len(self._cached) < CACHED_LOGS:
            self._cached[log.order.id] = log

    def forget(self, order_id: str) -> None:
        self._cached.pop(order_id, None)

    def let_go(self, keys: Collection[str]) -> None:
        """Keep no order of these books."""
        for order_id in [each for each, log in self._cached.items() if key_of_order(log.order) in keys]:
            del self._cached[order_id]

    def close(self) -> None:
        """Fire nothing more: nobody would execute it."""
        self._closed = True
        self._queue.clear()

    def fire(self, fired: Iterable[Fired]) -> None:
        """Fire these, in this order."""
        if self._closed:
            return
        for each in fired:
            self._under_way.add(each.order_id)
            self._queue.append(each)
        self._wake.set()

    async def run(self) -> None:
        """Fire what is to be fired, for ever. Of many at once, all fire before the first is executed.

        Those that come while these are fired wait for the next round: else, as long as any come, none is executed.
        """
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            left = len(self._queue)
            self._round = this_round = _Round()
            while left > 0:
                batch = [self._queue.popleft() for _ in range(min(BATCH, left, len(self._queue)))]
                left -= max(1, len(batch))
                await self._fire_batch(batch)
            this_round.is_over = True
            for log in this_round.on_disk:
                self._execute(log)

    async def _fire_batch(self, batch: Sequence[Fired]) -> None:
        try:
            logs = await self._logs(batch)
            entries = await self._entries(logs.values())
        except JournalError as error:
            _log.warning("firing.interrupted", orders=len(batch), error=str(error))
            for fired in batch:
                self._give_back(fired.order_id, _RETRY_S)
            return
        except Exception:  # noqa: BLE001 -- whatever it is, the others go on, and these are tried again
            _log.exception("firing.defect", orders=len(batch))
            for fired in batch:
                self._give_back(fired.order_id, _RETRY_S)
            return
        for fired in batch:
            if self._closed:
                return
            log = logs.get(fired.order_id)
            try:
                self._fire_one(fired, log, entries)
            except EngineFencedError:
                return
            except (JournalError, OrderError) as error:
                _log.info("firing.refused", order_id=fired.order_id, error=str(error))
                self._give_back(fired.order_id, _RETRY_S)
            except Exception:  # noqa: BLE001 -- one order's defect must not stop the others
                _log.exception("firing.defect", order_id=fired.order_id)
                self._give_back(fired.order_id, _RETRY_S)

    async def _logs(self, batch: Sequence[Fired]) -> dict[str, OrderLog]:
        logs: dict[str, OrderLog] = {}
        unread: list[Lease] = []
        for fired in batch:
            log = self._cached.pop(fired.order_id, None)
            if log is not None and log.state.seq == fired.seq:
                logs[fired.order_id] = log
            else:
                unread.append(Lease(fired.order_id, fired.epoch))
        if unread:
            logs.update((log.order.id, log) for log in await self._recovery.read(unread))
        return logs

    async def _entries(self, logs: Collection[OrderLog]) -> dict[str, int | None]:
        """By exit: how much of its position stands; None where that is unknown."""
        parents = {log.order.id: log.order.terms.parent_id or "" for log in logs if log.order.kind is Kind.EXITS}
        if not parents:
            return {}
        entries = await self._recovery.states(list(parents.values()))
        return {
            log.order.id: position_left(log.order, entry)
            for log in logs
            if (entry := entries.get(parents.get(log.order.id, ""))) is not None
        }

    def _fire_one(self, fired: Fired, log: OrderLog | None, entries: dict[str, int | None]) -> None:
        if log is None or log.state.status is not Status.WATCHING or log.state.seq != fired.seq:
            self._give_back(fired.order_id, 0.0)  # it has moved on
            return
        now_us = self._clock.now_us()
        if fired.seen_us is not None and now_us > fired.seen_us + FIRES_WITHIN_US:
            self._give_back(fired.order_id, 0.0)  # the process stood still, or the journal did: the price is old
            return
        key = key_of_order(log.order)
        if self._gate.halt is not None or is_expired(log.order, now_us) or not self._books.may_fire(key):
            self._give_back(fired.order_id, _RETRY_S)
            return
        fence = self._books.fence(key)
        trigger = _in_the_orders_words(log.order, fired.trigger())
        if log.order.kind is Kind.EXITS:
            left = entries.get(fired.order_id)
            if left == 0:
                cancelled = log.record(Status.CANCELLED, CancelledDetail("engine", reason=ENTRY_LOST), fence=fence)
                cancelled.add_done_callback(partial(self._cancelled, fired.order_id))
                return
            if left is None:  # its entry may land again, or cannot be read
                self._give_back(fired.order_id, _LOST_ENTRY_S)
                return
            if left < log.order.amount_in:
                trigger = replace(trigger, amount=format_amount(left, log.order.token_in.decimals))
        # Refused under a fence, the book may be another's: that is known here at the next renewal.
        pause_s = 0.0 if fence is None else _RETRY_S
        log.fire(trigger, fence).add_done_callback(partial(self._on_disk, log, self._round, pause_s))

    def _on_disk(self, log: OrderLog, fired_in: _Round, pause_s: float, appended: "asyncio.Future[int]") -> None:
        if not appended.cancelled() and appended.exception() is None:
            self._under_way.discard(log.order.id)
            if fired_in.is_over:
                self._execute(log)
            else:
                fired_in.on_disk.append(log)
        else:
            self._give_back(log.order.id, pause_s)

    def _cancelled(self, order_id: str, appended: "asyncio.Future[int]") -> None:
        if not appended.cancelled() and appended.exception() is None:
            self._under_way.discard(order_id)
        else:
            self._give_back(order_id, 0.0)

    def _give_back(self, order_id: str, seconds: float) -> None:
        """It did not fire: what stands in the journal decides."""
        self._under_way.discard(order_id)
        self._refresh(order_id, seconds)


def _in_the_orders_words(order: Order, trigger: Trigger) -> Trigger:
    """The trigger with the price that the order names; the book knows it as an amount only, which rounds it."""
    asked = None
    if order.kind is Kind.EXITS:
        [leg] = [leg for leg in order.terms.legs if leg.name == trigger.kind]
        asked = leg.trigger_price
        trigger = replace(trigger, slippage_bps=leg.slippage_bps, limit_price=leg.limit_price)
    elif order.kind is Kind.LIMIT:
        asked = order.terms.limit_price
    elif order.kind in (Kind.STOP, Kind.TAKE_PROFIT):
        asked = order.terms.trigger_price
    return trigger if asked is None else replace(trigger, threshold=asked)
