"""All venues are asked at once: none that is slow or broken delays or fails the order while another answers."""

import asyncio
import time
from collections.abc import Callable

import pytest

from bestex.ambient import SystemClock
from bestex.domain.errors import NoRouteError, QuotesUnavailableError, StaleQuoteError, VenueDownError
from bestex.domain.events import SignedTransaction
from bestex.domain.route import Quote, QuoteRequest, SwapRequest
from bestex.routing.choose import Chosen, NotChosen
from bestex.routing.router import QuoteLimits, Router
from tests.unit.routing.quotes import REQUEST, a_quote

CLOCK = SystemClock()
QUICK = QuoteLimits(deadline_s=0.05, grace_s=0.02)
PATIENT = QuoteLimits(deadline_s=30.0, grace_s=0.02)

Quoting = Callable[[], Quote]


class FakeVenue:
    """Answers when it is let, or at once."""

    def __init__(self, name: str, quoting: Quoting, *, waits: bool = True) -> None:
        self.name = name
        self._quoting = quoting
        self._waits = waits
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.given_up = asyncio.Event()

    def quote_at_once(self, request: QuoteRequest) -> Quote | None:
        assert request is REQUEST
        return None if self._waits else self._quoting()

    async def quote(self, request: QuoteRequest) -> Quote:
        assert request is REQUEST
        self.asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        return self._quoting()

    def build_at_once(self, request: SwapRequest) -> SignedTransaction | None:
        raise NotImplementedError

    async def build(self, request: SwapRequest) -> SignedTransaction:
        raise NotImplementedError


def fresh(venue: str, amount_out: int = 151_000_000) -> Quoting:
    return lambda: a_quote(venue, amount_out, quoted_us=CLOCK.now_us())


def broken(error: BaseException) -> Quoting:
    def quoting() -> Quote:
        raise error

    return quoting


def silent(name: str) -> FakeVenue:
    venue = FakeVenue(name, fresh(name))
    venue.may_answer.clear()
    return venue


def waiting_or_not(name: str, quoting: Quoting) -> list[FakeVenue]:
    return [FakeVenue(name, quoting), FakeVenue(name, quoting, waits=False)]


async def test_all_venues_are_asked_before_any_has_answered() -> None:
    venues = [silent("raydium"), silent("meteora"), silent("orca")]
    routing = asyncio.create_task(Router(venues, CLOCK, PATIENT).route(REQUEST))
    await asyncio.gather(*(venue.asked.wait() for venue in venues))
    for venue in venues:
        venue.may_answer.set()

    choice = await routing
    assert isinstance(choice, Chosen)
    assert [record.error for record in choice.records] == [None, None, None]


@pytest.mark.parametrize("waits", [True, False])
async def test_the_best_of_the_quotes_is_chosen(waits: bool) -> None:
    raydium = FakeVenue("raydium", fresh("raydium", 150_000_000), waits=waits)
    meteora = FakeVenue("meteora", fresh("meteora", 151_000_000))
    choice = await Router([raydium, meteora], CLOCK, PATIENT).route(REQUEST)

    assert isinstance(choice, Chosen)
    assert choice.quote.venue == "meteora"
    assert [record.venue for record in choice.records] == ["raydium", "meteora"]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_slow_venue_delays_the_order_by_no_more_than_the_grace(waits: bool) -> None:
    slow, quick = silent("raydium"), FakeVenue("meteora", fresh("meteora"), waits=waits)
    began = time.monotonic()
    choice = await Router([slow, quick], CLOCK, PATIENT).route(REQUEST)

    assert 0.015 < time.monotonic() - began < 1.0
    assert isinstance(choice, Chosen)
    assert choice.quote.venue == "meteora"
    assert choice.records[0].error == "quote_timeout"
    assert choice.records[0].latency_ms >= 15
    assert "did not answer within" in (choice.records[0].reason or "")
    await slow.given_up.wait()


