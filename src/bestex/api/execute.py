"""Order entry: one order in, on disk, its id out. The hot route, so a bare ASGI handler."""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from bestex.api.asgi import ClientGoneError, Headers, Receive, Scope, Send, read_body, send_answer, send_problem
from bestex.api.fields import MAX_BODY_BYTES, JsonObject, bad_fields
from bestex.api.order_request import read_order, read_order_object
from bestex.api.problems import FieldProblem, ProblemError
from bestex.api.requests import read_idempotency_key
from bestex.domain.errors import (
    BestexError,
    ChainUnreachableError,
    EngineFencedError,
    JournalUnavailableError,
    NotFoundError,
    OrderArchivedError,
)
from bestex.domain.events import timestamp_text
from bestex.domain.tokens import TokenRegistry
from bestex.engine.errors import (
    AlreadyEndedError,
    BadChangeError,
    BeyondTriggerError,
    JournalBehindError,
    NotWatchingError,
    PastExpiryError,
)
from bestex.engine.intake import (
    CALLER,
    Accepted,
    HaltedError,
    Intake,
    IntakeFullError,
    KeyReusedError,
    KeyUnderWayError,
    PendingOutcomeError,
)
from bestex.ports import Clock

_log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 1


class AcceptedBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """The body of the 202."""

    order_id: str
    status_endpoint: str  # the path of the order's WebSocket
    created_at: str
    status: str  # `watching` of an order that waits for something, else `pending`
    funds_covered: bool | None = None  # of a `watching` one: whether the wallet holds now what it would pay


def accepted_body(accepted: Accepted) -> AcceptedBody:
    order_id = accepted.order_id
    return AcceptedBody(
        order_id,
        f"/api/orders/{order_id}/status",
        timestamp_text(accepted.created_us),
        accepted.status,
        accepted.covered,
    )


def problem_of(error: Exception) -> ProblemError:
    """The problem that a client sees for an error of the engine."""
    match error:
        case ProblemError():
            return error
        case IntakeFullError():
            return ProblemError("intake-full", str(error), retry_after_s=RETRY_AFTER_S)
        case HaltedError():
            return ProblemError("halted", str(error))
        case KeyUnderWayError():
            return ProblemError("key-under-way", str(error), retry_after_s=RETRY_AFTER_S)
        case KeyReusedError():
            return ProblemError("key-reused", str(error))
        case PendingOutcomeError():
            return ProblemError("outcome-unknown", str(error), order_id=error.order_id, retry_after_s=RETRY_AFTER_S)
        case BadChangeError() | BeyondTriggerError() | PastExpiryError():
            return bad_fields((FieldProblem(str(error), f"/{error.field}"),))
        case OrderArchivedError():
            return ProblemError("order-archived", str(error), order_id=error.order_id)
        case NotFoundError():
            return ProblemError("order-not-found", str(error))
        case AlreadyEndedError():
            return ProblemError("order-ended", str(error))
        case NotWatchingError():
            return ProblemError("not-watching", str(error))
        case JournalBehindError():
            return ProblemError("journal-behind", str(error))
        case JournalUnavailableError() | EngineFencedError():
            return ProblemError("unavailable", str(error), retry_after_s=RETRY_AFTER_S)
        case ChainUnreachableError():
            return ProblemError("chain-unreachable", str(error))
        case _:
            _log.error("api.defect", exc_info=error)
            return ProblemError("internal")


EntryAnswer = Callable[[AcceptedBody | ProblemError], None]
"""Gets what the client of an order is to be told. Called once."""

_JSON: Final = (b"content-type", b"application/json")


def _told(accepted: Accepted | Exception) -> AcceptedBody | ProblemError:
    return accepted_body(accepted) if isinstance(accepted, Accepted) else problem_of(accepted)


class OrderEntry:
    """`POST /api/orders/execute`."""

    def __init__(self, intake: Intake, tokens: TokenRegistry, clock: Clock) -> None:
        self._intake = intake
        self._tokens = tokens
        self._clock = clock
        self._encoder = msgspec.json.Encoder()

    def enter(self, body: bytes | JsonObject, key: str | None, answer: EntryAnswer) -> str | None:
        """Store the order in `body`; `answer` is called with what to tell its client, maybe before this returns.

        The id that the order is stored under, unless it is refused or repeats another.
        """
        now_us = self._clock.now_us()
        try:
            if isinstance(body, JsonObject):
                request = read_order_object(body, self._tokens, now_us)
            else:
                request = read_order(body, self._tokens, now_us, has_key=key is not None)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the client is told
            answer(problem_of(error))
            return None
        return self._intake.enter(request, CALLER, key, lambda accepted: answer(_told(accepted)))

    async def accept(self, body: bytes, key: str | None) -> AcceptedBody:
        """`enter`, for one who waits; raises `BestexError`."""
        request = read_order(body, self._tokens, self._clock.now_us(), has_key=key is not None)
        return accepted_body(await self._intake.accept(request, CALLER, key))

    def answer_bytes(self, told: AcceptedBody | ProblemError) -> tuple[int, Headers, bytes]:
        """Status, headers and body of an answer."""
        if isinstance(told, ProblemError):
            return told.status, told.headers(), told.body()
        return 202, [_JSON, (b"location", b"/api/orders/" + told.order_id.encode())], self._encoder.encode(told)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            media_type = key = None
            for name, value in scope["headers"]:
                if name == b"content-type":
                    media_type = value if media_type is None else media_type + b", " + value
                elif name == b"idempotency-key":
                    key = value if key is None else key + b"\n" + value  # two of them are no key
                elif name == b"content-length" and int(value) > MAX_BODY_BYTES:
                    raise ProblemError("body-too-large")
            require_json(media_type)
            body = await read_body(receive, MAX_BODY_BYTES)
            accepted = await self.accept(body, read_idempotency_key(key))
        except ClientGoneError:
            return
        except BestexError as error:
            await send_problem(send, problem_of(error))
            return
        await send_answer(send, *self.answer_bytes(accepted))


def require_json(media_type: bytes | None) -> None:
    if media_type == b"application/json":
        return
    kind, _, parameters = (media_type or b"").lower().partition(b";")
    if kind.strip() != b"application/json" or parameters.strip() not in (b"", b"charset=utf-8", b'charset="utf-8"'):
        raise ProblemError("unsupported-media-type")
