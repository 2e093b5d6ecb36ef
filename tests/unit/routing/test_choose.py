"""The choice between answers is pure, and the receipt keeps every answer with its reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.errors import (
    FailureCode,
    NoRouteError,
    OrderError,
    QuotesUnavailableError,
    StaleQuoteError,
    VenueDownError,
)
from bestex.domain.route import Quote
from bestex.routing.choose import Answer, Chosen, NotChosen, choose
from tests.unit.routing.quotes import USDC, a_quote

NOW_US = 1_000_000
_CODES = FailureCode


def offers(*quotes: Quote) -> list[Answer]:
    return [Answer(quote.venue, 200.0 + n, quote=quote) for n, quote in enumerate(quotes)]


def chosen(answers: list[Answer], now_us: int = NOW_US) -> Chosen:
    choice = choose(answers, USDC, now_us)
    assert isinstance(choice, Chosen)
    return choice


def test_the_highest_output_wins() -> None:
    choice = chosen(offers(a_quote("raydium", 151_000_000), a_quote("meteora", 151_000_001)))

    assert choice.quote.venue == "meteora"
    assert [record.chosen for record in choice.records] == [False, True]


def test_the_network_fee_counts_at_its_worth_in_the_output_token() -> None:
    dear = a_quote("raydium", 151_000_500, network_fee_out=1_000)
    cheap = a_quote("meteora", 151_000_000, network_fee_out=0)
    choice = chosen(offers(dear, cheap))

    assert choice.quote is cheap
    assert [record.net_amount_out for record in choice.records] == ["150.9995", "151"]


def test_of_equal_outputs_the_lower_price_impact_wins_and_then_the_first_asked() -> None:
    rough, smooth = a_quote("raydium", price_impact_bps=9), a_quote("meteora", price_impact_bps=8)
    assert chosen(offers(rough, smooth)).quote is smooth
    assert chosen(offers(smooth, rough)).quote is smooth

    first, second = a_quote("raydium"), a_quote("meteora")
    assert chosen(offers(first, second)).quote is first


def test_a_stale_quote_is_not_used_however_good() -> None:
    stale = a_quote("raydium", 999_000_000, stale_us=NOW_US)
    fresh = a_quote("meteora", 1, network_fee_out=0, stale_us=NOW_US + 1)
    choice = chosen(offers(stale, fresh))

    assert choice.quote is fresh
    assert choice.records[0].reason == "stale for 0 ms"
    assert choice.records[0].amount_out == "999"


def test_a_swap_that_costs_more_than_it_pays_is_shown_below_zero() -> None:
    choice = chosen(offers(a_quote(amount_out=100, network_fee_out=700)))
    assert choice.records[0].net_amount_out == "-0.0006"


def test_the_receipt_says_by_how_much_a_venue_lost() -> None:
    choice = chosen(offers(a_quote("raydium", 150_000_700), a_quote("meteora", 147_000_700)))

    winner, loser = choice.records
    assert (winner.chosen, winner.reason) == (True, None)
    assert (loser.chosen, loser.reason) == (False, "pays 3 USDC less (2.00 %)")
    assert (loser.fee, loser.fee_token, loser.latency_ms) == ("0.00375", "SOL", 201.0)


def test_the_receipt_keeps_why_a_venue_gave_no_quote() -> None:
    down = Answer("meteora", 12.5, error=FailureCode.VENUE_DOWN, message="the venue is down")
    choice = chosen([*offers(a_quote()), down])

    record = choice.records[1]
    assert (record.venue, record.latency_ms, record.error, record.reason, record.chosen, record.amount_out) == (
        "meteora",
        12.5,
        "venue_down",
        "the venue is down",
        False,
        None,
    )


def failed(venue: str, code: FailureCode) -> Answer:
    return Answer(venue, 1.0, error=code, message=f"because of {code}")


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        ([_CODES.NO_ROUTE, _CODES.NO_ROUTE], NoRouteError),
        ([_CODES.NO_ROUTE, _CODES.QUOTE_TIMEOUT], QuotesUnavailableError),
        ([_CODES.VENUE_DOWN, _CODES.QUOTE_TIMEOUT], QuotesUnavailableError),
        ([_CODES.QUOTE_TIMEOUT, _CODES.QUOTE_TIMEOUT], QuotesUnavailableError),
        ([_CODES.NO_ROUTE, _CODES.VENUE_DOWN], VenueDownError),
        ([_CODES.VENUE_DOWN, _CODES.VENUE_DOWN], VenueDownError),
        ([], NoRouteError),
    ],
)
def test_without_a_quote_what_may_pass_is_named_before_what_will_not(
    codes: list[FailureCode], error: type[OrderError]
) -> None:
    choice = choose([failed(f"venue {n}", code) for n, code in enumerate(codes)], USDC, NOW_US)

    assert isinstance(choice, NotChosen)
    assert type(choice.error) is error
    assert [record.error for record in choice.records] == codes
    assert all(f"because of {code}" in str(choice.error) for code in codes)


def test_with_stale_quotes_only_the_order_fails_for_staleness() -> None:
    choice = choose([*offers(a_quote(stale_us=1)), failed("meteora", _CODES.NO_ROUTE)], USDC, NOW_US)

    assert isinstance(choice, NotChosen)
    assert isinstance(choice.error, StaleQuoteError)
    assert choice.records[0].reason == "stale for 1000 ms"


QUOTES = st.builds(
    a_quote,
    st.sampled_from(["raydium", "meteora", "orca"]),
    st.integers(0, 2**64 - 1) | st.integers(0, 20),
    network_fee_out=st.integers(0, 10),
    price_impact_bps=st.integers(0, 3),
    stale_us=st.integers(0, 2 * NOW_US) | st.just(NOW_US),
)
ANSWERS = st.lists(
    st.builds(lambda quote: Answer(quote.venue, 1.0, quote=quote), QUOTES)
    | st.builds(failed, st.just("orca"), st.sampled_from(list(FailureCode))),
    max_size=5,
)


@given(ANSWERS)
def test_no_fresh_quote_pays_more_than_the_chosen_one(answers: list[Answer]) -> None:
    choice = choose(answers, USDC, NOW_US)
    fresh = [answer.quote for answer in answers if answer.quote is not None and answer.quote.stale_us > NOW_US]

    assert len(choice.records) == len(answers)
    if isinstance(choice, NotChosen):
        assert not fresh
        assert not any(record.chosen for record in choice.records)
    else:
        assert choice.quote in fresh
        assert choice.quote.net_amount_out == max(quote.net_amount_out for quote in fresh)
        assert sum(record.chosen for record in choice.records) == 1
    assert all(record.reason is not None for record in choice.records if not record.chosen)
    assert choose(answers, USDC, NOW_US).records == choice.records
