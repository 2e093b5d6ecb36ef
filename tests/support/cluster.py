"""Apis and workers over one database: real claims, executors and dispatchers; one scripted venue and chain for all."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from bestex.ambient import SystemClock, SystemIds
from bestex.domain.events import SealedTokens, SignedTransaction, seal
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView
from bestex.domain.priority import priority_of
from bestex.domain.route import SwapRequest
from bestex.engine.claiming import ClaimingLimits
from bestex.engine.execution import EngineLimits
from bestex.engine.landing import LandingLimits
from bestex.engine.retry import RetryPolicy
from bestex.engine.takeover import TakeoverLimits
from bestex.engine.worker import Worker, WorkerLimits
from bestex.ports import Commitment, Dispatcher, EngineMode, RingListener, StatusReport, TransactionStatus, UnheldOrder
from bestex.routing.router import QuoteLimits, Router
from tests.support.journals import AnyJournal, JournalDatabase
from tests.support.orders import DraftOrder
from tests.support.small_engine import TOKENS, ScriptedChain, ScriptedVenue, ScriptedWallet

PATIENCE_S: Final = 20.0
SIGN_OF_LIFE_EVERY_S: Final = 1.0
NEVER_S: Final = 3_600.0
LIMITS: Final = EngineLimits(
    retry=RetryPolicy(base_s=0.3, jitter=0.0),
    landing=LandingLimits.looking_every(0.05),
    build_deadline_s=NEVER_S,
)
QUICK: Final = WorkerLimits(
    claiming=ClaimingLimits(look_every_s=0.1),
    takeover=TakeoverLimits(look_every_s=0.1, search_every_s=NEVER_S),
)
DEAF: Final = WorkerLimits(claiming=ClaimingLimits(look_every_s=NEVER_S), takeover=QUICK.takeover)
"""A worker that looks only when it is rung for, and once at its start."""


class Venue(ScriptedVenue):
    """Builds while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def build(self, request: SwapRequest) -> SignedTransaction:
        transaction = await super().build(request)
        await self.gate.wait()
        return transaction


class Chain(ScriptedChain):
    """One chain for all workers. With a `ledger` it is one for several processes: every send is a line of that file."""

    def __init__(self, ledger: Path | None = None) -> None:
        super().__init__()
        self._hints: list[Callable[[Sequence[str]], None]] = []
        self._ledger = ledger
        self.hint = self._hint

    async def send(self, transaction: SignedTransaction) -> None:
        if self._ledger is not None:
            with self._ledger.open("a") as ledger:
                ledger.write(f"{transaction.signature}\n")
        await super().send(transaction)

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        if self._ledger is not None and self._ledger.exists():
            for signature in self._ledger.read_text().split():
                self.known.setdefault(signature, TransactionStatus(1_001, Commitment.CONFIRMED))
        return await super().statuses(signatures)

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        self._hints.append(listener)

    def _hint(self, signatures: Sequence[str]) -> None:
        for listener in self._hints:
            listener(signatures)


class _Losing:
    """A dispatcher whose rings are lost on the way to the worker when the cluster says so."""

    def __init__(self, dispatcher: Dispatcher, cluster: "Cluster") -> None:
        self._dispatcher = dispatcher
        self._cluster = cluster
        self.ring = dispatcher.ring
        self.taken = dispatcher.taken
        self.run = dispatcher.run
        self.stop_listening = dispatcher.stop_listening

    def on_ring(self, listener: RingListener) -> None:
        def ring(order_ids: Sequence[str]) -> None:
            if not self._cluster.lose_rings:
                listener(order_ids)

        self._dispatcher.on_ring(ring)


class RunningWorker:
    """A worker with its journal and its dispatcher."""

    def __init__(self, database: JournalDatabase, journal: AnyJournal, dispatcher: Dispatcher, worker: Worker) -> None:
        self._database = database
        self.journal = journal
        self.worker = worker
        works = (dispatcher.run(), worker.run(), self._give_signs_of_life())
        self._running = [asyncio.create_task(work) for work in works]

    async def held(self) -> list[str]:
        return [held.order_id for held in await self.journal.held(None, 1_000)]

    async def drain(self) -> None:
        await self.worker.drain(5.0)

    async def kill(self) -> None:
        """Stop it where it stands; what it holds is thought to be held a while longer."""
        for task in self._running:
            task.cancel()
        await self.worker.execution.dispatcher.stop()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _give_signs_of_life(self) -> None:
        while True:
            await asyncio.sleep(SIGN_OF_LIFE_EVERY_S)
            await self._database.give_sign_of_life(self.journal)


