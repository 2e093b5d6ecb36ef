"""Orders of every kind are read exactly, and what is bad of them is named: the field, and what would be accepted."""

import json
from typing import Any

import pytest

from bestex.api.order_control import read_changes, read_dead_man
from bestex.api.order_request import read_order
from bestex.api.problems import ProblemError
from bestex.domain.events import Changes, timestamp_text
from bestex.domain.launches import LaunchFilters
from bestex.domain.orders import UNKNOWN_TOKEN
from bestex.domain.terms import NO_TERMS, ExitLeg, ExitTerms, Kind, OnSliceFailure, Terms, TimeInForce
from bestex.domain.tokens import load_tokens
from bestex.engine.intake import OrderRequest

TOKENS = load_tokens()
NOW_US = 1_795_000_000_000_000  # 2026-11-18T11:06:40Z
MINT = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
CREATOR = "4Nd1mYQzvgV8Vr3Z3nYb7pD6T8K2jF2eqWxY1S3Qh5cR"
Json = dict[str, Any]


def body(**fields: Any) -> bytes:
    """An order of 1.5 SOL for USDC, with these fields too; None leaves one out."""
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"} | fields
    return json.dumps({name: value for name, value in order.items() if value is not None}).encode()


def sniper(**fields: Any) -> bytes:
    return body(**({"kind": "sniper", "tokenOut": None, "filters": {}} | fields))


def read(order: bytes) -> OrderRequest:
    return read_order(order, TOKENS, NOW_US)


def refused(order: bytes) -> dict[str, str]:
    """What is said of each bad field."""
    with pytest.raises(ProblemError) as caught:
        read(order)
    return said(caught.value)


def said(error: ProblemError) -> dict[str, str]:
    assert error.code == "validation"
    return {each.pointer or "": each.detail for each in error.problem.errors}


# --- what is read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{}, {"kind": "market"}, {"timeInForce": "GTC"}])
def test_a_plain_market_order_has_the_one_object_of_no_terms(said: Json) -> None:
    assert read(body(**said)).terms is NO_TERMS


def test_a_market_order_may_expire_and_have_exits() -> None:
    order = read(body(timeInForce="FOK", exits={"stopLoss": {"lossBps": 500}}))
    assert order.terms.time_in_force is TimeInForce.FOK
    assert order.terms.exits == ExitTerms(stop_loss=ExitLeg(loss_bps=500))


def test_a_limit_price_is_kept_in_one_form_however_it_was_written() -> None:
    forms = [b'"150.50"', b"150.5", b'"1505e-1"', b"1.505E2"]
    orders = [read(body(kind="limit", limitPrice="?").replace(b'"?"', form)) for form in forms]
    assert {order.terms.limit_price for order in orders} == {"150.5"}
    assert len({order.fingerprint() for order in orders}) == 1


def test_a_limit_may_be_an_amount_of_the_output() -> None:
    assert read(body(kind="limit", minAmountOut="225.50")).terms == Terms(min_amount_out="225.5")


def test_a_stop_may_become_a_limit_order_and_be_beyond_its_trigger() -> None:
    order = read(body(kind="stop", triggerPrice="140", limitPrice="139", allowImmediate=True))
    assert order.terms == Terms(trigger_price="140", limit_price="139", allow_immediate=True)


def test_an_expiry_alone_is_good_till_then_and_is_kept_in_utc() -> None:
    order = read(body(kind="takeProfit", triggerPrice="200", expiresAt="2026-11-20T01:00:00.123456+02:00"))
    assert order.terms.time_in_force is TimeInForce.GTT
    assert order.terms.expires_at == "2026-11-19T23:00:00.123Z"


def test_a_trailing_stop_has_its_trail() -> None:
    assert read(body(kind="trailingStop", trailBps=9_000)).terms == Terms(trail_bps=9_000)


def test_a_sniper_buys_what_is_not_known_yet_with_more_slippage() -> None:
    filters = {
        "minLiquidity": 20.50,
        "maxLiquidity": "1e3",
        "mintAuthorityRevoked": True,
        "topHoldersMaxBps": 3_000,
        "creatorsDenied": [CREATOR],
        "minAgeSeconds": 0,
        "consecutivePasses": 3,
    }
    exits = {"takeProfit": {"gainBps": 5_000}, "trailingStop": {"trailBps": 1_000, "slippageBps": 700}}
    order = read(sniper(filters=filters, exits=exits, migrations=True))
    assert order.kind is Kind.SNIPER
    assert order.token_out is UNKNOWN_TOKEN
    assert order.slippage_bps == 500
    assert order.terms.filters == LaunchFilters(
        min_liquidity="20.5",
        max_liquidity="1000",
        mint_authority_revoked=True,
        top_holders_max_bps=3_000,
        creators_denied=(CREATOR,),
        min_age_seconds=0,
        consecutive_passes=3,
    )
    assert order.terms.exits == ExitTerms(
        take_profit=ExitLeg(gain_bps=5_000), trailing_stop=ExitLeg(trail_bps=1_000, slippage_bps=700)
    )
    assert order.terms.migrations


