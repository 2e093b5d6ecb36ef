"""What waits to be sent, as few messages as possible."""

from collections import deque
from typing import Final

from bestex.venues.simnet.wire import MAX_MESSAGE_BYTES, Reply, Request, encoder

FULL_MESSAGE_BYTES: Final = 1024 * 1024
"""A message that has come to so much gets no more added."""
_ARRAY_32: Final = b"\xdd"  # of MessagePack, with its length in four bytes


class Outbox:
    """Collects what one side says."""

    def __init__(self) -> None:
        self._body = bytearray()
        self._count = 0
        self._full: deque[bytes] = deque()
        self._full_bytes = 0

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._full_bytes + len(self._body)

    def add(self, message: Request | Reply) -> None:
        """`OverflowError` for an integer of more than 64 bits, `ValueError` for too large a message: it is left out."""
        before = len(self._body)
        try:
            encoder.encode_into(message, self._body, -1)
            self._added(before)
        except BaseException:
            del self._body[before:]
            raise

    def add_encoded(self, message: bytes) -> None:
        """`add` of what `encode` gave."""
        before = len(self._body)
        self._body += message
        self._added(before)

    def take(self) -> deque[bytes]:
        """All that waits, as messages."""
        if self._count:
            self._fill()
        full, self._full, self._full_bytes = self._full, deque(), 0
        return full

    def _added(self, before: int) -> None:
        size = len(self._body)
        if size < FULL_MESSAGE_BYTES:
            self._count += 1
            return
        if size - before > MAX_MESSAGE_BYTES - FULL_MESSAGE_BYTES:
            del self._body[before:]
            raise ValueError(f"a message of {size - before:,} bytes is too large to be sent")
        self._count += 1
        self._fill()

    def _fill(self) -> None:
        message = _ARRAY_32 + self._count.to_bytes(4, "big") + self._body
        self._full.append(message)
        self._full_bytes += len(message)
        self._body = bytearray()
        self._count = 0
