"""Processes that accept orders and execute none, over one database."""

import asyncio

from bestex.ambient import SystemIds
from bestex.domain.errors import JournalUnavailableError
from bestex.domain.orders import Order
from bestex.engine.intake import Accepted, Intake, IntakeFullError, IntakeLimits, OrderRequest
from bestex.engine.order_log import OrderLog
from bestex.engine.shared_limits import SharedLimits
from bestex.engine.signing import SigningGate
from bestex.ports import Clock, Journal


class Api:
    """The intake of one process, with its share of the bounds."""

    def __init__(self, journal: Journal, clock: Clock, limits: IntakeLimits) -> None:
        self.limits = SharedLimits(journal, clock, limits, lambda: self.intake.committing)
        self.accepted: list[OrderLog] = []
        self.full = 0  # orders refused because of a bound
        self.intake = Intake(
            journal,
            clock,
            SystemIds(),
            limits,
            SigningGate(),
            self.limits.waiting,
            self.limits.opened,
            self.limits.watched,
            _check_nothing,
            lambda mint, units: None,
            self._accepted,
        )

    async def post(self, request: OrderRequest) -> Accepted | None:
        """Its answer; None when the intake is full, or it is not known whether it is."""
        try:
            return await self.intake.accept(request, "local", None)
        except (IntakeFullError, JournalUnavailableError):
            self.full += 1
            await asyncio.sleep(0)
            return None

    def _accepted(self, log: OrderLog) -> None:
        self.accepted.append(log)
        self.limits.accepted(log)


async def _check_nothing(order: Order) -> None:
    """Every order may wait."""
