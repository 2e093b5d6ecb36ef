"""Entry: one of several processes that accept orders, and execute and watch none."""

import asyncio
from collections.abc import Callable

from bestex.domain.events import ConfirmedDetail
from bestex.domain.orders import Order
from bestex.domain.tokens import TokenRegistry
from bestex.engine.beyond_trigger import check_not_beyond
from bestex.engine.dead_man import DeadManSwitches
from bestex.engine.exits import exits_append
from bestex.engine.intake import CALLER, Intake, IntakeLimits
from bestex.engine.open_orders import OpenOrders
from bestex.engine.order_log import OrderLog
from bestex.engine.shared_halt import SharedHalt
from bestex.engine.shared_limits import SharedLimits
from bestex.engine.signing import SigningGate
from bestex.ports import Append, Clock, DeadMan, Ids, Journal, MarketData, TriggerStore, Wallet


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
        self._accepted = accepted
        self.gate = SigningGate()
        self.orders = OpenOrders(journal, clock, self.gate, tokens, self.check)
        self.dead_man = DeadManSwitches(store, clock, _goes_off_elsewhere)
        self.limits = SharedLimits(journal, clock, limits)
        self.intake = Intake(
            journal,
            clock,
            ids,
            limits,
            self.gate,
            self.limits.waiting,
            self.limits.opened,
            self.limits.watched,
            self.check,
            self.covers,
            self._on_disk,
        )
        self.halt = SharedHalt(journal, self.gate, clock)

    @property
    def open_orders(self) -> int:
        """Orders that have not ended and are not watched, over all processes, as last counted."""
        return self.limits.there_are.open

    @property
    def orders_waiting(self) -> int:
        """Orders that wait for a worker, as last counted."""
        return self.limits.there_are.waiting

    @property
    def orders_watched(self) -> int:
        return self.limits.there_are.watched

    async def begin(self) -> None:
        """Learn what stands, before the first order is taken. Raises `JournalError`."""
        await self.halt.look()
        await self.limits.look()

    async def run(self) -> None:
        """Keep to what holds for all processes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.halt.run())
            tasks.create_task(self.limits.run())

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

    def _on_disk(self, log: OrderLog) -> None:
        self.limits.accepted(log)
        self._accepted(log)


async def _goes_off_elsewhere(switch: DeadMan) -> None:
    """Nothing: the watcher that owns the switches has them go off."""
