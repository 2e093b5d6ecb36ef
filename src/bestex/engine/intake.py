"""Intake: from a validated request to an order on disk. The answer is given after the commit."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from hashlib import blake2b
from typing import Final

import msgspec

from bestex.domain.errors import (
    BestexError,
    DuplicateKeyError,
    JournalError,
    JournalUnavailableError,
    OutcomeUnknownError,
)
from bestex.domain.events import timestamp_text
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.terms import NO_TERMS, Kind, Terms
from bestex.domain.tokens import Token
from bestex.engine.errors import FieldError, PastExpiryError
from bestex.engine.order_log import OrderLog
from bestex.engine.rearming import is_expired
from bestex.engine.signing import SigningGate
from bestex.ports import Clock, Ids, Journal, NewOrder

FIRST_LEASE_EPOCH: Final = 1

CALLER: Final = "local"
"""The one implicit caller, until there are keys."""


class OrderRequest(msgspec.Struct, frozen=True, gc=False):
    """What a client asks for, every field checked."""

    kind: Kind
    token_in: Token
    token_out: Token
    amount_in: int  # base units of token_in
    slippage_bps: int
    client_order_id: str | None = None
    terms: Terms = NO_TERMS

    def order(self, order_id: str, now_us: int) -> Order:
        return Order(
            order_id,
            self.kind,
            self.token_in,
            self.token_out,
            self.amount_in,
            self.slippage_bps,
            now_us,
            self.client_order_id,
            self.terms,
        )

    def fingerprint(self) -> bytes:
        """The same for the same request however it was written down."""
        parts = [
            self.kind.value,
            self.token_in.mint,
            self.token_out.mint,
            str(self.amount_in),
            str(self.slippage_bps),
            self.client_order_id or "",
        ]
        if self.terms is not NO_TERMS:
            parts.append(msgspec.json.encode(self.terms).decode())
        return blake2b("\n".join(parts).encode(), digest_size=16).digest()


class Accepted(msgspec.Struct, frozen=True, gc=False):
    order_id: str
    created_us: int  # Unix time, microseconds
    status: Status = Status.PENDING  # `watching` for an order that waits
    covered: bool | None = None  # of one that waits: whether the wallet covers it now, as far as is known


class IntakeFullError(BestexError):
    """As many orders wait as may."""


class HaltedError(BestexError):
    """The engine is halted: it takes no orders that it may not execute."""


class KeyUnderWayError(BestexError):
    """An order with this idempotency key is being stored at this moment."""


class KeyReusedError(BestexError):
    """The idempotency key belongs to an order with another request."""


class PendingOutcomeError(OutcomeUnknownError):
    """The order's commit is under way and its answer is late."""

    def __init__(self, order_id: str) -> None:
        super().__init__(
            "the database has not answered; the order may be stored. Repeat with the same key to find out."
        )
        self.order_id = order_id


Answer = Callable[[Accepted | Exception], None]
"""Gets what became of an order: that it is on disk, or why that is not known. Called once."""

_Key = tuple[str, str, str]
"""Caller, scope, key."""


class IntakeLimits(msgspec.Struct, frozen=True):
    waiting: int = 10_000  # orders accepted and not executing yet
    open: int = 100_000  # orders accepted and not ended: those that wait for proof too, watched ones excepted
    watched: int = 2_000_000
    answer_s: float = 5.0  # how long a client waits for the commit


