"""The simulated world's venues, chain, wallet and handles, as another process has them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from bestex.domain.errors import ChainUnreachableError, VenueDownError
from bestex.domain.events import SignedTransaction
from bestex.domain.launches import Launch
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import Pair, Token
from bestex.ports import (
    Balance,
    BlockHeight,
    Clock,
    LaunchWish,
    SimulationStatus,
    StatusReport,
    WalletTransaction,
)
from bestex.venues.simnet import wire
from bestex.venues.simnet.connection import Connection
from bestex.venues.simnet.mirror import Mirror
from bestex.venues.simnet.told_landings import ToldLandings
from bestex.venues.simulated.chain import NETWORK_FEE
from bestex.venues.simulated.venue import QUOTE_LIFE_US


class RemoteVenue:
    """`Venue`."""

    def __init__(self, name: str, connection: Connection, mirror: Mirror, clock: Clock) -> None:
        self.name = name
        self._connection = connection
        self._mirror = mirror
        self._clock = clock

    def quote_at_once(self, request: QuoteRequest) -> Quote | None:
        """The quote that the venue would give, where it would do so at once; why there is none, it has to be asked."""
        token_in, token_out, amount_in = request.token_in, request.token_out, request.amount_in
        prices = self._mirror.prices(token_in, token_out)
        if prices is None or (curve := prices.curves.get(self.name)) is None:
            return None
        offer = curve.offer(amount_in, prices.sells_base)
        if offer is None or offer.amount_out <= 0:
            return None
        now_us = self._clock.now_us()
        return Quote(
            venue=self.name,
            pool=curve.pool,
            amount_in=amount_in,
            amount_out=offer.amount_out,
            fee=offer.fee,
            fee_token=token_in if offer.fee_on_input else token_out,
            price_impact_bps=offer.impact_bps,
            network_fee=NETWORK_FEE,
            network_fee_out=prices.network_fee_out,
            quoted_us=now_us,
            stale_us=now_us + QUOTE_LIFE_US,
        )

    def quote(self, request: QuoteRequest) -> "asyncio.Future[Quote]":
        connection = self._connection
        return connection.ask(wire.AskQuote(connection.number(), self.name, request), VenueDownError)

    def build_at_once(self, request: SwapRequest) -> SignedTransaction | None:
        """The transaction that the venue would sign at once; why it would not, it has to be asked."""
        if request.expires_us is not None:
            return None
        prices = self._mirror.prices(request.token_in, request.token_out)
        if prices is None or (curve := prices.curves.get(self.name)) is None:
            return None
        offer = curve.offer(request.amount_in, prices.sells_base)
        if offer is None or offer.amount_out < request.min_amount_out or offer.amount_out <= 0:
            return None
        return self._mirror.sign(request, self.name, curve.pool, prices)

    async def build(self, request: SwapRequest) -> SignedTransaction:
        at_once = self.build_at_once(request)
        if at_once is not None:
            return at_once
        connection = self._connection
        answer = connection.ask(wire.Build(connection.number(), self.name, request), VenueDownError)
        built: SignedTransaction = await answer
        return built


class RemoteChain:
    """`Chain`."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._told = ToldLandings(clock)
        self._listeners: list[Callable[[Sequence[str]], None]] = []
        connection.on_connect.append(self._follow)

    def send_at_once(self, transaction: SignedTransaction) -> bool:
        self._connection.hand_over(transaction)
        return True

    async def send(self, transaction: SignedTransaction) -> None:
        connection = self._connection
        await connection.ask(wire.SendTransaction(connection.number(), transaction), ChainUnreachableError)

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        told = self._told.report(signatures)
        if told is not None:
            return told
        call = wire.AskStatuses(self._connection.number(), list(signatures))
        report: StatusReport = await self._connection.ask(call, ChainUnreachableError)
        return report

    async def finalized_height(self) -> BlockHeight:
        call = wire.AskHeight(self._connection.number())
        height: BlockHeight = await self._connection.ask(call, ChainUnreachableError)
        return height

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        told = self._told.fills(signatures)
        if told is not None:
            return list(told)
        call = wire.AskFills(self._connection.number(), list(signatures))
        fills: list[Fill | None] = await self._connection.ask(call, ChainUnreachableError)
        return fills

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        self._listeners.append(listener)
        self._follow()

    def landed(self, news: wire.Landed) -> None:
        self._told.add(news)
        for listener in self._listeners:
            listener(news.signatures)

    def _follow(self) -> None:
        if self._listeners:
            self._connection.say(wire.FollowStatuses())


class RemoteWallet:
    """`Wallet`. What it holds is told with every change, so it is known for as long as the connection stands."""

    def __init__(self, address: str, connection: Connection) -> None:
        self.address = address
        self._connection = connection
        self._held: dict[str, int] | None = None  # base units by mint; None: not known
        connection.on_disconnect.append(self._forget)

    def held(self, mint: str) -> int | None:
        return None if self._held is None else self._held.get(mint, 0)

    async def balances(self) -> list[Balance]:
        call = wire.AskBalances(self._connection.number())
        units: dict[str, str] = await self._connection.ask(call, ChainUnreachableError)
        return [Balance(mint, int(each)) for mint, each in units.items()]

    async def history(self, before: str | None, limit: int) -> list[WalletTransaction]:
        call = wire.AskHistory(self._connection.number(), before, limit)
        history: list[WalletTransaction] = await self._connection.ask(call, ChainUnreachableError)
        return history

    def told(self, news: wire.Held) -> None:
        if news.is_all:
            self._held = {}
        if self._held is not None:
            self._held.update((mint, int(units)) for mint, units in news.units.items())

    def _forget(self) -> None:
        self._held = None


class RemoteSimulation:
    """`Simulation`. Every method raises `ChainUnreachableError` when it does not answer: it may be done or not."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def status(self) -> SimulationStatus:
        call = wire.AskSimulation(self._connection.number())
        status: SimulationStatus = await self._connection.ask(call, ChainUnreachableError)
        return status

    async def fund(self, token: Token, units: int) -> None:
        await self._connection.ask(wire.Fund(self._connection.number(), token, units), ChainUnreachableError)

    async def move_price(self, pair: Pair, percent: float) -> None:
        await self._connection.ask(wire.MovePrice(self._connection.number(), pair, percent), ChainUnreachableError)

    async def launch(self, wish: LaunchWish) -> Launch:
        call = wire.MakeLaunch(self._connection.number(), wish)
        launch: Launch = await self._connection.ask(call, ChainUnreachableError)
        return launch

    async def migrate(self, mint: str) -> Launch:
        call = wire.Migrate(self._connection.number(), mint)
        launch: Launch = await self._connection.ask(call, ChainUnreachableError)
        return launch

    async def set_faults(self, changes: Mapping[str, float]) -> dict[str, float]:
        call = wire.SetFaults(self._connection.number(), dict(changes))
        faults: dict[str, float] = await self._connection.ask(call, ChainUnreachableError)
        return faults

    async def reset(self) -> None:
        await self._connection.ask(wire.Reset(self._connection.number()), ChainUnreachableError)