def test_a_sniper_may_wait_for_one_mint_without_filters() -> None:
    assert read(sniper(mint=MINT, filters=None)).terms == Terms(mint=MINT)


def test_a_sliced_order_has_its_slices() -> None:
    order = read(body(kind="twap", slices=5, intervalSeconds=60, onSliceFailure="stop", limitPrice="150"))
    assert order.terms == Terms(slices=5, interval_seconds=60, on_slice_failure=OnSliceFailure.STOP, limit_price="150")


def test_slices_of_one_base_unit_are_slices() -> None:
    assert read(body(kind="twap", amount="0.000000004", slices=4, intervalSeconds=1)).terms.slices == 4


# --- what is refused ------------------------------------------------------------------------------------------

LIMIT = {"kind": "limit", "limitPrice": "150"}
STOP = {"kind": "stop", "triggerPrice": "140"}
TWAP = {"kind": "twap", "slices": 5, "intervalSeconds": 60}
TRAIL = {"kind": "trailingStop", "trailBps": 100}
BAD: dict[str, tuple[Json, dict[str, str]]] = {
    "kind unknown": ({"kind": "iceberg"}, {"/kind": "must be one of market, limit"}),
    "exits as a kind": ({"kind": "exits"}, {"/kind": "say them in the field exits"}),
    "limit without a price": ({"kind": "limit"}, {"/limitPrice": "limitPrice or minAmountOut"}),
    "limit with two prices": ({**LIMIT, "minAmountOut": "1"}, {"/minAmountOut": "leave one of them out"}),
    "a limit that no swap can pay": ({"kind": "limit", "limitPrice": "1e17"}, {"/limitPrice": "no swap can pay"}),
    "minAmountOut finer than the token": ({"kind": "limit", "minAmountOut": "0.0000001"}, {"/minAmountOut": "6"}),
    "price zero": ({"kind": "limit", "limitPrice": "0"}, {"/limitPrice": "above zero"}),
    "price below zero": ({"kind": "limit", "limitPrice": -1}, {"/limitPrice": "above zero"}),
    "price of 19 decimals": ({"kind": "limit", "limitPrice": f"0.{'0' * 18}1"}, {"/limitPrice": "at most 18 decimals"}),
    "price too high": ({"kind": "limit", "limitPrice": "1e19"}, {"/limitPrice": "at most 10^18"}),
    "price a boolean": ({"kind": "limit", "limitPrice": True}, {"/limitPrice": "must be a decimal number"}),
    "price of a market order": ({"limitPrice": "150"}, {"/limitPrice": "only for limit, stop, takeProfit and twap"}),
    "stop without a trigger": ({"kind": "stop"}, {"/triggerPrice": "is missing"}),
    "take profit without a trigger": ({"kind": "takeProfit", "limitPrice": "1"}, {"/triggerPrice": "is missing"}),
    "trigger of a limit order": ({**LIMIT, "triggerPrice": "1"}, {"/triggerPrice": "only for stop and takeProfit"}),
    "allowImmediate no boolean": ({**STOP, "allowImmediate": "yes"}, {"/allowImmediate": "true or false"}),
    "allowImmediate of a limit order": ({**LIMIT, "allowImmediate": True}, {"/allowImmediate": "stop and takeProfit"}),
    "trail missing": ({"kind": "trailingStop"}, {"/trailBps": "is missing"}),
    "trail 0": ({"kind": "trailingStop", "trailBps": 0}, {"/trailBps": "from 1 to 9000"}),
    "trail 9001": ({"kind": "trailingStop", "trailBps": 9_001}, {"/trailBps": "from 1 to 9000"}),
    "trail of a stop": ({**STOP, "trailBps": 1}, {"/trailBps": "only for trailingStop"}),
    "limit of a trailing stop": ({**TRAIL, "limitPrice": "1"}, {"/limitPrice": "not for trailingStop orders"}),
    "time in force unknown": ({**LIMIT, "timeInForce": "DAY"}, {"/timeInForce": "GTC, GTT, IOC, FOK"}),
    "GTT without an expiry": ({**LIMIT, "timeInForce": "GTT"}, {"/expiresAt": "GTT says until when"}),
    "GTC with an expiry": (
        {**LIMIT, "timeInForce": "GTC", "expiresAt": "2026-12-01T00:00:00Z"},
        {"/expiresAt": "contradicts timeInForce GTC"},
    ),
    "IOC with an expiry": (
        {**LIMIT, "timeInForce": "IOC", "expiresAt": "2026-12-01T00:00:00Z"},
        {"/expiresAt": "contradicts timeInForce IOC"},
    ),
    "IOC of a stop": ({**STOP, "timeInForce": "IOC"}, {"/timeInForce": "market and limit orders"}),
    "FOK of slices": ({**TWAP, "timeInForce": "FOK"}, {"/timeInForce": "market and limit orders"}),
    "expiry in the past": ({"expiresAt": timestamp_text(NOW_US - 1_000)}, {"/expiresAt": "in the future"}),
    "expiry now": ({"expiresAt": timestamp_text(NOW_US)}, {"/expiresAt": "in the future"}),
    "expiry in 367 days": (
        {"expiresAt": timestamp_text(NOW_US + 367 * 86_400_000_000)},
        {"/expiresAt": "at most 366 days"},
    ),
    "expiry without a zone": ({"expiresAt": "2026-12-01T00:00:00"}, {"/expiresAt": "with its zone"}),
    "expiry a date": ({"expiresAt": "2026-12-01"}, {"/expiresAt": "with its zone"}),
    "expiry no time": ({"expiresAt": "2026-13-01T00:00:00Z"}, {"/expiresAt": "with its zone"}),
    "expiry in the year 1": ({"expiresAt": "0001-01-01T00:00:00+14:00"}, {"/expiresAt": "in the future"}),
    "expiry a number": ({"expiresAt": 1_795_000_100}, {"/expiresAt": "must be a string"}),
    "slices missing": ({"kind": "twap"}, {"/slices": "from 2 to 1000", "/intervalSeconds": "from 1 to 86400"}),
    "one slice": ({**TWAP, "slices": 1}, {"/slices": "from 2 to 1000"}),
    "1001 slices": ({**TWAP, "slices": 1_001}, {"/slices": "from 2 to 1000"}),
    "no interval": ({**TWAP, "intervalSeconds": 0}, {"/intervalSeconds": "from 1 to 86400"}),
    "slices under the smallest unit": ({**TWAP, "amount": "0.000000004"}, {"/slices": "0.000000001 SOL"}),
    "onSliceFailure unknown": ({**TWAP, "onSliceFailure": "retry"}, {"/onSliceFailure": "continue, stop"}),
    "slices with exits": ({**TWAP, "exits": {"stopLoss": {"lossBps": 1}}}, {"/exits": "not for twap orders"}),
    "a launch's fields of a market order": (
        {"mint": MINT, "filters": {}, "migrations": False},
        {"/mint": "only for sniper", "/filters": "only for sniper", "/migrations": "only for sniper"},
    ),
    "no exits": ({"exits": {}}, {"/exits": "takeProfit, stopLoss, trailingStop"}),
    "exits an array": ({"exits": []}, {"/exits": "must be an object, not an array"}),
    "an unknown exit": ({"exits": {"stop": {}}}, {"/exits/stop": "is no exit"}),
    "a take profit without a price": (
        {"exits": {"takeProfit": {}}},
        {"/exits/takeProfit/triggerPrice": "say it, or gainBps"},
    ),
    "a stop loss with two prices": (
        {"exits": {"stopLoss": {"triggerPrice": "1", "lossBps": 1}}},
        {"/exits/stopLoss/triggerPrice": "contradicts lossBps"},
    ),
    "a gain of nothing": ({"exits": {"takeProfit": {"gainBps": 0}}}, {"/exits/takeProfit/gainBps": "1 to 1000000"}),
    "a loss of all": ({"exits": {"stopLoss": {"lossBps": 10_000}}}, {"/exits/stopLoss/lossBps": "1 to 9999"}),
    "a gain of a stop loss": (
        {"exits": {"stopLoss": {"gainBps": 1}}},
        {"/exits/stopLoss/gainBps": "is no field", "/exits/stopLoss/triggerPrice": "lossBps"},
    ),
    "an exit's price of zero": (
        {"exits": {"stopLoss": {"triggerPrice": "0"}}},
        {"/exits/stopLoss/triggerPrice": "above zero"},
    ),
    "an exit's trail": ({"exits": {"trailingStop": {"trailBps": 9_001}}}, {"/exits/trailingStop/trailBps": "9000"}),
    "an exit's slippage": (
        {"exits": {"trailingStop": {"trailBps": 1, "slippageBps": -1}}},
        {"/exits/trailingStop/slippageBps": "0 to 10000"},
    ),
    "a profit on the side of the loss": (
        {"exits": {"takeProfit": {"triggerPrice": "160"}, "stopLoss": {"triggerPrice": "140"}}},
        {"/exits/takeProfit": "must trigger below stopLoss, for the order sells"},
    ),
}


