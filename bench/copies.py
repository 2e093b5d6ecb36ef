"""Executed orders, copied: the rows of one as COPY has them, with some bytes written over. `history` loads them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bench.suite import ProgressOf
from bestex.domain.log_hash import GENESIS, row_bytes, row_hash

SEED: Final = 8
MS_BETWEEN_ORDERS: Final = 1
SIGNATURE_START: Final = 12  # characters of a signature that are made anew: enough for every order to have its own
POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # in Unix microseconds
TIME_CHARACTERS: Final = len("2026-11-25T00:00:00.000Z")
PROGRESS_EVERY: Final = 1_000

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

Row = list[bytes | None]
"""The fields of a row as PostgreSQL sends them; null is none."""


@dataclass(frozen=True)
class Copy:
    """What differs between the orders that are written: everything about one of them."""

    id_text: bytes
    id_bytes: bytes
    signature_start: bytes
    created_us: int  # Unix


class Pattern:
    """An executed order's row as a COPY has it, and where in it is what differs from order to order.

    All of that is of one length in every order, so that a copy is the same bytes with some of them written over.
    """

    def __init__(self, row: Row, template: Copy) -> None:
        self.row = row
        self.encoded = copy_row(row)
        self._id_texts = _places(self.encoded, template.id_text)
        self._id_bytes = _places(self.encoded, template.id_bytes)
        self._signatures = _places(self.encoded, template.signature_start)

    def copied(self, copy: Copy) -> bytearray:
        row = bytearray(self.encoded)
        for at in self._id_bytes:
            row[at : at + 16] = copy.id_bytes
        for at in self._id_texts:
            row[at : at + 36] = copy.id_text
        for at in self._signatures:
            row[at : at + SIGNATURE_START] = copy.signature_start
        return row


@dataclass(frozen=True)
class Template:
    """An executed order."""

    events: list[Pattern]
    order: list[Pattern]
    transactions: list[Pattern]


def parse_copy(data: bytes) -> Iterator[Row]:
    """The rows of a binary COPY."""
    at = len(HEADER)
    while data[at : at + 2] != TRAILER:
        count = int.from_bytes(data[at : at + 2], "big")
        at += 2
        row: Row = []
        for _ in range(count):
            size = int.from_bytes(data[at : at + 4], "big", signed=True)
            at += 4
            row.append(None if size < 0 else data[at : at + size])
            at += max(size, 0)
        yield row


def copy_row(fields: Sequence[bytes | None]) -> bytes:
    """A row of a binary COPY."""
    parts = [len(fields).to_bytes(2, "big")]
    for field in fields:
        if field is None:
            parts.append(_NULL)
        else:
            parts += (len(field).to_bytes(4, "big"), field)
    return b"".join(parts)


def field_starts(fields: Sequence[bytes | None]) -> list[int]:
    """Where each field's content starts in the row."""
    starts, at = [], 2
    for field in fields:
        at += 4
        starts.append(at)
        at += len(field or b"")
    return starts


def copies_of(orders: int) -> Iterator[Copy]:
    """The orders to be written, oldest first; the same ones each time, in a process."""
    chance = random.Random(SEED)
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=1)
    start_ms = int(start.timestamp() * 1_000) - orders * MS_BETWEEN_ORDERS
    for number in range(orders):
        at_ms = start_ms + number * MS_BETWEEN_ORDERS
        digits = uuid7(at_ms, chance.getrandbits(74)).to_bytes(16, "big")
        text = digits.hex()
        id_text = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()
        yield Copy(id_text, digits, signature_start(number), at_ms * 1_000)


def uuid7(at_ms: int, chance: int) -> int:
    """A UUID of version 7: the time, then 74 random bits."""
    return at_ms << 80 | 7 << 76 | (chance >> 62) << 64 | 2 << 62 | chance & ((1 << 62) - 1)


