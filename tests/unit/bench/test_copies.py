"""Copied orders: the rows of one, under new ids, times, signatures and hashes."""

from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

from bench.copies import (
    HEADER,
    POSTGRES_EPOCH_US,
    TRAILER,
    Copy,
    EventRows,
    Pattern,
    Row,
    Template,
    copies_of,
    copy_row,
    order_rows,
    parse_copy,
    signature_start,
)
from bestex.domain.log_hash import GENESIS, row_bytes, row_hash

ITSELF = Copy(b"01a20b46-8285-748e-875a-34f25b11b76f", bytes(range(1, 17)), b"SIGNATURExyz", 0)
EVENT_COLUMNS = ["position", "order_id", "seq", "status", "attempt", "at", "detail", "sealed", "hash"]


def event(seq: int, status: str, at_us: int) -> Row:
    return [
        bytes(8),
        ITSELF.id_bytes,
        seq.to_bytes(4, "big"),
        status.encode(),
        (1).to_bytes(4, "big"),
        (at_us - POSTGRES_EPOCH_US).to_bytes(8, "big"),
        b'{"signature":"' + ITSELF.signature_start + b'rest"}',
        ITSELF.id_text + b" sealed" if seq > 1 else None,
        bytes(32),
    ]


def template() -> Template:
    view = b'{"orderId":"' + ITSELF.id_text + b'","createdAt":"2020-01-01T00:00:00.000Z",'
    view += b'"updatedAt":"2020-01-01T00:00:00.000Z"}'
    events = [event(1, "pending", 5_000_000_000_000_000), event(2, "routing", 5_000_000_000_250_000)]
    return Template([Pattern(row, ITSELF) for row in events], [Pattern([ITSELF.id_bytes, view], ITSELF)], [])


def test_a_copied_row_is_read_as_it_was_written() -> None:
    row: Row = [b"one", None, b"", b"x" * 300]
    assert list(parse_copy(HEADER + copy_row(row) + copy_row([b"two"]) + TRAILER)) == [row, [b"two"]]


def test_ids_are_uuids_of_version_7_that_ascend_and_are_the_same_each_time() -> None:
    copies = list(copies_of(1_000))
    ids = [UUID(copy.id_text.decode()) for copy in copies]
    assert ids == sorted(set(ids))
    assert {each.version for each in ids} == {7}
    assert all(each.bytes == copy.id_bytes for each, copy in zip(ids, copies, strict=True))
    assert [copy.id_bytes for copy in copies_of(1_000)] == [each.bytes for each in ids]


def test_no_two_orders_have_a_signature_that_starts_the_same() -> None:
    assert len({signature_start(number) for number in range(100_000)}) == 100_000


def test_the_events_of_copies_are_chained_by_hash_and_numbered_without_a_gap() -> None:
    writer = EventRows([template()], EVENT_COLUMNS)
    rows = b"".join(writer.rows(islice(copies_of(3), 3), lambda _: None))
    before = GENESIS
    for number, (row, copy) in enumerate(
        zip(parse_copy(HEADER + rows + TRAILER), [copy for copy in copies_of(3) for _ in range(2)], strict=True),
        start=1,
    ):
        position, order_id, seq, status, attempt, at, detail, sealed, link = row
        assert int.from_bytes(position or b"", "big") == number
        assert order_id == copy.id_bytes
        at_us = int.from_bytes(at or b"", "big") + POSTGRES_EPOCH_US
        assert at_us == copy.created_us + (0 if number % 2 else 250_000)
        assert copy.signature_start in (detail or b"")
        assert sealed is None or copy.id_text in sealed
        numbers = (int.from_bytes(seq or b"", "big"), (status or b"").decode(), int.from_bytes(attempt or b"", "big"))
        before = row_hash(
            before, row_bytes(number, copy.id_text.decode(), *numbers, at_us, detail or b"", sealed or b"")
        )
        assert link == before
    assert (writer.position, writer.hash) == (6, before)


def test_a_copys_view_says_when_it_was_created_and_updated() -> None:
    (copy,) = copies_of(1)
    (row,) = parse_copy(HEADER + b"".join(order_rows([template()], [250_000], iter([copy]))) + TRAILER)
    view = (row[1] or b"").decode()
    assert copy.id_text.decode() in view
    created, updated = (
        datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for at_us in (copy.created_us, copy.created_us + 250_000)
    )
    assert view.endswith(f'"createdAt":"{created}","updatedAt":"{updated}"}}')