@pytest.mark.parametrize(("fields", "expected"), BAD.values(), ids=BAD.keys())
def test_a_bad_order_names_the_field_and_what_would_be_accepted(fields: Json, expected: dict[str, str]) -> None:
    told = refused(body(**fields))
    assert told.keys() == expected.keys()
    for pointer, part in expected.items():
        assert part in told[pointer]


BAD_SNIPERS: dict[str, tuple[Json, dict[str, str]]] = {
    "tokenOut": ({"tokenOut": "USDC"}, {"/tokenOut": "they buy what is launched"}),
    "pays with JUP": ({"tokenIn": "JUP"}, {"/tokenIn": "SOL, USDC or USDT"}),
    "neither mint nor filters": ({"filters": None}, {"/filters": "or the mint to wait for"}),
    "a mint that is none": ({"mint": "PUMP"}, {"/mint": "base58 address"}),
    "a mint that is traded": ({"mint": TOKENS.get("JUP").mint}, {"/mint": "is JUP's, which is traded already"}),
    "a limit": ({"limitPrice": "1"}, {"/limitPrice": "not for sniper orders"}),
    "an unknown filter": (
        {"filters": {"minLiqudity": "1"}},
        {"/filters/minLiqudity": "the filters are minLiquidity"},
    ),
    "filters twice": ({"filters": [1]}, {"/filters": "must be an object"}),
    "bad filters": (
        {
            "filters": {
                "minLiquidity": "0",
                "lpBurntOrLocked": 1,
                "topHoldersMaxBps": 10_001,
                "creatorsAllowed": [],
                "creatorsDenied": ["x", 7],
                "consecutivePasses": 0,
            }
        },
        {
            "/filters/minLiquidity": "above zero",
            "/filters/lpBurntOrLocked": "true or false",
            "/filters/topHoldersMaxBps": "0 to 10000",
            "/filters/creatorsAllowed": "1 to 100 addresses",
            "/filters/creatorsDenied/0": "base58",
            "/filters/creatorsDenied/1": "must be a string",
            "/filters/consecutivePasses": "1 to 100",
        },
    ),
    "filters that contradict each other": (
        {
            "filters": {
                "minLiquidity": "20",
                "maxLiquidity": "10",
                "minAgeSeconds": 9,
                "maxAgeSeconds": 8,
                "creatorsAllowed": [CREATOR],
                "creatorsDenied": [CREATOR],
            }
        },
        {
            "/filters/maxLiquidity": "not be under minLiquidity",
            "/filters/maxAgeSeconds": "not be under minAgeSeconds",
            "/filters/creatorsDenied": "creatorsAllowed allows",
        },
    ),
    "an exit at a price that nobody knows": (
        {"exits": {"takeProfit": {"triggerPrice": "1"}}},
        {"/exits/takeProfit/triggerPrice": "say gainBps", "/exits/takeProfit/gainBps": "is missing"},
    ),
}