class Cluster:
    """What one test starts."""

    def __init__(
        self,
        database: JournalDatabase,
        dispatcher: Callable[[], Dispatcher],
        rings_under_way: Callable[[], int] = lambda: 0,
    ) -> None:
        """`rings_under_way`: how many are kept outside of the processes until a worker is done with them."""
        self.rings_under_way = rings_under_way
        self.database = database
        self._dispatcher = dispatcher
        self.venue = Venue()
        self.chain = Chain()
        self.workers: list[RunningWorker] = []
        self._apis: list[tuple[AnyJournal, Dispatcher]] = []
        self._running: list[asyncio.Task[None]] = []
        self.orders: list[str] = []
        self.lose_rings = False

    async def api(self) -> int:
        """Another api; its number."""
        dispatcher = self._dispatcher()
        self._running.append(asyncio.create_task(dispatcher.run()))
        self._apis.append((await self.database.journal(EngineMode.API), dispatcher))
        return len(self._apis) - 1

    async def accept(self, orders: int = 1, *, api: int = 0, parent_id: str | None = None) -> list[str]:
        """Store market orders of 1.5 SOL at once, or slices of another, and ring for them."""
        if not self._apis:
            await self.api()
        journal, dispatcher = self._apis[api]
        sol, usdc = TOKENS.get("SOL"), TOKENS.get("USDC")
        sealed = seal(SealedTokens(sol.mint, usdc.mint, sol.decimals, usdc.decimals))
        drafts = [DraftOrder(parent_id=parent_id) for _ in range(orders)]
        await asyncio.gather(
            *(journal.append(draft.add((Status.PENDING, draft._pending), sealed=sealed)) for draft in drafts)
        )
        ids = [draft.id for draft in drafts]
        priority = priority_of("market", parent_id)
        dispatcher.ring([UnheldOrder(order_id, "market", "SOL/USDC", priority) for order_id in ids])
        self.orders += ids
        return ids

    async def worker(self, limits: WorkerLimits = QUICK, *, concurrency: int = 100) -> RunningWorker:
        journal = await self.database.journal(EngineMode.WORKER)
        dispatcher, clock = _Losing(self._dispatcher(), self), SystemClock()
        worker = Worker(
            journal,
            dispatcher,
            Router([self.venue], clock, QuoteLimits()),
            self.chain,
            ScriptedWallet(),
            TOKENS,
            clock,
            SystemIds(),
            replace(LIMITS, concurrency=concurrency),
            limits,
        )
        journal.listen(worker.committed)
        running = RunningWorker(self.database, journal, dispatcher, worker)
        self.workers.append(running)
        return running

    async def view(self, order_id: str) -> OrderView:
        row = await self._apis[0][0].order(order_id)
        assert row is not None
        return row.view

    async def statuses(self, order_id: str) -> list[Status]:
        return [stored.event.status for stored in await self._apis[0][0].events(order_id)]

    async def holder(self, order_id: str) -> str | None:
        row = await self._apis[0][0].order(order_id)
        assert row is not None
        return row.lease_owner

    async def draft(self, order_id: str) -> DraftOrder:
        """A writer's view of an order, as nobody's executor."""
        draft = DraftOrder(order_id, epoch=None)
        for stored in await self.journal.events(order_id):
            draft.state.apply(stored.event)
        return draft

    @property
    def journal(self) -> AnyJournal:
        return self._apis[0][0]

    async def all_confirmed(self) -> None:
        """Wait until every order is confirmed; each has been signed once, and no other bytes were sent."""

        async def confirmed() -> bool:
            return all([(await self.view(order_id)).status == Status.CONFIRMED for order_id in self.orders])

        await until(confirmed)
        signed = [request.order_id for request in self.venue.built]
        assert sorted(set(signed)) == sorted(self.orders)
        assert sorted(set(self.chain.sent)) == sorted(f"{order_id}/1" for order_id in self.orders)

    async def close(self) -> None:
        for worker in self.workers:
            await worker.kill()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.database.close()


async def until(condition: Callable[[], "asyncio.Future[bool] | object"], within_s: float = PATIENCE_S) -> None:
    """Wait until `condition`, which may be a coroutine function, holds."""
    async with asyncio.timeout(within_s):
        while True:
            met = condition()
            if asyncio.iscoroutine(met):
                met = await met
            if met:
                return
            await asyncio.sleep(0.01)
