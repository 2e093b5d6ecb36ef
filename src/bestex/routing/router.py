"""Ask all venues at once, each under its own deadline."""

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from bestex.domain.errors import FailureCode, OrderError
from bestex.domain.route import Quote, QuoteRequest
from bestex.ports import Clock, Venue
from bestex.routing.choose import Answer, Chosen, NotChosen, choose

_log = structlog.get_logger(__name__)


class QuoteLimits(msgspec.Struct, frozen=True):
    """How long venues get."""

    deadline_s: float = 1.0  # for each venue's answer
    grace_s: float = 0.25  # for the others once one has quoted: a slow venue must not hold the order up


class Router:
    """Quotes from every venue, and the choice between them."""

    def __init__(self, venues: Sequence[Venue], clock: Clock, limits: QuoteLimits) -> None:
        self._venues = {venue.name: venue for venue in venues}
        self._clock = clock
        self._limits = limits

    def venue(self, name: str) -> Venue:
        return self._venues[name]

    @property
    def venue_names(self) -> tuple[str, ...]:
        return tuple(self._venues)

    def route_at_once(self, request: QuoteRequest) -> Chosen | None:
        """The choice where every venue quotes without waiting; None: ask by `route`, which says why there is none."""
        answers: list[Answer] = []
        for name, venue in self._venues.items():
            try:
                quote = venue.quote_at_once(request)
            except Exception:  # noqa: BLE001 -- `route` meets it again, and keeps it for the receipt
                return None
            if quote is None:
                return None
            answers.append(Answer(name, 0.0, quote))
        choice = choose(answers, request.token_out, self._clock.now_us())
        return choice if isinstance(choice, Chosen) else None

    async def route(self, request: QuoteRequest) -> Chosen | NotChosen:
        """The choice among all venues' answers. Never raises for what a venue does."""
        answers = await self._ask_all(request)
        return choose(answers, request.token_out, self._clock.now_us())

    async def _ask_all(self, request: QuoteRequest) -> list[Answer]:
        began = self._clock.monotonic()
        answers: dict[str, Answer] = {}
        slow: list[Venue] = []
        for venue in self._venues.values():
            answer = self._answer_at_once(venue, request)
            if answer is None:
                slow.append(venue)
            else:
                answers[venue.name] = answer
        if slow:
            await self._wait_for(slow, request, began, answers)
        late_ms = _milliseconds(self._clock.monotonic() - began)
        late = f"did not answer within {late_ms:.0f} ms"
        return [
            answers.get(name) or Answer(name, late_ms, error=FailureCode.QUOTE_TIMEOUT, message=late)
            for name in self._venues
        ]

    def _answer_at_once(self, venue: Venue, request: QuoteRequest) -> Answer | None:
        """The answer of a venue that need not wait to quote; None of one that must."""
        try:
            quote = venue.quote_at_once(request)
        except Exception as error:  # noqa: BLE001 -- a broken venue must not fail the order
            return _failed(venue.name, 0.0, error)
        return None if quote is None else Answer(venue.name, 0.0, quote=quote)

    async def _wait_for(
        self, venues: Sequence[Venue], request: QuoteRequest, began: float, answers: dict[str, Answer]
    ) -> None:
        """Add the answers that come within their time to `answers`."""
        asked = {asyncio.ensure_future(venue.quote(request)): venue.name for venue in venues}
        waiting = set(asked)
        quoted = any(answer.quote is not None for answer in answers.values())
        patience_s = min(self._limits.grace_s, self._limits.deadline_s) if quoted else self._limits.deadline_s
        deadline = began + patience_s
        try:
            while waiting:
                left = deadline - self._clock.monotonic()
                done, waiting = await asyncio.wait(waiting, timeout=max(left, 0.0), return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                now = self._clock.monotonic()
                for task in done:
                    answer = _answer(asked[task], task, now - began)
                    answers[answer.venue] = answer
                    if answer.quote is not None:
                        deadline = min(deadline, now + self._limits.grace_s)
        finally:
            for task in waiting:
                task.cancel()


def _answer(venue: str, task: "asyncio.Future[Quote]", took_s: float) -> Answer:
    latency_ms = _milliseconds(took_s)
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    return Answer(venue, latency_ms, quote=task.result()) if error is None else _failed(venue, latency_ms, error)


def _failed(venue: str, latency_ms: float, error: BaseException) -> Answer:
    if isinstance(error, OrderError):
        return Answer(venue, latency_ms, error=error.code, message=str(error))
    _log.warning("venue.quote_failed", venue=venue, error=repr(error))
    message = f"broke while quoting: {type(error).__name__}: {error}"
    return Answer(venue, latency_ms, error=FailureCode.VENUE_DOWN, message=message)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
