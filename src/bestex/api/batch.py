"""Order entry in batches: many orders in one body, each with a verdict of its own, one answer for all."""

import asyncio
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from bestex.api.asgi import ClientGoneError, Receive, Scope, Send, header, read_body, send_answer, send_problem
from bestex.api.execute import AcceptedBody, OrderEntry, problem_of, require_json
from bestex.api.fields import MAX_BODY_BYTES, Fields, JsonObject, read_object, type_name
from bestex.api.problems import FieldProblem, Problem, ProblemError
from bestex.domain.errors import BestexError

MAX_BATCH_ORDERS: Final = 1_000
MAX_BATCH_BODY_BYTES: Final = 1024 * 1024
ORDERS_A_TURN: Final = 100
"""Orders of a batch that are stored before others get their turn."""

_NO_KEY: Final = "is for one order; in a batch, give each order a clientOrderId"
_BEGIN: Final = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"orders"[ \t\r\n]*:[ \t\r\n]*')
_END: Final = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*")

Item = bytes | object
"""One order of a batch: as it was written, or what it was decoded to."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one order of a batch: one of the two."""

    accepted: AcceptedBody | None = None
    problem: Problem | None = None


class BatchAnswer(msgspec.Struct, frozen=True):
    """The verdicts, in the order of the orders."""

    results: list[Verdict]


class _Written(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    orders: msgspec.Raw


_decoder: Final = msgspec.json.Decoder(_Written)
_items_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_encoder: Final = msgspec.json.Encoder()


def read_batch(body: bytes) -> Sequence[Item]:
    """The orders in `{"orders": [...]}`, none of them looked at. `ProblemError` when that is not what it is."""
    items = _read_plain(body)
    return read_items(_read_closely(body) if items is None else items)


def read_items(items: object) -> Sequence[Item]:
    """`items` if they are as many orders as a batch may have; `ProblemError` otherwise."""
    if not isinstance(items, list):
        raise _bad_orders(f"must be an array of orders, not {type_name(items)}")
    if not 1 <= len(items) <= MAX_BATCH_ORDERS:
        raise _bad_orders(f"must have 1 to {MAX_BATCH_ORDERS} orders, not {len(items)}")
    return items


def read_array(body: bytes) -> list[bytes]:
    """The orders in a bare array, none of them looked at. `ProblemError` when it is none, or too long."""
    try:
        items = [bytes(each) for each in _items_decoder.decode(body)]
        read_items(items)
        return items
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError("malformed-json", str(error)) from error


def _read_plain(body: bytes) -> list[bytes] | None:
    """The orders of a body that has nothing but them; None of one that is to be looked at more closely."""
    begin = _BEGIN.match(body)
    if begin is None or not body.isascii():  # that what is not is UTF-8 is seen by the closer look
        return None
    try:
        orders = bytes(_decoder.decode(body).orders)
        end = begin.end() + len(orders)
        if not body.startswith(orders, begin.end()) or _END.fullmatch(body, end) is None:
            return None  # the field stands there twice
        return [bytes(each) for each in _items_decoder.decode(orders)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _read_closely(body: bytes) -> object:
    fields = Fields(read_object(body), ("orders",))
    if "orders" not in fields:
        fields.bad("orders", "is missing: an array of orders")
    fields.finish()
    return fields.values["orders"]


def _bad_orders(detail: str) -> ProblemError:
    return ProblemError("validation", "1 field is bad", (FieldProblem(detail, "/orders"),))


async def enter_all(entry: OrderEntry, items: Sequence[Item]) -> list[Verdict]:
    """Store each of the orders; what became of them, once that is known of all."""
    told: list[AcceptedBody | ProblemError | None] = [None] * len(items)
    left = len(items)
    all_told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(number: int, verdict: AcceptedBody | ProblemError) -> None:
        nonlocal left
        told[number] = verdict
        left -= 1
        if not left and not all_told.done():  # its client may have gone
            all_told.set_result(None)

    for number, item in enumerate(items):
        if number and number % ORDERS_A_TURN == 0:
            await asyncio.sleep(0)
        if isinstance(item, JsonObject) or (isinstance(item, bytes) and len(item) <= MAX_BODY_BYTES):
            entry.enter(item, None, lambda verdict, number=number: tell(number, verdict))  # type: ignore[misc]
        else:
            tell(number, _refused(item))
    await all_told
    return [verdict_of(each) for each in told]


def _refused(item: object) -> ProblemError:
    if isinstance(item, bytes):
        return ProblemError("body-too-large")
    return ProblemError("validation", "one JSON object was expected", (FieldProblem("must be an object", ""),))


def verdict_of(told: AcceptedBody | ProblemError | None) -> Verdict:
    """What became of an order, as a client is told."""
    if isinstance(told, AcceptedBody):
        return Verdict(accepted=told)
    return Verdict(problem=(told or ProblemError("internal")).problem)


class BatchEntry:
    """`POST /api/orders/batch`."""

    def __init__(self, entry: OrderEntry) -> None:
        self._entry = entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            length = header(scope, b"content-length")
            if length is not None and int(length) > MAX_BATCH_BODY_BYTES:
                raise ProblemError("body-too-large")
            require_json(header(scope, b"content-type"))
            if header(scope, b"idempotency-key") is not None:
                raise ProblemError("validation", "1 header is bad", (FieldProblem(_NO_KEY, header="Idempotency-Key"),))
            items = read_batch(await read_body(receive, MAX_BATCH_BODY_BYTES))
        except ClientGoneError:
            return
        except BestexError as error:
            await send_problem(send, problem_of(error))
            return
        answer = BatchAnswer(await enter_all(self._entry, items))
        await send_answer(send, 200, [(b"content-type", b"application/json")], _encoder.encode(answer))
