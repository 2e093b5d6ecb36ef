"""The engine's ports: what it needs of the world, as Protocols. Adapters stand in venues, journal, hub, ambient.

Each port has one contract suite in `tests/contracts` that every adapter passes.
"""

from asyncio import Future
from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from bestex.domain.events import Event, SignedTransaction, StoredEvent
from bestex.domain.lifecycle import Status
from bestex.domain.orders import OrderView
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import Token


class Clock(Protocol):
    """Time. The simulation passes a virtual one."""

    def now_us(self) -> int:
        """Unix time in microseconds."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    async def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    """Randomness that a restart must never repeat."""

    def order_id(self) -> str:
        """A new UUIDv7 as canonical text; later ones sort later."""

    def fraction(self) -> float:
        """A random number in [0, 1), for jitter."""


# --- Journal -------------------------------------------------------------------------------------------------


class NewOrder(msgspec.Struct, frozen=True):
    """What the journal keeps of an order beside its events, from its first append on."""

    order_id: str
    kind: str
    pair: str
    caller: str  # whose idempotency keys these are
    idempotency_key: str | None = None
    client_order_id: str | None = None
    request_hash: bytes = b""  # of the request's canonical form: the same key with another request is refused


class Append(msgspec.Struct, frozen=True):
    """Rows for one order, appended all or none."""

    order_id: str
    base_seq: int  # the seq these events build on; 0 for a new order
    base_status: Status | None  # the status at base_seq; None for a new order
    lease_epoch: int | None  # the epoch under which the writer holds the order; None: as nobody's executor
    events: tuple[Event, ...]
    view: OrderView  # the projection after the last of the events
    new: NewOrder | None = None  # for the append that begins with `pending`


class OrderRow(msgspec.Struct, frozen=True):
    """An order's row of the projection."""

    view: OrderView
    lease_owner: str | None  # an engine's id
    lease_epoch: int


class Lease(msgspec.Struct, frozen=True):
    """The right of one engine to execute one order, until its engine's life row runs out."""

    order_id: str
    epoch: int


class HeldOrder(msgspec.Struct, frozen=True):
    """An unsettled order under this engine's lease."""

    order_id: str
    epoch: int
    seq: int


class LogHead(msgspec.Struct, frozen=True):
    """The end of a log."""

    journal_id: str  # which log
    position: int  # of its last row; 0 when empty
    hash: bytes  # of that row


class HaltCause(StrEnum):
    OPERATOR = "operator"  # `bestex halt`
    JOURNAL_BEHIND = "journal_behind"  # the journal is older than its published head
    RECONCILED = "reconciled"  # it was, and has been reconciled: a person looks before anything is signed


class Halt(msgspec.Struct, frozen=True):
    """Nothing may be signed; what was signed is still resolved."""

    reason: str
    cause: HaltCause
    since_us: int  # Unix time, microseconds


class OrderFilter(msgspec.Struct, frozen=True):
    status: Status | None = None
    pair: str | None = None
    kind: str | None = None


class Journal(Protocol):
    """The event log and its writer. Everything it hands out has been committed."""

    engine_id: str

    def append(self, append: Append) -> "Future[int]":
        """Queue rows for the next group commit; once committed, the result is the last one's position.

        Need not be awaited where the lifecycle has no barrier. Fails with `AppendRefusedError`,
        `DuplicateKeyError`, `JournalUnavailableError` (nothing stored), `OutcomeUnknownError` or
        `EngineFencedError`. Appends of one order take effect in the order of these calls, and a refused
        one takes those queued behind it with it.
        """

    def withdraw(self, appended: "Future[int]") -> bool:
        """Take queued rows back; False when their commit is under way or done."""

    async def events(self, order_id: str, after_seq: int = 0) -> list[StoredEvent]:
        """The order's events behind `after_seq`, in order; empty for an unknown order."""

    async def feed(self, after_position: int, limit: int) -> list[StoredEvent]:
        """The log behind a position, in commit order."""

    async def head(self) -> int:
        """The position of the last committed event; 0 when empty."""

    async def log_head(self) -> LogHead: ...

    async def hash_at(self, position: int) -> bytes | None:
        """The hash of the row at a position of the log; None when there is none."""

    async def order(self, order_id: str) -> OrderRow | None: ...

    async def orders(self, where: OrderFilter, limit: int, before_id: str | None) -> list[OrderView]:
        """Newest first; `before_id` is the last id of the page before."""

    async def claim(self, limit: int) -> list[Lease]:
        """Take the leases of unsettled orders that no living engine holds, each under a raised epoch."""

    async def unsettled(self) -> int:
        """How many orders are not settled."""

    async def held(self, after_id: str | None, limit: int) -> list[HeldOrder]:
        """Unsettled orders under this engine's lease, by id, behind `after_id`."""

    async def histories(self, order_ids: Sequence[str]) -> dict[str, list[Event]]:
        """All events of each of these orders."""

    async def halted(self) -> Halt | None:
        """The halt that is in force."""

    async def halt(self, reason: str, cause: HaltCause) -> None:
        """Halt, durably; one that is in force stays as it is.

        But a journal that is behind goes before the others, which may be resumed; and its end goes before all.
        """

    async def resume(self) -> None:
        """End the halt."""

    def listen(self, listener: "JournalListener") -> None:
        """Have `listener` called with every commit's events before those who wait for it go on."""

    def on_head(self, listener: "HeadListener") -> None:
        """Have `listener` called with every commit's head of the log, before anybody learns of the commit."""


HeadListener = Callable[[int, bytes], None]
"""Called with the position and the hash of the log's last row."""

JournalListener = Callable[[Sequence[StoredEvent]], None]
"""Called with each commit's events, in position order, after the commit."""


