"""What tells workers of orders, as the settings have it."""

from bestex.config import Settings
from bestex.dispatch.bullmq import BullMqDispatcher
from bestex.dispatch.bullmq.queue import BullMqLimits
from bestex.dispatch.postgres import PostgresDispatcher
from bestex.domain.lifecycle import Status
from bestex.engine.order_log import OrderLog
from bestex.engine.ringing import unheld
from bestex.ports import Clock, Dispatcher


def make_dispatcher(settings: Settings, dsn: str, clock: Clock) -> Dispatcher:
    """The caller runs it."""
    if settings.queue == "bullmq" and settings.redis_url is not None:
        return BullMqDispatcher(settings.redis_url, clock, BullMqLimits())
    return PostgresDispatcher(dsn, clock)


def ring(dispatcher: Dispatcher, log: OrderLog) -> None:
    """Tell workers of an order that is on disk, unless it waits for something else."""
    if log.state.status is not Status.WATCHING:
        dispatcher.ring((unheld(log.order),))
