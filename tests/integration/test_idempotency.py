"""A repeated order is one order: whatever the key, however many ask at once, and across a restart."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.engine import (
    PATIENCE_S,
    Served,
    check_ledger,
    database_for_module,
    orders_stored,
    serving,
)
from tests.support.postgres import PostgresServer

BODY = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"}


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with database_for_module(postgres_server) as dsn:
        yield dsn
        check_ledger(dsn)


@pytest.fixture(scope="module")
def engine(database: str) -> Iterator[Served]:
    with serving(DATABASE_URL=database) as served:
        yield served


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


def is_reused(answer: httpx.Response) -> bool:
    return answer.status_code == 422 and answer.json()["type"] == "/problems/key-reused"


def test_a_repetition_gets_the_first_answer(engine: Served, database: str) -> None:
    before = orders_stored(database)
    first = engine.post(key("first answer"))
    engine.until(first.json()["orderId"])
    for _ in range(3):
        again = engine.post(key("first answer"))
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["location"] == first.headers["location"]
    assert orders_stored(database) == before + 1


def test_the_same_order_written_otherwise_is_the_same_request(engine: Served) -> None:
    first = engine.post(key("written otherwise"), amount="0.25")
    sol, usdc = "So11111111111111111111111111111111111111112", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
    same: list[dict[str, Any]] = [
        {"amount": 0.25},
        {"amount": "0.250"},
        {"amount": "25e-2"},
        {"tokenIn": sol, "tokenOut": usdc},
        {"slippageBps": 50, "kind": "market"},
    ]
    for fields in same:
        assert engine.post(key("written otherwise"), **fields).json() == first.json()


@pytest.mark.parametrize(
    "fields",
    [{"amount": "0.26"}, {"tokenOut": "USDT"}, {"slippageBps": 51}, {"clientOrderId": "x"}, {"tokenIn": "RAY"}],
    ids=str,
)
def test_another_order_under_the_key_is_refused(engine: Served, database: str, fields: dict[str, Any]) -> None:
    name = key(f"another {fields}")
    first = engine.post(name)
    before = orders_stored(database)
    assert is_reused(engine.post(name, **fields))
    assert orders_stored(database) == before
    assert engine.post(name).json() == first.json()


def test_a_client_order_id_is_a_key(engine: Served) -> None:
    first = engine.post(clientOrderId="mine 1")
    assert engine.post(clientOrderId="mine 1").json() == first.json()
    assert is_reused(engine.post(clientOrderId="mine 1", amount="9"))
    assert engine.post(clientOrderId="mine 2").json() != first.json()


def test_both_keys_name_the_same_order(engine: Served) -> None:
    first = engine.post(key("both"), clientOrderId="both")
    assert engine.post(key("both"), clientOrderId="both").json() == first.json()
    assert engine.post(clientOrderId="both").json() == first.json()  # the key of the header may be left out
    assert engine.post(key("another header"), clientOrderId="both").json() == first.json()
    assert is_reused(engine.post(key("both")))  # without its clientOrderId it is another request
    assert is_reused(engine.post(key("both"), clientOrderId="not both"))


def test_keys_of_two_orders_name_neither(engine: Served, database: str) -> None:
    engine.post(key("of the one"), clientOrderId="of the one")
    engine.post(key("of the other"), clientOrderId="of the other")
    before = orders_stored(database)
    answer = engine.post(key("of the one"), clientOrderId="of the other")
    assert answer.status_code in (202, 422)
    assert orders_stored(database) == before


def test_a_repetition_gets_the_first_answer_although_the_orders_time_is_up_since(engine: Served) -> None:
    expires = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    first = engine.post(key("expires"), kind="limit", limitPrice="100000", expiresAt=expires)
    assert engine.until(first.json()["orderId"])["status"] == "expired"
    again = engine.post(key("expires"), kind="limit", limitPrice="100000", expiresAt=expires)
    assert (again.status_code, again.json()) == (202, first.json())
    assert is_reused(engine.post(key("expires"), kind="limit", limitPrice="99999", expiresAt=expires))
    late = engine.post(key("never before"), kind="limit", limitPrice="100000", expiresAt=expires)
    assert (late.status_code, [each["pointer"] for each in late.json()["errors"]]) == (422, ["/expiresAt"])
    assert engine.post(kind="limit", limitPrice="100000", expiresAt=expires).status_code == 422


def test_a_key_and_a_client_order_id_of_the_same_text_are_two(engine: Served) -> None:
    assert engine.post(key("same text")).json()["orderId"] != engine.post(clientOrderId="same text").json()["orderId"]


def test_without_a_key_every_order_is_its_own(engine: Served) -> None:
    assert engine.order() != engine.order()


def test_a_refused_order_does_not_take_its_key(engine: Served) -> None:
    assert engine.post(key("refused first"), amount="-1").status_code == 422
    assert engine.post(key("refused first")).status_code == 202


@pytest.mark.parametrize("kind", ["header", "body", "both"])
async def test_replays_raced_by_twenty_clients_are_one_order(engine: Served, kind: str) -> None:
    for number in range(5):
        name = f"raced {kind} {number}"
        headers = key(name) if kind in ("header", "both") else {}
        body = BODY | ({"clientOrderId": name} if kind in ("body", "both") else {})
        ids = await race([(headers, body)] * 20, engine)
        assert len(ids) == 1


async def test_a_race_of_two_different_orders_has_one_winner(engine: Served) -> None:
    for number in range(5):
        name = key(f"two orders {number}")
        ids = await race([(name, BODY | {"amount": f"0.{1 + each % 2}"}) for each in range(20)], engine, lose=True)
        assert len(ids) == 1


async def race(
    requests: list[tuple[dict[str, str], dict[str, str]]], engine: Served, *, lose: bool = False
) -> set[str]:
    """Send the requests at once, each on a connection of its own and again while told so; the ids of the answers."""

    async def ask(headers: dict[str, str], body: dict[str, str]) -> str:
        while True:
            answer = await http.post("/api/orders/execute", json=body, headers=headers)
            if answer.status_code == 409:
                assert answer.json()["type"] == "/problems/key-under-way"
                assert int(answer.headers["retry-after"]) >= 0
                continue
            if lose and is_reused(answer):
                return ""
            assert answer.status_code == 202, answer.text
            return str(answer.json()["orderId"])

    async with httpx.AsyncClient(base_url=engine.url, trust_env=False, timeout=PATIENCE_S) as http:
        return set(await asyncio.gather(*(ask(*request) for request in requests))) - {""}


def test_keys_outlive_a_restart_and_a_kill(database_url: str) -> None:
    with serving(DATABASE_URL=database_url) as engine:
        first = engine.post(key("kept"), clientOrderId="kept")
        engine.until(first.json()["orderId"])
    with serving(DATABASE_URL=database_url) as engine:
        assert engine.post(key("kept"), clientOrderId="kept").json() == first.json()
        second = engine.post(key("killed"))
        engine.kill()
    with serving(DATABASE_URL=database_url) as engine:
        assert engine.post(key("killed")).json() == second.json()
        assert is_reused(engine.post(key("kept"), amount="3"))
        engine.until(second.json()["orderId"])
    assert check_ledger(database_url) == {"confirmed": 2}
