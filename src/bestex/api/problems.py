"""Problem documents (RFC 9457): every error that a client can meet, by its stable code."""

from html import escape
from types import MappingProxyType
from typing import Final

import msgspec

from bestex.domain.errors import BestexError

CONTENT_TYPE: Final = b"application/problem+json"


class ProblemKind(msgspec.Struct, frozen=True):
    status: int  # HTTP
    title: str
    advice: str  # what to do, as its page says


KINDS: Final = MappingProxyType(
    {
        "validation": ProblemKind(
            422, "The request has bad fields", "`errors` names each bad field by its JSON pointer. Nothing was stored."
        ),
        "malformed-json": ProblemKind(
            400, "The body is not JSON", "Send one JSON object in UTF-8, each key once. Nothing was stored."
        ),
        "body-too-large": ProblemKind(413, "The body is too large", "An order is far below 64 KiB."),
        "unsupported-media-type": ProblemKind(
            415, "The body must be application/json", "Set the header Content-Type: application/json."
        ),
        "foreign-host": ProblemKind(
            403,
            "The Host header is not this engine's",
            "Call it by the address it listens on, or name the host in BESTEX_ALLOWED_HOSTS.",
        ),
        "foreign-origin": ProblemKind(
            403,
            "A page from this origin may not call the engine",
            "Name the front end's origin in BESTEX_CORS_ORIGINS.",
        ),
        "not-found": ProblemKind(404, "There is nothing here", "`/` lists what there is."),
        "order-not-found": ProblemKind(
            404, "There is no such order", "Check the order id; `GET /api/orders` lists them."
        ),
        "order-archived": ProblemKind(
            410,
            "The order was archived",
            "It ended long ago and has left the database; the detail names the file that has it.",
        ),
        "log-archived": ProblemKind(
            410,
            "The log does not go back that far",
            "What is older was archived. Resume behind the position that the detail names, or leave `after` out.",
        ),
        "method-not-allowed": ProblemKind(405, "This path takes another method", "`/schema` lists paths and methods."),
        "malformed-id": ProblemKind(422, "The order id is malformed", "An order id is a UUID in its usual form."),
        "order-ended": ProblemKind(409, "The order has ended", "There is nothing left to cancel."),
        "not-watching": ProblemKind(
            409,
            "The order does not wait now",
            "Only a `watching` order can be changed. Cancel it, or wait until it waits again.",
        ),
        "key-reused": ProblemKind(
            422,
            "The idempotency key belongs to another request",
            "Use a new key for a new order; repeat an order with the very same fields.",
        ),
        "key-under-way": ProblemKind(
            409, "An order with this idempotency key is being stored", "Repeat the request in a moment."
        ),
        "intake-full": ProblemKind(503, "Too many orders wait", "Repeat after the seconds in Retry-After."),
        "unavailable": ProblemKind(
            503, "The database cannot be reached now", "Nothing was stored. Repeat after the seconds in Retry-After."
        ),
        "outcome-unknown": ProblemKind(
            503,
            "Whether the order was stored is not known yet",
            "Repeat with the same Idempotency-Key, or ask for the order by its `orderId`.",
        ),
        "halted": ProblemKind(
            503, "The engine is halted: nothing is signed now", "`bestex resume` ends the halt. Nothing was stored."
        ),
        "journal-behind": ProblemKind(
            409,
            "The journal is older than its published head",
            "Orders may have executed that it does not know. `bestex reconcile` finds them, then `bestex resume`.",
        ),
        "not-halted": ProblemKind(409, "The engine signs", "Halt it first: `bestex halt`."),
        "not-unknown": ProblemKind(
            409,
            "There is nothing to decide about this order",
            "Only an order whose outcome is unknown, or that a fork took away, can be resolved by a person.",
        ),
        "contradicted": ProblemKind(
            409,
            "The chain says otherwise",
            "What the chain shows decides; a person decides only what it does not show.",
        ),
        "chain-unreachable": ProblemKind(503, "The chain does not answer", "Repeat in a moment."),
        "too-many-orders": ProblemKind(
            429, "Too many orders are open on this socket", "Wait for some to end, or open another socket."
        ),
        "internal": ProblemKind(500, "The engine has a defect", "Its log has the trace."),
    }
)


class FieldProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bad field."""

    detail: str
    pointer: str | None = None  # JSON pointer into the body
    header: str | None = None
    parameter: str | None = None  # of the query


class Problem(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The document."""

    type: str  # /problems/<code>, a page that this engine serves
    title: str
    status: int
    detail: str | None = None
    errors: tuple[FieldProblem, ...] = ()
    order_id: str | None = None


class ProblemError(BestexError):
    """Answer the request with this problem."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        errors: tuple[FieldProblem, ...] = (),
        order_id: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail or KINDS[code].title)
        self.code = code
        self.retry_after_s = retry_after_s
        kind = KINDS[code]
        self.problem = Problem(f"/problems/{code}", kind.title, kind.status, detail, errors, order_id)

    @property
    def status(self) -> int:
        return self.problem.status

    def body(self) -> bytes:
        return msgspec.json.encode(self.problem)

    def headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"content-type", CONTENT_TYPE)]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after_s))
        return headers


def problem_page(code: str) -> str | None:
    """The page behind a problem's `type`, or None when there is no such problem."""
    kind = KINDS.get(code)
    if kind is None:
        return None
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(code)} · bestex</title>"
        f"<body style='font:16px/1.5 system-ui;max-width:40em;margin:3em auto;padding:0 1em'>"
        f"<h1>{escape(kind.title)}</h1><p><code>{escape(code)}</code>, HTTP status {kind.status}</p>"
        f"<p>{escape(kind.advice)}</p><p><a href='/'>bestex</a></p></body></html>"
    )
