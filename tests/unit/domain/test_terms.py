"""Terms say what an order demands, in the words of the API, and nothing that it does not demand."""

import msgspec
import pytest

from bestex.domain.terms import NO_TERMS, RESTING, ExitLeg, ExitTerms, Kind, Leg, LegName, Terms


def test_an_order_without_terms_shows_none() -> None:
    assert msgspec.json.encode(NO_TERMS) == b"{}"


def test_terms_show_what_was_said_in_camel_case() -> None:
    terms = Terms(
        trigger_price="140", exits=ExitTerms(take_profit=ExitLeg(gain_bps=500), trailing_stop=ExitLeg(trail_bps=300))
    )
    assert msgspec.json.decode(msgspec.json.encode(terms)) == {
        "triggerPrice": "140",
        "exits": {"takeProfit": {"gainBps": 500}, "trailingStop": {"trailBps": 300}},
    }


def test_exits_name_the_legs_they_have_in_a_fixed_order() -> None:
    stop, profit = ExitLeg(loss_bps=100), ExitLeg(gain_bps=200)

    assert ExitTerms().legs() == []
    assert ExitTerms(stop_loss=stop, take_profit=profit).legs() == [
        (LegName.TAKE_PROFIT, profit),
        (LegName.STOP_LOSS, stop),
    ]
    assert [name for name, _ in ExitTerms(trailing_stop=ExitLeg(trail_bps=5)).legs()] == [LegName.TRAILING_STOP]


def test_every_kind_but_a_market_order_may_rest() -> None:
    assert {Kind.MARKET} == set(Kind) - RESTING


@pytest.mark.parametrize("name", list(LegName))
def test_a_leg_comes_back_from_its_json(name: LegName) -> None:
    leg = Leg(name, 50, trigger_price="1.5", trail_bps=None, limit_price="1.4")
    assert msgspec.json.decode(msgspec.json.encode(leg), type=Leg) == leg
