"""What the venues offer, what the registry and the wallet hold, and the handles on the simulated world."""

from typing import Any

import msgspec
from litestar import Controller, Request, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromQuery

from bestex.api.execute import require_json
from bestex.api.fields import MAX_BODY_BYTES
from bestex.api.launches import LaunchedPool, launched_pool
from bestex.api.problems import FieldProblem, ProblemError
from bestex.api.requests import read_faults, read_funding, read_query, read_quote_query
from bestex.api.sim_requests import read_launch_wish, read_migration, read_price_move
from bestex.domain.events import QuoteRecord
from bestex.domain.money import format_amount
from bestex.domain.route import QuoteRequest
from bestex.domain.tokens import Token, TokenRegistry, pair_of
from bestex.ports import Simulation, SimulationStatus, Wallet
from bestex.routing.choose import Chosen
from bestex.routing.router import Router


class Quotes(msgspec.Struct, frozen=True, rename="camel"):
    """Every venue's offer at this moment."""

    token_in: str
    token_out: str
    amount: str
    pair: str
    quotes: tuple[QuoteRecord, ...]
    best: str | None  # the venue that an order would take now


class Tokens(msgspec.Struct, frozen=True):
    data: list[Token]


class WalletBalance(msgspec.Struct, frozen=True):
    symbol: str | None  # null for a mint that is not in the registry, or was launched: it has none of its own
    mint: str
    amount: str


class WalletBody(msgspec.Struct, frozen=True):
    address: str
    balances: list[WalletBalance]


class Faults(msgspec.Struct, frozen=True):
    faults: dict[str, float]


class PriceMove(msgspec.Struct, frozen=True):
    pair: str
    percent: float


class MarketReader:
    """What the routes of the market need."""

    def __init__(self, router: Router, tokens: TokenRegistry, wallet: Wallet, simulation: Simulation | None) -> None:
        self.router = router
        self.tokens = tokens
        self.wallet = wallet
        self.simulation = simulation

    def simulated(self) -> Simulation:
        if self.simulation is None:
            raise ProblemError("not-found", "this engine trades on a real chain: there is nothing simulated")
        return self.simulation

    async def balances(self) -> WalletBody:
        shown = []
        for balance in await self.wallet.balances():
            token = self.tokens.find(balance.mint)
            symbol = token.symbol if token is not None and token.symbol != token.mint else None
            decimals = token.decimals if token is not None else 0
            shown.append(WalletBalance(symbol, balance.mint, format_amount(balance.units, decimals)))
        return WalletBody(self.wallet.address, shown)


class MarketRoutes(Controller):
    path = "/api"
    tags = ("market",)

    @get("/quotes", summary="What every venue offers now, side by side")
    async def quotes(
        self,
        request: Request[Any, Any, Any],
        market: NamedDependency[MarketReader],
        tokenIn: FromQuery[str | None] = None,  # noqa: N803 -- the parameter's public name
        tokenOut: FromQuery[str | None] = None,  # noqa: N803
        amount: FromQuery[str | None] = None,
    ) -> Quotes:
        token_in, token_out, units = read_quote_query(read_query(request.scope["query_string"]), market.tokens)
        choice = await market.router.route(QuoteRequest(token_in, token_out, units))
        return Quotes(
            token_in.symbol,
            token_out.symbol,
            format_amount(units, token_in.decimals),
            pair_of(token_in, token_out).name,
            choice.records,
            choice.quote.venue if isinstance(choice, Chosen) else None,
        )

    @get("/tokens", summary="The token registry")
    async def tokens(self, market: NamedDependency[MarketReader]) -> Tokens:
        return Tokens(list(market.tokens))

    @get("/wallet", summary="The wallet's address and balances")
    async def wallet(self, market: NamedDependency[MarketReader]) -> WalletBody:
        return await market.balances()


class SimulationRoutes(Controller):
    path = "/api/sim"
    tags = ("simulation",)

    @get("/", summary="The simulated world at a glance")
    async def status(self, market: NamedDependency[MarketReader]) -> SimulationStatus:
        return await market.simulated().status()

    @post("/fund", status_code=200, summary="Add to the paper wallet: {token, amount}")
    async def fund(self, request: Request[Any, Any, Any], market: NamedDependency[MarketReader]) -> WalletBody:
        token, units = read_funding(await _json_body(request), market.tokens)
        try:
            await market.simulated().fund(token, units)
        except ValueError as error:
            problem = FieldProblem(str(error), "/amount")
            raise ProblemError("validation", "1 field is bad", (problem,)) from error
        return await market.balances()

    @get("/faults", summary="Every fault with its probability")
    async def faults(self, market: NamedDependency[MarketReader]) -> Faults:
        return Faults((await market.simulated().status()).faults)

    @patch("/faults", summary="Change faults while running: {name: value}")
    async def set_faults(self, request: Request[Any, Any, Any], market: NamedDependency[MarketReader]) -> Faults:
        changes = read_faults(await _json_body(request))
        try:
            return Faults(await market.simulated().set_faults(changes))
        except ValueError as error:
            raise ProblemError("validation", str(error)) from error

    @post("/price", status_code=200, summary="Move a price from now on: {pair, percent}")
    async def move_price(self, request: Request[Any, Any, Any], market: NamedDependency[MarketReader]) -> PriceMove:
        """The pair's base token is worth so much more, or less, against all; a reset takes it back."""
        pair, percent = read_price_move(await _json_body(request), market.tokens)
        try:
            await market.simulated().move_price(pair, percent)
        except ValueError as error:
            problem = FieldProblem(str(error), "/percent")
            raise ProblemError("validation", "1 field is bad", (problem,)) from error
        return PriceMove(pair.name, percent)

    @post("/launch", status_code=201, summary="List a new token's pool: {ticker?, venue?, liquidity?, ...}")
    async def launch(self, request: Request[Any, Any, Any], market: NamedDependency[MarketReader]) -> LaunchedPool:
        """What is not said is drawn at random: `{}` may be a bad one."""
        wish = read_launch_wish(await _json_body(request), market.router.venue_names)
        try:
            return launched_pool(await market.simulated().launch(wish))
        except ValueError as error:
            raise ProblemError("validation", str(error)) from error

    @post("/migrate", status_code=200, summary="Move a launched token's pool to the other venue: {mint}")
    async def migrate(self, request: Request[Any, Any, Any], market: NamedDependency[MarketReader]) -> LaunchedPool:
        mint = read_migration(await _json_body(request))
        try:
            return launched_pool(await market.simulated().migrate(mint))
        except ValueError as error:
            problem = FieldProblem(str(error), "/mint")
            raise ProblemError("validation", "1 field is bad", (problem,)) from error

    @post("/reset", status_code=200, summary="Wallet, prices and pools as at the start, no faults")
    async def reset(self, market: NamedDependency[MarketReader]) -> SimulationStatus:
        simulation = market.simulated()
        await simulation.reset()
        return await simulation.status()


async def _json_body(request: Request[Any, Any, Any]) -> bytes:
    content_type = request.headers.get("content-type")
    require_json(content_type.encode("latin-1") if content_type else None)
    body = await request.body()
    if len(body) > MAX_BODY_BYTES:
        raise ProblemError("body-too-large")
    return body
