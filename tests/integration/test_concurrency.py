"""Many at once: every order ends, limits hold, and a cancel and an execution never both win."""

import asyncio
import json
from collections import Counter
from typing import Any

import httpx
import pytest
import websockets

from tests.support.engine import (
    PATIENCE_S,
    Json,
    Local,
    Served,
    check_database,
    check_ledger,
    check_updates,
    local_engine,
    serving,
    until,
)
from tests.support.orders import HAPPY

BODY = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"}


async def enter(http: httpx.AsyncClient, **fields: Any) -> str:
    answer = await http.post("/api/orders/execute", json=BODY | fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["orderId"])


async def ended(http: httpx.AsyncClient, order_id: str) -> Json:
    view: Json = {}

    async def has_ended() -> bool:
        view.update((await http.get(f"/api/orders/{order_id}")).json())
        return view["status"] in ("confirmed", "failed", "cancelled", "expired")

    await until(has_ended)
    return view


def clients(engine: Served | Local) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=100)
    return httpx.AsyncClient(base_url=engine.url, trust_env=False, timeout=PATIENCE_S, limits=limits)


async def test_500_concurrent_orders_all_end_confirmed_with_events_gapless(database_url: str) -> None:
    async with local_engine(database_url) as engine, clients(engine) as http:
        ids = await asyncio.gather(*(enter(http) for _ in range(500)))  # 100 at a time, on as many connections
        assert len(set(ids)) == 500
        await until(lambda: _statuses(http, {"confirmed": 500}))
        for order_id in ids[::25]:
            updates = (await http.get(f"/api/orders/{order_id}/history")).json()["data"]
            check_updates(updates)
            assert [update["status"] for update in updates[:5]] == list(HAPPY)
    assert await check_database(database_url) == {"confirmed": 500}


async def test_no_more_execute_at_once_than_may(database_url: str) -> None:
    async with local_engine(database_url, "quote", concurrency=5) as engine, clients(engine) as http:
        ids = await asyncio.gather(*(enter(http) for _ in range(20)))
        await until(lambda: _statuses(http, {"routing": 5, "pending": 15}))
        assert engine.gates.arrived["quote"] == 10  # two venues each
        metrics = (await http.get("/metrics")).text
        assert "bestex_orders_executing 5.0" in metrics
        assert "bestex_orders_waiting 15.0" in metrics
        engine.gates.open()
        for order_id in ids:
            assert (await ended(http, order_id))["status"] == "confirmed"
    assert await check_database(database_url) == {"confirmed": 20}


async def _statuses(http: httpx.AsyncClient, expected: dict[str, int]) -> bool:
    page = (await http.get("/api/orders", params={"limit": 500})).json()["data"]
    return Counter(view["status"] for view in page) == expected


async def test_orders_are_executed_in_the_order_they_came(database_url: str) -> None:
    async with local_engine(database_url, "quote", concurrency=1) as engine, clients(engine) as http:
        ids = [await enter(http) for _ in range(10)]
        engine.gates.open()
        for order_id in ids:
            await ended(http, order_id)
        events = await engine_log(http, 50)
        assert [event["orderId"] for event in events if event["status"] == "routing"] == ids


async def engine_log(http: httpx.AsyncClient, events: int) -> list[Json]:
    """The first so many updates of the feed."""
    found: list[Json] = []
    async with http.stream("GET", "/api/events", params={"after": 0}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if len(found) == events:
                    return found
    return found


async def test_orders_that_wait_for_proof_leave_room_for_others(database_url: str) -> None:
    """Those whose bytes are sent are not executing: 20 that never land do not keep one that would from doing so."""
    async with local_engine(database_url, "build", concurrency=1) as engine, clients(engine) as http:
        await http.patch("/api/sim/faults", json={"late_landing": 1, "late_landing_slots": 140})
        engine.gates.open()
        ids = [await enter(http) for _ in range(20)]
        await until(lambda: _all_signed(http, 20))
        for order_id in ids:
            await ended(http, order_id)


async def _all_signed(http: httpx.AsyncClient, orders: int) -> bool:
    return f'bestex_events_total{{status="submitted"}} {orders}.0' in (await http.get("/metrics")).text


@pytest.mark.parametrize("intake", [1, 10])
async def test_a_full_intake_refuses_and_says_when_to_come_back(database_url: str, intake: int) -> None:
    async with local_engine(database_url, "quote", concurrency=2, intake=intake) as engine, clients(engine) as http:
        answers = await asyncio.gather(*(http.post("/api/orders/execute", json=BODY) for _ in range(40)))
        accepted = [answer for answer in answers if answer.status_code == 202]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert len(accepted) + len(refused) == 40
        assert 1 <= len(accepted) <= intake + 2
        for answer in refused:
            assert answer.json()["type"] == "/problems/intake-full"
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) >= 1
        engine.gates.open()
        for answer in accepted:
            await ended(http, answer.json()["orderId"])
        await until(lambda: _takes_an_order(http))
    statuses = await check_database(database_url)
    assert statuses["confirmed"] == len(accepted) + 1