# --- Venues --------------------------------------------------------------------------------------------------


class Venue(Protocol):
    """Where quotes come from and swaps go to."""

    name: str

    def quote_at_once(self, request: QuoteRequest) -> Quote | None:
        """A quote from what the venue knows already, without waiting; None when it has to ask: then `quote`.

        Raises what `quote` raises.
        """

    async def quote(self, request: QuoteRequest) -> Quote:
        """`NoRouteError` when it has no pool that can fill it, `VenueDownError` when it is broken."""

    async def build(self, request: SwapRequest) -> SignedTransaction:
        """Build, simulate and sign a swap.

        Raises `SlippageExceededError`, `InsufficientFundsError`, `VenueDownError` or
        `ChainUnreachableError`; nothing has been sent then.
        """


# --- Chain ---------------------------------------------------------------------------------------------------


class Commitment(StrEnum):
    """How sure the chain is of a transaction, weakest first."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"


class TransactionStatus(msgspec.Struct, frozen=True):
    """What the chain says of a signature it has seen."""

    slot: int
    commitment: Commitment
    error: str | None = None  # a FailureCode value, when it executed with an error


class StatusReport(msgspec.Struct, frozen=True):
    """One look-up, all at one endpoint at one moment."""

    endpoint: str  # which node answered: proof of expiry must come from one
    slot: int  # the endpoint's processed slot at the look-up
    finalized_slot: int
    history_from_slot: int  # the earliest slot the endpoint's history reaches back to
    statuses: tuple[TransactionStatus | None, ...]  # in the order asked; None: no such signature known


class BlockHeight(msgspec.Struct, frozen=True):
    """The finalized block height of an endpoint, and the finalized slot that showed it."""

    endpoint: str
    height: int
    slot: int


class Balance(msgspec.Struct, frozen=True):
    mint: str
    units: int


class Chain(Protocol):
    """What transactions are sent to. Every method raises `ChainUnreachableError` when it does not answer."""

    async def send(self, transaction: SignedTransaction) -> None:
        """Hand over the signed bytes. No error means nothing but that the endpoint took them."""

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        """What is known of at most 256 signatures, through the endpoint's whole history."""

    async def finalized_height(self) -> BlockHeight: ...

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        """What executed swaps did, in the order asked; None where no such swap is known."""

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        """Have `listener` called with signatures whose status may have changed: a hint to look now."""


class WalletTransaction(msgspec.Struct, frozen=True):
    """A landed transaction of the wallet's, as its own history shows it."""

    signature: str
    slot: int
    landed_us: int  # block time, Unix microseconds
    order_id: str  # the memo, with the attempt
    attempt: int
    venue: str
    pool: str
    mint_in: str
    mint_out: str
    asked_in: int  # base units that the swap was to take
    amount_in: int  # base units that it took; 0 when it failed
    amount_out: int  # base units that it paid; 0 when it failed
    network_fee: int  # lamports, charged in any case
    error: str | None = None  # a FailureCode value, when it executed with an error


class Wallet(Protocol):
    address: str

    async def balances(self) -> list[Balance]: ...

    async def history(self, before: str | None, limit: int) -> list[WalletTransaction]:
        """What landed, newest first; `before`: the signature that the page before ended with.

        Raises `ChainUnreachableError`.
        """


class SimulationStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The simulated world at a glance."""

    profile: str  # "realistic" or "instant"
    seed: int
    slot: int
    finalized_slot: int
    block_height: int
    transactions: int  # landed since genesis
    in_flight: int  # sent and not landed yet
    faults: dict[str, float]  # every fault by name, with its probability (a duration or number where it says so)
    spreads: dict[str, float]  # per pair: how much dearer raydium's spot price is than meteora's, percent


class Simulation(Protocol):
    """The handles on the simulated world; a real chain has none."""

    async def status(self) -> SimulationStatus: ...

    async def fund(self, token: Token, units: int) -> None:
        """Add base units to the paper wallet's balance, durably."""

    async def set_faults(self, changes: Mapping[str, float]) -> dict[str, float]:
        """Change some faults while running, and give all; `ValueError` names an unknown one or a bad value."""

    async def reset(self) -> None:
        """Wallet and pools as at the start, no faults. What landed stays in the ledger."""


# --- Hub -----------------------------------------------------------------------------------------------------


class Subscription(Protocol):
    """A bounded queue of committed events for one watcher."""

    async def next(self) -> "Sequence[StoredEvent] | None":
        """Wait for events; None when some were dropped because the queue overflowed: read the journal."""

    def close(self) -> None: ...


class Hub(Protocol):
    """Pushes committed events to whoever watches."""

    def publish(self, events: Sequence[StoredEvent]) -> None: ...

    def watch(self, order_id: str) -> Subscription: ...

    def watch_all(self) -> Subscription: ...


# --- Dispatch ------------------------------------------------------------------------------------------------


Job = Callable[[], Coroutine[Any, Any, None]]
"""Executes one order from where it stands."""


class Dispatcher(Protocol):
    """Brings orders to executors. It only says *look now*: the journal knows what is to be done."""

    @property
    def waiting(self) -> int:
        """Orders that wait to be executed."""

    @property
    def executing(self) -> int: ...

    def order_ids(self) -> set[str]:
        """The orders that execute or wait to."""

    def dispatch(self, order_id: str, job: Job) -> None:
        """Run `job` as soon as there is room, and never beside another of the same order."""

    async def drain(self, seconds: float, finish: Container[str]) -> None:
        """Start nothing more and stop what executes; first wait for the orders in `finish`, for at most `seconds`."""

    async def stop(self) -> None:
        """Stop what executes where it stands, and take no more."""