class Intake:
    """Makes orders of requests."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        ids: Ids,
        limits: IntakeLimits,
        gate: SigningGate,
        waiting: Callable[[], int],
        opened: Callable[[], int],
        watched: Callable[[], int],
        check: Callable[[Order], Awaitable[None]],
        covers: Callable[[str, int], bool | None],
        accepted: Callable[[OrderLog], None],
    ) -> None:
        """`waiting` and `opened` count the orders that wait to be executed, and all that have not ended.

        `watched` counts those that rest, `check` raises what speaks against another one, and `covers` says whether the
        wallet holds so much of a mint. `accepted` gets each order that is on disk.
        """
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._gate = gate
        self._waiting = waiting
        self._opened = opened
        self._entries: dict[_Entry, None] = {}  # whose clients wait, first to last
        self._late: asyncio.TimerHandle | None = None  # when the first of them has waited long enough
        self._asking: set[asyncio.Task[None]] = set()  # for those that may be repetitions
        self._watched = watched
        self._check = check
        self._covers = covers
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._committing = 0
        self._keys: set[_Key] = set()
        self.closed = False

    def enter(self, request: OrderRequest, caller: str, key: str | None, answer: Answer) -> str | None:
        """Store the order and hand it on; `answer` is called with what became of it, maybe before this returns.

        The id that it is stored under, unless it is refused or found to repeat another.

        On any error nothing is stored, `PendingOutcomeError` excepted. The same idempotency key with the same request
        gives the first answer again.
        """
        try:
            self._check_room(request)
            return self._store(request, caller, key, answer)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the client is told
            answer(error)
            return None

    @property
    def committing(self) -> int:
        """Orders of which it is not known yet whether they are stored."""
        return self._committing

    async def accept(self, request: OrderRequest, caller: str, idempotency_key: str | None) -> Accepted:
        """`enter`, for one who waits; raises what keeps the order from being known to be on disk."""
        answered: asyncio.Future[Accepted] = self._loop.create_future()

        def answer(accepted: Accepted | Exception) -> None:
            if answered.done():  # its client may go while its order is being stored
                return
            if isinstance(accepted, Accepted):
                answered.set_result(accepted)
            else:
                answered.set_exception(accepted)

        self.enter(request, caller, idempotency_key, answer)
        return await answered

    def answer_open(self) -> None:
        """Answer the clients that still wait for a commit, with what is known; for an engine that stops."""
        while self._entries:
            self._answer_late(next(iter(self._entries)))

    def _check_room(self, request: OrderRequest) -> None:
        """Raise what speaks against another order, whatever it is."""
        limits, committing = self._limits, self._committing
        if self.closed:
            raise JournalUnavailableError("the engine is stopping")
        if (halt := self._gate.halt) is not None:
            raise HaltedError(halt.reason)
        if committing + self._waiting() >= limits.waiting:
            raise IntakeFullError(f"{limits.waiting} orders wait already")
        if committing + self._opened() >= limits.open:
            raise IntakeFullError(f"{limits.open} orders are open already")
        if request.kind is not Kind.MARKET and committing + self._watched() >= limits.watched:
            raise IntakeFullError(f"{limits.watched} orders are watched already")

    def _store(self, request: OrderRequest, caller: str, key: str | None, answer: Answer) -> str:
        """Append the order to the journal, under the id given. Raises what speaks against it."""
        client_order_id = request.client_order_id
        held: tuple[_Key, ...] = ()
        if key is not None or client_order_id is not None:
            named = (("idempotency", key), ("client", client_order_id))
            held = tuple((caller, scope, each) for scope, each in named if each is not None)
            if not self._keys.isdisjoint(held):
                raise KeyUnderWayError("an order with this key is being stored at this moment")
        began = self._clock.monotonic()
        order = request.order(self._ids.order_id(), self._clock.now_us())
        new = NewOrder(
            order.id,
            order.kind.value,
            order.pair.name,
            caller,
            key,
            client_order_id,
            request.fingerprint() if held else b"",
        )
        if order.terms is NO_TERMS:
            self._append(request, order, new, held, began, answer)
        elif is_expired(order, order.created_us):  # it may be a repetition: time has moved on since it came first
            error = PastExpiryError("expiresAt", f"must be in the future; it is {timestamp_text(order.created_us)}")
            if not held:
                raise error
            self._begin(self._answer_with(partial(self._repeated, new, request, error), answer))
        elif order.rests:
            self._committing += 1
            self._keys.update(held)
            self._begin(self._check_and_append(request, order, new, held, began, answer))
        else:
            self._append(request, order, new, held, began, answer)
        return order.id

    async def _check_and_append(
        self, request: OrderRequest, order: Order, new: NewOrder, held: tuple[_Key, ...], began: float, answer: Answer
    ) -> None:
        """Append an order that rests, unless the price speaks against it; its keys are held meanwhile."""
        try:
            try:
                await self._check(order)
            finally:
                self._committing -= 1
            self._check_room(request)  # there was room before; a stop or a halt may have come
        except Exception as error:  # noqa: BLE001 -- whatever it is, the client is told
            self._keys.difference_update(held)
            if isinstance(error, FieldError) and held:
                await self._answer_with(partial(self._repeated, new, request, error), answer)
            else:
                answer(error)
            return
        self._append(request, order, new, held, began, answer)

    def _append(
        self, request: OrderRequest, order: Order, new: NewOrder, held: tuple[_Key, ...], began: float, answer: Answer
    ) -> None:
        log = OrderLog(self._journal, self._clock, order, OrderState(), 0 if order.rests else FIRST_LEASE_EPOCH)
        appended = log.accept(new)
        self._committing += 1
        self._keys.update(held)  # until the outcome is known, whatever the client is told before
        late_at = self._loop.time() + self._limits.answer_s
        entry = _Entry(request, log, held, began, late_at, answer, appended)
        self._entries[entry] = None
        if self._late is None:
            self._late = self._loop.call_later(self._limits.answer_s, self._answer_those_late)
        appended.add_done_callback(partial(self._committed, entry))

    def _committed(self, entry: "_Entry", appended: "asyncio.Future[int]") -> None:
        """Whatever became of the client, an order on disk is executed."""
        if entry.held:
            self._keys.difference_update(entry.held)
        log = entry.log
        log.accepted(entry.began)
        waits = entry in self._entries
        if waits:
            del self._entries[entry]
        error = None if appended.cancelled() else appended.exception()
        try:
            if waits:
                self._answer(entry, error)  # its client may enter the next one within this
        finally:
            if error is None and not appended.cancelled():
                self._accepted(log)
            self._committing -= 1  # not before it counts among those that are stored

    def _answer(self, entry: "_Entry", error: BaseException | None) -> None:
        """Tell the client of the commit's outcome."""
        match error:
            case None:
                entry.answer(self._answer_for(entry.log.order))
            case DuplicateKeyError():
                self._begin(self._answer_with(partial(self._first_answer, error, entry.request), entry.answer))
            case OutcomeUnknownError():
                entry.answer(_pending(entry.log.order.id, error))
            case Exception():
                entry.answer(error)
            case _:
                raise error

    def _answer_for(self, order: Order) -> Accepted:
        if not order.rests:
            return Accepted(order.id, order.created_us)
        covered = self._covers(order.token_in.mint, order.amount_in)
        return Accepted(order.id, order.created_us, Status.WATCHING, covered)

    # --- Clients that have waited long enough

    def _answer_those_late(self) -> None:
        self._late = None
        now = self._loop.time()
        while self._entries:
            entry = next(iter(self._entries))
            left_s = entry.late_at - now
            if left_s > 0:
                self._late = self._loop.call_later(left_s, self._answer_those_late)
                return
            self._answer_late(entry)

    def _answer_late(self, entry: "_Entry") -> None:
        """Tell a client what is known of its order before its commit is answered."""
        del self._entries[entry]
        if self._journal.withdraw(entry.appended):
            entry.answer(JournalUnavailableError("the database does not answer; nothing was stored"))
        else:
            entry.answer(PendingOutcomeError(entry.log.order.id))

    # --- Repetitions

    async def _answer_with(self, ask: Callable[[], Awaitable[Accepted]], answer: Answer) -> None:
        """Answer with what the journal, asked, says."""
        try:
            accepted: Accepted | Exception = await ask()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the client is told
            accepted = error
        answer(accepted)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        asking = self._loop.create_task(work)
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _repeated(self, new: NewOrder, request: OrderRequest, error: FieldError) -> Accepted:
        """The first answer, if the order is a repetition; else raise what speaks against it."""
        duplicate = await self._journal.holder(new)
        if duplicate is None:
            raise error
        return await self._first_answer(duplicate, request)

    async def _first_answer(self, duplicate: DuplicateKeyError, request: OrderRequest) -> Accepted:
        if not duplicate.same_request:
            raise KeyReusedError(f"the key belongs to order {duplicate.order_id}, another request") from duplicate
        events = await self._journal.events(duplicate.order_id)
        if events:
            return self._answer_for(request.order(duplicate.order_id, events[0].event.at_us))
        archived = await self._journal.archived(duplicate.order_id)
        if archived is None:
            raise JournalError(f"the key belongs to order {duplicate.order_id}, which is not there")
        return self._answer_for(request.order(duplicate.order_id, archived.accepted_us))


class _Entry:
    """An order on its way to disk, and its client."""

    __slots__ = ("answer", "appended", "began", "held", "late_at", "log", "request")

    def __init__(
        self,
        request: OrderRequest,
        log: OrderLog,
        held: tuple[_Key, ...],
        began: float,
        late_at: float,
        answer: Answer,
        appended: "asyncio.Future[int]",
    ) -> None:
        self.request = request
        self.log = log
        self.held = held  # the keys that it came with
        self.began = began  # by the clock's `monotonic`
        self.late_at = late_at  # by the loop's time: the client has waited long enough
        self.answer = answer
        self.appended = appended


def _pending(order_id: str, cause: Exception) -> PendingOutcomeError:
    error = PendingOutcomeError(order_id)
    error.__cause__ = cause
    return error
