"""What tells workers of orders, as the settings have it."""

from bestex.config import Settings
from bestex.dispatch.bullmq import BullMqDispatcher
from bestex.dispatch.bullmq.queue import BullMqLimits
from bestex.dispatch.postgres import PostgresDispatcher
from bestex.domain.priority import priority_of
from bestex.engine.order_log import OrderLog
from bestex.ports import Clock, Dispatcher, UnheldOrder


def make_dispatcher(settings: Settings, dsn: str, clock: Clock) -> Dispatcher:
    """The caller runs it."""
    if settings.queue == "bullmq" and settings.redis_url is not None:
        return BullMqDispatcher(settings.redis_url, clock, BullMqLimits())
    return PostgresDispatcher(dsn, clock)


def ring(dispatcher: Dispatcher, log: OrderLog) -> None:
    """Tell workers of an order that is on disk, unless it waits for something else."""
    order = log.order
    if not order.rests or log.state.fired:
        priority = priority_of(order.kind, None)
        dispatcher.ring([UnheldOrder(order.id, order.kind.value, order.pair.name, priority)])
