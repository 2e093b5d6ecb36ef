"""What goes over a socket: requests made once, and the little that is read of an answer.

The load generator shares the machine with what it measures. So it writes bytes that were made before, and of an
answer it reads the status, the length and, on a WebSocket, what each frame is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

EXECUTE_PATH: Final = "/api/orders/execute"
BATCH_PATH: Final = "/api/orders/batch"
KEPT_SOCKET_PATH: Final = "/api/orders/execute?keep=true"

END_OF_HEAD: Final = b"\r\n\r\n"
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
"""Opcodes of WebSocket frames."""

_FINAL: Final = 0x80
_MASKED: Final = 0x80
_SHORT_MAX: Final = 125  # bytes of a payload whose length fits the second byte
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_NO_MASK: Final = bytes(4)  # a client must mask; a key of zeros leaves the payload as it is
_HANDSHAKE_KEY: Final = "YmVzdGV4IGJlbmNobWFyaw=="


class WireError(Exception):
    """The system answered as it should not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, complete."""

    status: int
    body: bytes
    retry_after_s: float | None


def post(port: int, path: str, body: str) -> bytes:
    """A POST of JSON on a keep-alive connection."""
    payload = body.encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    ).encode() + payload


def get(port: int, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


def handshake(port: int, path: str) -> bytes:
    """The request that makes a connection a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_HANDSHAKE_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def batch_body(bodies: Sequence[str], size: int) -> str:
    """`size` orders in one body, the given ones in turn."""
    orders = ",".join(bodies[number % len(bodies)] for number in range(size))
    return f'{{"orders":[{orders}]}}'


def read_answer(received: bytes | bytearray) -> tuple[Answer, int] | None:
    """The first HTTP answer in what was received, and its length; nothing while it is not complete."""
    end = received.find(END_OF_HEAD)
    if end < 0:
        return None
    head = bytes(received[:end])
    if not head.startswith(b"HTTP/1.1 "):
        raise WireError(f"not an HTTP answer: {head[:80]!r}")
    status = int(head[9:12])
    length = _header(head, b"content-length")
    if length is None and status != 101:
        raise WireError(f"an answer without Content-Length: {head.decode(errors='replace')}")
    whole = end + len(END_OF_HEAD) + int(length or 0)
    if len(received) < whole:
        return None
    retry = _header(head, b"retry-after")
    return Answer(status, bytes(received[end + 4 : whole]), None if retry is None else float(retry)), whole


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame, whole."""
    size = len(payload)
    if size <= _SHORT_MAX:
        head = bytes((_FINAL | opcode, _MASKED | size))
    elif size < 1 << 16:
        head = bytes((_FINAL | opcode, _MASKED | _TWO_BYTES)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL | opcode, _MASKED | _EIGHT_BYTES)) + size.to_bytes(8, "big")
    return head + _NO_MASK + payload


class Frames:
    """A server's frames, taken apart as they come."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The opcode and the payload of each frame that is complete now."""
        received = self._rest + data if self._rest else data
        at, total = 0, len(received)
        while total - at >= 2:
            size, start = received[at + 1], at + 2
            if size == _TWO_BYTES:
                start += 2
                size = int.from_bytes(received[at + 2 : start], "big")
            elif size == _EIGHT_BYTES:
                start += 8
                size = int.from_bytes(received[at + 2 : start], "big")
            if total < start + size:
                break
            yield received[at] & 0x0F, received[start : start + size]
            at = start + size
        self._rest = received[at:]
