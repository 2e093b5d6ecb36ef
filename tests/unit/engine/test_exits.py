"""The exits that an executed entry brings: what they sell, and at which prices."""

import pytest

from bestex.domain.events import LOST, ConfirmedDetail
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.price import MAX_PRICE, parse_price
from bestex.domain.terms import ExitLeg, ExitTerms, Kind, LegName, Terms
from bestex.domain.tokens import load_tokens
from bestex.engine.exits import exits_of, position_left
from tests.support.small_engine import FixedIds

TOKENS = load_tokens()
SOL, USDC = TOKENS.get("SOL"), TOKENS.get("USDC")


def entry(exits: ExitTerms | None, *, buys_base: bool) -> Order:
    tokens = (USDC, SOL) if buys_base else (SOL, USDC)
    return Order(FixedIds().order_id(), Kind.MARKET, *tokens, 10**9, 70, 1, terms=Terms(exits=exits))


def executed(amount_in: str, amount_out: str, commitment: str = "confirmed", *, gone: bool = False) -> ConfirmedDetail:
    return ConfirmedDetail(tx_hash="x", amount_in=amount_in, amount_out=amount_out, commitment=commitment, gone=gone)


BOTH = ExitTerms(
    take_profit=ExitLeg(gain_bps=1_000),
    stop_loss=ExitLeg(loss_bps=2_000, limit_price="1", slippage_bps=300),
    trailing_stop=ExitLeg(trail_bps=500),
)


@pytest.mark.parametrize(
    ("buys_base", "amounts", "profit", "loss"),
    [
        (True, ("150", "1"), "165", "120"),  # bought SOL at 150: gains as it rises
        (False, ("1", "150"), "135", "180"),  # sold SOL at 150: gains as it falls
    ],
)
def test_the_legs_prices_are_reckoned_from_what_the_entry_executed_at(
    buys_base: bool, amounts: tuple[str, str], profit: str, loss: str
) -> None:
    bought = entry(BOTH, buys_base=buys_base)
    made = exits_of(bought, executed(*amounts), "local", 2)
    assert made is not None
    order, new = made
    assert (order.token_in, order.token_out) == (bought.token_out, bought.token_in)
    assert (order.amount_in, order.slippage_bps) == (10**9 if buys_base else 150 * 10**6, 70)
    assert (order.terms.parent_id, new.parent_id, new.kind) == (bought.id, bought.id, "exits")
    take_profit, stop_loss, trailing = order.terms.legs
    assert (take_profit.trigger_price, take_profit.slippage_bps) == (profit, 70)
    assert (stop_loss.trigger_price, stop_loss.limit_price, stop_loss.slippage_bps) == (loss, "1", 300)
    assert (trailing.name, trailing.trigger_price, trailing.trail_bps) == (LegName.TRAILING_STOP, None, 500)


def test_the_same_entry_always_brings_the_same_order() -> None:
    bought = entry(BOTH, buys_base=True)
    ids = {made[0].id for _ in range(2) if (made := exits_of(bought, executed("150", "1"), "local", 2)) is not None}
    assert len(ids) == 1
    assert ids != {bought.id}


def test_an_entry_without_exits_brings_none() -> None:
    assert exits_of(entry(None, buys_base=True), executed("150", "1"), "local", 2) is None


def test_an_entry_that_received_nothing_brings_none() -> None:
    assert exits_of(entry(BOTH, buys_base=True), executed("150", "0"), "local", 2) is None


def test_no_legs_price_is_beyond_those_that_can_be_read() -> None:
    made = exits_of(
        entry(ExitTerms(take_profit=ExitLeg(gain_bps=10_000)), buys_base=True),
        executed("10000000000", "0.000000001"),
        "local",
        2,
    )
    assert made is not None
    [leg] = made[0].terms.legs
    assert parse_price(leg.trigger_price or "") == MAX_PRICE


@pytest.mark.parametrize(
    ("confirmed", "left"),
    [
        (executed("150", "0"), 0),
        (executed("150", "1"), 10**9),
        (executed("150", "0.9"), 9 * 10**8),  # it landed again and paid less
        (executed("150", "1.1"), 10**9),  # an exit never sells more than it was made for
        (executed("150", "1", LOST), None),  # it may land again
        (executed("150", "1", LOST, gone=True), 0),
    ],
)
def test_a_fork_may_leave_less_of_the_position(confirmed: ConfirmedDetail, left: int | None) -> None:
    made = exits_of(entry(BOTH, buys_base=True), executed("150", "1"), "local", 2)
    assert made is not None
    state = OrderState()
    state.confirmed = confirmed
    assert position_left(made[0], state) == left
