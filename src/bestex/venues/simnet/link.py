"""One WebSocket to the server, from its handshake to its end, without a task of its own."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.frames import Frame, Opcode
from websockets.uri import WebSocketURI, parse_uri

from bestex.venues.simnet import wire

MAX_UNSENT_BYTES: Final = 16 * 1024 * 1024
"""What the server has not taken; more end the connection."""


def uri_of(url: str) -> WebSocketURI:
    """The WebSocket's address, of the server's `http://host:port`; `ValueError` for anything else."""
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in ("http", "https"):
        raise ValueError(f"must be an address such as http://127.0.0.1:4100, not {url}")
    try:
        return parse_uri(f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}{wire.PATH}")
    except (InvalidURI, ValueError) as error:
        raise ValueError(f"{url} is no address: {error}") from error


class Link(asyncio.Protocol):
    """Sends and takes whole messages. `ended` is done when the connection is over, with the reason."""

    def __init__(self, uri: WebSocketURI, take: Callable[[bytes], None]) -> None:
        """`take` is called with each message; what it raises ends the connection."""
        self._protocol = ClientProtocol(uri, max_size=wire.MAX_MESSAGE_BYTES)
        self._take = take
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []  # of a message in several frames
        self.heard = True  # something, since whoever looks here took this back
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def send(self, message: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.abort("the server takes nothing")
            return
        self._protocol.send_binary(message)
        self._write()

    def abort(self, reason: str) -> None:
        """End the connection now."""
        if not self.ended.done():
            self.ended.set_result(reason)
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        self.heard = True
        protocol = self._protocol
        protocol.receive_data(data)
        try:
            for event in protocol.events_received():
                if isinstance(event, Frame):
                    self._frame(event)
        except Exception as error:  # noqa: BLE001 -- what it says cannot be understood: begin anew
            self.abort(f"it said something that cannot be understood: {error!r}")
            return
        self._write()
        if protocol.handshake_exc is not None:
            self.abort(f"it refuses: {protocol.handshake_exc}")
        elif protocol.close_expected() and self._transport is not None:
            self._transport.close()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._write()

    def connection_lost(self, error: Exception | None) -> None:
        self._protocol.receive_eof()
        received = self._protocol.close_rcvd
        if not self.ended.done():
            why = (received.reason or f"code {received.code}") if received else str(error or "it went away")
            self.ended.set_result(why)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
            if frame.fin and not self._parts:
                self._take(bytes(frame.data))
                return
            self._parts.append(bytes(frame.data))
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._take(whole)

    def _write(self) -> None:
        if self._transport is not None and (data := self._protocol.data_to_send()):
            whole = b"".join(data)
            if whole:
                self._transport.write(whole)
