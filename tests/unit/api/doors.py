"""The API in front of an engine of scripted answers, called without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpx

from bestex.api.app import Application, create_rest
from bestex.api.asgi import App
from bestex.api.entry_stream import EntryStream
from bestex.api.execute import OrderEntry
from bestex.api.feed import Feed
from bestex.api.launches import LaunchReader
from bestex.api.market import MarketReader
from bestex.api.operations import OperationsReader
from bestex.api.operator import OperatorReader
from bestex.api.orders import OrderReader
from bestex.api.stream import StatusStream
from bestex.domain.errors import NotFoundError
from bestex.domain.events import Changes
from bestex.domain.order_state import OrderView
from bestex.domain.terms import Kind
from bestex.domain.tokens import load_tokens
from bestex.engine.intake import Accepted, Intake, OrderRequest
from bestex.engine.open_orders import CancelledMany, OpenOrders
from bestex.ports import DeadMan, Journal, MarketData, OrderFilter, OrderRow, TriggerStore
from tests.support.clock import FakeClock

NOW_US = 1_795_000_000_000_000  # 2026-11-18T11:06:40Z
TOKENS = load_tokens()


class ScriptedSwitches:
    def __init__(self) -> None:
        self.armed: dict[str, DeadMan] = {}

    async def arm(self, caller: str, seconds: int, keeps_stops: bool) -> DeadMan:
        self.armed[caller] = DeadMan(caller, NOW_US + seconds * 1_000_000, keeps_stops)
        return self.armed[caller]

    async def disarm(self, caller: str) -> None:
        self.armed.pop(caller, None)

    async def switch(self, caller: str) -> DeadMan | None:
        return self.armed.get(caller)


class ScriptedEngine:
    """An engine, its intake and its journal: answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.views: dict[str, OrderView] = {}
        self.accepted = Accepted("01a20470-bc2f-7016-ae45-f9d2688ab31b", NOW_US)
        self.requests: list[OrderRequest] = []
        self.amended: list[tuple[str, Changes]] = []
        self.cancels: list[tuple[str | None, Kind | None]] = []
        self.listed: list[OrderFilter] = []
        self.refusal: Exception | None = None
        self.dead_man = ScriptedSwitches()

    async def accept(self, request: OrderRequest, caller: str, key: str | None) -> Accepted:
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        return self.accepted

    async def order(self, order_id: str) -> OrderRow | None:
        view = self.views.get(order_id)
        return None if view is None else OrderRow(view, None, 1)

    async def archived(self, order_id: str) -> None:
        """Nothing has been archived."""

    async def orders(self, where: OrderFilter, limit: int, before_id: str | None) -> list[OrderView]:
        self.listed.append(where)
        return []

    async def amend(self, order_id: str, changes: Changes) -> OrderView:
        self.amended.append((order_id, changes))
        if self.refusal is not None:
            raise self.refusal
        return self.views[order_id]

    async def cancel(self, order_id: str) -> OrderView:
        if self.refusal is not None:
            raise self.refusal
        if order_id not in self.views:
            raise NotFoundError(f"there is no order {order_id}")
        return self.views[order_id]

    async def cancel_many(self, pair: str | None, kind: Kind | None) -> CancelledMany:
        self.cancels.append((pair, kind))
        return CancelledMany(["a"], ["b"])


@asynccontextmanager
async def doors(
    engine: ScriptedEngine,
    store: TriggerStore | None = None,
    market_data: MarketData | None = None,
    market: MarketReader | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API; without a store, of one that follows no launches."""
    clock, journal = FakeClock(NOW_US), cast(Journal, engine)
    launches = LaunchReader(store, market_data) if store is not None and market_data is not None else None
    rest = create_rest(
        OrderReader(cast(OpenOrders, engine), engine.dead_man, journal, TOKENS, clock),
        cast(MarketReader, market),
        cast(OperationsReader, None),
        cast(OperatorReader, None),
        launches,
    )
    application = Application(
        OrderEntry(cast(Intake, engine), TOKENS, clock),
        cast(EntryStream, None),
        cast(StatusStream, None),
        cast(Feed, None),
        cast(App, rest),
    )
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
