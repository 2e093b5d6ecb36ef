"""The simulated world of another process: `connect_simnet` finds it, `RemoteWorld` holds its parts."""

import asyncio
from typing import assert_never

from bestex.domain.tokens import TokenRegistry
from bestex.ports import Chain, Clock, MarketData, Simulation, Venue, Wallet
from bestex.venues.simnet import wire
from bestex.venues.simnet.connection import Connection
from bestex.venues.simnet.mirror import Mirror
from bestex.venues.simnet.remote import RemoteChain, RemoteSimulation, RemoteVenue, RemoteWallet
from bestex.venues.simnet.remote_market import RemoteMarketData


class RemoteWorld:
    """The parts of a simulated world behind a connection, as `SimulatedWorld` has them."""

    def __init__(
        self,
        connection: Connection,
        running: "asyncio.Task[None]",
        hello: wire.Hello,
        tokens: TokenRegistry,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._running = running
        self._tokens = tokens
        self._remote_chain = RemoteChain(connection, clock)
        self._remote_wallet = RemoteWallet(hello.address, connection)
        self._remote_market = RemoteMarketData(connection, clock)
        self._mirror = Mirror(connection, self._remote_market, self._remote_wallet, clock)
        self.profile = hello.profile
        self.venues: list[Venue] = [RemoteVenue(name, connection, self._mirror, clock) for name in hello.venues]
        self.chain: Chain = self._remote_chain
        self.wallet: Wallet = self._remote_wallet
        self.market_data: MarketData = self._remote_market
        self.control: Simulation = RemoteSimulation(connection)

    @property
    def is_connected(self) -> bool:
        return self._connection.is_up

    async def run(self) -> None:
        """Stay connected, until cancelled. Raises `AnotherWorldError`."""
        await self._running

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.wait((self._running,))

    def take(self, news: wire.News) -> None:
        """Pass news on to whom it concerns."""
        match news:
            case wire.Landed():
                self._remote_chain.landed(news)
            case wire.Held():
                self._remote_wallet.told(news)
            case wire.Ticked():
                self._mirror.ticked(news)
                self._remote_market.ticked(news)
            case wire.Trading():
                self._mirror.told(news)
            case wire.Listed():
                self._remote_market.listed(news)
            case wire.Measured():
                self._remote_market.measured(news)
            case wire.Learn():
                for mint, decimals in news.tokens:
                    self._tokens.learn(mint, decimals)
            case wire.Beat() | wire.Hello():
                pass
            case _:
                assert_never(news)


async def connect_simnet(url: str, tokens: TokenRegistry, clock: Clock) -> RemoteWorld:
    """The world that is served at `url`, such as http://127.0.0.1:4100, once it is reached: it is tried for ever.

    `tokens` learns what was launched there, now and later. `ValueError` for a bad address.
    """
    connection = Connection(url, clock)
    running = asyncio.create_task(connection.run(), name="simnet")
    worlds: list[RemoteWorld] = []

    def begin() -> None:
        """At the first hello: the news behind it need somebody who takes them."""
        if not worlds and connection.hello is not None:
            worlds.append(RemoteWorld(connection, running, connection.hello, tokens, clock))
            connection.news = worlds[0].take

    connection.on_connect.append(begin)
    meeting = asyncio.create_task(connection.has_met.wait())
    try:
        await asyncio.wait((running, meeting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    except BaseException:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        raise
    finally:
        meeting.cancel()
    return worlds[0]
