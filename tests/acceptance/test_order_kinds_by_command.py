"""One of each kind from the command line, against the running engine, to its end."""

from collections.abc import Iterator

import pytest

from tests.support.command_line import answer, bestex
from tests.support.engine import Json, Served, check_ledger, database_for_module, serving
from tests.support.postgres import PostgresServer
from tests.support.watched import exits_of, move, price, times, wait_for


@pytest.fixture(scope="module")
def engine(postgres_server: PostgresServer) -> Iterator[Served]:
    with database_for_module(postgres_server) as dsn:
        with serving(DATABASE_URL=dsn) as served:
            yield served
        check_ledger(dsn)


def ordered(engine: Served, *arguments: str) -> str:
    """The id of an order that waits."""
    accepted = answer(engine, "order", *arguments)
    assert accepted["status"] == "watching"
    assert accepted["fundsCovered"] is True
    order_id: str = accepted["orderId"]
    return order_id


def shown(engine: Served, order_id: str) -> Json:
    """What `bestex show` says of an executed order."""
    engine.until(order_id, "confirmed")
    assert bestex(engine, "show", order_id).returncode == 0
    return answer(engine, "show", order_id)


def trigger_of(engine: Served, order_id: str, kind: str) -> Json:
    """What made it fire, by its receipt: once, on a fresh price."""
    receipt = shown(engine, order_id)["receipt"]
    [trigger] = receipt["triggers"]
    assert trigger["kind"] == kind
    assert trigger["ageMs"] < 2_000
    assert {"venue", "pool", "slot", "at"} <= trigger.keys()
    assert receipt["attempts"][-1]["fill"]["amountOut"]
    found: Json = trigger
    return found


def test_each_kind_waits_for_its_price_and_its_receipt_says_what_the_trigger_saw(engine: Served) -> None:
    now = price(engine)
    watched = bestex(engine, "order", "SOL", "USDC", "0.5", "--watch")
    assert watched.returncode == 0
    assert "confirmed" in watched.stdout
    limit = ordered(engine, "SOL", "USDC", "0.5", "--limit", times(now, 1.2))
    least = ordered(engine, "SOL", "USDC", "0.5", "--min-out", times(now, 0.5 * 1.1))
    profit = ordered(engine, "SOL", "USDC", "0.5", "--take-profit", times(now, 1.06))
    stop = ordered(engine, "SOL", "USDC", "0.5", "--stop", times(now, 0.9), "--limit", times(now, 0.5))
    trail = ordered(engine, "SOL", "USDC", "0.5", "--trail", "500")
    assert answer(engine, "change", limit, "--limit", times(now, 1.07))["limitPrice"] == times(now, 1.07).rstrip("0")
    immediately = answer(engine, "order", "SOL", "USDC", "0.5", "--limit", times(now, 0.9), "--ioc")
    assert engine.until(immediately["orderId"])["status"] == "confirmed"
    never = answer(engine, "order", "SOL", "USDC", "0.5", "--limit", times(now, 2), "--ioc")
    assert engine.until(never["orderId"])["status"] == "expired"

    move(engine, 15)
    for order_id, kind, factor in ((limit, "limit", 1.07), (least, "limit", 1.1), (profit, "takeProfit", 1.06)):
        trigger = trigger_of(engine, order_id, kind)
        assert float(trigger["price"]) >= float(now) * factor * 0.999
        assert float(trigger["price"]) > float(trigger["threshold"])
    assert engine.view(stop)["status"] == engine.view(trail)["status"] == "watching"

    move(engine, -30)
    assert float(trigger_of(engine, stop, "stop")["price"]) <= float(now) * 0.9
    trailed = trigger_of(engine, trail, "trailingStop")
    assert float(trailed["extreme"]) > float(now) * 1.1
    assert float(trailed["price"]) <= float(trailed["extreme"]) * 0.95


def test_a_sliced_order_executes_in_five_slices(engine: Served) -> None:
    order_id = ordered(engine, "SOL", "USDC", "2", "--slices", "5", "--every", "1")
    found = shown(engine, order_id)
    assert (found["order"]["filledSlices"], found["order"]["amountIn"]) == (5, "2")
    assert [(each["kind"], each["status"], each["amount"]) for each in found["children"]["data"]] == 5 * [
        ("market", "confirmed", "0.4")
    ]


def test_a_position_is_closed_by_its_exits(engine: Served) -> None:
    entry = answer(
        engine, "order", "USDC", "SOL", "100", "--exit-take-profit", "8%", "--exit-stop-loss", "10%"
    )  # fmt: skip
    bought = engine.until(entry["orderId"], "confirmed")["amountOut"]
    exits = exits_of(engine, entry["orderId"])
    assert (exits["status"], exits["amount"]) == ("watching", bought)
    move(engine, 20)
    assert trigger_of(engine, exits["orderId"], "takeProfit")
    assert engine.view(exits["orderId"])["amountIn"] == bought
    [child] = shown(engine, entry["orderId"])["children"]["data"]
    assert child["orderId"] == exits["orderId"]