@pytest.mark.parametrize(("fields", "expected"), BAD_SNIPERS.values(), ids=BAD_SNIPERS.keys())
def test_a_bad_sniper_names_the_field_and_what_would_be_accepted(fields: Json, expected: dict[str, str]) -> None:
    told = refused(sniper(**fields))
    assert told.keys() == expected.keys()
    for pointer, part in expected.items():
        assert part in told[pointer]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"kind": "limit", "limitPrice": "1"}, "/limitPrice"),
        ({"kind": "stop", "triggerPrice": "1"}, "/triggerPrice"),
        ({"kind": "trailingStop", "trailBps": 1}, "/kind"),
        ({"exits": {"stopLoss": {"lossBps": 1}}}, "/exits"),
    ],
)
def test_a_pair_that_has_no_price_says_so(fields: Json, pointer: str) -> None:
    [(at, told)] = refused(body(tokenIn="JUP", tokenOut="BONK", **fields)).items()
    assert at == pointer
    assert "JUP/BONK has no USDC, USDT or SOL" in told
    assert read(body(tokenIn="JUP", tokenOut="BONK", kind="limit", minAmountOut="5")).terms.min_amount_out == "5"


def test_every_bad_field_is_named_at_once() -> None:
    told = refused(
        body(tokenIn="DOGE", amount="0", kind="stop", triggerPrice="0", trailBps=1, exits={"stopLoss": {}}, oops=1)
    )
    assert told.keys() == {
        "/tokenIn",
        "/amount",
        "/triggerPrice",
        "/trailBps",
        "/exits/stopLoss/triggerPrice",
        "/oops",
    }


