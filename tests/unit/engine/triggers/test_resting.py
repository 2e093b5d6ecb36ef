"""What stands in a book for an order: thresholds made of its price, once and exactly."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.money import AmountError
from bestex.domain.terms import Leg, LegName
from bestex.domain.tokens import Token
from bestex.engine.triggers.resting import Sense, TriggerKind, entries_of, id_of, key_of
from bestex.ports import RestingOrder
from tests.support.curves import SOL, TOKENS, USDC

ID = "01900000-0000-7000-8000-000000000018"


def order(kind: str, pay: Token = SOL, receive: Token = USDC, amount: str = "1.5", **terms: object) -> RestingOrder:
    return RestingOrder(ID, 3, kind, pay.symbol, receive.symbol, amount, epoch=2, **terms)  # type: ignore[arg-type]


def test_an_entry_is_all_that_firing_needs() -> None:
    [entry] = entries_of(order("limit", limit_price="150"), SOL, USDC)

    assert (entry.order_id, entry.seq, entry.epoch, entry.amount_in) == (ID, 3, 2, 1_500_000_000)
    assert (entry.kind, entry.kind.sense, entry.threshold) == (TriggerKind.LIMIT, Sense.RISE, 225_000_000)


@pytest.mark.parametrize(
    ("kind", "term", "threshold"),
    [
        ("limit", "limit_price", 225_000_001),  # 1.500000001 SOL at 150: 225.00000015 USDC
        ("takeProfit", "trigger_price", 225_000_001),
        ("stop", "trigger_price", 225_000_000),
    ],
)
def test_what_rises_is_rounded_up_and_what_falls_down(kind: str, term: str, threshold: int) -> None:
    [entry] = entries_of(order(kind, amount="1.500000001", **{term: "150"}), SOL, USDC)  # type: ignore[arg-type]
    assert entry.threshold == threshold


def test_a_buyers_threshold_is_of_the_base_token() -> None:
    [entry] = entries_of(order("limit", USDC, SOL, "300", limit_price="150"), USDC, SOL)
    assert entry.threshold == 2_000_000_000


def test_a_limit_may_name_its_output() -> None:
    bonk, jup = TOKENS.get("BONK"), TOKENS.get("JUP")
    [entry] = entries_of(order("limit", bonk, jup, "100", min_amount_out="2.5"), bonk, jup)
    assert (entry.threshold, entry.kind) == (2_500_000, TriggerKind.LIMIT)


def test_orders_at_one_price_have_one_rank_whatever_their_sizes_round_to() -> None:
    ranks = {entries_of(order("limit", amount=amount, limit_price="149.7"), SOL, USDC)[0].rank for amount in
             ("1", "0.000000001", "7.123456789", "1000000")}  # fmt: skip
    assert len(ranks) == 1


def test_the_easiest_to_fire_have_the_smallest_rank() -> None:
    def rank(kind: str, price: str, sells_base: bool) -> int:
        tokens = (SOL, USDC) if sells_base else (USDC, SOL)
        terms = {"limit_price": price} if kind == "limit" else {"trigger_price": price}
        return entries_of(order(kind, *tokens, **terms), *tokens)[0].rank  # type: ignore[arg-type]

    assert rank("limit", "149", True) < rank("limit", "150", True)  # asks for less
    assert rank("limit", "151", False) < rank("limit", "150", False)  # pays more
    assert rank("stop", "150", True) < rank("stop", "149", True)  # stops earlier
    assert rank("stop", "149", False) < rank("stop", "150", False)


def test_each_leg_of_an_exit_is_an_entry_of_the_order() -> None:
    legs = (
        Leg(LegName.TAKE_PROFIT, 50, "160"),
        Leg(LegName.STOP_LOSS, 90, "140", limit_price="139"),
        Leg(LegName.TRAILING_STOP, 70, trail_bps=300),
    )
    entries = entries_of(order("exits", legs=legs), SOL, USDC)

    assert {entry.order_id for entry in entries} == {ID}
    assert [(entry.kind.value, entry.threshold, entry.trail_bps) for entry in entries] == [
        ("takeProfit", 240_000_000, 0),
        ("stopLoss", 210_000_000, 0),
        ("trailingStop", 0, 300),
    ]


@pytest.mark.parametrize("kind", ["sniper", "twap", "market"])
def test_what_waits_for_no_price_stands_in_no_book(kind: str) -> None:
    assert entries_of(order(kind), SOL, USDC) == ()


@pytest.mark.parametrize("kind", ["limit", "stop", "takeProfit", "trailingStop"])
def test_an_order_without_its_price_is_refused_by_its_id(kind: str) -> None:
    with pytest.raises(ValueError, match=ID):
        entries_of(order(kind), SOL, USDC)


def test_a_price_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(AmountError):
        entries_of(order("limit", limit_price="cheap"), SOL, USDC)


@given(st.uuids())
def test_an_id_comes_back_from_its_number(order_id: uuid.UUID) -> None:
    assert id_of(key_of(str(order_id))) == str(order_id)


def test_what_no_wallet_can_hold_is_as_far_as_any_threshold_goes() -> None:
    [entry] = entries_of(order("limit", amount="18446744073", limit_price="1e18"), SOL, USDC)
    assert entry.threshold == 2**64 - 1
