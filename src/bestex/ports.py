"""The engine's ports: what it needs of the world, as Protocols. Adapters stand in venues, journal, hub, ambient.

Each port has one contract suite in `tests/contracts` that every adapter passes.
"""

from asyncio import Future
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from bestex.domain.errors import DuplicateKeyError
from bestex.domain.events import Event, SignedTransaction, StoredEvent
from bestex.domain.launches import FilterVerdict, Launch, LaunchFilters
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.terms import Leg
from bestex.domain.tokens import Pair, Token


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


ROOM_LASTS_S: Final = 5.0
"""How long room that an engine has reserved is kept free for it."""


# --- Journal -------------------------------------------------------------------------------------------------


class NewOrder(msgspec.Struct, frozen=True, gc=False):
    """What the journal keeps of an order beside its events, from its first append on."""

    order_id: str
    kind: str
    pair: str
    caller: str  # whose idempotency keys these are
    idempotency_key: str | None = None
    client_order_id: str | None = None
    request_hash: bytes = b""  # of the request's canonical form: the same key with another request is refused
    parent_id: str | None = None  # the sliced order or the entry that it belongs to


class BookLease(msgspec.Struct, frozen=True):
    """The right of one process to fire what waits in a book."""

    key: str  # a pair's name, or what the snipers and the switches have instead
    epoch: int  # raised with every change of owner


class Append(msgspec.Struct, frozen=True, gc=False):
    """Rows for one order, appended all or none."""

    order_id: str
    base_seq: int  # the seq these events build on; 0 for a new order
    base_status: Status | None  # the status at base_seq; None for a new order
    lease_epoch: int | None  # the epoch under which the writer holds the order; None: as nobody's executor
    events: tuple[Event, ...]
    view: OrderView  # the projection after the last of the events
    new: NewOrder | None = None  # for the append that begins with `pending`
    takes_lease: bool = False  # take the lease of a watched order that fires; `lease_epoch` is then one above the row's
    companion: "Append | None" = None  # a new order, stored in the same commit, and only if these rows are
    fence: BookLease | None = None  # stored only while this engine owns that book under that epoch
    run_after_us: int | None = None  # the lease is let go; nobody takes the order up before, Unix microseconds


class OrderRow(msgspec.Struct, frozen=True):
    """An order's row of the projection."""

    view: OrderView
    lease_owner: str | None  # an engine's id
    lease_epoch: int


class Lease(msgspec.Struct, frozen=True):
    """The right of one engine to execute one order, until its engine's life row runs out."""

    order_id: str
    epoch: int


class ClaimedOrder(msgspec.Struct, frozen=True):
    """An order whose lease has just been taken."""

    lease: Lease
    events: tuple[Event, ...]  # its whole history; none where it has to be read on its own


class UnheldOrder(msgspec.Struct, frozen=True):
    """An order that waits for an executor: nobody holds its lease."""

    order_id: str
    kind: str
    pair: str
    priority: int  # the smallest is claimed first


class HeldOrder(msgspec.Struct, frozen=True):
    """An unsettled order under this engine's lease."""

    order_id: str
    epoch: int
    seq: int


