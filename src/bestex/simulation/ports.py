"""The world as an engine process reaches it: a call may be the last thing that the process does, before or after it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from bestex.domain.events import SignedTransaction, StoredEvent
from bestex.domain.launches import Launch
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import Pair
from bestex.hub.local import LocalHub
from bestex.ports import (
    BlockHeight,
    Chain,
    LaunchListener,
    StatusReport,
    Tick,
    TickListener,
    Venue,
)
from bestex.simulation.firing_checks import FiringChecks
from bestex.simulation.loop import VirtualLoop
from bestex.simulation.process import Process
from bestex.simulation.referee import Referee
from bestex.simulation.trace import Trace
from bestex.venues.simulated.market_data import SimulatedMarketData

T = TypeVar("T")

_SLOW: Final = "02468aceBDFHKMPRTVXZbdfhkmprtvxz"
"""Ids and signatures that end so are not dealt with at once, that both ways are gone."""


class ProcessVenue:
    """`Venue`, called from one process."""

    def __init__(self, venue: Venue, process: Process) -> None:
        self.name = venue.name
        self._venue = venue
        self._process = process

    def quote_at_once(self, request: QuoteRequest) -> Quote | None:
        self._process.check()
        return self._venue.quote_at_once(request)

    async def quote(self, request: QuoteRequest) -> Quote:
        await self._process.at("before a quote")
        quote = await self._venue.quote(request)
        await self._process.at("after a quote")
        return quote

    def build_at_once(self, request: SwapRequest) -> SignedTransaction | None:
        self._process.check()
        if request.order_id[-1] in _SLOW:
            return None
        return self._venue.build_at_once(request)

    async def build(self, request: SwapRequest) -> SignedTransaction:
        await self._process.at("before a build")
        transaction = await self._venue.build(request)
        await self._process.at("after a build")
        return transaction


class ProcessChain:
    """`Chain`, called from one process."""

    def __init__(self, chain: Chain, process: Process, loop: VirtualLoop, referee: Referee, trace: Trace) -> None:
        self._chain = chain
        self._process = process
        self._loop = loop
        self._referee = referee
        self._trace = trace

    def send_at_once(self, transaction: SignedTransaction) -> bool:
        self._process.check()
        if transaction.signature[-1] in _SLOW:
            return False
        self._referee.sent(transaction)
        try:
            sent = self._chain.send_at_once(transaction)
        except Exception as error:
            self._trace.note("a send failed", None, transaction.signature[:12], error)
            raise
        self._trace.note("sent", self._referee.order_of(transaction.signature), transaction.signature[:12])
        return sent

    async def send(self, transaction: SignedTransaction) -> None:
        await self._process.at("before a send")
        self._referee.sent(transaction)
        try:
            await self._chain.send(transaction)
        except Exception as error:
            self._trace.note("a send failed", None, transaction.signature[:12], error)
            raise
        self._trace.note("sent", self._referee.order_of(transaction.signature), transaction.signature[:12])
        await self._process.at("after a send")

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        await self._process.at("before a look-up")
        report = await self._chain.statuses(signatures)
        await self._process.at("after a look-up")
        return report

    async def finalized_height(self) -> BlockHeight:
        await self._process.at("before the height")
        height = await self._chain.finalized_height()
        await self._process.at("after the height")
        return height

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        await self._process.at("before the fills")
        fills = await self._chain.fills(signatures)
        await self._process.at("after the fills")
        return fills

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        def tell(signatures: Sequence[str]) -> None:
            if self._process.alive:
                self._loop.call_soon(listener, signatures, context=self._process.context)

        self._chain.on_status(tell)


class ProcessMarketData:
    """`MarketData`, followed from one process. A stalled one hears what came meanwhile when it goes on."""

    def __init__(self, market: SimulatedMarketData, process: Process, loop: VirtualLoop, firings: FiringChecks) -> None:
        """`firings` learns of all that is shown."""
        self._market = market.another()
        self._firings = firings
        self._process = process
        self._loop = loop
        process.when_dead[self._follow_nothing] = None

    def follow(self, pairs: Iterable[Pair]) -> None:
        self._process.check()
        self._market.follow(pairs)

    def on_tick(self, listener: TickListener) -> None:
        self._market.on_tick(self._while_alive(listener, self._firings.price_shown))

    def latest(self, pair: Pair) -> Tick | None:
        self._process.check()
        tick = self._market.latest(pair)
        if tick is not None:
            self._firings.price_shown(tick)
        return tick

    async def read(self, pair: Pair) -> Tick | None:
        await self._process.at("before a price")
        tick = await self._market.read(pair)
        if tick is not None:
            self._firings.price_shown(tick)
        await self._process.at("after a price")
        return tick

    def on_launch(self, listener: LaunchListener) -> None:
        self._market.on_launch(self._while_alive(listener, self._firings.launch_shown))

    def look_again(self, pool: str) -> Launch | None:
        self._process.check()
        launch = self._market.look_again(pool)
        if launch is not None:
            self._firings.launch_shown(launch)
        return launch

    async def launches(self, since_us: int, limit: int) -> list[Launch]:
        await self._process.at("before the launches")
        launches = await self._market.launches(since_us, limit)
        for launch in launches:
            self._firings.launch_shown(launch)
        await self._process.at("after the launches")
        return launches

    def _follow_nothing(self) -> None:
        self._market.follow(())

    def _while_alive(self, listener: Callable[[T], None], shown: Callable[[T], None]) -> Callable[[T], None]:
        def tell(news: T) -> None:
            if self._process.alive:
                shown(news)
                self._loop.call_soon(listener, news, context=self._process.context)

        return tell


class WatchedHub(LocalHub):
    """The hub of one process, under the referee's eyes."""

    def __init__(self, process: Process, referee: Referee) -> None:
        super().__init__()
        self._process = process
        self._referee = referee

    def publish(self, events: Sequence[StoredEvent]) -> None:
        self._process.check()
        self._referee.answers.published(events)
        super().publish(events)
