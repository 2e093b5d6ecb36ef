"""A proxy in front of PostgreSQL's socket that cuts connections at a chosen moment."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
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
        self.cuts = 0
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
            for transport in self._transports:
                transport.abort()
            await asyncio.gather(*self._connections)
            await server.wait_closed()
            shutil.rmtree(self._folder)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses_after_cut and self.cuts:
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
                cut = self._cut_now(sent)
                if cut is Cut.BEFORE_QUERY:
                    break
                if cut is Cut.BEFORE_ANSWER:
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
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
                writer.write(received)
                await writer.drain()
        writer.transport.abort()
