"""What operators and their machines ask: is it alive, is it ready, what has it counted, where is what."""

from collections.abc import Awaitable, Callable

import msgspec
from litestar import Controller, MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from bestex.api.problems import ProblemError, problem_page
from bestex.domain.errors import BestexError


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    status: str
    reason: str | None = None


class OperationsReader:
    """What the routes of operations need: `not_ready` says what keeps the engine from taking orders, or None."""

    def __init__(self, not_ready: Callable[[], Awaitable[str | None]], metrics: Callable[[], bytes]) -> None:
        self.not_ready = not_ready
        self.metrics = metrics


class OperationsRoutes(Controller):
    path = "/"
    tags = ("operations",)

    @get("/healthz", summary="Whether the process lives")
    async def health(self) -> Health:
        return Health("alive")

    @get("/readyz", summary="Whether orders are taken: 200, or 503 with the reason")
    async def ready(self, operations: NamedDependency[OperationsReader]) -> Response[Health]:
        try:
            reason = await operations.not_ready()
        except BestexError as error:
            reason = str(error)
        if reason is None:
            return Response(Health("ready"))
        return Response(Health("not ready", reason), status_code=503)

    @get("/metrics", summary="Prometheus' text format", media_type="text/plain; version=0.0.4; charset=utf-8")
    async def metrics(self, operations: NamedDependency[OperationsReader]) -> bytes:
        return operations.metrics()

    @get("/problems/{code:str}", media_type=MediaType.HTML, include_in_schema=False)
    async def problem(self, code: FromPath[str]) -> str:
        page = problem_page(code)
        if page is None:
            raise ProblemError("not-found")
        return page

    @get("/", media_type=MediaType.HTML, include_in_schema=False)
    async def index(self) -> str:
        return _INDEX


_INDEX = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>bestex</title>
<style>body{font:16px/1.6 system-ui,sans-serif;max-width:46em;margin:3em auto;padding:0 1em}
code,pre{background:#8881;border-radius:4px;padding:.1em .3em}pre{padding:.8em;overflow:auto}
td{padding:.15em 1em .15em 0;vertical-align:top}:root{color-scheme:light dark}</style>
<h1>bestex</h1>
<p>A best-execution order engine for Solana DEXs. It is running; this is where things are.</p>
<table>
<tr><td><a href="/schema">/schema</a><td>the API, to read and to try (<a href="/schema/openapi.json">OpenAPI 3.1</a>)
<tr><td><a href="/api/orders">/api/orders</a><td>orders, newest first
<tr><td><a href="/api/events?after=0">/api/events</a><td>every event of every order, as it happens
<tr><td><a href="/api/quotes?tokenIn=SOL&amp;tokenOut=USDC&amp;amount=1.5">/api/quotes</a><td>the venues side by side
<tr><td><a href="/api/launches">/api/launches</a><td>new pools, with every filter's verdict
<tr><td><a href="/api/tokens">/api/tokens</a>, <a href="/api/wallet">/api/wallet</a><td>the registry, the wallet
<tr><td><a href="/healthz">/healthz</a>, <a href="/readyz">/readyz</a>, <a href="/metrics">/metrics</a><td>for machines
</table>
<h2>A first order</h2>
<pre>bestex order SOL USDC 1.5 --watch</pre>
<p>or <code>POST /api/orders/execute</code> with
<code>{"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}</code> as <code>application/json</code>,
then a WebSocket on the answer's <code>statusEndpoint</code>.</p>
</html>"""
