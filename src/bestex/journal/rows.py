"""Events, views and appends as the columns of the journal's functions, and back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import asyncpg
import msgspec
from msgspec.structs import force_setattr

from bestex.domain.events import Event, StoredEvent, decode_detail, encode_detail, settles
from bestex.domain.lifecycle import UNFILLED, Status
from bestex.domain.orders import OrderView
from bestex.domain.terms import Kind
from bestex.journal.writer import MergedRows
from bestex.ports import NewOrder, RestingOrder

_view_encoder: Final = msgspec.json.Encoder()
_view_decoder: Final = msgspec.json.Decoder(OrderView)
_resting_decoder: Final = msgspec.json.Decoder(RestingOrder)

_EMPTY: Final = '""'

Column = Callable[[Sequence[Any]], str | list[Any]]


def _array(values: Sequence[Any]) -> list[Any]:
    """As it is: the driver encodes each element."""
    return list(values)


def _words(values: Sequence[str]) -> str:
    """Ids or statuses as PostgreSQL writes an array: a fraction of the driver's cost for each element."""
    return f"{{{','.join(values)}}}"


def _numbers(values: Sequence[int]) -> str:
    """Whole numbers as PostgreSQL writes an array."""
    return f"{{{','.join(map(str, values))}}}"


def _optional(values: Sequence[Any]) -> str:
    """Words or numbers of which some are null or empty."""
    return f"{{{','.join(['NULL' if value is None else str(value) or _EMPTY for value in values])}}}"


def _flags(values: Sequence[bool]) -> str:
    """Truth values as PostgreSQL writes an array."""
    return f"{{{','.join(['t' if value else 'f' for value in values])}}}"


# How each array goes to the server; literals only for what never needs quoting.
_NEW: Final[tuple[Column, ...]] = (
    *(_words, _array, _array, _array, _array, _array, _array),
    *(_words, _numbers, _numbers, _optional, _flags, _optional, _optional, _optional, _array),
)
_UPDATE: Final[tuple[Column, ...]] = (
    *(_words, _numbers, _words, _optional, _flags),
    *(_words, _numbers, _numbers, _optional, _flags, _array, _array),
)
_EVENT: Final[tuple[Column, ...]] = (_words, _numbers, _optional, _words, _numbers, _numbers, _array, _array)


def append_columns(rows: Sequence[MergedRows]) -> list[str | list[Any]]:
    """The arrays of `bestex.append` behind its first two arguments."""
    new: list[tuple[Any, ...]] = []
    update: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    for merged in rows:
        first = merged.first
        state = _add_events(events, merged)
        if (order := first.new) is None:
            base = (first.base_seq, first.base_status or "", first.lease_epoch, first.takes_lease)
            *columns, view = state
            shown = merged.last.view
            pair = shown.pair if shown.kind == Kind.SNIPER else None  # the one that it has found, or still its own
            update.append((first.order_id, *base, *columns, pair, view))
        else:
            new.append(_new_row(order, first.lease_epoch, None, state))
        for companion in merged.companions:
            if (order := companion.first.new) is not None:
                state = _add_events(events, companion)
                new.append(_new_row(order, companion.first.lease_epoch, first.order_id, state))
    return [*_columns(new, _NEW), *_columns(update, _UPDATE), *_columns(events, _EVENT)]


_State = tuple[str, int, int, str | None, bool, str]
"""What the rows of one order lead to: status, seq, attempt, unfilled, settled, view."""


def _add_events(events: list[tuple[Any, ...]], merged: MergedRows) -> _State:
    order_id = merged.first.order_id
    came_from: str = merged.first.base_status or ""
    for append in merged.appends:
        for event in append.events:
            status = event.status
            detail = encode_detail(event.detail).decode()
            events.append(
                (order_id, event.seq, came_from, status, event.attempt, event.at_us, detail, event.sealed or None)
            )
            came_from = status
    last = merged.last.events[-1]
    unfilled = came_from if last.status in UNFILLED else None
    view = _view_encoder.encode(merged.last.view).decode()
    return came_from, last.seq, last.attempt, unfilled, settles(last), view


def _new_row(order: NewOrder, lease_epoch: int | None, carrier: str | None, state: _State) -> tuple[Any, ...]:
    *columns, view = state
    return (
        *(order.order_id, order.kind, order.pair, order.caller),
        *(order.idempotency_key, order.client_order_id, order.request_hash),
        *columns,
        *(lease_epoch, order.parent_id, carrier, view),
    )


def _columns(rows: list[tuple[Any, ...]], sends: tuple[Column, ...]) -> list[str | list[Any]]:
    """Rows as columns, each as it goes to the server."""
    columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(sends)
    return [send(column) for column, send in zip(columns, sends, strict=True)]


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


def decode_resting(raw: str, lease_epoch: int) -> RestingOrder:
    """The watched order in a view: only what it has of it is made."""
    order = _resting_decoder.decode(raw)
    if lease_epoch:
        force_setattr(order, "epoch", lease_epoch)  # nobody has it yet; a copy would take twice as long
    return order
