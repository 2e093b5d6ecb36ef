"""Entry: one of several processes that accept orders, and execute and watch none."""

import asyncio
from collections.abc import Callable

from bestex.domain.events import ConfirmedDetail
from bestex.domain.orders import Order
from bestex.domain.tokens import TokenRegistry
from bestex.engine.beyond_trigger import check_not_beyond
from bestex.engine.exits import exits_append
from bestex.engine.halt_following import HaltFollower
from bestex.engine.intake import CALLER, Intake, IntakeLimits
from bestex.engine.open_orders import OpenOrders
from bestex.engine.order_log import OrderLog
from bestex.engine.shared_limits import SharedLimits
from bestex.engine.signing import SigningGate
from bestex.engine.stored_switches import SwitchesOnDisk
from bestex.ports import Append, Clock, Ids, Journal, MarketData, TriggerStore, Wallet


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
        self._on_disk = accepted
        self.limits = SharedLimits(journal, clock, limits, lambda: self.intake.committing)
        self.gate = SigningGate()
        self.orders = OpenOrders(journal, clock, self.gate, tokens, self.check)
        self.dead_man = SwitchesOnDisk(store, clock)
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
            self._accepted,
        )
        self.halts = HaltFollower(journal, self.gate, clock, self.refold)

    @property
    def open_orders(self) -> int:
        """Nothing is executed here."""
        return 0

    async def begin(self) -> None:
        """Learn what stands, before the first order is taken. Raises `JournalError`."""
        await self.halts.obey()
        await self.limits.look()

    async def run(self) -> None:
        """Keep to what holds for all processes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.halts.run())
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

    def _accepted(self, log: OrderLog) -> None:
        self.limits.accepted(log)
        self._on_disk(log)
