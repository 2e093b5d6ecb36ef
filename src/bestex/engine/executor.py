"""Execute an order: attempts of route, build and submit until one is sent or the order ends."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from bestex.domain.errors import (
    AppendRefusedError,
    ChainUnreachableError,
    EngineFencedError,
    FailureCode,
    JournalError,
    OrderError,
)
from bestex.domain.events import (
    AttemptStory,
    BuildingDetail,
    CancelledDetail,
    ExpiredDetail,
    SignedTransaction,
    SubmittedDetail,
    WatchingDetail,
    seal,
    timestamp_text,
)
from bestex.domain.lifecycle import Status
from bestex.domain.money import format_amount, min_amount_out
from bestex.domain.orders import Order
from bestex.domain.route import QuoteRequest, SwapRequest
from bestex.domain.terms import NO_TERMS
from bestex.engine.deadline import within
from bestex.engine.funds import Funds
from bestex.engine.landing import Landing
from bestex.engine.order_log import OrderLog
from bestex.engine.rearming import Next, RearmPolicy, fired_long_ago, is_expired, next_step
from bestex.engine.retry import RetryPolicy
from bestex.engine.signing import SigningGate
from bestex.ports import Clock, Ids
from bestex.routing.choose import Chosen, NotChosen
from bestex.routing.router import Router

_TIME_IS_UP: Final = "its time is up"
_FIRED_LONG_AGO: Final = "it fired, and was kept from being executed until its price was no longer fresh"

_log = structlog.get_logger(__name__)


class Executor:
    """Takes orders whose lease this engine holds as far as `submitted`; landing proves what became of them."""

    def __init__(
        self,
        router: Router,
        landing: Landing,
        gate: SigningGate,
        funds: Funds,
        policy: RetryPolicy,
        rearming: RearmPolicy,
        build_deadline_s: float,
        clock: Clock,
        ids: Ids,
        waits_again: Callable[[OrderLog], None],
        hand_back: Callable[[str, int], None] | None = None,
    ) -> None:
        """`waits_again` gets the watched orders that fired, did not execute, and are watched again.

        With `hand_back` an order is handed back for the pause before its next attempt; it gets the order's id and when
        the pause ends, Unix microseconds. Without, it is kept.
        """
        self._hand_back = hand_back
        self._funds = funds
        self._rearming = rearming
        self._waits_again = waits_again
        self._router = router
        self._landing = landing
        self._gate = gate
        self._policy = policy
        self._build_deadline_s = build_deadline_s
        self._clock = clock
        self._ids = ids
        self.submitting: set[str] = set()  # orders between their signature and its first send: better not stopped

    def execute_at_once(self, log: OrderLog) -> "asyncio.Future[int] | None":
        """Execute a market order as far as its signature on the way to disk, where nothing has to be waited for.

        The future is done when it is there, and the transaction is sent then. None: nothing has been recorded; whatever
        stands against it, `execute` meets again.
        """
        order, clock = log.order, self._clock
        if log.state.status is not Status.PENDING or order.terms is not NO_TERMS or self._gate.halt is not None:
            return None
        if not self._funds.reserve_at_once(order):
            return None
        began_us = clock.now_us()
        choice = self._router.route_at_once(QuoteRequest(order.token_in, order.token_out, order.amount_in))
        if choice is None:
            return None
        chosen_us = clock.now_us()
        quote = choice.quote
        least = min_amount_out(quote.amount_out, order.slippage_bps)
        request = SwapRequest(order.id, 1, order.token_in, order.token_out, order.amount_in, least, quote)
        try:
            transaction = self._router.venue(quote.venue).build_at_once(request)
        except Exception:  # noqa: BLE001 -- `execute` meets it again, and records it
            return None
        if transaction is None:
            return None
        log.signed()
        self.submitting.add(order.id)
        submitted = SubmittedDetail(quote.venue, transaction.signature, transaction.last_valid_block_height)
        building = _building(order, choice, least)
        appended = log.submit_at_once(building, submitted, transaction, (began_us, chosen_us))
        appended.add_done_callback(partial(self._submitted, log, transaction))
        return appended

    def _submitted(self, log: OrderLog, transaction: SignedTransaction, appended: "asyncio.Future[int]") -> None:
        """Signature and bytes are on disk, or why they are not."""
        order_id = log.order.id
        self.submitting.discard(order_id)
        if appended.cancelled():
            return
        match appended.exception():
            case None:
                log.committed()
                self._landing.land_at_once(log, transaction)
            case AppendRefusedError():
                self._landing.reload(log)  # a cancel, or another engine: what stands in the journal decides
            case EngineFencedError():
                return
            case error:
                _log.error("order.stopped", order_id=order_id, error=str(error))  # the sweep takes it up again

    async def execute(self, log: OrderLog, given_up: AttemptStory | None = None, *, fired: bool = False) -> None:
        """Execute the order from where its events left off; `given_up` is its last attempt, proven not executed.

        `fired`: its first attempt has just begun. Returns when the order has been sent, has ended, waits for its
        trigger again, or has been taken over by another writer.
        """
        try:
            if log.state.ended:
                return
            if log.state.status is Status.SUBMITTED and given_up is None:
                self._landing.resume(log)  # an open attempt is resolved before anything else
                return
            await self._attempts(log, given_up, fired)
        except AppendRefusedError:
            self._landing.reload(log)  # a cancel, or another engine: what stands in the journal decides
        except EngineFencedError:
            return  # the engine is stopping; the one that took its place executes the order
        except JournalError as error:
            _log.error("order.stopped", order_id=log.order.id, error=str(error))  # the sweep takes it up again
        except Exception as error:  # noqa: BLE001 -- whatever it is, the order ends and says so
            _log.exception("order.defect", order_id=log.order.id)
            await self._end_for_defect(log, error)

    async def _end_for_defect(self, log: OrderLog, error: Exception) -> None:
        """End an order that the engine cannot execute, unless a transaction of it may still land."""
        if log.state.ended:
            return
        if log.state.status is Status.SUBMITTED:
            self._landing.reload(log)
            return
        with suppress(JournalError):  # the sweep takes it up again
            await self._give_up(log, log.story(FailureCode.INTERNAL, f"a defect of the engine: {type(error).__name__}"))

    async def _attempts(self, log: OrderLog, given_up: AttemptStory | None, begun: bool) -> None:
        while True:
            paused_s = None
            if self._gate.journal_is_behind:  # a later attempt may have executed: it must not end here either
                self._gate.held.add(log.order.id)
                return
            if given_up is not None:
                if await self._give_up(log, given_up):
                    return
                paused_s = self._policy.pause_s(log.attempts_since_fired, self._ids.fraction())
                if self._hand_back is not None:
                    await self._pause_elsewhere(self._hand_back, log, given_up, paused_s)
                    return
                await self._clock.sleep(paused_s)
            elif is_expired(log.order, self._clock.now_us()):
                await log.record(Status.EXPIRED, ExpiredDetail(_TIME_IS_UP))
                return
            if self._gate.halt is not None:
                self._gate.held.add(log.order.id)
                return
            if given_up is None and fired_long_ago(log.order, log.state, self._clock.now_us()):
                await log.watch(WatchingDetail(reason=_FIRED_LONG_AGO))
                self._waits_again(log)
                return
            # An attempt cut short before its signature was committed starts again under the same number.
            if not begun:
                attempt = given_up.attempt + 1 if given_up is not None else max(1, log.state.attempt)
                recorded = log.routing(attempt, given_up, paused_s)
                if given_up is not None:
                    await recorded  # a cancel that came meanwhile must be noticed before anything is signed again
            begun = False
            given_up = await self._attempt(log)
            if given_up is None and log.state.status is Status.SUBMITTED:
                return

    async def _pause_elsewhere(
        self, hand_back: Callable[[str, int], None], log: OrderLog, given_up: AttemptStory, pause_s: float
    ) -> None:
        """Begin the next attempt for whoever takes it up when its pause is over; until then it holds no place."""
        due_us = self._clock.now_us() + round(pause_s * 1e6)
        await log.routing(given_up.attempt + 1, given_up, pause_s, due_us)
        hand_back(log.order.id, due_us)

    async def _give_up(self, log: OrderLog, story: AttemptStory) -> bool:
        """End the order whose attempt was given up, or have it wait again; False: it may try again."""
        code = FailureCode(story.code)
        match next_step(log.order, log.state, code, self._policy, self._clock.now_us()):
            case Next.TRY_AGAIN:
                return False
            case Next.CANCEL:
                await log.record(Status.CANCELLED, CancelledDetail("client", story))
            case Next.EXPIRE:
                await self._expire(log, story)
            case Next.FAIL if code is FailureCode.EXPIRES_TOO_SOON:
                await self._expire(log, story)
            case Next.FAIL:
                await log.failed(story)
            case Next.WAIT_AGAIN:
                await log.watch(self._waiting_again(log, story))
                self._waits_again(log)
        return True

    async def _expire(self, log: OrderLog, story: AttemptStory) -> None:
        """Record the expiry, when its time has come: a transaction could not land any more before that."""
        expires_us = log.order.expires_us
        if expires_us is not None and not log.order.is_immediate:
            await self._clock.sleep(max(0.0, (expires_us - self._clock.now_us()) / 1e6))
        reason = f"{story.code}: {story.message}" if log.order.is_immediate else _TIME_IS_UP
        await log.record(Status.EXPIRED, ExpiredDetail(reason, story))

    def _waiting_again(self, log: OrderLog, story: AttemptStory) -> WatchingDetail:
        now_us = self._clock.now_us()
        not_before_us = now_us + round(self._rearming.pause_s(log.state.fired) * 1e6)
        if story.code == FailureCode.EXPIRES_TOO_SOON:
            not_before_us = max(not_before_us, log.order.expires_us or 0)
        reason = f"{story.code}: {story.message}"
        return WatchingDetail(reason=reason, previous=story, not_before=timestamp_text(not_before_us))

    async def _attempt(self, log: OrderLog) -> AttemptStory | None:
        """Route, build, submit; the attempt's story when it is given up.

        None when it was sent, and also when a halt came before its signature was on disk: then it begins again.
        """
        order = log.order
        if missing := await self._funds.reserve(order):
            amount = format_amount(missing, order.token_in.decimals)
            message = f"other orders are about to spend {amount} {order.token_in.symbol} of what it needs"
            return log.story(FailureCode.INSUFFICIENT_FUNDS, message)
        log.check()  # while it waited for funds, a cancel may have come
        request = await self._route(log)
        if isinstance(request, AttemptStory):
            return request
        if self._gate.halt is not None:
            return None
        transaction = await self._build(log, request)
        if isinstance(transaction, AttemptStory):
            return transaction
        if self._gate.halt is not None:  # nobody has the bytes, and nobody will
            return None
        log.signed()
        self.submitting.add(log.order.id)
        try:
            await self._submit(log, request.quote.venue, transaction)
        finally:
            self.submitting.discard(log.order.id)
        return None

    async def _submit(self, log: OrderLog, venue: str, transaction: SignedTransaction) -> None:
        """Put signature and bytes on disk, then send."""
        submitted = SubmittedDetail(venue, transaction.signature, transaction.last_valid_block_height)
        await log.record(Status.SUBMITTED, submitted, transaction=transaction, sealed=seal(transaction))
        log.committed()
        await self._landing.land(log, transaction)

    async def _route(self, log: OrderLog) -> SwapRequest | AttemptStory:
        """Compare the venues and record the choice; the attempt's story when there is no quote to use."""
        order = log.order
        choice = await self._router.route(QuoteRequest(order.token_in, order.token_out, order.amount_in))
        if isinstance(choice, NotChosen):
            return log.story(choice.error.code, str(choice.error), choice.records)
        quote = choice.quote
        limit = order.limit_out() or 0
        if quote.amount_out < limit:
            decimals = order.token_out.decimals
            offered, asked = format_amount(quote.amount_out, decimals), format_amount(limit, decimals)
            message = f"{quote.venue} pays most, {offered} {order.token_out.symbol}; the limit asks for {asked}"
            return log.story(FailureCode.LIMIT_NOT_MET, message, choice.records)
        least = max(limit, min_amount_out(quote.amount_out, order.slippage_bps))
        log.record(Status.BUILDING, _building(order, choice, least))
        return SwapRequest(
            order_id=order.id,
            attempt=log.state.attempt,
            token_in=order.token_in,
            token_out=order.token_out,
            amount_in=order.amount_in,
            min_amount_out=least,
            quote=quote,
            expires_us=order.expires_us,
        )

    async def _build(self, log: OrderLog, request: SwapRequest) -> SignedTransaction | AttemptStory:
        """Have the venue build, simulate and sign; the attempt's story when it cannot."""
        try:
            return await within(self._build_deadline_s, self._router.venue(request.quote.venue).build(request))
        except TimeoutError:
            message = f"{request.quote.venue} did not build within {self._build_deadline_s:g} s"
            return log.story(FailureCode.VENUE_DOWN, message)
        except OrderError as error:
            return log.story(error.code, str(error))
        except ChainUnreachableError as error:
            return log.story(FailureCode.VENUE_DOWN, f"the chain could not be asked: {error}")
        except Exception as error:  # noqa: BLE001 -- whatever breaks in a venue ends the attempt, not the engine
            _log.exception("venue.build_failed", venue=request.quote.venue, order_id=log.order.id)
            message = f"{request.quote.venue} broke while building: {type(error).__name__}: {error}"
            return log.story(FailureCode.VENUE_DOWN, message)


def _building(order: Order, choice: Chosen, least: int) -> BuildingDetail:
    """The chosen route as its event keeps it; `least` base units of output are accepted."""
    quote, decimals = choice.quote, order.token_out.decimals
    return BuildingDetail(
        venue=quote.venue,
        pool=quote.pool,
        amount_out=format_amount(quote.amount_out, decimals),
        min_amount_out=format_amount(least, decimals),
        price_impact_bps=quote.price_impact_bps,
        quotes=choice.records,
        wraps_sol=order.token_in.is_native_sol or order.token_out.is_native_sol,
    )
