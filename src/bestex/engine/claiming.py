"""Claiming: a worker takes the leases of orders that nobody holds, as many as it has room for.

It looks when it is rung for, when a pause that it knows of is over, and in any case every second: what is lost of
rings delays an order by that much. One claim runs at a time and brings the orders' histories with it; what rings
meanwhile is looked at together, and while it is full it takes nothing.
"""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec
import structlog

from bestex.domain.errors import JournalError
from bestex.engine.order_log import OrderLog
from bestex.engine.recovery import Recovery
from bestex.engine.signing import SigningGate
from bestex.ports import ClaimedOrder, Clock, Dispatcher, Ids, Journal
from bestex.waiting import sleep_or

_log = structlog.get_logger(__name__)


class ClaimingLimits(msgspec.Struct, frozen=True):
    batch: int = 250  # orders claimed at a time
    rung: int = 10_000  # orders rung for and not looked at yet; those beyond are found by looking at all
    pauses: int = 10_000  # orders handed back whose time this worker remembers; those beyond wait for the next look
    look_every_s: float = 1.0  # at the latest, rung for or not
    rest_s: float = 0.004  # between two claims, give or take a half at random: more orders come with the next one


class Claiming:
    """The claims of one worker."""

    def __init__(
        self,
        journal: Journal,
        dispatcher: Dispatcher,
        recovery: Recovery,
        gate: SigningGate,
        clock: Clock,
        ids: Ids,
        limits: ClaimingLimits,
        room: Callable[[], int],
        go_on: Callable[[OrderLog], None],
    ) -> None:
        """`room` tells how many more orders may be held; `go_on` gets each that has been claimed."""
        self._journal = journal
        self._dispatcher = dispatcher
        self._recovery = recovery
        self._gate = gate
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._room = room
        self._go_on = go_on
        self._wake = asyncio.Event()
        self._all = True  # whether any order that waits may be ours
        self._rung: dict[str, None] = {}  # these may be, first to last
        self._pauses: list[float] = []  # when orders handed back are due, a heap of times of the clock's `monotonic`
        self._look_at = 0.0
        self._round = asyncio.Lock()  # held while a claim is under way
        self._closed = False
        self.claimed = 0  # orders, since the start
        self.rounds = 0  # claims that were made
        dispatcher.on_ring(self._ring)

    def made_room(self) -> None:
        """An order has ended: another may be claimed."""
        if self._all or self._rung:
            self._wake.set()

    def look_again_at(self, due_us: int) -> None:
        """An order has been handed back until then, Unix microseconds."""
        if len(self._pauses) < self._limits.pauses:
            due = self._clock.monotonic() + (due_us - self._clock.now_us()) / 1e6
            heapq.heappush(self._pauses, due)
            if self._pauses[0] == due:
                self._wake.set()

    async def run(self) -> None:
        """Claim for ever."""
        while True:
            await sleep_or(self._clock, max(0.0, self._next_look() - self._clock.monotonic()), self._wake)
            self._wake.clear()
            self._note_time()
            if self._closed or not (self._all or self._rung) or (room := self._room()) <= 0:
                continue
            try:
                async with self._round:
                    await self._claim(room)
            except JournalError as error:
                _log.warning("claiming.failed", error=str(error))
                self._forget_rung(list(self._rung))  # the database is away: looking at all finds them
                await self._clock.sleep(self._limits.look_every_s)
            await self._clock.sleep(self._limits.rest_s * (0.5 + self._ids.fraction()))

    async def close(self) -> None:
        """Claim no more; returns once no claim is under way. Whoever rang is answered: others look."""
        self._closed = True
        async with self._round:
            self._forget_rung(list(self._rung))

    def _ring(self, order_ids: Sequence[str]) -> None:
        if self._closed or len(self._rung) + len(order_ids) > self._limits.rung:
            self._dispatcher.taken(order_ids)
            order_ids = ()
        if order_ids:
            self._rung.update(dict.fromkeys(order_ids))
        else:
            self._all = True
        self._wake.set()

    def _next_look(self) -> float:
        return min(self._look_at, self._pauses[0]) if self._pauses else self._look_at

    def _note_time(self) -> None:
        """Look at all when it is time to."""
        now = self._clock.monotonic()
        while self._pauses and self._pauses[0] <= now:
            heapq.heappop(self._pauses)
            self._all = True
        if self._look_at <= now:
            self._look_at = now + self._limits.look_every_s * (1 + self._ids.fraction()) / 2  # not all workers at once
            self._all = True

    async def _claim(self, room: int) -> None:
        """Take orders that were rung for, and where any may be waiting, the most urgent of all."""
        if self._gate.halt is not None:
            self._forget_rung(list(self._rung))
        if rung := list(islice(self._rung, min(room, self._limits.batch))):
            claimed = await self._journal.claim_these(rung)
            self._forget_rung(rung)
            await self._take_up(claimed)
            room -= len(claimed)
        if self._all and room > 0:
            self._all = False  # what rings from now on may have come too late for this claim
            limit = min(room, self._limits.batch)
            halted = self._gate.halt is not None
            claimed = await self._journal.claim_waiting(limit, signed_only=halted)
            if len(claimed) >= limit:
                self._all = True
            await self._take_up(claimed)
        if self._all or self._rung:
            self._wake.set()

    async def _take_up(self, claimed: Sequence[ClaimedOrder]) -> None:
        self.rounds += 1
        self.claimed += len(claimed)
        for log in await self._recovery.take_up(claimed):
            self._go_on(log)

    def _forget_rung(self, order_ids: Sequence[str]) -> None:
        """Who holds these now is known to the journal."""
        for order_id in order_ids:
            self._rung.pop(order_id, None)
        if order_ids:
            self._dispatcher.taken(order_ids)