def test_an_amount_of_an_unknown_token_is_only_read() -> None:
    assert refused(body(tokenIn="DOGE", amount="1000000")).keys() == {"/tokenIn"}


def test_a_key_that_stands_twice_in_a_nested_object_is_named() -> None:
    order = body(exits={"stopLoss": {"lossBps": 1}}).replace(b'"lossBps": 1', b'"lossBps": 1, "lossBps": 2')
    assert refused(order) == {"/exits/stopLoss/lossBps": "stands in the object more than once"}


def test_thousands_of_bad_addresses_get_a_bounded_answer() -> None:
    assert len(refused(sniper(filters={"creatorsDenied": ["x"] * 5_000}))) == 1
    assert len(refused(sniper(filters={"creatorsDenied": ["x"] * 100}))) == 50


# --- changes and switches -------------------------------------------------------------------------------------


def changes(**fields: Any) -> Changes:
    return read_changes(json.dumps(fields).encode(), TOKENS.get("USDC"), NOW_US)


def test_changes_are_read_in_their_normal_form() -> None:
    assert changes(limitPrice=150.50, triggerPrice="1e2", expiresAt="2026-12-01T00:00:00Z", slippageBps=0) == Changes(
        limit_price="150.5", trigger_price="100", expires_at="2026-12-01T00:00:00.000Z", slippage_bps=0
    )
    assert changes(minAmountOut="1.50") == Changes(min_amount_out="1.5")


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({}, {""}),
        ({"amount": "1"}, {"/amount"}),
        ({"limitPrice": "0", "slippageBps": 10_001, "expiresAt": "2020-01-01T00:00:00Z"},
         {"/limitPrice", "/slippageBps", "/expiresAt"}),
        ({"limitPrice": "1", "minAmountOut": "1"}, {"/minAmountOut"}),
        ({"minAmountOut": "0.0000001"}, {"/minAmountOut"}),
        ({"expiresAt": None}, {"/expiresAt"}),
    ],
)  # fmt: skip
def test_bad_changes_are_all_named(fields: Json, pointers: set[str]) -> None:
    with pytest.raises(ProblemError) as caught:
        changes(**fields)
    assert said(caught.value).keys() == pointers


def test_without_the_order_only_what_needs_nothing_of_it_is_checked() -> None:
    assert read_changes(b'{"minAmountOut": "0.0000001", "expiresAt": "2020-01-01T00:00:00Z"}', None, None) == Changes(
        expires_at="2020-01-01T00:00:00.000Z"
    )
    with pytest.raises(ProblemError):
        read_changes(b'{"minAmountOut": "-1"}', None, None)


def test_a_dead_man_switch_is_read() -> None:
    wish = read_dead_man(b'{"seconds": 30, "keepStops": true}')
    assert (wish.seconds, wish.keeps_stops) == (30, True)
    assert read_dead_man(b'{"seconds": 0}').seconds == 0


@pytest.mark.parametrize(
    ("raw", "pointers"),
    [
        (b"{}", {"/seconds"}),
        (b'{"seconds": 86401, "keepStops": 1, "x": 2}', {"/seconds", "/keepStops", "/x"}),
        (b'{"seconds": 1.5}', {"/seconds"}),
    ],
)
def test_a_bad_dead_man_switch_names_every_field(raw: bytes, pointers: set[str]) -> None:
    with pytest.raises(ProblemError) as caught:
        read_dead_man(raw)
    assert said(caught.value).keys() == pointers


def test_what_may_be_a_repetition_may_have_an_expiry_that_is_past() -> None:
    past = timestamp_text(NOW_US - 1_000)
    assert read_order(body(expiresAt=past), TOKENS, NOW_US, has_key=True).terms.expires_at == past
    assert read(body(expiresAt=past, clientOrderId="mine")).terms.expires_at == past
