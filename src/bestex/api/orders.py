"""Orders: read one, its history and receipt, list them, change one, cancel one or many."""

from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import Body, FromPath, FromQuery, JSONBody

from bestex.api.batch import BatchAnswer
from bestex.api.bodies import ORDER_EXAMPLES, BatchBody, ChangesBody, OrderBody
from bestex.api.execute import AcceptedBody, problem_of, require_json
from bestex.api.order_control import read_changes
from bestex.api.problems import ProblemError
from bestex.api.receipt import Receipt, receipt_of
from bestex.api.requests import read_cancel_query, read_order_id, read_page_query, read_query
from bestex.domain.events import Event, Update, update_of
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView
from bestex.domain.tokens import TokenRegistry
from bestex.engine.dead_man import Switches
from bestex.engine.open_orders import OpenOrders
from bestex.engine.order_log import absent
from bestex.ports import Clock, Journal

OrderId = FromPath[str]


_EXAMPLES: Final = [Example(id=name, summary=name, value=body) for name, body in ORDER_EXAMPLES.items()]


class OrderPage(msgspec.Struct, frozen=True, rename="camel"):
    data: list[OrderView]
    next_cursor: str | None  # for the next page; null at the end


class UpdateBody(msgspec.Struct, frozen=True, rename="camel"):
    """One event of an order, as every stream sends it."""

    order_id: str
    status: str
    seq: int  # 1, 2, 3 ... within the order
    attempt: int
    timestamp: str
    detail: dict[str, Any]  # what it holds depends on the status


class History(msgspec.Struct, frozen=True):
    data: list[UpdateBody]


class OrderReader:
    """What the routes of orders need."""

    def __init__(
        self,
        orders: OpenOrders,
        dead_man: Switches,
        journal: Journal,
        tokens: TokenRegistry,
        clock: Clock,
    ) -> None:
        self.orders = orders
        self.dead_man = dead_man
        self.journal = journal
        self.tokens = tokens
        self.clock = clock

    async def view(self, order_id: str) -> OrderView:
        """An order as it stands; `ProblemError` when the id is malformed, unknown, or archived."""
        order_id = read_order_id(order_id)
        row = await self.journal.order(order_id)
        if row is None:
            raise problem_of(await absent(self.journal, order_id))
        return row.view

    async def events(self, order_id: str) -> list[Event]:
        """All events of an order; `ProblemError` when the id is malformed, unknown, or archived."""
        order_id = read_order_id(order_id)
        stored = await self.journal.events(order_id)
        if not stored:
            raise problem_of(await absent(self.journal, order_id))
        return [each.event for each in stored]


class CancelledOrders(msgspec.Struct, frozen=True, rename="camel"):
    """The ids of the orders that a cancel of many reached."""

    cancelled: list[str]
    cancel_requested: list[str]  # signed already: they may still execute, once


async def _check_changes(request: Request[Any, Any, Any]) -> None:
    """Name every bad field before the body is decoded, which stops at the first."""
    content_type = request.headers.get("content-type")
    require_json(content_type.encode("latin-1") if content_type else None)
    read_changes(await request.body(), None, None)


class OrderRoutes(Controller):
    path = "/api/orders"
    tags = ("orders",)

    @post("/execute", status_code=202, summary="Enter an order")
    async def execute(self, data: Annotated[OrderBody, Body(examples=_EXAMPLES)]) -> Response[AcceptedBody]:
        """Stores the order and answers; `statusEndpoint` is the WebSocket with its events.

        As a WebSocket this same path takes one order as its first message and sends its events;
        with `?keep=true`, many. The header `Idempotency-Key` makes a repetition safe.
        """
        raise ProblemError("not-found")  # the bare handler in front of Litestar has the path; this one describes it

    @post("/batch", status_code=200, summary="Enter many orders")
    async def batch(self, data: Annotated[BatchBody, Body()]) -> Response[BatchAnswer]:
        """Stores 1 to 1,000 orders; `results` has what became of each, in their order.

        Each is `accepted` or has the `problem` that it would have been answered with alone: none depends on another.
        For safe repetition give each order a `clientOrderId`.
        """
        raise ProblemError("not-found")  # the bare handler in front of Litestar has the path; this one describes it

    @get("/", summary="List orders, newest first")
    async def orders(
        self,
        request: Request[Any, Any, Any],
        reader: NamedDependency[OrderReader],
        status: FromQuery[str | None] = None,
        pair: FromQuery[str | None] = None,
        kind: FromQuery[str | None] = None,
        parentId: FromQuery[str | None] = None,  # noqa: N803 -- the parameter's public name
        limit: FromQuery[str | None] = None,
        cursor: FromQuery[str | None] = None,
    ) -> OrderPage:
        where, size, before = read_page_query(read_query(request.scope["query_string"]))
        views = await reader.journal.orders(where, size, before)
        return OrderPage(views, views[-1].order_id if len(views) == size else None)

    @get("/{order_id:str}", summary="One order")
    async def order(self, order_id: OrderId, reader: NamedDependency[OrderReader]) -> OrderView:
        return await reader.view(order_id)

    @get("/{order_id:str}/history", summary="Every event of an order")
    async def history(self, order_id: OrderId, reader: NamedDependency[OrderReader]) -> History:
        return History([_update_body(update_of(event)) for event in await reader.events(order_id)])

    @get("/{order_id:str}/receipt", summary="Why the order was executed as it was")
    async def receipt(self, order_id: OrderId, reader: NamedDependency[OrderReader]) -> Receipt:
        return receipt_of(await reader.events(order_id))

    @patch("/{order_id:str}", summary="Change an order that waits", before_request=_check_changes)
    async def change(
        self,
        order_id: OrderId,
        request: Request[Any, Any, Any],
        data: JSONBody[ChangesBody],
        reader: NamedDependency[OrderReader],
    ) -> OrderView:
        """Only while `watching`: else 409 `not-watching`, or `order-ended`."""
        view = await reader.view(order_id)
        token_out = reader.tokens.find(view.token_out)
        changes = read_changes(await request.body(), token_out, reader.clock.now_us())
        return await reader.orders.amend(view.order_id, changes)

    @delete("/{order_id:str}", status_code=200, summary="Cancel an order")
    async def cancel(self, order_id: OrderId, reader: NamedDependency[OrderReader]) -> Response[OrderView]:
        """Before signing: 200, cancelled. After it: 202 with `cancelRequested`; no further attempt is made."""
        view = await reader.orders.cancel(read_order_id(order_id))
        return Response(view, status_code=200 if view.status == Status.CANCELLED else 202)

    @delete("/", status_code=200, summary="Cancel many orders: of a pair, of a kind, or all")
    async def cancel_many(
        self,
        request: Request[Any, Any, Any],
        reader: NamedDependency[OrderReader],
        pair: FromQuery[str | None] = None,
        kind: FromQuery[str | None] = None,
        all: FromQuery[str | None] = None,  # noqa: A002 -- the parameter's public name
    ) -> CancelledOrders:
        """Every order that has not ended. `cancelRequested` are those that are signed: they may still execute."""
        wanted_pair, wanted_kind = read_cancel_query(read_query(request.scope["query_string"]))
        done = await reader.orders.cancel_many(wanted_pair, wanted_kind)
        return CancelledOrders(done.cancelled, done.cancel_requested)


def _update_body(update: Update) -> UpdateBody:
    detail: dict[str, Any] = msgspec.to_builtins(update.detail)
    return UpdateBody(update.order_id, update.status, update.seq, update.attempt, update.timestamp, detail)
