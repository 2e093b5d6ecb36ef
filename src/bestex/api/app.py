"""The application: the hot routes as bare ASGI, everything else on Litestar, the guard in front of all."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import structlog
from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin, YamlRenderPlugin
from litestar.static_files import create_static_files_router

from bestex import __version__
from bestex.api.asgi import App, Receive, Scope, Send, send_problem
from bestex.api.batch import BatchEntry
from bestex.api.dead_man import DeadManRoutes
from bestex.api.entry_stream import EntryStream
from bestex.api.execute import OrderEntry, problem_of
from bestex.api.feed import Feed
from bestex.api.fields import MAX_BODY_BYTES
from bestex.api.launches import LaunchReader, LaunchRoutes
from bestex.api.market import MarketReader, MarketRoutes, SimulationRoutes
from bestex.api.operations import OperationsReader, OperationsRoutes
from bestex.api.operator import OperatorReader, OperatorRoutes
from bestex.api.orders import OrderReader, OrderRoutes
from bestex.api.problems import FieldProblem, ProblemError
from bestex.api.stream import StatusStream
from bestex.domain.errors import BestexError

_EXECUTE = "/api/orders/execute"
_BATCH = "/api/orders/batch"
_EVENTS = "/api/events"
_ORDERS_PREFIX = "/api/orders/"
_STATUS_SUFFIX = "/status"
_ASSETS = "/assets/swagger-ui"

_log = structlog.get_logger(__name__)


class Application:
    """Routes requests: order entry and streams to their handlers, the rest to Litestar."""

    def __init__(
        self, entry: OrderEntry, entry_stream: EntryStream, status_stream: StatusStream, feed: Feed, rest: App
    ) -> None:
        self._entry = entry
        self._batch = BatchEntry(entry)
        self._entry_stream = entry_stream
        self._status_stream = status_stream
        self._feed = feed
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        path = scope.get("path", "").rstrip("/")
        if kind == "http":
            if path == _EXECUTE and scope["method"] == "POST":
                await self._entry(scope, receive, send)
            elif path == _BATCH and scope["method"] == "POST":
                await self._batch(scope, receive, send)
            elif path == _EVENTS:
                if scope["method"] == "GET":
                    await self._feed(scope, receive, send)
                else:
                    await send_problem(send, ProblemError("method-not-allowed"), [(b"allow", b"GET")])
            else:
                await self._rest(scope, receive, send)
        elif kind == "websocket":
            if path == _EXECUTE:
                await self._entry_stream(scope, receive, send)
            elif path.startswith(_ORDERS_PREFIX) and path.endswith(_STATUS_SUFFIX):
                order_id = path[len(_ORDERS_PREFIX) : -len(_STATUS_SUFFIX)]
                await self._status_stream(scope, receive, send, order_id)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": "there is no WebSocket here"})
        else:
            await self._rest(scope, receive, send)


def create_rest(
    orders: OrderReader,
    market: MarketReader,
    operations: OperationsReader,
    hand: OperatorReader,
    launches: LaunchReader | None,
) -> Litestar:
    """Everything that is not hot; `launches` is None where none are followed."""
    return Litestar(
        route_handlers=[
            OrderRoutes,
            DeadManRoutes,
            LaunchRoutes,
            MarketRoutes,
            SimulationRoutes,
            OperationsRoutes,
            OperatorRoutes,
            create_static_files_router(
                path=_ASSETS, directories=[_swagger_assets()], include_in_schema=False, name="swagger-ui"
            ),
        ],
        dependencies={
            "reader": Provide(lambda: orders, sync_to_thread=False),
            "market": Provide(lambda: market, sync_to_thread=False),
            "launched": Provide(lambda: launches, sync_to_thread=False),
            "hand": Provide(lambda: hand, sync_to_thread=False),
            "operations": Provide(lambda: operations, sync_to_thread=False),
        },
        exception_handlers={
            BestexError: _answer_problem,
            HTTPException: _answer_http_error,
            Exception: _answer_defect,
        },
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="bestex",
            version=__version__,
            summary="Best execution for Solana DEXs",
            description=_DESCRIPTION,
            path="/schema",
            use_handler_docstrings=True,
            render_plugins=[
                SwaggerRenderPlugin(
                    path="/",
                    js_url=f"{_ASSETS}/swagger-ui-bundle.js",
                    css_url=f"{_ASSETS}/swagger-ui.css",
                    standalone_preset_js_url=f"{_ASSETS}/swagger-ui-standalone-preset.js",
                    favicon=f"<link rel='icon' type='image/png' href='{_ASSETS}/favicon-32x32.png'>",
                ),
                JsonRenderPlugin(path="/openapi.json"),
                YamlRenderPlugin(path="/openapi.yaml"),
            ],
        ),
    )


_DESCRIPTION = """Amounts are decimal strings in token units; times are RFC 3339 in UTC; errors are problem documents
(RFC 9457). Three more doors are streams, which OpenAPI cannot describe:

- WebSocket `/api/orders/{orderId}/status`: an order's history, then each event. `?after=seq` resumes.
- WebSocket `/api/orders/execute`: send an order, get its events. `?keep=true` for many.
- `GET /api/events`: every order's events as server-sent events. `Last-Event-ID` or `?after=` resumes.
"""


def _swagger_assets() -> Path:
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package swagger-ui-py is missing: the API's page needs its files")
    return Path(spec.origin).parent / "static"


def _problem_response(error: ProblemError, extra: Mapping[str, str] | None = None) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in error.headers() if name != b"content-type"}
    headers.update(extra or {})
    return Response(error.body(), status_code=error.status, media_type="application/problem+json", headers=headers)


def _answer_problem(_: Request[Any, Any, Any], error: BestexError) -> Response[bytes]:
    return _problem_response(problem_of(error))


_CLIENT_GONE: Final = "client disconnected prematurely"
"""What the framework says of a body that ends too early: nobody is left to answer."""


def _answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    codes = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large", 415: "unsupported-media-type"}
    if error.status_code >= 500 and error.detail != _CLIENT_GONE:
        return _answer_defect(request, error)
    code = codes.get(error.status_code, "validation")
    problem = ProblemError(code, None if code == "not-found" else error.detail, _bad_fields(error))
    allowed = (error.headers or {}).get("allow")  # a 405 says what is
    return _problem_response(problem, {"allow": allowed} if allowed else None)


def _bad_fields(error: HTTPException) -> tuple[FieldProblem, ...]:
    """What was wrong with a body that was decoded into its fields."""
    extra = error.extra if isinstance(error.extra, list) else []
    keys = [each.get("key", "data") for each in extra]
    pointers = ["" if key == "data" else f"/{key}" for key in keys]  # "data": the body as a whole
    return tuple(FieldProblem(str(each["message"]), pointer) for each, pointer in zip(extra, pointers, strict=True))


def _answer_defect(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("api.defect", path=request.scope["path"], exc_info=error)
    return _problem_response(ProblemError("internal"))