async def test_a_venue_that_answers_within_the_grace_can_still_win() -> None:
    slow, quick = silent("raydium"), FakeVenue("meteora", fresh("meteora", 1_000))
    routing = asyncio.create_task(Router([slow, quick], CLOCK, QuoteLimits(30.0, 30.0)).route(REQUEST))
    await quick.asked.wait()
    await asyncio.sleep(0)
    slow.may_answer.set()
    choice = await routing

    assert isinstance(choice, Chosen)
    assert choice.quote.venue == "raydium"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (VenueDownError("closed for the day"), "venue_down", "closed for the day"),
        (NoRouteError("no pool"), "no_route", "no pool"),
        (ZeroDivisionError("division by zero"), "venue_down", "broke while quoting: ZeroDivisionError"),
        (TimeoutError(), "venue_down", "broke while quoting: TimeoutError"),
        (asyncio.CancelledError(), "venue_down", "broke while quoting: CancelledError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_a_broken_venue_never_fails_the_order_while_another_answers(
    error: BaseException, code: str, reason: str
) -> None:
    for broken_one in waiting_or_not("raydium", broken(error))[: 1 if isinstance(error, asyncio.CancelledError) else 2]:
        choice = await Router([broken_one, FakeVenue("meteora", fresh("meteora"))], CLOCK, PATIENT).route(REQUEST)

        assert isinstance(choice, Chosen)
        assert choice.quote.venue == "meteora"
        assert choice.records[0].error == code
        assert reason in (choice.records[0].reason or "")


async def test_a_venue_that_refuses_does_not_start_the_grace() -> None:
    """No quote yet: the slow venue keeps its whole deadline."""
    slow, refusing = silent("raydium"), FakeVenue("meteora", broken(NoRouteError("no pool")))
    routing = asyncio.create_task(Router([slow, refusing], CLOCK, QuoteLimits(30.0, 0.0)).route(REQUEST))
    await asyncio.gather(slow.asked.wait(), refusing.asked.wait())
    await asyncio.sleep(0.01)
    slow.may_answer.set()
    choice = await routing

    assert isinstance(choice, Chosen)
    assert choice.quote.venue == "raydium"


async def test_when_no_venue_answers_in_time_the_receipt_says_so_of_each() -> None:
    venues = [silent("raydium"), silent("meteora")]
    choice = await Router(venues, CLOCK, QUICK).route(REQUEST)

    assert isinstance(choice, NotChosen)
    assert isinstance(choice.error, QuotesUnavailableError)
    assert [record.error for record in choice.records] == ["quote_timeout", "quote_timeout"]
    assert all(record.latency_ms >= 45 for record in choice.records)
    await asyncio.gather(*(venue.given_up.wait() for venue in venues))


@pytest.mark.parametrize("waits", [True, False])
async def test_a_stale_quote_is_not_used(waits: bool) -> None:
    old = FakeVenue("raydium", lambda: a_quote("raydium", 10**12, stale_us=CLOCK.now_us()), waits=waits)
    choice = await Router([old, FakeVenue("meteora", fresh("meteora"))], CLOCK, PATIENT).route(REQUEST)
    assert isinstance(choice, Chosen)
    assert choice.quote.venue == "meteora"

    alone = await Router([old], CLOCK, PATIENT).route(REQUEST)
    assert isinstance(alone, NotChosen)
    assert isinstance(alone.error, StaleQuoteError)


async def test_without_venues_there_is_no_route() -> None:
    choice = await Router([], CLOCK, PATIENT).route(REQUEST)

    assert isinstance(choice, NotChosen)
    assert str(choice.error) == "no venue is configured"


async def test_the_time_each_venue_took_is_kept() -> None:
    slow, quick = silent("raydium"), FakeVenue("meteora", fresh("meteora"))
    routing = asyncio.create_task(Router([slow, quick], CLOCK, QuoteLimits(30.0, 30.0)).route(REQUEST))
    await slow.asked.wait()
    await asyncio.sleep(0.02)
    slow.may_answer.set()
    choice = await routing

    latencies = [record.latency_ms for record in choice.records]
    assert latencies[0] >= 20 > latencies[1]


async def test_an_order_that_is_stopped_while_routing_leaves_no_venue_asked() -> None:
    venue = silent("raydium")
    routing = asyncio.create_task(Router([venue], CLOCK, PATIENT).route(REQUEST))
    await venue.asked.wait()
    routing.cancel()

    await venue.given_up.wait()
    with pytest.raises(asyncio.CancelledError):
        await routing
