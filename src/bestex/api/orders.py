"""Orders: read one, its history and receipt, list them, cancel one."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from bestex.api.execute import AcceptedBody, OrderEntry
from bestex.api.problems import ProblemError
from bestex.api.receipt import Receipt, receipt_of
from bestex.api.requests import read_order_id, read_page_query, read_query
from bestex.domain.errors import NotFoundError
from bestex.domain.events import Event, Update, update_of
from bestex.domain.lifecycle import Status
from bestex.domain.orders import OrderView
from bestex.engine.engine import Engine
from bestex.engine.errors import AlreadyEndedError, JournalBehindError
from bestex.ports import Journal

OrderId = FromPath[str]


class OrderBody(msgspec.Struct, rename="camel", omit_defaults=True):
    """What `POST /api/orders/execute` takes."""

    token_in: Annotated[str, msgspec.Meta(description="Symbol or mint address.", examples=["SOL"])]
    token_out: Annotated[str, msgspec.Meta(description="Symbol or mint address.", examples=["USDC"])]
    amount: Annotated[
        str | float,
        msgspec.Meta(description="In token units; text, or a JSON number read exactly.", examples=["1.5"]),
    ]
    kind: Annotated[str, msgspec.Meta(description="`market`.")] = "market"
    slippage_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000, description="Largest loss against the quote.")] = 50
    client_order_id: (
        Annotated[str, msgspec.Meta(max_length=64, description="Yours; a second order with it is not made.")] | None
    ) = None


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

    def __init__(self, engine: Engine, journal: Journal, entry: OrderEntry) -> None:
        self.engine = engine
        self.journal = journal
        self.entry = entry

    async def events(self, order_id: str) -> list[Event]:
        """All events of an order; `ProblemError` when the id is malformed or unknown."""
        stored = await self.journal.events(read_order_id(order_id))
        if not stored:
            raise ProblemError("order-not-found", f"there is no order {order_id}")
        return [each.event for each in stored]


class OrderRoutes(Controller):
    path = "/api/orders"
    tags = ("orders",)

    @post("/execute", status_code=202, summary="Enter an order")
    async def execute(self, data: JSONBody[OrderBody]) -> Response[AcceptedBody]:
        """Stores the order and answers; `statusEndpoint` is the WebSocket with its events.

        As a WebSocket this same path takes one order as its first message and sends its events;
        with `?keep=true`, many. The header `Idempotency-Key` makes a repetition safe.
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
        limit: FromQuery[str | None] = None,
        cursor: FromQuery[str | None] = None,
    ) -> OrderPage:
        where, size, before = read_page_query(read_query(request.scope["query_string"]))
        views = await reader.journal.orders(where, size, before)
        return OrderPage(views, views[-1].order_id if len(views) == size else None)

    @get("/{order_id:str}", summary="One order")
    async def order(self, order_id: OrderId, reader: NamedDependency[OrderReader]) -> OrderView:
        row = await reader.journal.order(read_order_id(order_id))
        if row is None:
            raise ProblemError("order-not-found", f"there is no order {order_id}")
        return row.view

    @get("/{order_id:str}/history", summary="Every event of an order")
    async def history(self, order_id: OrderId, reader: NamedDependency[OrderReader]) -> History:
        return History([_update_body(update_of(event)) for event in await reader.events(order_id)])

    @get("/{order_id:str}/receipt", summary="Why the order was executed as it was")
    async def receipt(self, order_id: OrderId, reader: NamedDependency[OrderReader]) -> Receipt:
        return receipt_of(await reader.events(order_id))

    @delete("/{order_id:str}", status_code=200, summary="Cancel an order")
    async def cancel(self, order_id: OrderId, reader: NamedDependency[OrderReader]) -> Response[OrderView]:
        """Before signing: 200, cancelled. After it: 202 with `cancelRequested`; no further attempt is made."""
        try:
            view = await reader.engine.orders.cancel(read_order_id(order_id))
        except NotFoundError as error:
            raise ProblemError("order-not-found", str(error)) from error
        except AlreadyEndedError as error:
            raise ProblemError("order-ended", str(error)) from error
        except JournalBehindError as error:
            raise ProblemError("journal-behind", str(error)) from error
        return Response(view, status_code=200 if view.status == Status.CANCELLED else 202)


def _update_body(update: Update) -> UpdateBody:
    detail: dict[str, Any] = msgspec.to_builtins(update.detail)
    return UpdateBody(update.order_id, update.status, update.seq, update.attempt, update.timestamp, detail)
