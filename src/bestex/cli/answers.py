"""The engine's JSON answers as the command line reads them. Fields it does not know are ignored."""

from datetime import datetime
from typing import TypeVar

import msgspec

from bestex.cli.errors import CommandError
from bestex.cli.exit_codes import ExitCode
from bestex.domain.events import DETAIL_TYPES, Detail, QuoteRecord, Trigger
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.order_state import OrderView
from bestex.ports import FilterSetVerdict

T = TypeVar("T")


class Accepted(msgspec.Struct, frozen=True, rename="camel"):
    order_id: str
    status: str
    funds_covered: bool | None = None  # of an order that waits


class Update(msgspec.Struct, frozen=True, rename="camel"):
    """One event of an order. `detail` waits for `detail_of`: a newer engine may have statuses we do not know."""

    order_id: str
    status: str
    seq: int
    attempt: int
    timestamp: str  # RFC 3339
    detail: msgspec.Raw

    @property
    def at_us(self) -> int:
        """Unix time, microseconds."""
        return unix_us(self.timestamp)

    @property
    def is_end(self) -> bool:
        return self.status in ENDS


class StreamMessage(msgspec.Struct, frozen=True):
    """A WebSocket message: `history` carries a list of updates, `update` one."""

    type: str
    data: msgspec.Raw


class History(msgspec.Struct, frozen=True):
    data: list[Update] = []


class OrdersPage(msgspec.Struct, frozen=True, rename="camel"):
    data: list[OrderView]
    next_cursor: str | None = None


class Quotes(msgspec.Struct, frozen=True, rename="camel"):
    token_in: str
    token_out: str
    amount: str
    quotes: list[QuoteRecord]
    pair: str | None = None
    best: str | None = None  # a venue


class Outcome(msgspec.Struct, frozen=True):
    """Why an attempt was given up."""

    code: str
    message: str = ""


class FillAgainstQuote(msgspec.Struct, frozen=True, rename="camel"):
    amount_in: str
    amount_out: str
    executed_price: str | None = None
    slippage_bps: float | None = None  # against the quote; negative when the fill was better
    fee_paid: str | None = None  # SOL


class ReceiptAttempt(msgspec.Struct, frozen=True, rename="camel"):
    attempt: int
    quotes: list[QuoteRecord] = []
    venue: str | None = None
    pool: str | None = None
    quoted_amount_out: str | None = None
    min_amount_out: str | None = None
    wraps_sol: bool | None = None
    signature: str | None = None
    outcome: Outcome | None = None
    fill: FillAgainstQuote | None = None
    latency_ms: dict[str, float | None] = {}  # by stage


class Firing(Trigger, frozen=True, rename="camel", kw_only=True):
    """What a trigger saw."""

    attempt: int
    at: str = ""


class Receipt(msgspec.Struct, frozen=True, rename="camel"):
    order_id: str
    status: str
    triggers: list[Firing] = []
    attempts: list[ReceiptAttempt] = []
    latency_ms: dict[str, float | None] = {}


class CancelledOrders(msgspec.Struct, frozen=True, rename="camel"):
    cancelled: list[str] = []
    cancel_requested: list[str] = []


class DeadManState(msgspec.Struct, frozen=True, rename="camel"):
    armed: bool
    due_at: str | None = None
    keep_stops: bool = False


class MeasuredLaunch(msgspec.Struct, frozen=True):
    liquidity: str


class SinceListed(msgspec.Struct, frozen=True, rename="camel"):
    paid: str
    worth_now: str
    change_percent: float


class SeenLaunch(msgspec.Struct, frozen=True, rename="camel"):
    mint: str
    ticker: str
    venue: str
    quote: str
    listed_at: str
    measured: MeasuredLaunch
    verdicts: list[FilterSetVerdict] = []
    migrated_from: str | None = None
    bought_by: int = 0
    since_listed: SinceListed | None = None


class LaunchesPage(msgspec.Struct, frozen=True, rename="camel"):
    data: list[SeenLaunch]
    next_cursor: str | None = None


class TokenBalance(msgspec.Struct, frozen=True):
    mint: str
    amount: str
    symbol: str | None = None  # of a mint that is not in the registry


class Wallet(msgspec.Struct, frozen=True):
    address: str
    balances: list[TokenBalance] = []


class ListedToken(msgspec.Struct, frozen=True):
    symbol: str
    mint: str
    decimals: int


class Tokens(msgspec.Struct, frozen=True):
    data: list[ListedToken]


class FaultValues(msgspec.Struct, frozen=True):
    faults: dict[str, float]


class PriceMove(msgspec.Struct, frozen=True):
    pair: str
    percent: float


class MeasuredPool(msgspec.Struct, frozen=True, rename="camel"):
    """What a launched token's pool looked like."""

    liquidity: str
    mint_authority_revoked: bool
    freeze_authority_revoked: bool
    lp_burnt_bps: int
    lp_locked_bps: int
    top_holders_bps: int
    creator: str


class LaunchedPool(msgspec.Struct, frozen=True, rename="camel"):
    mint: str
    name: str
    ticker: str
    venue: str
    pool: str
    quote: str
    measured: MeasuredPool
    migrated_from: str | None = None


class ReconcileProgressNow(msgspec.Struct, frozen=True):
    stage: str
    done: int
    of: int | None = None


class Contradiction(msgspec.Struct, frozen=True, rename="camel"):
    order_id: str
    signature: str
    reason: str


class Reconciled(msgspec.Struct, frozen=True, rename="camel"):
    transactions: int
    adopted: list[str] = []
    unknown_orders: list[str] = []
    foreign: list[str] = []
    contradictions: list[Contradiction] = []


class LogHead(msgspec.Struct, frozen=True, rename="camel"):
    journal_id: str
    position: int
    hash: str


class OperatorStatus(msgspec.Struct, frozen=True, rename="camel"):
    halted: bool
    open_orders: int
    head: LogHead
    reason: str | None = None
    cause: str | None = None
    since: str | None = None
    reconciling: bool = False
    reconcile_progress: ReconcileProgressNow | None = None
    reconciled: Reconciled | None = None
    reconcile_error: str | None = None


def decode(raw: bytes | msgspec.Raw, kind: type[T]) -> T:
    """`raw` as a `kind`; `CommandError` when it is not one."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:  # ValidationError is one
        message = f"the engine's answer is not understood ({error}); are bestex here and the engine of one version?"
        raise CommandError(message, ExitCode.UNAVAILABLE) from error


def detail_of(update: Update) -> Detail | dict[str, object]:
    """The update's detail by its status; as it stands when this version does not know it."""
    known = DETAIL_TYPES.get(Status(update.status)) if update.status in tuple(Status) else None
    if known is not None:
        try:
            return msgspec.json.decode(update.detail, type=known)
        except msgspec.ValidationError:
            pass  # shown as it stands
    return decode(update.detail, dict[str, object])


def unix_us(timestamp: str) -> int:
    """Microseconds of an RFC 3339 time."""
    moment = datetime.fromisoformat(timestamp)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