async def _takes_an_order(http: httpx.AsyncClient) -> bool:
    return (await http.post("/api/orders/execute", json=BODY)).status_code == 202


async def test_a_full_intake_refuses_orders_by_websocket_too(database_url: str) -> None:
    async with local_engine(database_url, "quote", concurrency=1, intake=1) as engine:
        async with websockets.connect(f"{engine.ws_url}/api/orders/execute?keep=true", proxy=None) as stream:
            for _ in range(10):
                await stream.send(json.dumps(BODY))
            async for text in stream:
                message = json.loads(text)
                if message["type"] == "error":
                    assert message["data"]["type"] == "/problems/intake-full"
                    break
        engine.gates.open()


async def test_a_cancel_and_an_execution_never_both_win(database_url: str) -> None:
    """200 rounds of a cancel that races the rows in flight: signed or cancelled, one of the two."""
    answers: Counter[tuple[int, str]] = Counter()

    async def round_of(number: int, http: httpx.AsyncClient) -> None:
        order_id = await enter(http)
        for _ in range(number % 7):
            await asyncio.sleep(0)
        cancels = await asyncio.gather(*(http.delete(f"/api/orders/{order_id}") for _ in range(1 + number % 3)))
        view = await ended(http, order_id)
        took_effect = [answer for answer in cancels if answer.status_code == 200]
        assert len(took_effect) <= 1
        assert (view["status"] == "cancelled") == bool(took_effect)
        for answer in cancels:
            assert answer.status_code in (200, 202, 409), answer.text
            answers[answer.status_code, view["status"]] += 1
        check_updates((await http.get(f"/api/orders/{order_id}/history")).json()["data"])

    async with local_engine(database_url) as engine, clients(engine) as http:
        for start in range(0, 200, 20):
            await asyncio.gather(*(round_of(number, http) for number in range(start, start + 20)))
    statuses = await check_database(database_url)
    assert statuses.total() == 200
    assert statuses.keys() <= {"confirmed", "cancelled"}


@pytest.mark.parametrize("gate", ["quote", "build", "send"])
async def test_a_cancel_that_comes_while_an_order_is_on_its_way_has_one_outcome(database_url: str, gate: str) -> None:
    async with local_engine(database_url, gate) as engine, clients(engine) as http:
        ids = await asyncio.gather(*(enter(http) for _ in range(40)))
        await until(lambda: _arrived(engine, gate, 80 if gate == "quote" else 40))
        cancelling = [asyncio.create_task(http.delete(f"/api/orders/{order_id}")) for order_id in ids]
        await asyncio.sleep(0)
        engine.gates.open()
        for order_id, cancel in zip(ids, await asyncio.gather(*cancelling), strict=True):
            view = await ended(http, order_id)
            assert (view["status"] == "cancelled") == (cancel.status_code == 200)
    await check_database(database_url)


async def _arrived(engine: Local, gate: str, times: int) -> bool:
    return engine.gates.arrived[gate] >= times


def test_cancels_among_every_fault_have_one_outcome(database_url: str) -> None:
    faults = "dropped=0.3,late_landing=0.4,lost_status=0.2,lagging_node=0.2,venue_down=0.2,send_error_after=0.2"
    with serving(DATABASE_URL=database_url, SIM_FAULTS=faults) as engine:
        ids = [engine.order() for _ in range(40)]
        asked = [engine.http.delete(f"/api/orders/{order_id}").status_code for order_id in ids]
        for order_id, status in zip(ids, asked, strict=True):
            view = engine.until(order_id)
            assert view["status"] in ("confirmed", "cancelled", "failed")
            if status == 200:
                assert view["status"] == "cancelled"
            if status == 202:
                assert view["attempt"] == engine.history(order_id)[-1]["attempt"]
                assert view["status"] in ("confirmed", "cancelled")
    check_ledger(database_url)
