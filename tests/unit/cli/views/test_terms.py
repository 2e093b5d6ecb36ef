"""What an order demands, in words that cannot be read the wrong way round."""

from typing import Any

import msgspec
import pytest

from bestex.cli.views.terms import request_text, terms_texts, trigger_text, waits_text
from bestex.domain.events import Trigger
from bestex.domain.launches import FilterVerdict
from bestex.domain.order_state import OrderView
from tests.unit.cli.recorded import ORDER

BUY = {"side": "buy", "tokenIn": "USDC", "tokenOut": "SOL", "amount": "100"}


def order(**changes: Any) -> OrderView:
    return msgspec.convert({**ORDER, "status": "watching", **changes}, OrderView)


def test_a_request_says_what_is_paid_and_what_is_received() -> None:
    assert request_text(order()) == "sell 1.5 SOL for USDC"
    assert request_text(order(**BUY)) == "buy SOL with 100 USDC"


def test_a_sniper_says_that_it_does_not_know_yet_what_it_buys() -> None:
    sniper = {"kind": "sniper", "side": "buy", "tokenOut": "*", "amount": "0.5"}
    assert request_text(order(**sniper)) == "buy what is launched with 0.5 SOL"
    assert request_text(order(**sniper, mint="M1nt")) == "buy M1nt once it is launched with 0.5 SOL"
    assert request_text(order(**{**sniper, "tokenOut": "F0und"})) == "buy what is launched, F0und, with 0.5 SOL"


@pytest.mark.parametrize(
    ("fields", "waits"),
    [
        ({"kind": "limit", "limitPrice": "175"}, "≥ 175"),
        ({"kind": "limit", "limitPrice": "140", **BUY}, "≤ 140"),
        ({"kind": "limit", "minAmountOut": "250"}, "≥ 250 USDC"),
        ({"kind": "stop", "triggerPrice": "120", "limitPrice": "118"}, "≤ 120"),
        ({"kind": "stop", "triggerPrice": "180", **BUY}, "≥ 180"),
        ({"kind": "takeProfit", "triggerPrice": "200"}, "≥ 200"),
        ({"kind": "takeProfit", "triggerPrice": "100", **BUY}, "≤ 100"),
        ({"kind": "trailingStop", "trailBps": 250}, "2.5 % back"),
        ({"kind": "sniper"}, "a launch"),
        ({"kind": "twap", "slices": 5, "slicesBegun": 2}, "slice 2 of 5"),
        (
            {
                "kind": "exits",
                "legs": [
                    {"name": "takeProfit", "slippageBps": 50, "triggerPrice": "200"},
                    {"name": "trailingStop", "slippageBps": 50, "trailBps": 100},
                ],
            },
            "200 or 1 % back",
        ),
        ({"kind": "limit", "limitPrice": "175", "notBefore": "2026-11-22T18:07:09.000Z"}, "again from 2026-11-22"),
        ({"kind": "limit", "limitPrice": "175", "status": "confirmed"}, ""),
    ],
)
def test_an_order_that_waits_says_for_what(fields: dict[str, Any], waits: str) -> None:
    told = waits_text(order(**fields))
    assert told.startswith(waits) if waits else told == ""


def test_every_demand_is_told() -> None:
    exits = {"takeProfit": {"gainBps": 500}, "stopLoss": {"triggerPrice": "140"}, "trailingStop": {"trailBps": 50}}
    told = terms_texts(
        order(kind="stop", triggerPrice="120", limitPrice="118", timeInForce="GTT", expiresAt="T", exits=exits,
              allowImmediate=True)
    )  # fmt: skip
    assert told == [
        "once at 120 USDC per SOL",
        "limit 118 USDC per SOL",
        "until T",
        "may fire at once",
        "exits: takeProfit +5 %, stopLoss at 140, trailingStop 0.5 % back",
    ]
    assert terms_texts(order(kind="twap", slices=5, intervalSeconds=2, onSliceFailure="stop")) == [
        "5 slices, 2 s apart, ends at a failed one"
    ]
    assert terms_texts(order(kind="limit", limitPrice="1", timeInForce="IOC"))[-1] == "now or never (IOC)"
    filters = {"minLiquidity": "20", "topHoldersMaxBps": 3_000, "lpBurntOrLocked": True, "consecutivePasses": 2}
    assert terms_texts(order(kind="sniper", filters=filters)) == [
        "liquidity from 20, LP burnt or locked, top holders 30 % at most, 2 passes in a row"
    ]
    assert terms_texts(order(kind="sniper", filters={})) == ["no filter"]


def test_a_plain_market_order_demands_nothing_more() -> None:
    assert terms_texts(order()) == []


def test_a_trigger_says_what_it_saw() -> None:
    price = Trigger(kind="limit", price="176.2", threshold="175", venue="raydium", slot=9, age_ms=12.4)
    assert trigger_text(price, "SOL/USDC") == (
        "limit · saw 176.2 USDC per SOL, threshold 175 · raydium · slot 9 · 12 ms old"
    )
    verdicts = (FilterVerdict("minLiquidity", "20", "31", passed=True),)
    launch = Trigger(kind="launch", mint="M1nt", venue="raydium", verdicts=verdicts)
    assert trigger_text(launch, None) == "launch · M1nt, 1 of 1 filters passed · raydium"
