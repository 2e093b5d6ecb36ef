"""A long history for a journal: executed orders in bulk, as the engine would have left them.

`python -m bench.history --dsn DSN --orders 5000000`. Nobody may write to the journal meanwhile.
"""

import argparse
import asyncio
import hashlib
import random
import struct
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import resources
from typing import Final

import asyncpg
import msgspec

from bench.errors import BenchError
from bench.lives import (
    BUY,
    HEIGHTS_TO_LIVE,
    METEORA_POOL,
    NETWORK_FEE,
    SELL,
    SOL_MINT,
    STAGES,
    Side,
    appends_of,
    events_of,
    signature_of,
)
from bestex.domain.events import encode_detail, timestamp_text
from bestex.journal.migrations import migrate

ORDERS_A_CHUNK: Final = 50_000
"""Stored in one transaction: what a load that was broken off has stored holds together."""
ORDERS_A_GROUP: Final = 25
"""Each stage of so many orders was one commit: other orders' events stand between an order's own."""
ORDERS_A_SLOT: Final = 50
SPACING_US: Final = 1_000
PIECE_BYTES: Final = 1 << 18

Progress = Callable[[int], None]
"""Called with the number of orders stored so far."""

_POSTGRES_EPOCH_US: Final = 946_684_800_000_000
_COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_SOME_ID: Final = "00000000-0000-7000-8000-000000000000"
_SOME_SLOT: Final = 9_876_543_210
_EVENT_HEAD: Final = struct.Struct("!hiqi16sii")
_AT: Final = struct.Struct("!iq")
_LENGTH: Final = struct.Struct("!i")
_FIELD_INT: Final = struct.Struct("!ii")
_FIELD_BIGINT: Final = struct.Struct("!iq")

_EVENTS: Final = ("position", "order_id", "seq", "status", "attempt", "at", "detail", "sealed", "hash")
_ORDERS: Final = (
    *("id", "kind", "pair", "caller", "request_hash", "status", "seq", "attempt", "lease_epoch", "settled", "view"),
)
_TRANSACTIONS: Final = (
    *("signature", "slot", "landed_us", "order_id", "attempt", "venue", "mint_in", "mint_out"),
    *("amount_in", "amount_out", "network_fee", "pool", "asked_in"),
)


