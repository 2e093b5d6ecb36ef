"""The world as an engine process reaches it: a call may be the last thing that the process does, before or after it."""

from collections.abc import Callable, Sequence

from bestex.domain.events import SignedTransaction, StoredEvent
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.hub import LocalHub
from bestex.ports import BlockHeight, Chain, StatusReport, Venue
from bestex.simulation.loop import VirtualLoop
from bestex.simulation.process import Process
from bestex.simulation.referee import Referee
from bestex.simulation.trace import Trace


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


class WatchedHub(LocalHub):
    """The hub of one process, under the referee's eyes."""

    def __init__(self, process: Process, referee: Referee) -> None:
        super().__init__()
        self._process = process
        self._referee = referee

    def publish(self, events: Sequence[StoredEvent]) -> None:
        self._process.check()
        self._referee.published(events)
        super().publish(events)
