"""Events, views and appends as the columns of the journal's functions, and back."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec

from bestex.domain.events import Event, StoredEvent, decode_detail, encode_detail
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.orders import OrderView
from bestex.journal.writer import MergedRows

_view_encoder: Final = msgspec.json.Encoder()
_view_decoder: Final = msgspec.json.Decoder(OrderView)

NEW_COLUMNS: Final = 13
UPDATE_COLUMNS: Final = 9
EVENT_COLUMNS: Final = 8


def append_columns(rows: Sequence[MergedRows]) -> list[list[Any]]:
    """The arrays of `bestex.append` behind its first two arguments."""
    new: list[list[Any]] = [[] for _ in range(NEW_COLUMNS)]
    update: list[list[Any]] = [[] for _ in range(UPDATE_COLUMNS)]
    e_id, e_seq, e_from, e_status, e_attempt, e_at, e_detail, e_sealed = events = [
        list[Any]() for _ in range(EVENT_COLUMNS)
    ]
    for merged in rows:
        first = merged.first
        order_id = first.order_id
        before = "" if first.base_status is None else first.base_status.value
        came_from = before
        for append in merged.appends:
            for event in append.events:
                status = event.status.value
                e_id.append(order_id)
                e_seq.append(event.seq)
                e_from.append(came_from)
                e_status.append(status)
                e_attempt.append(event.attempt)
                e_at.append(event.at_us)
                e_detail.append(encode_detail(event.detail).decode())
                e_sealed.append(event.sealed or None)
                came_from = status
        view = merged.last.view
        ended = came_from if Status(came_from) in ENDS else None
        text = _view_encoder.encode(view).decode()
        state = (came_from, view.seq, view.attempt, ended)
        if (order := first.new) is None:
            row: tuple[Any, ...] = (order_id, first.base_seq, before, first.lease_epoch, *state, text)
            for column, value in zip(update, row, strict=True):
                column.append(value)
        else:
            row = (
                order_id,
                order.kind,
                order.pair,
                order.caller,
                order.idempotency_key,
                order.client_order_id,
                order.request_hash,
                *state,
                first.lease_epoch,
                text,
            )
            for column, value in zip(new, row, strict=True):
                column.append(value)
    return [*new, *update, *events]


def stored_event(row: asyncpg.Record) -> StoredEvent:
    """The event in a row of the queries that read the log."""
    status = Status(row["status"])
    return StoredEvent(
        row["position"],
        Event(
            str(row["order_id"]),
            row["seq"],
            status,
            row["attempt"],
            row["at_us"],
            decode_detail(status, row["detail"]),
            row["sealed"] or b"",
        ),
    )


def decode_view(raw: str) -> OrderView:
    return _view_decoder.decode(raw)
