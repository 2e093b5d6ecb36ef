"""Carries sliced orders on: begins their slices, and ends them when all are settled."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final, assert_never

import structlog
from msgspec.structs import replace

from bestex.domain.errors import AppendRefusedError, EngineFencedError, JournalError
from bestex.domain.events import StoredEvent, WatchingDetail
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.order_state import OrderState, OrderView
from bestex.domain.orders import Order
from bestex.engine.books import Books, key_of_order
from bestex.engine.deadlines import Deadlines
from bestex.engine.order_log import OrderLog
from bestex.engine.recovery import Recovery
from bestex.engine.signing import SigningGate
from bestex.engine.slicing import Begin, Conclude, WaitForSlices, WaitUntil, is_settled, next_slice_step, slice_due_us
from bestex.ports import Clock, Journal, Lease, NewOrder

_RETRY_S: Final = 0.5
_HALTED_S: Final = 1.0

_log = structlog.get_logger(__name__)


class Slicer:
    """The sliced orders of one engine."""

    def __init__(
        self,
        journal: Journal,
        recovery: Recovery,
        clock: Clock,
        gate: SigningGate,
        books: Books,
        caller: str,
        accepted: Callable[[OrderLog], None],
    ) -> None:
        """`accepted` gets each slice that is on disk; `caller` owns them."""
        self._journal = journal
        self._recovery = recovery
        self._clock = clock
        self._gate = gate
        self._books = books
        self._caller = caller
        self._accepted = accepted
        self._parents: dict[str, OrderLog] = {}
        self._parent_of: dict[str, str] = {}  # by slice, those that are not settled
        self._doubtful: set[str] = set()  # parents whose log here may not be the journal's
        self._moved: set[str] | None = None  # while slices are being read: orders that moved on meanwhile
        self._changed: dict[str, None] = {}  # parents to be looked at, in the order of their news
        self._wake = asyncio.Event()
        self._deadlines = Deadlines(clock, self._look_at)

    def __len__(self) -> int:
        return len(self._parents)

    def rest(self, log: OrderLog) -> None:
        """Carry a sliced order on from here."""
        self._parents[log.order.id] = log
        self._look_at((log.order.id,))

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._parents

    def let_go(self, keys: Collection[str]) -> None:
        """Carry the orders of these books on no more."""
        gone = {order_id for order_id, log in self._parents.items() if key_of_order(log.order) in keys}
        for order_id in gone:
            self._forget(order_id)
        self._doubtful -= gone
        for slice_id in [each for each, parent_id in self._parent_of.items() if parent_id in gone]:
            del self._parent_of[slice_id]

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Follow slices to their ends, and what others do to their parents; a listener of the journal."""
        if not self._parents:
            return
        for stored in events:
            order_id = stored.event.order_id
            if self._moved is not None:
                self._moved.add(order_id)
            if (parent_id := self._parent_of.get(order_id)) is not None:
                if stored.event.status in ENDS:
                    self._look_at((parent_id,))
            elif (log := self._parents.get(order_id)) is not None and stored.event.seq > log.state.seq:
                self._doubtful.add(order_id)  # another wrote it
                self._look_at((order_id,))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deadlines.run())
            tasks.create_task(self._carry_on())

    def _look_at(self, parent_ids: Sequence[str]) -> None:
        self._changed.update(dict.fromkeys(parent_ids))
        self._wake.set()

    async def _carry_on(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, {}
            for parent_id in changed:
                await self._carry_on_one(parent_id)

    async def _carry_on_one(self, parent_id: str) -> None:
        """Take one order as far as it can go now; whatever keeps it, it is looked at again."""
        try:
            if parent_id in self._doubtful:
                await self._read_again(parent_id)
            while (log := self._parents.get(parent_id)) is not None and await self._step(log):
                pass
        except AppendRefusedError:
            self._doubtful.add(parent_id)
            self._look_at((parent_id,))
        except EngineFencedError:
            return
        except JournalError as error:
            _log.warning("slicer.interrupted", order_id=parent_id, error=str(error))
            self._doubtful.add(parent_id)
            self._later(parent_id, _RETRY_S)
        except Exception:  # noqa: BLE001 -- one order's defect must not stop the others
            _log.exception("slicer.defect", order_id=parent_id)
            self._later(parent_id, _RETRY_S)

    async def _step(self, log: OrderLog) -> bool:
        """Do the next thing; whether there may be another one at once."""
        key = key_of_order(log.order)
        if self._gate.journal_is_behind or not self._books.may_fire(key):
            self._later(log.order.id, _HALTED_S)
            return False
        slices, moved = await self._read_slices(log.order.id)
        self._follow(log.order.id, slices)
        if not moved.isdisjoint(view.order_id for view in slices):
            return True  # what was read may be of before, and nobody knew then whose slice it is
        step = next_slice_step(log.order, log.state, slices, self._clock.now_us())
        match step:
            case Begin(order=order):
                if self._gate.halt is not None or not self._books.may_fire(key):
                    self._later(log.order.id, _HALTED_S)
                    return False
                await self._begin(log, order, step)
                return True
            case WaitUntil(at_us=at_us):
                expires_us = log.order.expires_us
                self._deadlines.at(at_us if expires_us is None else min(at_us, expires_us), log.order.id)
                return False
            case WaitForSlices():
                return False
            case Conclude(status=status, detail=detail):
                if not self._books.may_fire(key):
                    self._later(log.order.id, _HALTED_S)
                    return False
                await log.record(status, detail, fence=self._books.fence(key))
                self._forget(log.order.id)
                return False
            case _:
                assert_never(step)

    async def _read_slices(self, parent_id: str) -> tuple[list[OrderView], set[str]]:
        """The slices so far, and the orders that moved on while they were read."""
        self._moved = moved = set[str]()
        try:
            return await self._journal.children(parent_id), moved
        finally:
            self._moved = None

    async def _begin(self, log: OrderLog, order: Order, step: Begin) -> None:
        """Note the slice on its parent, and make it in the same commit."""
        order = replace(order, created_us=max(self._clock.now_us(), slice_due_us(log.order, step.note.number)))
        child = OrderLog(self._journal, self._clock, order, OrderState(), 0 if order.rests else 1)
        new = NewOrder(order.id, order.kind.value, order.pair.name, self._caller, parent_id=log.order.id)
        self._parent_of[order.id] = log.order.id
        fence = self._books.fence(key_of_order(log.order))
        await log.watch(WatchingDetail(slice=step.note), child.draft_new(new), fence)
        self._accepted(child)

    def _follow(self, parent_id: str, slices: Sequence[OrderView]) -> None:
        for view in slices:
            if is_settled(view):
                self._parent_of.pop(view.order_id, None)
            else:
                self._parent_of[view.order_id] = parent_id

    async def _read_again(self, parent_id: str) -> None:
        """Take the order up as it stands in the journal; raises `JournalError`."""
        row = await self._journal.order(parent_id)
        logs = await self._recovery.read([Lease(parent_id, row.lease_epoch)]) if row is not None else []
        self._doubtful.discard(parent_id)
        self._forget(parent_id)
        for log in logs:
            if log.state.status is Status.WATCHING and self._books.owns(key_of_order(log.order)):
                self._parents[parent_id] = log

    def _forget(self, parent_id: str) -> None:
        self._parents.pop(parent_id, None)
        self._deadlines.forget(parent_id)

    def _later(self, parent_id: str, seconds: float) -> None:
        self._deadlines.at(self._clock.now_us() + round(seconds * 1e6), parent_id)
