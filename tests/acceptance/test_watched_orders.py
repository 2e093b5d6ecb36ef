"""Watched orders under fire: the engine killed, both legs at once, cancels that race their triggers, empty wallets."""

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
from websockets.sync.client import connect

from bestex.journal.embedded import EmbeddedPostgres
from tests.support.engine import (
    PATIENCE_S,
    Json,
    Served,
    check_ledger,
    command,
    count_of,
    environment,
    serving,
)
from tests.support.watched import (
    CLIENTS,
    exits_of,
    fired_times,
    firings,
    move,
    place,
    price,
    times,
    until_all_ended,
    until_count,
    views,
    wait_for,
)

CONFIRMED = "select count(*) from bestex.orders where status = 'confirmed'"
ENTERED = f"{CONFIRMED} and kind = 'market'"
EXITS = "select count(*) from bestex.orders where kind = 'exits'"
WITHOUT_EXITS = f"{ENTERED} and not exists (select from bestex.orders as exits where exits.parent_id = orders.id)"
USUAL = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"}
RESTING = 1_000
RACES = 1_000
RACES_A_ROUND = 100
ENTRIES_A_ROUND = 5


def verified(data_dir: Path) -> bool:
    """Whether `bestex verify` finds nothing."""
    done = subprocess.run(
        command("verify", "--data-dir", str(data_dir)),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return True


def resting(now: Decimal) -> Iterator[Json]:
    """1,000 orders: those that sell as the price rises by a third or less, then those that sell as it halves."""
    for number in range(RESTING // 4):
        up, down = 1.05 + 0.25 * number / RESTING, 0.95 - 0.25 * number / RESTING
        yield {"kind": "limit", "limitPrice": times(now, up)}
        yield {"kind": "takeProfit", "triggerPrice": times(now, up)}
        yield {"kind": "stop", "triggerPrice": times(now, down), "slippageBps": 500}
        yield {"kind": "trailingStop", "trailBps": 1_000 + number, "slippageBps": 500}


def test_1000_resting_orders_survive_kill_9_and_fire_once_each(data_dir: Path) -> None:
    """The second kill falls while they fire: what fired goes on, what did not fires."""
    dsn = EmbeddedPostgres(data_dir).dsn
    with serving(DATA_DIR=data_dir) as engine:
        now = price(engine)
        ids = place(engine, resting(now))
        engine.kill()
    assert count_of(dsn, "select count(*) from bestex.orders where status = 'watching'") == RESTING
    with serving(DATA_DIR=data_dir) as engine:
        assert engine.gauge("bestex_orders_watched") == RESTING
        move(engine, 40)
        until_count(dsn, CONFIRMED, 1, at_least=True)
        engine.kill()
    assert 0 < fired_times(dsn, 1) <= RESTING // 2
    with serving(DATA_DIR=data_dir) as engine:
        until_all_ended(dsn, but=RESTING // 2)
        assert {view["kind"] for view in views(engine, status="watching")} == {"stop", "trailingStop"}
        move(engine, -60)
        until_all_ended(dsn)
        assert fired_times(dsn, 1) == RESTING
        assert check_ledger(dsn) == {"confirmed": RESTING}
        assert {view["orderId"] for view in views(engine)} == set(ids)
        assert verified(data_dir)


def test_of_two_legs_that_cross_in_one_tick_one_executes(database_url: str) -> None:
    """The price is above the take-profit and below the stop-loss, at the first tick that there is."""
    with serving(DATABASE_URL=database_url, SIM_FAULTS="feed_silent=1,feed_silent_s=60") as engine:
        exits = {"takeProfit": {"gainBps": 1}, "stopLoss": {"triggerPrice": times(price(engine), 5)}}
        entries = place(engine, [{"tokenIn": "USDC", "tokenOut": "SOL", "amount": "50", "exits": exits}] * 50)
        for entry in entries:
            engine.until(entry, "confirmed")
        move(engine, 100)
        assert {exits_of(engine, entry)["status"] for entry in entries} == {"watching"}
        engine.faults(feed_silent=0)
        until_all_ended(database_url)
        fired = Counter(trigger["kind"] for entry in entries for trigger in legs_fired(engine, entry))
        assert fired.total() == len(entries)
        assert fired.keys() <= {"takeProfit", "stopLoss"}
    assert check_ledger(database_url) == {"confirmed": 2 * len(entries)}


def legs_fired(engine: Served, entry: str) -> list[Json]:
    return firings(engine.history(exits_of(engine, entry)["orderId"]))


def test_a_leg_that_fails_on_chain_is_armed_again_with_the_others_and_sells_later(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        exits = {"takeProfit": {"gainBps": 2_000}, "stopLoss": {"lossBps": 2_000}}
        entry = engine.order(tokenIn="USDC", tokenOut="SOL", amount="50", exits=exits)
        engine.until(entry, "confirmed")
        order_id = exits_of(engine, entry)["orderId"]
        engine.faults(price_jump=1, price_jump_bps=200)
        move(engine, 40)
        wait_for(lambda: failed_on_chain(engine.history(order_id)))
        move(engine, -60)
        wait_for(lambda: {"takeProfit", "stopLoss"} == {leg["kind"] for leg in firings(engine.history(order_id))})
        engine.faults(price_jump=0)
        assert engine.until(order_id)["status"] == "confirmed"
        history = engine.history(order_id)
        armed = sum(update["status"] == "watching" for update in history)
        assert armed == len(firings(history)) > 1, "it fires once each time that it is armed"
        assert firings(history)[-1]["kind"] == "stopLoss"
        assert engine.view(order_id)["amountIn"] == engine.view(entry)["amountOut"]
    assert check_ledger(database_url) == {"confirmed": 2}


def failed_on_chain(history: list[Json]) -> bool:
    """Whether the order waits again after an attempt that the chain executed with an error."""
    stories = [update["detail"].get("previous", {}) for update in history]
    landed = any(each.get("code") == "slippage_exceeded" and "signature" in each for each in stories)
    return landed and any(update["status"] == "watching" for update in history[2:])


def test_no_entry_is_without_its_exits_whenever_the_engine_is_killed(database_url: str) -> None:
    """Killed the moment that so many of a round's entries are known to be confirmed: the others are on their way."""
    entry = {"tokenIn": "USDC", "tokenOut": "SOL", "amount": "50", "exits": {"stopLoss": {"lossBps": 3_000}}}
    settings: Json = {"DATABASE_URL": database_url, "SIM_FAULTS": "late_landing=0.7,late_landing_slots=10"}
    for wanted in range(1, ENTRIES_A_ROUND + 1):
        with serving(**settings) as engine, connect(f"{engine.ws_url}/api/orders/execute?keep=true") as socket:
            for _ in range(ENTRIES_A_ROUND):
                socket.send(json.dumps(USUAL | entry))
            confirmed = 0
            while confirmed < wanted:
                message = json.loads(socket.recv(PATIENCE_S))
                confirmed += message["type"] == "update" and message["data"]["status"] == "confirmed"
            engine.kill()
        assert count_of(database_url, ENTERED) >= wanted
        assert count_of(database_url, WITHOUT_EXITS) == 0
    entries = count_of(database_url, "select count(*) from bestex.orders where kind = 'market'")
    assert entries >= ENTRIES_A_ROUND * ENTRIES_A_ROUND / 2
    with serving(**settings) as engine:
        until_count(database_url, ENTERED, entries)
        until_count(database_url, EXITS, entries)
        move(engine, -50)
        until_all_ended(database_url)
        assert fired_times(database_url, 1) == entries
    assert check_ledger(database_url) == {"confirmed": 2 * entries}


def test_what_snipers_bought_is_sold_by_its_exits_and_the_others_still_wait_after_kill_9(database_url: str) -> None:
    entry = {"tokenIn": "SOL", "amount": "0.5", "kind": "sniper", "exits": {"stopLoss": {"lossBps": 3_000}}}
    sound = {"liquidity": "500", "mintAuthorityRevoked": True, "driftBpsPerMinute": 0}
    with serving(DATABASE_URL=database_url) as engine:
        buyers, waiting = (
            [enter(engine, entry | {"filters": filters}) for _ in range(10)]
            for filters in ({"mintAuthorityRevoked": True}, {"minLiquidity": "1000"})
        )
        mint = engine.http.post("/api/sim/launch", json=sound).json()["mint"]
        engine.until(buyers[-1], "submitted", "confirmed")
        engine.kill()
    with serving(DATABASE_URL=database_url) as engine:
        assert {engine.until(order_id, "confirmed")["tokenOut"] for order_id in buyers} == {mint}
        assert {engine.view(order_id)["status"] for order_id in waiting} == {"watching"}
        move(engine, -60, f"{mint}/SOL")
        assert {engine.until(exits_of(engine, each)["orderId"])["status"] for each in buyers} == {"confirmed"}
        later = engine.http.post("/api/sim/launch", json=sound | {"liquidity": "5000"}).json()["mint"]
        assert {engine.until(order_id, "confirmed")["tokenOut"] for order_id in waiting} == {later}
        assert set(engine.http.delete("/api/orders?kind=exits").json()["cancelled"]) == {
            exits_of(engine, order_id)["orderId"] for order_id in waiting
        }
    assert check_ledger(database_url) == {"confirmed": 30, "cancelled": 10}


def enter(engine: Served, body: Json) -> str:
    """Post exactly this order; its id."""
    answer = engine.http.post("/api/orders/execute", json=body)
    assert answer.status_code == 202, answer.text
    order_id: str = answer.json()["orderId"]
    return order_id


def test_of_a_cancel_and_a_trigger_that_race_one_wins_and_the_client_is_told_which(database_url: str) -> None:
    chance = random.Random(4)
    answers: dict[str, httpx.Response] = {}
    with serving(DATABASE_URL=database_url) as engine:
        for _ in range(RACES // RACES_A_ROUND):
            limit = times(price(engine), 1.02)
            ids = place(engine, [{"kind": "limit", "limitPrice": limit}] * RACES_A_ROUND)
            with ThreadPoolExecutor(CLIENTS) as clients:
                answers |= zip(ids, race(engine, clients, ids, chance.randrange(RACES_A_ROUND)), strict=True)
            until_all_ended(database_url)
        ended = {view["orderId"]: view for view in views(engine)}
        for order_id, answer in answers.items():
            told, view = answer.json(), ended[order_id]
            match answer.status_code:
                case 200:
                    assert told["status"] == view["status"] == "cancelled"
                case 202:
                    assert told["cancelRequested"] is True
                    assert view["status"] in ("confirmed", "cancelled")
                    assert view["cancelRequested"] is True
                case 409:
                    assert told["type"] == "/problems/order-ended"
                    assert view["status"] == "confirmed"
                case _:
                    raise AssertionError(answer.text)
    codes = Counter(answer.status_code for answer in answers.values())
    assert codes.total() == RACES
    assert min(codes[200], codes[202] + codes[409]) > RACES // 20, codes
    statuses = check_ledger(database_url)
    assert statuses.keys() == {"confirmed", "cancelled"}
    assert statuses["cancelled"] >= codes[200]


def race(engine: Served, clients: ThreadPoolExecutor, ids: list[str], start: int) -> Iterator[httpx.Response]:
    """Cancel all of them, while the price crosses their limits at a random one's turn; the answers."""

    def cancel(number: int) -> httpx.Response:
        if number == start:
            move(engine, 5)
        return engine.http.delete(f"/api/orders/{ids[number]}")

    return clients.map(cancel, range(len(ids)))


def test_an_expiry_that_passes_while_the_engine_is_down_holds_although_the_price_has_crossed(
    database_url: str,
) -> None:
    with serving(DATABASE_URL=database_url, SIM_FAULTS="feed_silent=1,feed_silent_s=60") as engine:
        limit = times(price(engine), 1.2)
        expires = datetime.now(UTC) + timedelta(seconds=1)
        expiring = engine.order(kind="limit", limitPrice=limit, expiresAt=expires.isoformat())
        lasting = engine.order(kind="limit", limitPrice=limit)
        move(engine, 50)  # no price comes that could fire them
        assert {engine.view(each)["status"] for each in (expiring, lasting)} == {"watching"}
        engine.kill()
    wait_for(lambda: datetime.now(UTC) > expires)
    with serving(DATABASE_URL=database_url) as engine:
        assert engine.until(lasting)["status"] == "confirmed"
        assert engine.until(expiring)["status"] == "expired"
        assert [update["status"] for update in engine.history(expiring)] == ["pending", "watching", "expired"]
    assert check_ledger(database_url) == {"confirmed": 1, "expired": 1}


def test_of_two_orders_for_the_same_funds_one_executes_and_the_other_says_what_is_missing(database_url: str) -> None:
    late: Json = {"SIM_SLOT_MS": 10, "SIM_FAULTS": "late_landing=1,late_landing_slots=60"}
    with serving(DATABASE_URL=database_url, **late) as engine:
        held = engine.balances()["MET"]
        share = str(held * 2 // 3)
        body: Json = {"tokenIn": "MET", "kind": "limit", "slippageBps": 5_000}
        body["limitPrice"] = times(price(engine, "MET", "USDC", share), 1.1)
        covered = engine.post(**body | {"amount": share}).json()
        more = engine.post(**body | {"amount": str(held * 2)}).json()
        assert (covered["fundsCovered"], more["fundsCovered"]) == (True, False)
        both = [covered["orderId"], engine.order(**body | {"amount": share})]
        move(engine, 50, "MET/USDC")
        executed, refused = sorted((engine.until(each) for each in both), key=lambda view: view["status"])
        assert (executed["status"], refused["status"]) == ("confirmed", "failed")
        assert refused["failure"]["code"] == "insufficient_funds"
        spent, waited = (at_by_status(engine.history(each["orderId"])) for each in (executed, refused))
        assert waited["routing"] < spent["confirmed"] <= waited["building"], (
            "it waited while the other might not execute"
        )
        assert engine.balances()["MET"] == held - Decimal(share)
        assert engine.http.delete(f"/api/orders/{more['orderId']}").status_code == 200
    assert check_ledger(database_url) == {"confirmed": 1, "failed": 1, "cancelled": 1}


def at_by_status(history: list[Json]) -> dict[str, str]:
    return {update["status"]: update["timestamp"] for update in reversed(history)}


def test_a_dead_mans_switch_strikes_after_a_restart_and_spares_what_protects(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        now = price(engine)
        limits = place(engine, [{"kind": "limit", "limitPrice": times(now, 2)}] * 20)
        [stop] = place(engine, [{"kind": "stop", "triggerPrice": times(now, 0.5)}])
        due = datetime.now(UTC) + timedelta(seconds=1)
        assert engine.http.post("/api/deadman", json={"seconds": 1, "keepStops": True}).status_code == 200
        engine.kill()
    wait_for(lambda: datetime.now(UTC) > due)
    with serving(DATABASE_URL=database_url) as engine:
        for order_id in limits:
            assert engine.until(order_id)["status"] == "cancelled"
            assert engine.history(order_id)[-1]["detail"]["by"] == "deadman"
        wait_for(lambda: not engine.http.get("/api/deadman").json()["armed"])
        assert engine.view(stop)["status"] == "watching"
        assert engine.http.delete(f"/api/orders/{stop}").json()["status"] == "cancelled"
    assert check_ledger(database_url) == {"cancelled": 21}


def test_2000_resting_orders_are_cancelled_with_one_request(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        now = price(engine)
        limits = place(engine, [{"kind": "limit", "limitPrice": times(now, 2)}] * 2_000)
        others = place(
            engine,
            [
                {"kind": "stop", "triggerPrice": times(now, 0.5)},
                {"tokenOut": "USDT", "kind": "limit", "limitPrice": times(now, 2)},
            ],
        )
        answer = engine.http.delete("/api/orders?pair=SOL/USDC&kind=limit")
        assert answer.status_code == 200
        assert set(answer.json()["cancelled"]) == set(limits)
        assert answer.json()["cancelRequested"] == []
        assert {view["orderId"] for view in views(engine, status="watching")} == set(others)
        assert engine.gauge("bestex_orders_watched") == len(others)
        move(engine, 90)
        assert set(engine.http.delete("/api/orders?all=true").json()["cancelled"]) == set(others)
    assert check_ledger(database_url) == {"cancelled": 2_002}
