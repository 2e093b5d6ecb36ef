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

_EMPTY: Final = '""'

# Which arrays go as literals: those that hold nothing that would need quoting.
_NEW_LITERALS: Final = (True, False, False, False, False, False, False, True, True, True, True, True, False)
_UPDATE_LITERALS: Final = (True, True, True, True, True, True, True, True, False)
_EVENT_LITERALS: Final = (True, True, True, True, True, True, False, False)


def append_columns(rows: Sequence[MergedRows]) -> list[str | list[Any]]:
    """The arrays of `bestex.append` behind its first two arguments."""
    new: list[list[Any]] = [[] for _ in _NEW_LITERALS]
    update: list[list[Any]] = [[] for _ in _UPDATE_LITERALS]
    e_id, e_seq, e_from, e_status, e_attempt, e_at, e_detail, e_sealed = events = [list[Any]() for _ in _EVENT_LITERALS]
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
        last = merged.last.events[-1]
        ended = came_from if last.status in ENDS else None
        text = _view_encoder.encode(merged.last.view).decode()
        state = (came_from, last.seq, last.attempt, ended)
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
    return [
        _literal(column) if as_literal else column
        for columns, literals in ((new, _NEW_LITERALS), (update, _UPDATE_LITERALS), (events, _EVENT_LITERALS))
        for column, as_literal in zip(columns, literals, strict=True)
    ]


def _literal(values: list[Any]) -> str:
    """An array of ids, numbers or statuses as PostgreSQL writes one: a third of the driver's cost for each element."""
    return f"{{{','.join(['NULL' if value is None else str(value) or _EMPTY for value in values])}}}"


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
