"""The operator's hand over HTTP: halt, resume, resolve, reconcile."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from bestex.api.execute import problem_of, require_json
from bestex.api.fields import read_object
from bestex.api.problems import FieldProblem, ProblemError
from bestex.api.requests import read_order_id
from bestex.domain.errors import NotFoundError
from bestex.domain.events import timestamp_text
from bestex.domain.money import AmountError, parse_amount
from bestex.domain.order_state import OrderView
from bestex.domain.tokens import TokenRegistry
from bestex.engine.errors import ContradictedError, JournalBehindError, NotHaltedError, NotUnknownError
from bestex.engine.intake import CALLER
from bestex.engine.operator import Operator
from bestex.engine.order_log import absent
from bestex.engine.reconciliation import Progress, Reconciled
from bestex.engine.resolution import Resolution
from bestex.ports import Journal

MAX_TEXT: Final = 500
"""Characters of a reason or a note."""
_Why = Annotated[
    str,
    msgspec.Meta(
        max_length=MAX_TEXT,
        pattern=r"^[^\x00]*$",  # what PostgreSQL cannot keep
        description="Why, for the record.",
    ),
]


class HaltBody(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    reason: _Why = ""


class ResolveBody(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What a person decided: exactly one of `executed` and `notExecuted`."""

    executed: Annotated[str, msgspec.Meta(max_length=100, description="The signature that executed.")] | None = None
    not_executed: bool = False
    amount_in: Annotated[str, msgspec.Meta(description="Of tokenIn, where the chain does not show it.")] | None = None
    amount_out: Annotated[str, msgspec.Meta(description="Of tokenOut, where the chain does not show it.")] | None = None
    note: _Why | None = None
    force: Annotated[bool, msgspec.Meta(description="Not executed, although it may still land.")] = False


class JournalHead(msgspec.Struct, frozen=True, rename="camel"):
    journal_id: str
    position: int
    hash: str


class OperatorStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Whether the engine signs, and how the last reconciliation of this process stands."""

    halted: bool
    reason: str | None
    cause: str | None  # "operator", "journal_behind", "reconciled"
    since: datetime | None
    open_orders: int  # executing, waiting to, waiting for proof, or held by the halt
    head: JournalHead
    reconciling: bool
    reconcile_progress: Progress | None
    reconciled: Reconciled | None
    reconcile_error: str | None


class OperatorReader:
    """What the routes of the operator need."""

    def __init__(self, operator: Operator, journal: Journal, tokens: TokenRegistry) -> None:
        self.operator = operator
        self.journal = journal
        self.tokens = tokens

    async def status(self) -> OperatorStatus:
        halt, state = self.operator.halt_in_force, self.operator.reconcile_state
        head = await self.journal.log_head()
        return OperatorStatus(
            halted=halt is not None,
            reason=halt.reason if halt else None,
            cause=halt.cause.value if halt else None,
            since=datetime.fromisoformat(timestamp_text(halt.since_us)) if halt else None,
            open_orders=self.operator.open_orders,
            head=JournalHead(head.journal_id, head.position, head.hash.hex()),
            reconciling=state.running,
            reconcile_progress=state.progress,
            reconciled=state.result,
            reconcile_error=state.error,
        )

    async def resolution(self, order_id: str, body: ResolveBody) -> Resolution:
        """The body with its amounts in base units; `ProblemError` for what it should not say."""
        problems = []
        if (body.executed is not None) == body.not_executed:
            problems.append(FieldProblem("say one of executed and notExecuted", pointer="/executed"))
        amounts: dict[str, int | None] = {"amount_in": None, "amount_out": None}
        row = await self.journal.order(order_id)
        if row is None:
            raise problem_of(await absent(self.journal, order_id))
        for name, symbol in (("amount_in", row.view.token_in), ("amount_out", row.view.token_out)):
            text = getattr(body, name)
            token = self.tokens.find(symbol)
            if text is None or token is None:
                continue
            try:
                amounts[name] = parse_amount(text, token.decimals)
            except AmountError as error:
                pointer = "/amountIn" if name == "amount_in" else "/amountOut"
                problems.append(FieldProblem(str(error), pointer=pointer))
        if problems:
            detail = "1 field is bad" if len(problems) == 1 else f"{len(problems)} fields are bad"
            raise ProblemError("validation", detail, tuple(problems))
        return Resolution(body.executed, amounts["amount_in"], amounts["amount_out"], body.note, body.force)


async def _check_json(request: Request[Any, Any, Any]) -> None:
    """Refuse what is no JSON object, as everywhere, before the body is decoded into its fields."""
    content_type = request.headers.get("content-type")
    require_json(content_type.encode("latin-1") if content_type else None)
    read_object(await request.body())


class OperatorRoutes(Controller):
    path = "/api"
    tags = ("operator",)

    @get("/operator", summary="Whether the engine signs, and the end of its log")
    async def status(self, hand: NamedDependency[OperatorReader]) -> OperatorStatus:
        return await hand.status()

    @post("/operator/halt", status_code=200, summary="Have nothing signed from now on", before_request=_check_json)
    async def halt(self, data: JSONBody[HaltBody], hand: NamedDependency[OperatorReader]) -> OperatorStatus:
        """Over restarts too. What was signed is still resolved; new orders are refused with 503 `halted`."""
        await hand.operator.halt(data.reason or "by the operator")
        return await hand.status()

    @post("/operator/resume", status_code=200, summary="Sign again")
    async def resume(self, hand: NamedDependency[OperatorReader]) -> OperatorStatus:
        """409 `journal-behind` while the journal is older than its published head: reconcile it first."""
        try:
            await hand.operator.resume()
        except JournalBehindError as error:
            raise ProblemError("journal-behind", str(error)) from error
        return await hand.status()

    @post("/operator/reconcile", status_code=202, summary="Adopt what the wallet signed and the journal does not know")
    async def reconcile(self, hand: NamedDependency[OperatorReader]) -> OperatorStatus:
        """Only while halted. Goes on in the background; `GET /api/operator` tells how it stands."""
        try:
            hand.operator.start_reconciling(CALLER)
        except NotHaltedError as error:
            raise ProblemError("not-halted", str(error)) from error
        return await hand.status()

    @post(
        "/orders/{order_id:str}/resolve",
        status_code=200,
        summary="Decide what became of an order",
        before_request=_check_json,
    )
    async def resolve(
        self, order_id: FromPath[str], data: JSONBody[ResolveBody], hand: NamedDependency[OperatorReader]
    ) -> OrderView:
        """Only for an order whose outcome is unknown, or that a fork took away. What the chain shows goes before."""
        order_id = read_order_id(order_id)
        try:
            return await hand.operator.resolve(order_id, await hand.resolution(order_id, data))
        except NotFoundError as error:
            raise problem_of(error) from error
        except JournalBehindError as error:
            raise ProblemError("journal-behind", str(error)) from error
        except NotUnknownError as error:
            raise ProblemError("not-unknown", str(error)) from error
        except ContradictedError as error:
            raise ProblemError("contradicted", str(error)) from error
