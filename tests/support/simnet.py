"""Simulated worlds for tests that are reached through a socket, in this process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from bestex.ambient import SystemClock
from bestex.domain.tokens import TokenRegistry, load_tokens
from bestex.venues.simnet.remote_world import RemoteWorld, connect_simnet
from bestex.venues.simnet.server import SimnetServer
from bestex.venues.simulated.ledger import Ledger, MemoryLedger
from bestex.venues.simulated.world import SimulatedWorld
from tests.support.simulation import OpenWorld, World, empty_postgres_ledger, open_world, postgres_server

__all__ = ["postgres_server"]


def listening(port: int = 0) -> socket.socket:
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio lets small messages wait for each other
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(16)
    listener.setblocking(False)
    return listener


class ServedWorld(World):
    """A world behind a socket: `world` is what its client has of it, `served` is the world itself.

    Sockets take real time, so server and client have the machine's clock, and the world has its own.
    """

    served: SimulatedWorld
    server: SimnetServer
    port = 0
    _serving: asyncio.Task[None] | None = None
    _remote: RemoteWorld | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def remote(self) -> RemoteWorld:
        assert self._remote is not None
        return self._remote

    async def reach(self) -> None:
        self.serve()
        if self._remote is None:
            self.known: TokenRegistry = load_tokens()
            self._remote = await self._connect(self.known)
        self.world = cast(SimulatedWorld, self._remote)  # what tests use of it, both have
        await until(lambda: self.remote.is_connected)

    def serve(self) -> None:
        """Begin to serve the world."""
        if isinstance(self.world, SimulatedWorld):  # one that was opened just now
            self.served = self.world
        listener = listening(self.port)
        self.port = listener.getsockname()[1]
        self.server = SimnetServer(self.served, self.registry, listener, SystemClock())
        self._serving = asyncio.create_task(self.server.run())

    async def stop_serving(self) -> None:
        """Break all connections; the world goes on."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None

    async def another_client(self) -> RemoteWorld:
        return await self._connect(load_tokens())

    async def _connect(self, known: TokenRegistry) -> RemoteWorld:
        remote = await connect_simnet(self.url, known, SystemClock())
        remote._mirror._clock = self.clock  # it reckons the world's slots, which here go by another clock
        return remote

    async def kill(self) -> None:
        await self.stop_serving()
        await super().kill()

    async def close(self) -> None:
        if self._remote is not None:
            await self._remote.close()
        await self.kill()
        await self.served.close()


class Gate:
    """Forwards bytes to the server, until it is told to hold the answers back or to cut the connections."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0
        self.sent = 0  # bytes that clients sent

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Gate"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def hold(self) -> None:
        """Have clients hear nothing, until the connections are cut."""
        self._open.clear()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        pair = {writer, server_writer}
        self._writers |= pair
        with suppress(OSError):
            await asyncio.gather(self._up(reader, server_writer), self._down(server_reader, writer))
        self._writers -= pair

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.sent += len(data)
            writer.write(data)
        writer.transport.abort()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._open.wait()
            writer.write(data)
        writer.transport.abort()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait, in real time, until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def open_served(**options: object) -> ServedWorld:
    """A running world behind a socket, and its first client."""
    world = await open_world(kind=ServedWorld, **options)  # type: ignore[arg-type]
    assert isinstance(world, ServedWorld)
    world.start()
    await world.reach()
    return world


@pytest.fixture(name="ledger", params=["memory", "postgres", "served"])
async def ledger_fixture(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    """An empty ledger of each kind; the worlds over the last are reached through a socket."""
    if request.param != "postgres":
        yield MemoryLedger()
        return
    ledger = await empty_postgres_ledger(request.getfixturevalue("postgres_dsn_of_ledgers"))
    yield ledger
    await ledger.close()


@pytest.fixture(name="open_case")
async def open_case_fixture(request: pytest.FixtureRequest, ledger: Ledger) -> AsyncIterator[OpenWorld]:
    """Open running worlds over the ledger; they are closed in the end."""
    opened: list[World] = []
    kind = ServedWorld if request.node.callspec.params["ledger"] == "served" else World

    async def open_case(**options: object) -> World:
        world = await open_world(ledger=ledger, kind=kind, **options)  # type: ignore[arg-type]
        opened.append(world)
        world.start()
        await world.reach()
        return world

    yield open_case
    for world in opened:
        with suppress(Exception):
            await world.close()
