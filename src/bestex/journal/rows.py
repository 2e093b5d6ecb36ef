"""Events, views and appends as the columns of the journal's functions, and back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import asyncpg
import msgspec
from msgspec.structs import force_setattr

from bestex.domain.events import Event, StoredEvent, decode_detail, encode_detail, settles
from bestex.domain.lifecycle import UNFILLED, Status
from bestex.domain.order_state import OrderState, OrderView
from bestex.domain.terms import Kind
from bestex.journal.writer import MergedRows, with_companions
from bestex.ports import RestingOrder

_view_encoder: Final = msgspec.json.Encoder()
_view_decoder: Final = msgspec.json.Decoder(OrderView)
_resting_decoder: Final = msgspec.json.Decoder(RestingOrder)

_EMPTY: Final = '""'
_SNIPER: Final = Kind.SNIPER.value

Column = Callable[[Sequence[Any]], str | list[Any]]


def _array(values: Sequence[Any]) -> list[Any]:
    """As it is: the driver encodes each element."""
    return list(values)


def _scarce(values: Sequence[Any]) -> list[Any]:
    """Nothing where all are null: the server takes what is missing as null."""
    return list(values) if any(values) else []


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
    *(_numbers, _numbers, _optional, _flags, _scarce),
)
_UPDATE: Final[tuple[Column, ...]] = (_words, _numbers, _words, _numbers, _numbers, _optional, _flags, _scarce)
_EVENT: Final[tuple[Column, ...]] = (_words, _numbers, _words, _numbers, _numbers, _array, _scarce)


def append_columns(rows: Sequence[MergedRows]) -> list[str | list[Any]]:
    """The arrays of `bestex.append` behind its first two arguments."""
    new: list[tuple[Any, ...]] = []
    update: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    new_unfilled: _Rare = {}
    parents: _Rare = {}
    carriers: _Rare = {}
    unfilled: _Rare = {}
    takes: _Rare = {}
    pairs: _Rare = {}
    run_afters: _Rare = {}
    fences: _Rare = {}
    fence_epochs: _Rare = {}
    for merged in with_companions(rows):
        first = merged.first
        order_id = first.order_id
        begins = len(events) + 1
        for append in merged.appends:
            for event in append.events:
                detail = encode_detail(event.detail).decode()
                events.append(
                    (order_id, event.seq, event.status, event.attempt, event.at_us, detail, event.sealed or None)
                )
        view = merged.last.view
        last = merged.last.events[-1]
        settled = settles(last)
        stands = settled or last.status is Status.WATCHING  # else it is not stored: the next event changes it
        text = _view_encoder.encode(view).decode() if stands else None
        state = (begins, len(events), first.lease_epoch, settled, text)
        if (order := first.new) is None:
            if last.status in UNFILLED:
                unfilled[len(update)] = last.status
            if first.takes_lease:
                takes[len(update)] = "t"
            if (run_after_us := merged.last.run_after_us) is not None:
                run_afters[len(update)] = str(run_after_us)
            if (fence := first.fence) is not None:
                fences[len(update)] = fence.key
                fence_epochs[len(update)] = str(fence.epoch)
            if view.kind == _SNIPER:
                pairs[len(update)] = view.pair  # the one that it has found, or still its own
            update.append((order_id, first.base_seq, first.base_status or "", *state))
        else:
            if last.status in UNFILLED:
                new_unfilled[len(new)] = last.status
            if order.parent_id is not None:
                parents[len(new)] = order.parent_id
            if merged.carrier is not None:
                carriers[len(new)] = merged.carrier
            who = (order.kind, order.pair, order.caller)
            keys = (order.idempotency_key, order.client_order_id, order.request_hash)
            new.append((order_id, *who, *keys, *state))
    return [
        *_columns(new, _NEW),
        _array(_rare(new_unfilled)),
        _optional(_rare(parents)),
        _optional(_rare(carriers)),
        *_columns(update, _UPDATE),
        _array(_rare(unfilled)),
        _optional(_rare(takes)),
        _array(_rare(pairs)),
        _optional(_rare(run_afters)),
        _array(_rare(fences)),
        _optional(_rare(fence_epochs)),
        *_columns(events, _EVENT),
    ]


_Rare = dict[int, str]
"""What few rows have, by the row's number."""


def _rare(values: _Rare) -> list[str | None]:
    """As a column, as far as its last value: the server takes what is missing as null."""
    return [values.get(number) for number in range(max(values) + 1)] if values else []


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


Story = Sequence[tuple[int, str, int, int, str]]
"""An order's events, first to last: seq, status, attempt, time in Unix microseconds, detail."""


def shown_order(order_id: str, view: str | None, story: Story | None) -> OrderView:
    """The order as its row has it, or else as its events do."""
    if view is not None:
        return decode_view(view)
    state = OrderState()
    for seq, word, attempt, at_us, detail in story or ():
        status = Status(word)
        state.apply(Event(order_id, seq, status, attempt, at_us, decode_detail(status, detail)))
    return state.view()


def decode_resting(raw: str, lease_epoch: int) -> RestingOrder:
    """The watched order in a view: only what it has of it is made."""
    order = _resting_decoder.decode(raw)
    if lease_epoch:
        force_setattr(order, "epoch", lease_epoch)  # nobody has it yet; a copy would take twice as long
    return order
