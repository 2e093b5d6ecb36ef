"""The contract of every call, against the real server and a real PostgreSQL."""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from bestex.api.order_request import ORDER_FIELDS
from bestex.api.problems import KINDS
from bestex.domain.money import min_amount_out
from bestex.domain.tokens import load_tokens
from tests.support.engine import (
    Json,
    Served,
    check_ledger,
    check_updates,
    count_of,
    database_for_module,
    local_engine,
    serving,
    until,
)
from tests.support.postgres import PostgresServer

SOL = "So11111111111111111111111111111111111111112"
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
UNKNOWN = "00000000-0000-7000-8000-000000000000"
BASE58 = r"[1-9A-HJ-NP-Za-km-z]"
WHOLE_LIFE = ["pending", "routing", "building", "submitted", "confirmed"]


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with database_for_module(postgres_server) as dsn:
        yield dsn
        check_ledger(dsn)


@pytest.fixture(scope="module")
def engine(database: str) -> Iterator[Served]:
    with serving(DATABASE_URL=database) as served:
        yield served


def moment(text: str) -> datetime:
    """An RFC 3339 time in UTC, to the millisecond."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text), text
    return datetime.fromisoformat(text)


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    return (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
        and answer.json()["type"] == f"/problems/{code}"
    )


# --- Entering


def test_an_accepted_order_is_answered_with_where_to_watch_it(engine: Served, database: str) -> None:
    answer = engine.post()
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"orderId", "statusEndpoint", "createdAt", "status"}
    order_id = body["orderId"]
    assert uuid.UUID(order_id).version == 7
    assert str(uuid.UUID(order_id)) == order_id
    assert body["status"] == "pending"
    assert body["statusEndpoint"] == f"/api/orders/{order_id}/status"
    assert answer.headers["location"] == f"/api/orders/{order_id}"
    assert abs(datetime.now(UTC) - moment(body["createdAt"])) < timedelta(seconds=10)
    assert engine.http.get(answer.headers["location"]).json()["createdAt"] == body["createdAt"]
    assert count_of(database, "select count(*) from bestex.events where order_id = $1 and seq = 1", order_id) == 1


def test_an_order_is_shown_with_all_that_became_of_it(engine: Served) -> None:
    order_id = engine.order(amount="1.5", slippageBps=75, clientOrderId="shown whole")
    view = engine.until(order_id, "confirmed")
    assert view["orderId"] == order_id
    asked = {"kind": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "slippageBps": 75}
    assert asked.items() <= view.items()
    assert view["clientOrderId"] == "shown whole"
    assert (view["pair"], view["side"]) == ("SOL/USDC", "sell")
    assert (view["status"], view["seq"], view["attempt"]) == ("confirmed", 5, 1)
    assert view["commitment"] in ("confirmed", "finalized")
    assert view["venue"] in ("raydium", "meteora")
    assert re.fullmatch(f"{BASE58}{{80,90}}", view["txHash"])
    assert view["amountIn"] == "1.5"
    assert Decimal(view["feePaid"]) > 0
    price = Decimal(view["amountOut"]) / Decimal("1.5")
    assert abs(Decimal(view["executedPrice"]) - price) < Decimal("1e-6")
    assert moment(view["createdAt"]) <= moment(view["updatedAt"])
    assert not view.get("failure")


@pytest.mark.parametrize(
    ("token_in", "token_out", "amount", "pair", "side"),
    [
        ("SOL", "USDC", "1", "SOL/USDC", "sell"),
        ("USDC", "SOL", "100", "SOL/USDC", "buy"),
        ("SOL", "USDT", "1", "SOL/USDT", "sell"),
        ("USDT", "USDC", "100", "USDT/USDC", "sell"),
        ("USDC", "USDT", "100", "USDT/USDC", "buy"),
        ("RAY", "SOL", "10", "RAY/SOL", "sell"),
        ("SOL", "RAY", "1", "RAY/SOL", "buy"),
        ("JUP", "WIF", "10", "JUP/WIF", "sell"),
        ("BONK", "MET", "1000000", "BONK/MET", "sell"),
        ("BONK", "USDC", "1000000", "BONK/USDC", "sell"),
    ],
)
def test_pair_side_and_price_are_never_upside_down(
    engine: Served, token_in: str, token_out: str, amount: str, pair: str, side: str
) -> None:
    order_id = engine.order(tokenIn=token_in, tokenOut=token_out, amount=amount)
    view = engine.until(order_id, "confirmed")
    assert (view["pair"], view["side"]) == (pair, side)
    paid, received = Decimal(view["amountIn"]), Decimal(view["amountOut"])
    quote, base = (received, paid) if side == "sell" else (paid, received)
    assert abs(Decimal(view["executedPrice"]) / (quote / base) - 1) < Decimal("1e-6")
    [pending, *_, confirmed] = engine.history(order_id)
    assert (pending["detail"]["pair"], pending["detail"]["side"]) == (pair, side)
    assert confirmed["detail"]["executedPrice"] == view["executedPrice"]


def test_tokens_are_named_by_symbol_or_by_mint(engine: Served) -> None:
    view = engine.until(engine.order(tokenIn=SOL, tokenOut=USDC))
    assert (view["tokenIn"], view["tokenOut"]) == ("SOL", "USDC")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"0.25"', "0.25"),
        ("0.25", "0.25"),
        ("0.250000000", "0.25"),
        ("25e-2", "0.25"),
        ('"2.5E-1"', "0.25"),
        ("0.1", "0.1"),
        ("0.123456789", "0.123456789"),
        ('"1.100000000000000"', "1.1"),
        ("1e0", "1"),
        ("0.5e0", "0.5"),
    ],
)
def test_an_amount_is_read_exactly_however_it_is_written(engine: Served, written: str, read: str) -> None:
    body = f'{{"tokenIn": "SOL", "tokenOut": "USDC", "amount": {written}}}'
    answer = engine.http.post("/api/orders/execute", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202, answer.text
    view = engine.until(answer.json()["orderId"])
    assert view["amount"] == read
    assert view["amountIn"] == read


def test_the_smallest_amount_there_is_is_an_order_with_an_end(engine: Served) -> None:
    view = engine.until(engine.order(amount="0.000000001"))
    assert view["status"] == "failed"
    assert view["failure"]["code"] == "no_route"


def test_the_largest_amount_there_is_is_an_order_with_an_end(engine: Served) -> None:
    view = engine.until(engine.order(amount="18446744073.709551615", slippageBps=10_000))
    assert view["status"] == "failed"
    assert view["failure"]["code"] in ("insufficient_funds", "no_route")
    assert view["amount"] == "18446744073.709551615"


@pytest.mark.parametrize("slippage_bps", [0, 10_000])
def test_the_limits_of_slippage_are_orders_with_an_end(engine: Served, slippage_bps: int) -> None:
    order_id = engine.order(slippageBps=slippage_bps)
    view = engine.until(order_id)
    assert view["status"] == "confirmed" or view["failure"]["code"] == "slippage_exceeded"
    building = engine.history(order_id)[2]["detail"]
    if slippage_bps == 10_000:
        assert building["minAmountOut"] == "0"
    else:
        assert building["minAmountOut"] == building["amountOut"]


# --- Reading


def test_the_history_is_every_event_of_the_order(engine: Served) -> None:
    order_id = engine.order()
    view = engine.until(order_id, "confirmed")
    updates = engine.history(order_id)
    check_updates(updates)
    updates = updates[: len(WHOLE_LIFE)]  # the note that it is final may be there already
    assert [update["status"] for update in updates] == WHOLE_LIFE
    assert [update["attempt"] for update in updates] == [0, 1, 1, 1, 1]
    assert {update["orderId"] for update in updates} == {order_id}
    times = [moment(update["timestamp"]) for update in updates]
    assert times == sorted(times)
    pending, routing, building, submitted, confirmed = (update["detail"] for update in updates)
    assert pending["amount"] == "0.25"
    assert routing == {}
    assert {"venue", "pool", "amountOut", "minAmountOut", "priceImpactBps", "quotes", "wrapsSol"} <= building.keys()
    assert building["wrapsSol"] is True
    least = min_amount_out(int(Decimal(building["amountOut"]).scaleb(6)), 50)
    assert Decimal(building["minAmountOut"]).scaleb(6) == least
    assert submitted.keys() == {"venue", "signature", "lastValidBlockHeight"}
    assert confirmed.keys() == {
        "venue", "txHash", "amountIn", "amountOut", "executedPrice", "slippageBps", "feePaid", "commitment",
        "slot", "timings",
    }  # fmt: skip
    assert submitted["signature"] == confirmed["txHash"] == view["txHash"]
    assert Decimal(confirmed["amountOut"]) >= Decimal(building["minAmountOut"])


def test_the_receipt_keeps_the_loser_and_says_why(engine: Served) -> None:
    order_id = engine.order(amount="2")
    view = engine.until(order_id, "confirmed")
    receipt = engine.receipt(order_id)
    assert (receipt["orderId"], receipt["status"]) == (order_id, "confirmed")
    [attempt] = receipt["attempts"]
    quotes = {quote["venue"]: quote for quote in attempt["quotes"]}
    assert quotes.keys() == {"raydium", "meteora"}
    [winner] = [quote for quote in quotes.values() if quote.get("chosen")]
    [loser] = [quote for quote in quotes.values() if not quote.get("chosen")]
    assert winner["venue"] == attempt["venue"] == view["venue"]
    assert Decimal(winner["netAmountOut"]) > Decimal(loser["netAmountOut"])
    assert loser["reason"]
    assert "reason" not in winner
    assert attempt["quotedAmountOut"] == winner["amountOut"]
    assert attempt["signature"] == view["txHash"]
    fill = attempt["fill"]
    assert fill["amountOut"] == view["amountOut"]
    quoted, filled = Decimal(winner["amountOut"]), Decimal(fill["amountOut"])
    assert abs(Decimal(str(fill["slippageBps"])) - (quoted - filled) * 10_000 / quoted) < Decimal("0.01")
    assert attempt["latencyMs"].keys() == {"route", "build", "commit", "send", "land", "confirm"}
    assert receipt["latencyMs"]["total"] >= receipt["latencyMs"]["queue"] >= 0


def test_the_slippage_of_many_fills_lies_within_its_limit(engine: Served) -> None:
    for _ in range(20):
        view = engine.until(engine.order(amount="50"))
        if view["status"] == "confirmed":
            fill = engine.receipt(view["orderId"])["attempts"][-1]["fill"]
            assert fill["slippageBps"] <= 50


def test_a_page_after_the_other_gives_every_order_once_newest_first(engine: Served) -> None:
    made = [engine.order(amount=f"0.{number}") for number in range(1, 8)]
    listed: list[Json] = []
    cursor = None
    while True:
        page = engine.http.get("/api/orders", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        assert page.keys() == {"data", "nextCursor"}
        listed += page["data"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
        assert len(page["data"]) == 3
    ids = [view["orderId"] for view in listed]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == len(ids)
    assert ids[: len(made)] == made[::-1]


def test_a_page_is_not_moved_by_orders_that_come_meanwhile(engine: Served) -> None:
    for _ in range(4):
        engine.order()
    first = engine.http.get("/api/orders", params={"limit": 2}).json()
    engine.order()
    second = engine.http.get("/api/orders", params={"limit": 2, "cursor": first["nextCursor"]}).json()
    both = [view["orderId"] for view in first["data"] + second["data"]]
    assert both == sorted(set(both), reverse=True)


def test_filters_give_the_orders_that_match_all_of_them(engine: Served) -> None:
    failed = engine.order(tokenIn="JUP", tokenOut="RAY", amount="0.000001")
    filled = engine.order(tokenIn="JUP", tokenOut="RAY", amount="5")
    assert engine.until(failed)["status"] == "failed"
    engine.until(filled, "confirmed")

    def listed(**where: str) -> list[str]:
        data = engine.http.get("/api/orders", params=where).json()["data"]
        return [view["orderId"] for view in data]

    assert listed(pair="JUP/RAY") == [filled, failed]
    assert listed(pair="JUP/RAY", status="failed") == [failed]
    assert listed(pair="JUP/RAY", status="confirmed", kind="market") == [filled]
    assert listed(pair="RAY/JUP") == []
    assert listed(pair="JUP/RAY", status="cancelled") == []
    assert listed(pair="JUP/RAY", status="pending") == []
    for status in ("watching", "routing", "building", "submitted", "expired"):
        assert engine.http.get("/api/orders", params={"status": status}).json() == {"data": [], "nextCursor": None}


def test_an_order_reads_the_same_alone_in_a_list_and_in_capitals(engine: Served) -> None:
    order_id = engine.order()
    view = engine.until(order_id)
    [listed] = engine.http.get("/api/orders", params={"limit": 1}).json()["data"]
    assert listed == view
    assert engine.http.get(f"/api/orders/{order_id.upper()}").json() == view


# --- Cancelling, at each moment


CANCELLED = {"pending": 200, "routing": 200, "building": 200, "submitted": 202}
GATE_OF = {"pending": "quote", "routing": "quote", "building": "build", "submitted": "send"}


@pytest.mark.parametrize("status", CANCELLED)
async def test_a_cancel_takes_effect_at_once_until_the_order_is_signed(database_url: str, status: str) -> None:
    async with local_engine(database_url, GATE_OF[status], concurrency=1) as engine:
        if status == "pending":
            await engine.order()
        order_id = await engine.order()
        await engine.until(order_id, status)
        answer = await engine.http.delete(f"/api/orders/{order_id}")
        assert answer.status_code == CANCELLED[status], answer.text
        view = answer.json()
        assert view == await engine.view(order_id)
        again = await engine.http.delete(f"/api/orders/{order_id}")
        if status == "submitted":
            assert view["status"] == "submitted"
            assert view["cancelRequested"] is True
            assert (again.status_code, again.json()) == (202, view)  # asked twice, noted once
        else:
            assert view["status"] == "cancelled"
            assert is_problem(again, 409, "order-ended")
        engine.gates.open()
        ended = await engine.until(order_id)
        assert ended["status"] == ("confirmed" if status == "submitted" else "cancelled")
        updates = await engine.history(order_id)
        check_updates(updates)
        cancels = [update for update in updates if update["detail"].get("cancelRequested")]
        assert len(cancels) == (status == "submitted")
        if status != "submitted":
            assert updates[-1]["detail"] == {"by": "client"}
        await until(lambda: _idle(engine.http))


async def _idle(http: httpx.AsyncClient) -> bool:
    metrics = (await http.get("/metrics")).text
    return "bestex_orders_executing 0.0" in metrics and "bestex_orders_waiting 0.0" in metrics


def test_a_cancel_after_signing_takes_effect_once_it_is_proven_not_executed(database_url: str) -> None:
    with serving(DATABASE_URL=database_url, SIM_FAULTS="dropped=1") as engine:
        order_id = engine.order()
        engine.until(order_id, "submitted")
        answer = engine.http.delete(f"/api/orders/{order_id}")
        assert answer.status_code == 202, answer.text
        assert answer.json()["cancelRequested"] is True
        view = engine.until(order_id)
        assert view["status"] == "cancelled"
        assert view["attempt"] == 1
        assert [update["status"] for update in engine.history(order_id)] == [
            "pending", "routing", "building", "submitted", "submitted", "cancelled"
        ]  # fmt: skip
    assert check_ledger(database_url) == {"cancelled": 1}


@pytest.mark.parametrize("ended", ["confirmed", "failed"])
def test_an_ended_order_cannot_be_cancelled(engine: Served, ended: str) -> None:
    order_id = engine.order(amount="1" if ended == "confirmed" else "0.000000001")
    view = engine.until(order_id, ended)
    assert is_problem(engine.http.delete(f"/api/orders/{order_id}"), 409, "order-ended")
    assert engine.view(order_id) == view


def test_what_is_no_order_cannot_be_cancelled(engine: Served) -> None:
    assert is_problem(engine.http.delete(f"/api/orders/{UNKNOWN}"), 404, "order-not-found")
    assert is_problem(engine.http.delete("/api/orders/x"), 422, "malformed-id")


# --- The market, the wallet, the simulated world


def test_quotes_stand_side_by_side(engine: Served) -> None:
    answer = engine.http.get("/api/quotes", params={"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"})
    assert answer.status_code == 200
    body = answer.json()
    asked = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "pair": "SOL/USDC"}
    assert asked.items() <= body.items()
    quotes = {quote["venue"]: quote for quote in body["quotes"]}
    assert quotes.keys() == {"raydium", "meteora"}
    best = max(quotes.values(), key=lambda quote: Decimal(quote["netAmountOut"]))
    assert body["best"] == best["venue"]
    assert [quote["venue"] for quote in quotes.values() if quote.get("chosen")] == [body["best"]]


def test_quotes_that_no_venue_can_give_say_why(engine: Served) -> None:
    answer = engine.http.get("/api/quotes", params={"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.000000001"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["best"] is None
    assert {(quote["error"], bool(quote["reason"])) for quote in body["quotes"]} == {("no_route", True)}


def test_the_registry_lists_every_token(engine: Served) -> None:
    listed = engine.http.get("/api/tokens").json()["data"]
    assert listed == [
        {"symbol": token.symbol, "mint": token.mint, "decimals": token.decimals} for token in load_tokens()
    ]
    assert {"SOL", "USDC", "USDT", "RAY", "JUP", "BONK", "WIF", "MET"} <= {token["symbol"] for token in listed}


def test_the_wallet_starts_funded_and_moves_by_what_swaps_report(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        wallet = engine.http.get("/api/wallet").json()
        assert wallet.keys() == {"address", "balances"}
        assert re.fullmatch(f"{BASE58}{{32,44}}", wallet["address"])
        before = engine.balances()
        assert before["SOL"] == 1_000_000
        assert all(before[token.symbol] > 0 for token in load_tokens())
        view = engine.until(engine.order(amount="7.5"), "confirmed")
        after = engine.balances()
        assert before["SOL"] - after["SOL"] == Decimal("7.5") + Decimal(view["feePaid"])
        assert after["USDC"] - before["USDC"] == Decimal(view["amountOut"])
    assert check_ledger(database_url) == {"confirmed": 1}


def test_the_simulated_world_is_funded_disturbed_and_reset(database_url: str) -> None:
    with serving(DATABASE_URL=database_url, SEED=7) as engine:
        status = engine.http.get("/api/sim").json()
        assert (status["profile"], status["seed"]) == ("instant", 7)
        assert not any(value for name, value in status["faults"].items() if value <= 1)
        start = engine.balances()

        funded = engine.http.post("/api/sim/fund", json={"token": "BONK", "amount": "12.5"})
        assert funded.status_code == 200
        assert engine.balances() == start | {"BONK": start["BONK"] + Decimal("12.5")}

        changed = engine.http.patch("/api/sim/faults", json={"venue_down": 1, "late_landing_slots": 20})
        assert changed.status_code == 200
        assert (changed.json()["faults"]["venue_down"], changed.json()["faults"]["late_landing_slots"]) == (1, 20)
        assert engine.http.get("/api/sim/faults").json() == changed.json()
        view = engine.until(engine.order())
        assert (view["status"], view["failure"]["code"]) == ("failed", "venue_down")

        reset = engine.http.post("/api/sim/reset")
        assert reset.status_code == 200
        assert reset.json()["faults"] == status["faults"]
        assert engine.balances() == start
        assert engine.until(engine.order())["status"] == "confirmed"
    assert check_ledger(database_url) == {"failed": 1, "confirmed": 1}


# --- Operations and pages


def test_liveness_and_readiness(engine: Served) -> None:
    assert engine.http.get("/healthz").json() == {"status": "alive"}
    answer = engine.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_metrics_count_what_happened(engine: Served) -> None:
    accepted, confirmed = engine.gauge("bestex_orders_accepted_total"), _confirmed(engine)
    engine.until(engine.order(), "confirmed")
    answer = engine.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert engine.gauge("bestex_orders_accepted_total") == accepted + 1
    assert _confirmed(engine) == confirmed + 1
    for name in ("executing", "waiting", "landing"):
        assert engine.gauge(f"bestex_orders_{name}") == 0


def _confirmed(engine: Served) -> float:
    text = engine.http.get("/metrics").text
    [value] = re.findall(r'^bestex_orders_ended_total\{status="confirmed"\} (\S+)$', text, re.MULTILINE)
    return float(value)


def test_the_schema_is_openapi_3_1_and_describes_every_call(engine: Served) -> None:
    answer = engine.http.get("/schema/openapi.json")
    assert answer.status_code == 200
    schema = answer.json()
    assert schema["openapi"].startswith("3.1.")
    calls = {(method.upper(), path) for path, item in schema["paths"].items() for method in item}
    assert {
        ("POST", "/api/orders/execute"),
        ("GET", "/api/orders"),
        ("GET", "/api/orders/{order_id}"),
        ("PATCH", "/api/orders/{order_id}"),
        ("DELETE", "/api/orders/{order_id}"),
        ("DELETE", "/api/orders"),
        ("POST", "/api/deadman"),
        ("GET", "/api/launches"),
        ("GET", "/api/orders/{order_id}/history"),
        ("GET", "/api/orders/{order_id}/receipt"),
        ("GET", "/api/quotes"),
        ("GET", "/api/tokens"),
        ("GET", "/api/wallet"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    } <= calls
    order = schema["components"]["schemas"]["OrderBody"]
    assert order["properties"].keys() == set(ORDER_FIELDS)
    assert set(order["required"]) == {"tokenIn", "amount"}, "a sniper has no tokenOut"


@pytest.mark.parametrize("path", ["/schema", "/"])
def test_a_page_needs_nothing_from_another_host(engine: Served, path: str) -> None:
    answer = engine.http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)["']""", answer.text) + re.findall(
        r"""url\(["']?([^"')]+)""", answer.text
    )
    assert loaded
    for url in loaded:
        assert url.startswith(("/", "#", "data:")), url
        assert not url.startswith("//"), url
        if url.startswith("/") and "/api/events" not in url and "amp;" not in url:
            assert engine.http.get(url).status_code == 200, url
    assert not re.search(r"""["'(](?:https?:)?//(?!www\.w3\.org)""", answer.text)


def test_every_problem_has_its_page(engine: Served) -> None:
    for code in KINDS:
        answer = engine.http.get(f"/problems/{code}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert code in answer.text
    assert is_problem(engine.http.get("/problems/<script>"), 404, "not-found")


def test_every_path_that_the_index_names_is_there(engine: Served) -> None:
    index = engine.http.get("/").text
    for path in re.findall(r'href="([^"]+)"', index):
        with engine.http.stream("GET", path.replace("&amp;", "&")) as answer:
            assert answer.status_code == 200, path