def signature_start(number: int) -> bytes:
    """The first characters of a signature, another one for each number, spread over the whole range."""
    number = number * 0x9E3779B97F4A7C15 % 58**SIGNATURE_START  # odd, and no multiple of 29: no two numbers meet
    characters = []
    for _ in range(SIGNATURE_START):
        number, digit = divmod(number, 58)
        characters.append(_BASE58[digit])
    return "".join(characters).encode()


def _places(encoded: bytes, part: bytes) -> list[int]:
    """Where a part stands in a row."""
    places, at = [], encoded.find(part)
    while at >= 0:
        places.append(at)
        at = encoded.find(part, at + len(part))
    return places


class EventRows:
    """The log's rows: positions, times and hashes are made anew."""

    def __init__(self, templates: Sequence[Template], columns: Sequence[str]) -> None:
        self._templates = [[_EventPattern(each, columns) for each in template.events] for template in templates]
        self.lengths_us = [events[-1].at_us - events[0].at_us for events in self._templates]
        self.position = 0
        self.hash = GENESIS

    def rows(self, copies: Iterator[Copy], progress: ProgressOf) -> Iterator[bytearray]:
        for number, copy in enumerate(copies):
            order_id = copy.id_text.decode()
            events = self._templates[number % len(self._templates)]
            began_us = events[0].at_us
            for event in events:
                self.position += 1
                at_us = copy.created_us + event.at_us - began_us
                row = event.pattern.copied(copy)
                detail, sealed = bytes(row[event.detail]), bytes(row[event.sealed])
                content = row_bytes(
                    self.position, order_id, event.seq, event.status, event.attempt, at_us, detail, sealed
                )
                self.hash = row_hash(self.hash, content)
                row[event.position] = self.position.to_bytes(8, "big")
                row[event.at] = (at_us - POSTGRES_EPOCH_US).to_bytes(8, "big", signed=True)
                row[event.hash] = self.hash
                yield row
            if number % PROGRESS_EVERY == 0:
                progress(number)


class _EventPattern:
    """An event's row, what its hash is taken over, and where what is made anew stands."""

    def __init__(self, pattern: Pattern, columns: Sequence[str]) -> None:
        place = {name: number for number, name in enumerate(columns)}
        row = pattern.row
        starts = field_starts(row)
        self.pattern = pattern
        self.seq, self.attempt = (int.from_bytes(row[place[name]] or b"", "big") for name in ("seq", "attempt"))
        self.status = (row[place["status"]] or b"").decode()
        self.at_us = int.from_bytes(row[place["at"]] or b"", "big", signed=True) + POSTGRES_EPOCH_US
        self.position, self.at, self.hash, self.detail, self.sealed = (
            slice(starts[place[name]], starts[place[name]] + len(row[place[name]] or b""))
            for name in ("position", "at", "hash", "detail", "sealed")
        )


def order_rows(templates: Sequence[Template], lengths_us: Sequence[int], copies: Iterator[Copy]) -> Iterator[bytearray]:
    """The projection's rows: their views say when the order was created and updated."""
    for number, copy in enumerate(copies):
        which = number % len(templates)
        for pattern in templates[which].order:
            row = pattern.copied(copy)
            updated_us = copy.created_us + lengths_us[which]
            for key, at_us in ((b'"createdAt":"', copy.created_us), (b'"updatedAt":"', updated_us)):
                if (at := row.find(key)) >= 0:
                    row[at + len(key) : at + len(key) + TIME_CHARACTERS] = _time(at_us)
            yield row


def _time(at_us: int) -> bytes:
    """As views have it: RFC 3339 in UTC, milliseconds."""
    at = datetime.fromtimestamp(at_us // 1_000 / 1_000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_us // 1_000 % 1_000:03d}Z".encode()


def transaction_rows(templates: Sequence[Template], copies: Iterator[Copy]) -> Iterator[bytearray]:
    for number, copy in enumerate(copies):
        for pattern in templates[number % len(templates)].transactions:
            yield pattern.copied(copy)