def test_orders_that_wait_expire_are_cancelled_and_die_with_their_owner(engine: Served) -> None:
    now = price(engine)
    expiring = ordered(engine, "SOL", "USDC", "0.5", "--limit", times(now, 2), "--expires", "1s")
    one = ordered(engine, "SOL", "USDC", "0.5", "--limit", times(now, 2))
    others = [ordered(engine, "SOL", "USDC", "0.5", "--take-profit", times(now, 2)) for _ in range(2)]
    stop = ordered(engine, "SOL", "USDC", "0.5", "--stop", times(now, 0.5))
    assert answer(engine, "cancel", one)["status"] == "cancelled"
    assert set(answer(engine, "cancel", "--kind", "takeProfit")["cancelled"]) == set(others)
    assert engine.until(expiring)["status"] == "expired"
    again = ordered(engine, "SOL", "USDC", "0.5", "--limit", times(now, 2))
    assert answer(engine, "deadman", "1s", "--keep-stops")["armed"] is True
    assert engine.until(again)["status"] == "cancelled"
    assert engine.history(again)[-1]["detail"]["by"] == "deadman"
    assert answer(engine, "deadman")["armed"] is False
    assert answer(engine, "cancel", "--all")["cancelled"] == [stop]


FILTERS = ("--min-liquidity", "20", "--mint-revoked", "--freeze-revoked", "--lp-secure", "--top-holders", "3000")
REFUSED = {
    "mint-authority": "mintAuthorityRevoked",
    "freeze-authority": "freezeAuthorityRevoked",
    "lp": "lpBurntOrLocked",
    "holders": "topHoldersMaxBps",
    "liquidity": "minLiquidity",
}


def sniper(engine: Served, *arguments: str) -> str:
    accepted = answer(engine, "snipe", "0.5", *FILTERS, *arguments)
    assert accepted["status"] == "watching"
    order_id: str = accepted["orderId"]
    return order_id


def launched(engine: Served, *arguments: str) -> str:
    """The mint of a token that is launched now."""
    mint: str = answer(engine, "sim", "launch", *arguments)["mint"]
    return mint


@pytest.mark.parametrize(("percent", "leg"), [(40, "takeProfit"), (-40, "stopLoss")])
def test_a_sniper_buys_what_passes_its_filters_and_its_exits_sell_it(engine: Served, percent: float, leg: str) -> None:
    order_id = sniper(engine, "--exit-take-profit", "20%", "--exit-stop-loss", "20%")
    mint = launched(engine)
    trigger = trigger_of(engine, order_id, "launch")
    assert trigger["mint"] == mint
    assert {check["filter"]: check["passed"] for check in trigger["verdicts"]} == dict.fromkeys(REFUSED.values(), True)
    bought = engine.view(order_id)
    assert (bought["tokenIn"], bought["tokenOut"], bought["amountIn"]) == ("SOL", mint, "0.5")
    exits = exits_of(engine, order_id)
    assert (exits["status"], exits["tokenIn"], exits["tokenOut"]) == ("watching", mint, "SOL")
    move(engine, percent, f"{mint}/SOL")
    assert trigger_of(engine, exits["orderId"], leg)
    assert engine.view(exits["orderId"])["amountIn"] == bought["amountOut"]


def test_a_launch_that_fails_a_filter_is_not_bought_and_says_what_was_measured(engine: Served) -> None:
    order_id = sniper(engine)
    mints = {flaw: launched(engine, "--bad", flaw) for flaw in REFUSED}
    seen = {launch["mint"]: launch for launch in answer(engine, "launches")["data"]}
    for flaw, mint in mints.items():
        verdicts = seen[mint]["verdicts"]
        assert [verdict["passed"] for verdict in verdicts] == [False] * len(verdicts)
        for verdict in verdicts:
            assert len(verdict["checks"]) == len(REFUSED)
            [failed] = [check for check in verdict["checks"] if not check["passed"]]
            assert failed["filter"] == REFUSED[flaw]
            assert failed["measured"] != failed["wanted"]
        assert "boughtBy" not in seen[mint] or seen[mint]["boughtBy"] == 0
    assert bestex(engine, "launches").stdout.count("✘") >= len(REFUSED)
    assert engine.view(order_id)["status"] == "watching"
    good = launched(engine)
    assert engine.until(order_id, "confirmed")["tokenOut"] == good
    wait_for(lambda: engine.http.get("/api/launches", params={"mint": good}).json()["data"][0]["boughtBy"] == 1)
