"""A proxy in front of PostgreSQL's socket that cuts connections at a chosen moment."""

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

_CHUNK_BYTES = 1 << 20


class Cut(Enum):
    """When a connection is cut."""

    BEFORE_QUERY = "before the query reaches the server"
    AFTER_QUERY = "when the server has the query, before it has answered"
    BEFORE_ANSWER = "when the server has answered, before the answer reaches the client"


class Proxy:
    """Forwards bytes, until it is told to cut the connection that carries a marker."""

    def __init__(self, upstream: Path, dsn: str) -> None:
        self._upstream = upstream
        self._dsn = dsn
        self._folder = Path(tempfile.mkdtemp(prefix="bx-proxy-"))
        self._cut: Cut | None = None
        self._marker = b""
        self._skip = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.WriteTransport] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._hold_marker: bytes | None = None
        self.cuts = 0
        self.refuses = False  # new connections
        self.refuses_after_cut = False  # new connections, from the next cut on

    @property
    def dsn(self) -> str:
        """The database's DSN, by way of this proxy."""
        parts = urlsplit(self._dsn)
        port = parse_qs(parts.query)["port"][0]
        return parts._replace(query=f"host={quote(str(self._folder))}&port={port}").geturl()

    def cut_next(self, cut: Cut, marker: bytes, *, skip: int = 0) -> None:
        """Cut the connection that carries `marker` to the server next, after it has passed `skip` times."""
        self._cut, self._marker, self._skip = cut, marker, skip

    def cut_all(self) -> None:
        """Cut every connection that there is."""
        for transport in self._transports:
            transport.abort()

    def hold_after(self, marker: bytes) -> None:
        """Once `marker` has gone to the server, let nothing through in either direction, until `release`.

        Connections stay, and are made.
        """
        self._hold_marker = marker

    @property
    def holds(self) -> bool:
        return not self._flows.is_set()

    def release(self) -> None:
        self._flows.set()

    def _cut_now(self, sent: bytes) -> Cut | None:
        if self._cut is None or self._marker not in sent:
            return None
        if self._skip > 0:
            self._skip -= 1
            return None
        cut, self._cut = self._cut, None
        self.cuts += 1
        return cut

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_unix_server(self._serve, self._folder / ".s.PGSQL.5432")
        try:
            yield self
        finally:
            server.close()
            self.release()
            self.cut_all()
            await asyncio.gather(*self._connections)
            await server.wait_closed()
            shutil.rmtree(self._folder)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses or (self.refuses_after_cut and self.cuts):
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._transports.add(writer.transport)
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            writer.transport.abort()
            self._connections.discard(task)
            self._transports.discard(writer.transport)
            return
        answers = asyncio.create_task(self._forward(up_reader, writer))
        try:
            while sent := await reader.read(_CHUNK_BYTES):
                await self._flows.wait()
                cut = self._cut_now(sent)
                if cut is Cut.BEFORE_QUERY:
                    break
                if cut is Cut.BEFORE_ANSWER:
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                if self._hold_marker is not None and self._hold_marker in sent:
                    self._hold_marker = None
                    self._flows.clear()
                up_writer.write(sent)
                await up_writer.drain()
                if cut is Cut.BEFORE_ANSWER:
                    await up_reader.read(1)
                if cut is not None:
                    break
        except OSError:
            pass  # one of the two hung up
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            writer.transport.abort()
            up_writer.transport.abort()
            self._connections.discard(task)
            self._transports.discard(writer.transport)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while received := await reader.read(_CHUNK_BYTES):
                await self._flows.wait()
                writer.write(received)
                await writer.drain()
        writer.transport.abort()


class ProxyApart:
    """A `Proxy` in a thread of its own, for tests that block their loop."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop
        self.dsn = proxy.dsn

    @property
    def cuts(self) -> int:
        return self._proxy.cuts

    def cut_next(self, cut: Cut, marker: bytes) -> None:
        self._loop.call_soon_threadsafe(self._proxy.cut_next, cut, marker)

    @property
    def holds(self) -> bool:
        return self._proxy.holds

    def hold_after(self, marker: bytes) -> None:
        self._loop.call_soon_threadsafe(self._proxy.hold_after, marker)

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.release)

    def refuse(self) -> None:
        """Refuse connections and cut those that there are, until `admit`."""
        self._proxy.refuses = True
        self._loop.call_soon_threadsafe(self._proxy.cut_all)

    def refuse_after_cut(self) -> None:
        """Refuse connections from the next cut on, until `admit`."""
        self._proxy.refuses_after_cut = True

    def admit(self) -> None:
        self._proxy.refuses = self._proxy.refuses_after_cut = False


@contextlib.contextmanager
def proxy_apart(upstream: Path, dsn: str) -> Iterator[ProxyApart]:
    """A proxy that runs while the test's thread does something else."""
    started, made = threading.Event(), list[ProxyApart]()
    stop = asyncio.Event()

    async def run() -> None:
        async with Proxy(upstream, dsn).running() as proxy:
            made.append(ProxyApart(proxy, asyncio.get_running_loop()))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(10)
    [apart] = made
    try:
        yield apart
    finally:
        apart.admit()
        apart._loop.call_soon_threadsafe(stop.set)
        thread.join()