class RestingOrder(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A watched order as triggers need it: a part of its view. Nobody holds its lease."""

    order_id: str
    seq: int
    kind: str
    token_in: str
    token_out: str
    amount: str
    epoch: int = 0  # of the last lease
    limit_price: str | None = None
    min_amount_out: str | None = None
    trigger_price: str | None = None
    trail_bps: int | None = None
    expires_at: str | None = None
    not_before: str | None = None
    parent_id: str | None = None
    legs: tuple[Leg, ...] = ()
    mint: str | None = None
    filters: LaunchFilters | None = None
    migrations: bool = False
    created_at: str = ""


class LogHead(msgspec.Struct, frozen=True):
    """The end of a log."""

    journal_id: str  # which log
    position: int  # of its last row; 0 when empty
    hash: bytes  # of that row
    archived_to: int = 0  # rows up to here may be missing: they were archived


class ArchivedOrder(msgspec.Struct, frozen=True):
    """What is kept of an order that was archived."""

    order_id: str
    accepted_us: int  # Unix microseconds
    archive: int  # 1, 2, 3 ...
    file: str  # the archive's name


class EngineMode(StrEnum):
    """What a process does with the orders over its database."""

    INLINE = "inline"  # everything, alone
    API = "api"  # accepts them
    WORKER = "worker"  # executes them
    WATCHER = "watcher"  # fires those that are watched

    @property
    def executes(self) -> bool:
        """Whether it holds leases: what the others accept or fire is nobody's until a worker claims it."""
        return self in (EngineMode.INLINE, EngineMode.WORKER)


class HaltCause(StrEnum):
    OPERATOR = "operator"  # `bestex halt`
    JOURNAL_BEHIND = "journal_behind"  # the journal is older than its published head
    RECONCILED = "reconciled"  # it was, and has been reconciled: a person looks before anything is signed


class Halt(msgspec.Struct, frozen=True):
    """Nothing may be signed; what was signed is still resolved."""

    reason: str
    cause: HaltCause
    since_us: int  # Unix time, microseconds


class Room(msgspec.Struct, frozen=True):
    """How many orders there may be, or may still be accepted."""

    waiting: int  # that nobody executes yet
    open: int  # that have not ended; watched ones excepted
    watched: int


class Reservation(msgspec.Struct, frozen=True):
    """Room that an engine has reserved, and the orders that were counted for it, each up to its bound."""

    room: Room
    waiting: int
    open: int
    watched: int | None  # None: not counted


class OrderFilter(msgspec.Struct, frozen=True):
    status: Status | None = None
    pair: str | None = None
    kind: str | None = None
    parent_id: str | None = None


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

    async def holder(self, new: NewOrder) -> DuplicateKeyError | None:
        """Whose the keys of an order are that is not appended: what appending it would fail with."""

    def withdraw(self, appended: "Future[int]") -> bool:
        """Take queued rows back; False when their commit is under way or done."""

    async def events(self, order_id: str, after_seq: int = 0) -> list[StoredEvent]:
        """The order's events behind `after_seq`, in order; empty for an unknown order."""

    async def feed(self, after_position: int, limit: int) -> list[StoredEvent]:
        """The log behind a position, in commit order."""

    async def feed_of(self, order_ids: Collection[str], after: int, to: int) -> list[StoredEvent]:
        """Of the log behind one position up to another, the events of these orders, in commit order."""

    async def head(self) -> int:
        """The position of the last committed event; 0 when empty."""

    async def log_head(self) -> LogHead: ...

    async def hash_at(self, position: int) -> bytes | None:
        """The hash of the row at a position of the log; None when there is none, or it was archived."""

    async def archived_until(self) -> int:
        """When the last row of the last archive was written, Unix microseconds; 0 when there is none."""

    async def archived(self, order_id: str) -> ArchivedOrder | None:
        """What is kept of an order that is not here any more. Ask for the order first."""

    async def order(self, order_id: str) -> OrderRow | None: ...

    async def orders(self, where: OrderFilter, limit: int, before_id: str | None) -> list[OrderView]:
        """Newest first; `before_id` is the last id of the page before."""

    async def claim(self, limit: int) -> list[Lease]:
        """Take the leases of unsettled orders that no living engine holds, each under a raised epoch.

        Not those of watched ones: who fires one takes its lease.
        """

    async def claim_waiting(self, limit: int, *, signed_only: bool = False) -> list[ClaimedOrder]:
        """Take the leases of orders that nobody holds and that are due, the most urgent first.

        With `signed_only` those of which a transaction may land or be final yet. An engine that gives no signs of life
        gets none.
        """

    async def claim_these(self, order_ids: Sequence[str]) -> list[ClaimedOrder]:
        """Of these orders, take the leases of those that nobody holds and that are due."""

    async def hand_back(self, leases: Sequence[Lease]) -> None:
        """Let go of leases, so that others may take the orders up; one that is another's by now stays as it is."""

    async def hand_back_held(self, limit: int) -> list[UnheldOrder]:
        """Let go of leases of this engine's, whatever they are; not of orders that a commit under way changes."""

    async def silent_engines(self) -> dict[str, int]:
        """The engines that gave no sign of life for too long, with the time of their last, Unix microseconds."""

    async def free_orders_of_the_dead(self, after_id: str | None, limit: int) -> list[UnheldOrder]:
        """Take the leases of unsettled orders from engines that are not alive, for nobody, by id, behind `after_id`.

        Those of which a transaction may land or be final yet are the most urgent from then on.
        """

    async def forget_engines(self) -> None:
        """Forget the engines that have been silent for long and hold no order."""

    async def unsettled(self) -> int:
        """How many orders are not settled and not watched."""

    async def resting(self, after_id: str | None, limit: int) -> list[RestingOrder]:
        """Watched orders, by id, behind `after_id`."""

    async def resting_pairs(self) -> list[str]:
        """The names of the pairs that have watched orders, sorted."""

    async def resting_of(self, pair: str, after_id: str | None, limit: int) -> list[RestingOrder]:
        """A pair's watched orders, by id, behind `after_id`."""

    async def resting_these(self, order_ids: Sequence[str]) -> list[RestingOrder]:
        """Those of the orders that are watched, by id."""

    async def count_resting(self) -> int: ...

    async def leases_of_resting(self, order_ids: Sequence[str]) -> list[Lease]:
        """Those of the orders that are watched, with the epoch of their last lease; nobody holds it."""

    async def reserve_room(self, bounds: Room, watched_max: int | None, held: Room) -> Reservation:
        """Reserve room for orders that this engine will accept, in place of what it had reserved.

        Of what is left of each bound, its share among the engines that reserve; never so much that the orders stored
        and those that all engines have reserved for exceed a bound. Of watched orders at most `watched_max`; None:
        their reservation stays as it is, and they are not counted. `held` is what the engine may still use, or is
        storing, until it has the answer: so much stays reserved till it asks again. A reservation lasts for
        `ROOM_LASTS_S`, and is nothing for an engine that has lost its place.
        """

    async def children(self, parent_id: str) -> list[OrderView]:
        """The orders that belong to another, oldest first: its slices, or its exits."""

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
        """End the halt, unless the journal is behind."""

    def listen(self, listener: "JournalListener") -> None:
        """Have `listener` called with every commit's events before those who wait for it go on."""

    def on_head(self, listener: "HeadListener") -> None:
        """Have `listener` called with every commit's head of the log, before anybody learns of the commit."""


HeadListener = Callable[[int, bytes], None]
"""Called with the position and the hash of the log's last row."""

JournalListener = Callable[[Sequence[StoredEvent]], None]
"""Called with each commit's events, in position order, after the commit."""


# --- Books ---------------------------------------------------------------------------------------------------

BOOK_LEASE_S: Final = 3.0
"""Seconds that a book's lease lasts unless it is renewed."""


class BookStanding(msgspec.Struct, frozen=True):
    """How the books stand when this engine has renewed its leases."""

    mine: tuple[BookLease, ...]  # that last `BOOK_LEASE_S` from now
    watchers: int  # engines that renewed theirs within `BOOK_LEASE_S`, this one among them, though they own nothing


class BookLeases(Protocol):
    """Who owns which book. Raises `JournalUnavailableError`."""

    async def renew(self) -> BookStanding:
        """Give a sign of life, and have all leases of this engine last from now on; those it still has."""

    async def claim(self, keys: Sequence[str], limit: int) -> list[BookLease]:
        """Of these books, take at most `limit` that are nobody's or whose lease ran out, each under another epoch."""

    async def let_go(self, keys: Sequence[str]) -> None:
        """Have these books of this engine's be nobody's."""

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget these pairs' books of this engine's in which nothing rests any more; others stay as they are."""

    async def leave(self) -> None:
        """Let go of all, and be no watcher any more."""


# --- Triggers ------------------------------------------------------------------------------------------------


class Curve(Protocol):
    """One venue's pool of a pair as it stood at one moment: what any swap would pay. Immutable."""

    @property
    def venue(self) -> str: ...

    @property
    def pool(self) -> str:
        """Its address."""

    def amount_out(self, amount_in: int, sells_base: bool) -> int:
        """Base units that a swap of `amount_in` would pay, after the venue's fee; 0 when it cannot be filled."""

    def after(self, amount_in: int, sells_base: bool) -> "Curve":
        """The pool once that swap has been made."""


class Tick(msgspec.Struct, frozen=True):
    """A pair's executable prices at one moment."""

    pair: Pair
    slot: int
    at_us: int  # when they were read, Unix microseconds: their age counts from here
    curves: tuple[Curve, ...]  # of the venues that have a pool and could be read


TickListener = Callable[[Tick], None]
LaunchListener = Callable[[Launch], None]


class MarketData(Protocol):
    """Prices and new pools as they come."""

    def follow(self, pairs: Iterable[Pair]) -> None:
        """Have ticks come for these pairs, and no others: one a slot, and after swaps that moved a pool."""

    def on_tick(self, listener: TickListener) -> None: ...

    def latest(self, pair: Pair) -> Tick | None:
        """Prices as they are known without waiting; None where none are, as of pairs that are not followed."""

    async def read(self, pair: Pair) -> Tick | None:
        """Prices as of now, asked for: also of pairs that nobody follows; None where there are none."""

    def on_launch(self, listener: LaunchListener) -> None:
        """Have `listener` called with each new pool, and each that moved to another venue, once it is seen."""

    def look_again(self, pool: str) -> Launch | None:
        """The pool of a launch measured anew; None when it is not known."""

    async def launches(self, since_us: int, limit: int) -> list[Launch]:
        """Pools listed at `since_us` or later, oldest first: what a dead engine did not see.

        Raises `ChainUnreachableError`.
        """


class HighWater(msgspec.Struct, frozen=True):
    """The best price that a pair's sellers, or its buyers, have met since a time, until a later one that was better.

    A trailing stop's extreme is the best of these since it was armed. For sellers the best is the highest, for buyers
    the lowest.
    """

    pair: str
    sells_base: bool
    at_us: int  # Unix microseconds
    price: str  # quote token per base token


class FilterSetVerdict(msgspec.Struct, frozen=True, rename="camel"):
    """A pool judged by one set of filters."""

    filters: LaunchFilters
    orders: int  # that wait with these filters; 0: the standard ones, which nobody waits with
    passed: bool
    checks: tuple[FilterVerdict, ...]


class LaunchRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A pool that was seen, and what was thought of it."""

    launch: Launch
    seen_us: int  # Unix microseconds
    verdicts: tuple[FilterSetVerdict, ...]
    bought_by: int  # orders that fired on it
    reference_in: int  # what buying is reckoned with, base units of the quote token
    reference_out: int  # what that would have bought when it was seen, base units; 0: nothing


class DeadMan(msgspec.Struct, frozen=True):
    """A caller's dead-man switch."""

    caller: str
    due_us: int  # Unix microseconds: unless renewed, its resting orders are cancelled then
    keeps_stops: bool


class TriggerStore(Protocol):
    """What triggers keep on disk beside the log. Raises `JournalUnavailableError`."""

    async def keep_high_waters(self, marks: Sequence[HighWater]) -> None:
        """Add marks; earlier ones of the same pair and side that are no better are forgotten."""

    async def high_waters(self) -> list[HighWater]:
        """All of them, by time."""

    async def keep_launch(self, record: LaunchRecord) -> None:
        """Add a pool that was seen, or replace what was thought of it."""

    async def launches(self, limit: int, before_us: int | None, mint: str | None) -> list[LaunchRecord]:
        """Newest first; `before_us` is when the last one of the page before was seen.

        All that were seen in the same moment as the last one are on its page: it may be longer than `limit`.
        """

    async def set_dead_man(self, switch: DeadMan) -> None: ...

    async def drop_dead_man(self, caller: str, due_us: int | None = None) -> None:
        """Drop a switch; with `due_us` only as long as that is when it is due: it may have been renewed."""

    async def dead_men(self) -> list[DeadMan]: ...


# --- Venues --------------------------------------------------------------------------------------------------


class Venue(Protocol):
    """Where quotes come from and swaps go to."""

    name: str

    def quote_at_once(self, request: QuoteRequest) -> Quote | None:
        """A quote from what the venue knows already, without waiting; None when it has to ask: then `quote`.

        Raises what `quote` raises.
        """

    def quote(self, request: QuoteRequest) -> Awaitable[Quote]:
        """`NoRouteError` when it has no pool that can fill it, `VenueDownError` when it is broken."""

    def build_at_once(self, request: SwapRequest) -> SignedTransaction | None:
        """A signed swap made of what the venue knows already, without waiting; None when it has to wait: then `build`.

        Raises what `build` raises.
        """

    async def build(self, request: SwapRequest) -> SignedTransaction:
        """Build, simulate and sign a swap.

        With `expires_us` it cannot land after that. Raises `SlippageExceededError`, `InsufficientFundsError`,
        `ExpiresTooSoonError`, `VenueDownError` or `ChainUnreachableError`; nothing has been sent then.
        """


# --- Chain ---------------------------------------------------------------------------------------------------


class Commitment(StrEnum):
    """How sure the chain is of a transaction, weakest first."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"


class TransactionStatus(msgspec.Struct, frozen=True, gc=False):
    """What the chain says of a signature it has seen."""

    slot: int
    commitment: Commitment
    error: str | None = None  # a FailureCode value, when it executed with an error


class StatusReport(msgspec.Struct, frozen=True, gc=False):
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

    def send_at_once(self, transaction: SignedTransaction) -> bool:
        """Hand over the signed bytes without waiting; False when that has to wait: then `send`.

        Raises what `send` raises.
        """

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

    def held(self, mint: str) -> int | None:
        """Base units as far as is known without waiting; None where nothing is."""

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


class LaunchWish(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What a launch is to be like; whatever is None is drawn at random."""

    ticker: str | None = None
    venue: str | None = None
    liquidity: str | None = None  # SOL
    mint_authority_revoked: bool | None = None
    freeze_authority_revoked: bool | None = None
    lp_burnt_bps: int | None = None
    lp_locked_bps: int | None = None
    top_holders_bps: int | None = None
    creator: str | None = None
    drift_bps_per_minute: int | None = None  # where its price goes: negative, down


class Simulation(Protocol):
    """The handles on the simulated world; a real chain has none."""

    async def status(self) -> SimulationStatus: ...

    async def fund(self, token: Token, units: int) -> None:
        """Add base units to the paper wallet's balance, durably."""

    async def move_price(self, pair: Pair, percent: float) -> None:
        """Have the fair price of a pair's base token be another by so much from now on, and its pools with it."""

    async def launch(self, wish: LaunchWish) -> Launch:
        """List a new pool now."""

    async def migrate(self, mint: str) -> Launch:
        """Move a launched token's pool to the other venue now; `ValueError` for an unknown one."""

    async def set_faults(self, changes: Mapping[str, float]) -> dict[str, float]:
        """Change some faults while running, and give all; `ValueError` names an unknown one or a bad value."""

    async def reset(self) -> None:
        """Wallet, prices and pools as at the start, no faults. What landed stays in the ledger."""


# --- Hub -----------------------------------------------------------------------------------------------------


class Subscription(Protocol):
    """A bounded queue of committed events for one watcher."""

    async def next(self) -> "Sequence[StoredEvent] | None":
        """Wait for events; None when some were dropped because the queue overflowed: read the journal."""

    def close(self) -> None: ...


class OrdersSubscription(Subscription, Protocol):
    """A `Subscription` to as many orders as it is told to watch."""

    def watch(self, order_id: str) -> None: ...

    def forget(self, order_id: str) -> None: ...

    def wake(self) -> None:
        """Have `next` return now, maybe with nothing."""


class Hub(Protocol):
    """Pushes committed events to whoever watches."""

    def publish(self, events: Sequence[StoredEvent]) -> None: ...

    def watch(self, order_id: str) -> Subscription: ...

    def watch_orders(self) -> OrdersSubscription:
        """Of no orders yet."""

    def watch_all(self) -> Subscription: ...


# --- Dispatch ------------------------------------------------------------------------------------------------


RingListener = Callable[[Sequence[str]], None]
"""Called with the ids of orders that may wait for an executor; with none: look which do."""


class Dispatcher(Protocol):
    """Brings orders that nobody holds to the workers. It only says *look now*: the journal knows what is to be done.

    It may lose what it is told, or tell it twice: workers look by themselves, too.
    """

    def ring(self, orders: Sequence[UnheldOrder]) -> None:
        """Tell of orders that are on disk. Never waits and never fails; what is too much for its queue is dropped."""

    def on_ring(self, listener: RingListener) -> None:
        """Be told of orders; before `run`. Each id that the listener gets is answered with `taken`."""

    def taken(self, order_ids: Sequence[str]) -> None:
        """These orders, of which the listener was told, have been taken, by whomever: nobody need be told again."""

    async def stop_listening(self) -> None:
        """Have the listener told of nothing more; what it was told of and has not taken is left to others."""

    async def run(self) -> None:
        """Carry what is rung, for ever, through whatever becomes of the servers that it needs."""
