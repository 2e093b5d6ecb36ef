"""Entry: one of several processes that accept orders, and execute and watch none."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from bestex.domain.errors import JournalError
from bestex.domain.events import ConfirmedDetail
from bestex.domain.orders import Order
from bestex.domain.tokens import TokenRegistry
from bestex.engine.beyond_trigger import check_not_beyond
from bestex.engine.exits import exits_append
from bestex.engine.intake import CALLER, Intake, IntakeLimits
from bestex.engine.open_orders import OpenOrders
from bestex.engine.order_log import OrderLog
from bestex.engine.shared_halt import SharedHalt
from bestex.engine.signing import SigningGate
from bestex.engine.stored_switches import SwitchesOnDisk
from bestex.ports import Append, Clock, Ids, Journal, MarketData, TriggerStore, Wallet

COUNT_EVERY_S: Final = 0.5
"""Seconds between two counts of what waits and what is open, over all processes: limits are kept to within so much."""
COUNT_WATCHED_EVERY: Final = 20
"""Counts of these between two of the watched: there may be millions."""

_log = structlog.get_logger(__name__)


class EntryEngine:
    """Accepts orders, cancels and changes them, arms dead-man switches. `Operated` by a person's hand."""

    def __init__(
        self,
        journal: Journal,
        store: TriggerStore,
        market: MarketData,
        wallet: Wallet,
        tokens: TokenRegistry,
        clock: Clock,
        ids: Ids,
        limits: IntakeLimits,
        accepted: Callable[[OrderLog], None],
    ) -> None:
        """`accepted` gets each order that is on disk."""
        self._journal = journal
        self._market = market
        self._wallet = wallet
        self._clock = clock
        self._waiting = 0
        self._open = 0
        self._watched = 0
        self.gate = SigningGate()
        self.orders = OpenOrders(journal, clock, self.gate, tokens, self.check)
        self.dead_man = SwitchesOnDisk(store, clock)
        self.intake = Intake(
            journal,
            clock,
            ids,
            limits,
            self.gate,
            lambda: self._waiting,
            lambda: self._open,
            lambda: self._watched,
            self.check,
            self.covers,
            accepted,
        )
        self._halt = SharedHalt(journal, self.gate, clock)

    @property
    def open_orders(self) -> int:
        """Orders that have not settled and are not watched, over all processes, as last counted."""
        return self._open

    @property
    def orders_waiting(self) -> int:
        """Orders that wait for a worker, as last counted."""
        return self._waiting

    @property
    def orders_watched(self) -> int:
        return self._watched

    async def begin(self) -> None:
        """Learn what stands, before the first order is taken. Raises `JournalError`."""
        await self._halt.look()
        await self._count(watched=True)

    async def run(self) -> None:
        """Keep to what holds for all processes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._halt.run())
            tasks.create_task(self._count_regularly())

    async def check(self, order: Order) -> None:
        """Raise `BeyondTriggerError` for an order whose trigger would fire at once, unless it allows that."""
        await check_not_beyond(order, self._market, self._clock)

    def covers(self, mint: str, units: int) -> bool | None:
        """Whether the wallet holds so much, as far as is known; what orders are about to spend is not known here."""
        held = self._wallet.held(mint)
        return None if held is None else held >= units

    def close(self) -> None:
        """Take no more orders."""
        self.intake.closed = True

    # --- As a person's hand reaches it

    def refold(self, order_id: str) -> None:
        """Nothing: whoever executes it notices by compare-and-set."""

    def resolved(self, signature: str, exits: str | None) -> None:
        """Nothing, likewise."""

    def exits_of(self, entry: Order, confirmed: ConfirmedDetail) -> Append | None:
        """The rows that make the exits of an executed entry."""
        if entry.terms.exits is None:
            return None
        return exits_append(self._journal, self._clock, entry, confirmed, CALLER)

    async def sweep(self) -> int:
        """Nothing: what nobody is at, the workers sweep up."""
        return 0

    # --- What waits, over all processes

    async def _count_regularly(self) -> None:
        number = 0
        while True:
            await self._clock.sleep(COUNT_EVERY_S)
            number += 1
            try:
                await self._count(watched=number % COUNT_WATCHED_EVERY == 0)
            except JournalError as error:
                _log.warning("entry.not_counted", error=str(error))

    async def _count(self, *, watched: bool) -> None:
        self._waiting = await self._journal.unheld()
        self._open = await self._journal.unsettled()
        if watched:
            self._watched = await self._journal.count_resting()