def _field(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _text(value: str) -> bytes:
    return _field(value.encode())


def _int(value: int) -> bytes:
    return _FIELD_INT.pack(4, value)


def _bigint(value: int) -> bytes:
    return _FIELD_BIGINT.pack(8, value)


def _numeric(value: int) -> bytes:
    """A whole number not below 0 as PostgreSQL's numeric."""
    digits = []
    while value:
        value, digit = divmod(value, 10_000)
        digits.append(digit)
    digits.reverse()
    return _field(struct.pack(f"!hhhh{len(digits)}h", len(digits), len(digits) - 1, 0, 0, *digits))


class _Told:
    """One event of all lives of a side, but for what differs: the order, its signature, the slot, the time."""

    def __init__(self, seq: int, status: str, attempt: int, after_us: int, detail: bytes, sealed: bytes) -> None:
        self.after_us = after_us
        self.line = f"{seq} {status} {attempt} "
        self.fields = _text(status) + _int(attempt)
        self.seq = seq
        self.detail = detail
        self.sealed = sealed
        self.varies = b"@" in detail  # the two that name the signature name a slot or a height as well
        self.seals = _SOME_ID.encode() in sealed


class _Template:
    """The lives of one side."""

    def __init__(self, side: Side) -> None:
        self.side = side
        signature = signature_of(_SOME_ID)
        events = events_of(_SOME_ID, signature, side, 0, _SOME_SLOT)
        self.signature = signature.encode()
        self.told = [
            _Told(
                event.seq,
                event.status.value,
                event.attempt,
                event.at_us,
                encode_detail(event.detail)
                .replace(self.signature, b"@")
                .replace(b"%d" % _SOME_SLOT, b"<")
                .replace(b"%d" % (_SOME_SLOT + HEIGHTS_TO_LIVE), b">"),
                event.sealed,
            )
            for event in events
        ]
        view = appends_of(events)[-1][-1].view
        self.view = (
            msgspec.json.encode(view)
            .replace(self.signature, b"@")
            .replace(_SOME_ID.encode(), b"#")
            .replace(timestamp_text(0).encode(), b"<")
            .replace(timestamp_text(events[-1].at_us).encode(), b">")
        )
        self.before_view = b"".join(
            (_text(view.status), _int(view.seq), _int(view.attempt), _int(1), _field(b"\1")),
        )
        self.of_order = b"".join((_text(view.kind), _text(view.pair), _text("local"), _field(b"")))
        self.of_transaction = b"".join((_int(1), _text("meteora"), _text(side.mint_in), _text(side.mint_out)))
        units_in = _numeric(side.units_in)
        self.amounts = b"".join(
            (units_in, _numeric(side.units_out), _bigint(NETWORK_FEE), _text(METEORA_POOL), units_in)
        )


_TEMPLATES: Final = (_Template(SELL), _Template(BUY))


class _Order:
    __slots__ = ("at_us", "id", "key", "signature", "slot", "template")

    def __init__(self, number: int, at_us: int, slot: int, template: _Template, randomness: random.Random) -> None:
        self.at_us = at_us
        self.slot = slot
        self.key = _uuid7(at_us // 1000, number, randomness)
        self.id = str(uuid.UUID(bytes=self.key))
        self.signature = signature_of(self.id).encode()
        self.template = template


def _uuid7(at_ms: int, number: int, randomness: random.Random) -> bytes:
    """In the order of their times and numbers, and no two alike."""
    return struct.pack("!QQ", at_ms << 16 | 0x7000 | number & 0xFFF, 1 << 63 | randomness.getrandbits(62))


class _Chunk:
    """Orders as the rows of the tables, in PostgreSQL's binary form."""

    def __init__(self, orders: list[_Order], position: int, head: bytes) -> None:
        self._orders = orders
        self.position = position
        self.hash = head

    def events(self) -> Iterator[bytes]:
        for begin in range(0, len(self._orders), ORDERS_A_GROUP):
            group = self._orders[begin : begin + ORDERS_A_GROUP]
            for seqs in STAGES:
                for order in group:
                    for seq in seqs:
                        yield self._event(order, order.template.told[seq - 1])

    def _event(self, order: _Order, told: _Told) -> bytes:
        self.position += 1
        at_us = order.at_us + told.after_us
        detail, sealed = told.detail, told.sealed
        if told.varies:
            slot = order.slot
            detail = (
                detail.replace(b"@", order.signature)
                .replace(b"<", b"%d" % slot)
                .replace(b">", b"%d" % (slot + HEIGHTS_TO_LIVE))
            )
        if told.seals:
            sealed = sealed.replace(_SOME_ID.encode(), order.id.encode()).replace(
                order.template.signature, order.signature
            )
        line = f"{self.position} {order.id} {told.line}{at_us} {len(detail)} ".encode()
        self.hash = hashlib.sha256(b"".join((self.hash, line, detail, sealed))).digest()
        return b"".join(
            (
                _EVENT_HEAD.pack(len(_EVENTS), 8, self.position, 16, order.key, 4, told.seq),
                told.fields,
                _AT.pack(8, at_us - _POSTGRES_EPOCH_US),
                _LENGTH.pack(len(detail)),
                detail,
                _field(sealed) if sealed else _NULL,
                b"\0\0\0\x20",
                self.hash,
            )
        )

    def orders(self) -> Iterator[bytes]:
        for order in self._orders:
            template = order.template
            view = (
                template.view.replace(b"@", order.signature)
                .replace(b"#", order.id.encode())
                .replace(b"<", timestamp_text(order.at_us).encode())
                .replace(b">", timestamp_text(order.at_us + template.told[-1].after_us).encode())
            )
            head = struct.pack("!hi16s", len(_ORDERS), 16, order.key)
            yield b"".join((head, template.of_order, template.before_view, _field(view)))

    def transactions(self) -> Iterator[bytes]:
        for order in self._orders:
            template = order.template
            yield b"".join(
                (
                    struct.pack("!h", len(_TRANSACTIONS)),
                    _field(order.signature),
                    _bigint(order.slot),
                    _bigint(order.at_us + template.told[4].after_us),
                    _text(order.id),
                    template.of_transaction,
                    template.amounts,
                )
            )


async def _copied(rows: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Rows in pieces that are worth a system call."""
    pieces, size = [_COPY_HEAD], 0
    for row in rows:
        pieces.append(row)
        size += len(row)
        if size > PIECE_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    yield b"".join((*pieces, _COPY_END))


async def load_history(dsn: str, orders: int, on_progress: Progress) -> None:
    """Append `orders` executed market orders to the journal at `dsn`, and their transactions to the ledger there.

    The log continues from where it is, chained and numbered as the engine does it, and `bestex verify` accepts the
    whole: the wallet's balances stay, by an adjustment. The tables are then vacuumed and analysed as far as they
    would have been by and by. Takes some 45 s a million orders on a 2-core machine, and 4.5 GB of disk.
    """
    await migrate(dsn)
    connection = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off", "search_path": "bestex"})
    try:
        schema = resources.files("bestex.venues.simulated").joinpath("ledger.sql").read_text()
        await connection.execute(f"set client_min_messages = warning; {schema}")
        first_us = time.time_ns() // 1000 - orders * SPACING_US - 60_000_000
        randomness = random.Random(first_us)
        done = 0
        while done < orders:
            count = min(ORDERS_A_CHUNK, orders - done)
            chunk = [
                _Order(
                    number,
                    first_us + number * SPACING_US,
                    (number - orders) // ORDERS_A_SLOT,  # below 0: before this chain began
                    _TEMPLATES[number % 2],
                    randomness,
                )
                for number in range(done, done + count)
            ]
            await _store(connection, chunk)
            done += count
            on_progress(done)
    finally:
        await connection.close()
    await _settle_down(dsn)


async def _store(connection: asyncpg.Connection, orders: list[_Order]) -> None:
    async with connection.transaction():
        head = await connection.fetchrow("select position, hash from log_head for update")
        if head is None:
            raise BenchError("bestex.log_head has lost its row")
        chunk = _Chunk(orders, head["position"], head["hash"])
        for table, schema, columns, rows in (
            ("events", "bestex", _EVENTS, chunk.events()),
            ("orders", "bestex", _ORDERS, chunk.orders()),
            ("transactions", "sim", _TRANSACTIONS, chunk.transactions()),
        ):
            await connection.copy_to_table(
                table, schema_name=schema, columns=columns, source=_copied(rows), format="binary", timeout=600
            )
        await connection.execute("update log_head set position = $1, hash = $2", chunk.position, chunk.hash)
        await connection.execute("update sim.world set transactions = transactions + $1", len(orders))
        await _keep_balances(connection, orders)


async def _keep_balances(connection: asyncpg.Connection, orders: list[_Order]) -> None:
    """Make up for what the orders' transactions moved: the wallet holds what it held."""
    moved: dict[str, int] = {SOL_MINT: -NETWORK_FEE * len(orders)}
    for order in orders:
        side = order.template.side
        moved[side.mint_in] = moved.get(side.mint_in, 0) - side.units_in
        moved[side.mint_out] = moved.get(side.mint_out, 0) + side.units_out
    await connection.execute(
        """insert into sim.adjustments (number, mint, units, reason, at_us)
           select (select coalesce(max(number), 0) from sim.adjustments) + row_number() over (), mint, -units,
                  'history', $3 from unnest($1::text[], $2::bigint[]) as m (mint, units)""",
        list(moved),
        list(moved.values()),
        orders[-1].at_us,
    )


async def _settle_down(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("vacuum (analyze) bestex.orders", timeout=3600)
        await connection.execute("analyze bestex.events, sim.transactions", timeout=3600)  # which nothing vacuums
        await connection.execute("checkpoint", timeout=3600)
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("--dsn", required=True, help="the journal's PostgreSQL")
    parser.add_argument("--orders", type=int, default=5_000_000, help="how many (default: %(default)s)")
    options = parser.parse_args()
    began = time.monotonic()
    asyncio.run(
        load_history(
            options.dsn, options.orders, lambda done: print(f"{done:,} in {time.monotonic() - began:.0f} s", flush=True)
        )
    )
    print(f"settled after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
