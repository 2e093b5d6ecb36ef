"""The hash of each row of the log over the row's bytes and the hash before it: what was changed later shows.

`bestex.append` in `journal/sql/functions.sql` computes the same; a contract test compares the two.
"""

import hashlib
from typing import Final

import msgspec

from bestex.domain.events import StoredEvent, encode_detail

GENESIS: Final = bytes(32)
"""What stands before the first row."""


def row_bytes(
    position: int, order_id: str, seq: int, status: str, attempt: int, at_us: int, detail: bytes, sealed: bytes
) -> bytes:
    """A row's canonical bytes, as stored: a line of its numbers and the detail's length, the detail, the sealed bytes.

    `order_id` is the UUID in lower case with hyphens, `at_us` Unix microseconds, `detail` the JSON as the log keeps
    it, to the byte.
    """
    head = f"{position} {order_id} {seq} {status} {attempt} {at_us} {len(detail)} "
    return b"".join((head.encode(), detail, sealed))


def row_hash(before: bytes, row: bytes) -> bytes:
    """SHA-256 over the hash of the row before, then the row's bytes."""
    return hashlib.sha256(before + row).digest()


def stored_hash(before: bytes, stored: StoredEvent) -> bytes:
    """The hash of the row that `stored` is, after the row with the hash `before`."""
    event = stored.event
    detail = encode_detail(event.detail)
    row = row_bytes(
        stored.position, event.order_id, event.seq, event.status, event.attempt, event.at_us, detail, event.sealed
    )
    return row_hash(before, row)


class PublishedHead(msgspec.Struct, frozen=True, rename="camel"):
    """A head that was published outside the database: the log must reach it, and have its hash there."""

    journal_id: str
    position: int
    hash: str  # hexadecimal
    published_at: str | None = None  # RFC 3339
