"""Intake: from a validated request to an order on disk. The answer is given after the commit."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Final

import msgspec

from bestex.domain.errors import (
    BestexError,
    DuplicateKeyError,
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


class OrderRequest(msgspec.Struct, frozen=True):
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


class Accepted(msgspec.Struct, frozen=True):
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
        self._answers: set[asyncio.Future[None]] = set()
        self._watched = watched
        self._check = check
        self._covers = covers
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._committing = 0
        self._keys: set[tuple[str, str, str]] = set()
        self.closed = False

    async def accept(self, request: OrderRequest, caller: str, idempotency_key: str | None) -> Accepted:
        """Store the order and hand it on. On any error nothing is stored, `PendingOutcomeError` excepted.

        The same key with the same request gives the first answer again.
        """
        if self.closed:
            raise JournalUnavailableError("the engine is stopping")
        if (halt := self._gate.halt) is not None:
            raise HaltedError(halt.reason)
        if self._committing + self._waiting() >= self._limits.waiting:
            raise IntakeFullError(f"{self._limits.waiting} orders wait already")
        if self._committing + self._opened() >= self._limits.open:
            raise IntakeFullError(f"{self._limits.open} orders are open already")
        if request.kind is not Kind.MARKET and self._committing + self._watched() >= self._limits.watched:
            raise IntakeFullError(f"{self._limits.watched} orders are watched already")
        if idempotency_key is None and request.client_order_id is None:
            return await self._store(request, caller, None, frozenset())
        keys = {("idempotency", idempotency_key), ("client", request.client_order_id)}
        held = frozenset((caller, scope, key) for scope, key in keys if key is not None)
        if held & self._keys:
            raise KeyUnderWayError("an order with this key is being stored at this moment")
        try:
            return await self._store(request, caller, idempotency_key, held)
        except DuplicateKeyError as duplicate:
            if not duplicate.same_request:
                raise KeyReusedError(f"the key belongs to order {duplicate.order_id}, another request") from duplicate
            first = (await self._journal.events(duplicate.order_id))[0].event
            return self._answer_for(request.order(first.order_id, first.at_us))

    def _answer_for(self, order: Order) -> Accepted:
        if not order.rests:
            return Accepted(order.id, order.created_us)
        covered = self._covers(order.token_in.mint, order.amount_in)
        return Accepted(order.id, order.created_us, Status.WATCHING, covered)

    def answer_open(self) -> None:
        """Answer the clients that still wait for a commit, with what is known; for an engine that stops."""
        for answered in self._answers:
            _answer(answered)

    async def _store(
        self, request: OrderRequest, caller: str, idempotency_key: str | None, held: frozenset[tuple[str, str, str]]
    ) -> Accepted:
        began = self._clock.monotonic()
        order = request.order(self._ids.order_id(), self._clock.now_us())
        new = NewOrder(
            order.id,
            order.kind.value,
            order.pair.name,
            caller,
            idempotency_key,
            request.client_order_id,
            request.fingerprint() if idempotency_key or request.client_order_id else b"",
        )
        if order.terms is not NO_TERMS:
            await self._check_terms(order, new)
        log = OrderLog(self._journal, self._clock, order, OrderState(), 0 if order.rests else FIRST_LEASE_EPOCH)
        appended = log.accept(new)
        self._committing += 1
        self._keys |= held  # until the outcome is known, whatever the client is told before
        answered: asyncio.Future[None] = self._loop.create_future()
        appended.add_done_callback(lambda done: self._committed(log, began, done, answered, held))
        late = self._loop.call_later(self._limits.answer_s, _answer, answered)
        self._answers.add(answered)
        try:
            await answered
        finally:  # a socket's client may go while its order is being stored
            self._answers.discard(answered)
            late.cancel()
        self._check_answer(appended, order.id)
        return self._answer_for(order)

    async def _check_terms(self, order: Order, new: NewOrder) -> None:
        """Raise what speaks against the order, unless it is a repetition: time and price have moved on since."""
        try:
            if is_expired(order, order.created_us):
                raise PastExpiryError("expiresAt", f"must be in the future; it is {timestamp_text(order.created_us)}")
            if order.rests:
                await self._check(order)
        except FieldError:
            if (new.idempotency_key or new.client_order_id) and (duplicate := await self._journal.holder(new)):
                raise duplicate from None
            raise

    def _committed(
        self,
        log: OrderLog,
        began: float,
        appended: "asyncio.Future[int]",
        answered: "asyncio.Future[None]",
        held: frozenset[tuple[str, str, str]],
    ) -> None:
        """Whatever became of the client, an order on disk is executed."""
        self._committing -= 1
        self._keys -= held
        log.accepted(began)
        _answer(answered)
        if not appended.cancelled() and appended.exception() is None:
            self._accepted(log)

    def _check_answer(self, appended: "asyncio.Future[int]", order_id: str) -> None:
        """Raise what keeps the order from being known to be on disk."""
        if appended.done():
            try:
                appended.result()
            except OutcomeUnknownError as error:
                raise PendingOutcomeError(order_id) from error
        elif self._journal.withdraw(appended):
            raise JournalUnavailableError("the database does not answer; nothing was stored")
        else:
            raise PendingOutcomeError(order_id)


def _answer(answered: "asyncio.Future[None]") -> None:
    if not answered.done():
        answered.set_result(None)
