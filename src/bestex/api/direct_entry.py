"""Order entry read straight from a connection: what the plain `POST /api/orders/execute` needs, and nothing else.

The general way through HTTP parser, task and ASGI costs more than all else that is done to accept an order. A request
comes this way only when nothing comes with it and its head has nothing that the general way is needed for. The two
give the same answers; whatever is unusual, or bad, goes the general way.
"""

import re
from typing import Final

from bestex.api.asgi import Headers
from bestex.api.execute import AcceptedBody, EntryAnswer, OrderEntry
from bestex.api.fields import MAX_BODY_BYTES
from bestex.api.guard import Guard
from bestex.api.problems import ProblemError
from bestex.api.requests import read_idempotency_key

BEGIN: Final = b"POST /api/orders/execute HTTP/1.1\r\n"
MAX_DIRECT_HEAD_BYTES: Final = 4 * 1024
MAX_HEADS: Final = 256
"""Heads that are remembered: a client's are mostly the same."""

_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH: Final = re.compile(rb"\d{1,6}")
_ONCE: Final = frozenset({b"host", b"content-type", b"content-length", b"idempotency-key", b"connection"})
_GENERAL: Final = frozenset(
    {b"origin", b"transfer-encoding", b"te", b"trailer", b"expect", b"upgrade", b"proxy-connection", b"http2-settings"}
)
"""Headers that the general way is needed for."""


class Head:
    """What a request's head comes to."""

    __slots__ = ("end", "key", "size")

    def __init__(self, end: int, size: int, key: str | None) -> None:
        self.end = end  # where the body begins
        self.size = size  # bytes of the whole request
        self.key = key  # the idempotency key


class DirectEntry:
    """Reads whole requests, for all connections of a server."""

    def __init__(self, entry: OrderEntry, guard: Guard) -> None:
        self._entry = entry
        self._guard = guard
        self._heads: dict[bytes, Head] = {}

    def head(self, data: bytes) -> Head | None:
        """The head of the request in `data`, of which the body may be to come; None when it is none of this way's."""
        if not data.startswith(BEGIN):
            return None
        end = data.find(b"\r\n\r\n")
        if not 0 < end <= MAX_DIRECT_HEAD_BYTES:
            return None
        text = data[:end]
        return self._heads.get(text) or self._read(text)

    def enter(self, head: Head, data: bytes, answer: EntryAnswer) -> None:
        """Store the order in `data`, a whole request with this head; `answer` may be called before this returns."""
        self._entry.enter(data[head.end :], head.key, answer)

    def answer_bytes(self, told: AcceptedBody | ProblemError) -> tuple[int, Headers, bytes]:
        """Status, headers and body of an answer."""
        return self._entry.answer_bytes(told)

    def _read(self, text: bytes) -> Head | None:
        """The head of a request that may come this way."""
        found: dict[bytes, bytes] = {}
        for line in text[len(BEGIN) :].split(b"\r\n"):
            match = _LINE.fullmatch(line)
            if match is None:
                return None
            name, value = match[1].lower(), match[2].rstrip(b" \t")
            if name in _GENERAL or (name in _ONCE and name in found):
                return None
            found[name] = value
        length = found.get(b"content-length", b"")
        if (
            found.get(b"content-type") != b"application/json"
            or found.get(b"connection", b"keep-alive").lower() != b"keep-alive"
            or not self._guard.knows_host(found.get(b"host", b""))
            or _LENGTH.fullmatch(length) is None
            or int(length) > MAX_BODY_BYTES
        ):
            return None
        try:
            key = read_idempotency_key(found.get(b"idempotency-key"))
        except ProblemError:
            return None
        end = len(text) + 4
        head = Head(end, end + int(length), key)
        if key is None:  # else the next one has another
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            self._heads[text] = head
        return head
