"""The engine of a worker: executes orders that others accept and fire, as far as it has room."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from bestex.domain.errors import JournalError
from bestex.domain.events import StoredEvent
from bestex.domain.tokens import TokenRegistry
from bestex.engine.claiming import Claiming, ClaimingLimits
from bestex.engine.execution import EngineLimits, Execution
from bestex.engine.order_log import OrderLog
from bestex.engine.signing import SigningGate
from bestex.engine.takeover import Takeover, TakeoverLimits
from bestex.ports import Chain, Clock, Dispatcher, Ids, Journal, Wallet
from bestex.routing.router import Router

STRAYS_EVERY_S: Final = 5.0
HAND_BACK_ORDERS: Final = 1_000  # leases let go of at a time
HAND_BACK_AGAIN_S: Final = 0.02
HAND_BACK_S: Final = 2.0  # for all of them; what is left then is taken over as a dead engine's

_log = structlog.get_logger(__name__)


class WorkerLimits(msgspec.Struct, frozen=True):
    held: int = 100_000  # orders held at once: those that execute, wait for proof, and are not final yet
    submitting: int = 500  # orders signed and not on disk: their blockhashes get old while they wait
    claiming: ClaimingLimits = ClaimingLimits()
    takeover: TakeoverLimits = TakeoverLimits()


class Worker:
    """Claims, executes and lands."""

    def __init__(
        self,
        journal: Journal,
        dispatcher: Dispatcher,
        router: Router,
        chain: Chain,
        wallet: Wallet,
        tokens: TokenRegistry,
        clock: Clock,
        ids: Ids,
        limits: EngineLimits,
        worker_limits: WorkerLimits,
    ) -> None:
        """To be given every commit of the journal: `journal.listen(worker.committed)`."""
        self._journal = journal
        self._dispatcher = dispatcher
        self._clock = clock
        self._limits = worker_limits
        self.gate = SigningGate()
        self.execution = Execution(
            journal,
            router,
            chain,
            wallet,
            tokens,
            clock,
            ids,
            limits,
            self.gate,
            _rests,
            _may_rest,
            self._handed_back,
        )
        self.claiming = Claiming(
            journal,
            dispatcher,
            self.execution.recovery,
            self.gate,
            clock,
            ids,
            worker_limits.claiming,
            self._room,
            self.execution.go_on,
        )
        self.takeover = Takeover(journal, dispatcher, clock, ids, worker_limits.takeover)
        self.execution.dispatcher.on_room(self.claiming.made_room)

    @property
    def held(self) -> int:
        """Orders that execute, wait to, wait for proof, are held by a halt, or are not final yet."""
        return self.execution.open_orders + self.execution.landing.confirmed

    async def run(self) -> None:
        """Claim, land what has been sent, and take up what dead workers left, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.execution.landing.run())
            tasks.create_task(self.claiming.run())
            tasks.create_task(self.takeover.run())
            tasks.create_task(self._take_up_strays_regularly())

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Follow what has been committed; a listener of the journal."""
        self.execution.committed(events)

    async def drain(self, seconds: float) -> None:
        """Claim no more, send what is signed, for at most `seconds`, and hand everything back."""
        try:
            async with asyncio.timeout(seconds):
                await self.claiming.close()
                await self._dispatcher.stop_listening()
        except TimeoutError:
            _log.warning("worker.claim_under_way")
        await self.execution.drain(seconds)
        try:
            async with asyncio.timeout(HAND_BACK_S):
                handed_back = await self._hand_back()
        except (JournalError, TimeoutError) as error:
            _log.warning("worker.hand_back_failed", error=str(error) or "timed out")
        else:
            _log.info("worker.handed_back", orders=handed_back)

    async def stop(self) -> None:
        """Leave the orders that run where they stand."""
        await self.execution.stop()

    async def _hand_back(self) -> int:
        """Let go of all leases, and ring for their orders; how many."""
        orders = 0
        while True:
            page = await self._journal.hand_back_held(HAND_BACK_ORDERS)
            self._dispatcher.ring(page)
            orders += len(page)
            if not page:
                if not await self._journal.held(None, 1):
                    return orders
                await self._clock.sleep(HAND_BACK_AGAIN_S)  # the last commit is under way, and locks them

    async def _take_up_strays_regularly(self) -> None:
        while True:
            await self._clock.sleep(STRAYS_EVERY_S)
            try:
                if strays := await self.execution.take_up_strays():
                    _log.warning("worker.strays", orders=strays)
            except JournalError as error:
                _log.warning("worker.strays_failed", error=str(error))

    def _room(self) -> int:
        executing = self.execution.dispatcher.room - len(self.gate.held)
        submitting = self._limits.submitting - self.execution.submitting
        return min(executing, submitting, self._limits.held - self.held)

    def _handed_back(self, due_us: int) -> None:
        self.claiming.look_again_at(due_us)


def _rests(log: OrderLog) -> None:
    """A watched order waits again: its watcher learns of it from the log."""


def _may_rest(order_id: str) -> None:
    """Exits have been made with their entry's fill: their watcher learns of them from the log."""
