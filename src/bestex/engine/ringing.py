"""What dispatchers are told of orders."""

from bestex.domain.orders import Order
from bestex.domain.priority import priority_of
from bestex.ports import UnheldOrder


def unheld(order: Order) -> UnheldOrder:
    """An order that has just been accepted or fired, and that nobody holds."""
    kind = order.kind.value
    return UnheldOrder(order.id, kind, order.pair.name, priority_of(kind, order.terms.parent_id))
