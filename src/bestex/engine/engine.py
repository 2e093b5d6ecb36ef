"""The engine in one process: entry, watch and execution, put together."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from bestex.domain.errors import JournalError
from bestex.domain.events import ConfirmedDetail, StoredEvent
from bestex.domain.orders import Order
from bestex.domain.tokens import TokenRegistry
from bestex.engine.books import AllBooks
from bestex.engine.dead_man import DeadManSwitches
from bestex.engine.execution import EngineLimits, Execution, Recovered
from bestex.engine.intake import CALLER, Intake
from bestex.engine.open_orders import OpenOrders
from bestex.engine.order_log import OrderLog
from bestex.engine.signing import SigningGate
from bestex.engine.watch import Watch
from bestex.ports import Append, Chain, Clock, DeadMan, Ids, Journal, MarketData, TriggerStore, Wallet
from bestex.routing.router import Router

WATCH_AGAIN_PAUSE_S: Final = 0.5

_log = structlog.get_logger(__name__)


class Engine:
    """Executes the orders that it accepts, and those that a dead engine left."""

    def __init__(
        self,
        journal: Journal,
        router: Router,
        chain: Chain,
        wallet: Wallet,
        market: MarketData,
        store: TriggerStore,
        tokens: TokenRegistry,
        clock: Clock,
        ids: Ids,
        limits: EngineLimits,
    ) -> None:
        """To be given every commit of the journal: `journal.listen(engine.committed)`."""
        self._clock = clock
        self.gate = SigningGate()
        self.execution = Execution(
            journal, router, chain, wallet, tokens, clock, ids, limits, self.gate, self._rests, self._may_rest
        )
        self.dispatcher = self.execution.dispatcher
        self.landing = self.execution.landing
        self.chain = self.execution.chain
        self.funds = self.execution.funds
        self.watch = Watch(
            journal,
            store,
            market,
            self.execution.recovery,
            tokens,
            clock,
            self.gate,
            AllBooks(),
            CALLER,
            self.execution.fired,
            self._accepted,
        )
        self.orders = OpenOrders(journal, clock, self.gate, tokens, self.watch.check)
        self.dead_man = DeadManSwitches(store, clock, self._cancel_resting)
        self.intake = Intake(
            journal,
            clock,
            ids,
            limits.intake,
            self.gate,
            lambda: self.dispatcher.waiting,
            lambda: self.open_orders,
            lambda: len(self.watch),
            self.watch.check,
            self.funds.covers,
            self._accepted,
        )

    @property
    def open_orders(self) -> int:
        """Orders that execute, wait to, wait for proof, or are held by a halt."""
        return self.execution.open_orders

    async def run(self) -> None:
        """Land what has been sent, watch, and sweep up what was left, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.execution.run())
            tasks.create_task(self.watch.run())
            tasks.create_task(self.dead_man.run())

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Follow what has been committed; a listener of the journal."""
        self.execution.committed(events)
        self.watch.committed(events)

    async def recover(self, on_progress: Callable[[Recovered, int], None] | None = None) -> Recovered:
        """Take over the unsettled orders that no living engine holds; see `Execution.recover`."""
        return await self.execution.recover(on_progress)

    async def sweep(self) -> int:
        """Take up the unsettled orders that nobody is at; how many."""
        return await self.execution.sweep()

    def refold(self, order_id: str) -> None:
        """Read an order anew and go on from there, if this engine still holds it."""
        self.execution.refold(order_id)

    def resolved(self, signature: str, exits: str | None) -> None:
        """A person has said what became of a transaction; with the id of the exits that came with it."""
        if exits is not None:
            self.watch.refresh(exits)
        self.landing.forget(signature)

    def exits_of(self, entry: Order, confirmed: ConfirmedDetail) -> Append | None:
        """The rows that make the exits of an executed entry, to be stored with its `confirmed`; None without exits."""
        return self.execution.exits_of(entry, confirmed)

    async def drain(self, seconds: float) -> None:
        """Take no more orders and bring those that execute to a safe point, for at most `seconds`."""
        self.intake.closed = True
        self.watch.close()
        await self.execution.drain(seconds)

    async def stop(self) -> None:
        """Take no more orders and leave those that run where they stand."""
        self.intake.closed = True
        self.watch.close()
        await self.execution.stop()

    async def watch_again(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Take up the watched orders and the dead-man switches, however often it takes; how many orders.

        `on_progress` gets how many orders have been taken up so far, and how many there are.
        """
        while True:
            try:
                await self.dead_man.load()
                watched = await self.watch.rebuild(on_progress)
            except JournalError as error:
                _log.warning("watch.interrupted", error=str(error))
                await self._clock.sleep(WATCH_AGAIN_PAUSE_S)
            else:
                return watched

    def _accepted(self, log: OrderLog) -> None:
        if log.order.rests:
            self.watch.rest(log)
        else:
            self.execution.go_on(log)

    def _rests(self, log: OrderLog) -> None:
        self.watch.rest(log)

    def _may_rest(self, order_id: str) -> None:
        self.watch.refresh(order_id)

    async def _cancel_resting(self, switch: DeadMan) -> None:
        await self.orders.cancel_many(by="deadman", resting_only=True, keeps_stops=switch.keeps_stops)
