"""Holds new pools against the orders that wait for one, and keeps what was thought of each on disk."""

import asyncio
from collections import deque
from typing import Final

import structlog

from bestex.domain.errors import UnknownTokenError
from bestex.domain.launches import Launch
from bestex.domain.tokens import TokenRegistry
from bestex.engine.firing_desk import FiringDesk
from bestex.engine.signing import SigningGate
from bestex.engine.triggers.snipers import Snipers
from bestex.ports import Clock, LaunchRecord, MarketData, RestingOrder, TriggerStore

LOOK_AGAIN_EVERY_S: Final = 0.4
MAX_RECORDS_WAITING: Final = 1_000  # for a database that is away; the oldest are forgotten before
CATCH_UP: Final = 1_000  # launches that a dead engine did not see, at most
REFERENCE_AMOUNT: Final = "1"
"""Of the quote token: what buying a new token is reckoned with."""

_log = structlog.get_logger(__name__)


class LaunchDesk:
    """The snipers of one engine."""

    def __init__(
        self,
        market: MarketData,
        store: TriggerStore,
        clock: Clock,
        gate: SigningGate,
        tokens: TokenRegistry,
        firing: FiringDesk,
    ) -> None:
        self._market = market
        self._store = store
        self._clock = clock
        self._gate = gate
        self._tokens = tokens
        self._firing = firing
        self._snipers = Snipers()
        self._records: deque[LaunchRecord] = deque(maxlen=MAX_RECORDS_WAITING)
        self._wake = asyncio.Event()
        market.on_launch(self._launched)

    def __len__(self) -> int:
        return len(self._snipers)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_again_regularly())
            tasks.create_task(self._keep_records())

    def enter(self, order: RestingOrder) -> None:
        """Have an order wait for a launch."""
        try:
            token_in = self._tokens.get(order.token_in)
        except UnknownTokenError as error:
            _log.error("launches.order_unreadable", order_id=order.order_id, error=str(error))
            return
        self._snipers.add(order, token_in)

    def remove(self, order_id: str) -> None:
        self._snipers.remove(order_id)

    async def catch_up(self) -> None:
        """Look at the pools that were listed while no engine ran. Raises `JournalError`."""

    def _launched(self, launch: Launch) -> None: ...

    async def _look_again_regularly(self) -> None:
        await asyncio.Event().wait()

    async def _keep_records(self) -> None:
        await asyncio.Event().wait()
