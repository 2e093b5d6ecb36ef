"""The HTTP application of a process that takes orders."""

from collections.abc import Awaitable, Callable

from bestex.api.app import Application, create_rest
from bestex.api.direct_entry import DirectEntry
from bestex.api.entry_stream import EntryStream
from bestex.api.execute import OrderEntry
from bestex.api.feed import Feed
from bestex.api.guard import Guard
from bestex.api.launches import LaunchReader
from bestex.api.market import MarketReader
from bestex.api.operations import OperationsReader
from bestex.api.operator import OperatorReader
from bestex.api.orders import OrderReader
from bestex.api.stream import OpenStreams, StatusStream
from bestex.config import Settings
from bestex.domain.tokens import TokenRegistry
from bestex.engine.dead_man import Switches
from bestex.engine.intake import Intake
from bestex.engine.open_orders import OpenOrders
from bestex.engine.operator import Operator
from bestex.observability import Metrics
from bestex.ports import Clock, Hub, Journal, MarketData, Simulation, TriggerStore, Wallet
from bestex.routing.router import Router


def application(
    *,
    settings: Settings,
    tokens: TokenRegistry,
    clock: Clock,
    intake: Intake,
    orders: OpenOrders,
    dead_man: Switches,
    operator: Operator,
    journal: Journal,
    store: TriggerStore,
    hub: Hub,
    router: Router,
    wallet: Wallet,
    market_data: MarketData,
    control: Simulation,
    metrics: Metrics,
    streams: OpenStreams,
    not_ready: Callable[[], Awaitable[str | None]],
) -> tuple[Guard, DirectEntry]:
    """All of it, and order entry as it is read straight from a connection.

    `not_ready` says what keeps orders from being taken, or None.
    """
    entry = OrderEntry(intake, tokens, clock)
    rest = create_rest(
        OrderReader(orders, dead_man, journal, tokens, clock),
        MarketReader(router, tokens, wallet, control),
        OperationsReader(not_ready, metrics.text),
        OperatorReader(operator, journal, tokens),
        LaunchReader(store, market_data),
    )
    served = Application(
        entry,
        EntryStream(entry, journal, hub, streams),
        StatusStream(journal, hub, streams),
        Feed(journal, hub, streams, clock),
        rest,  # type: ignore[arg-type] # Litestar's own names for the ASGI types
    )
    guard = Guard(served, settings.allowed_hosts, settings.cors_origins)
    return guard, DirectEntry(entry, guard)
