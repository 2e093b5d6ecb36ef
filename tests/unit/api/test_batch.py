"""Order entry in batches: each order its own verdict, as if it had come alone."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from msgspec.structs import replace

from bestex.api.app import Application
from bestex.api.execute import OrderEntry
from bestex.domain.lifecycle import Status
from bestex.engine.intake import IntakeLimits
from bestex.ports import HaltCause
from tests.support.journals import holding
from tests.support.small_engine import LIMITS, PATIENCE_S, TOKENS, SmallEngine, small_engine

SELL: Final = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}
JSON: Final = {"content-type": "application/json"}
Json = dict[str, Any]


class Door:
    """The API over a small engine."""

    def __init__(self, small: SmallEngine, http: httpx.AsyncClient) -> None:
        self.small = small
        self.http = http

    async def post(self, body: str | bytes, **headers: str) -> httpx.Response:
        async with asyncio.timeout(PATIENCE_S):
            named = {name.replace("_", "-"): each for name, each in headers.items()}
            return await self.http.post("/api/orders/batch", content=body, headers=JSON | named)

    async def results(self, *orders: object) -> list[Json]:
        answer = await self.post(json.dumps({"orders": orders}))
        assert answer.status_code == 200, answer.text
        results: list[Json] = answer.json()["results"]
        return results

    async def alone(self, order: object) -> Json:
        """What the order is answered when it comes alone."""
        answer = await self.http.post("/api/orders/execute", content=json.dumps(order), headers=JSON)
        body: Json = answer.json()
        return body


@asynccontextmanager
async def door(limits: IntakeLimits | None = None) -> AsyncIterator[Door]:
    engine_limits = LIMITS if limits is None else replace(LIMITS, intake=limits)
    async with small_engine(limits=engine_limits) as small:
        entry = OrderEntry(small.engine.intake, TOKENS, small.clock)
        app = Application(entry, None, None, None, None)  # type: ignore[arg-type] # nobody asks them
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Door(small, http)


def codes(results: list[Json]) -> list[str]:
    return [each["problem"]["type"].rpartition("/")[2] if "problem" in each else "accepted" for each in results]


async def test_all_orders_of_a_batch_are_stored_in_one_commit_and_executed() -> None:
    async with door() as opened:
        store = holding(opened.small.journal)
        results = await opened.results(*[SELL] * 250)
        assert codes(results) == ["accepted"] * 250
        ids = [each["accepted"]["orderId"] for each in results]
        assert len(set(ids)) == 250
        assert sum(merged.first.new is not None for merged in store.commits[0]) >= 100
        for order_id in ids:
            await opened.small.until_status(order_id, Status.CONFIRMED)
        assert results[0]["accepted"].keys() == {"orderId", "statusEndpoint", "createdAt", "status"}


BAD: Final = [
    {"tokenIn": "SOL"},
    {**SELL, "amount": "0"},
    {**SELL, "tokenOut": "SOL"},
    {**SELL, "what": 1},
    {**SELL, "slippageBps": 10_001},
    {**SELL, "clientOrderId": ""},
    [],
    5,
    None,
    "SOL",
]


async def test_a_bad_order_has_the_problem_that_it_would_have_alone_and_harms_no_other() -> None:
    async with door() as opened:
        mixed = [each for bad in BAD for each in (bad, SELL)]
        results = await opened.results(*mixed)
        assert codes(results) == ["validation", "accepted"] * len(BAD)
        for bad, result in zip(BAD, results[::2], strict=True):
            assert result == {"problem": await opened.alone(bad)}
        assert len(opened.small.database.orders) == len(BAD)


async def test_an_order_with_terms_rests_and_one_of_the_past_is_refused() -> None:
    async with door() as opened:
        limit = {**SELL, "kind": "limit", "limitPrice": "1000"}
        results = await opened.results(limit, {**limit, "expiresAt": "2020-01-01T00:00:00Z"}, SELL)
        assert codes(results) == ["accepted", "validation", "accepted"]
        assert results[0]["accepted"]["status"] == "watching"
        assert results[1]["problem"]["errors"][0]["pointer"] == "/expiresAt"


async def test_an_order_that_is_repeated_gets_its_first_answer() -> None:
    async with door() as opened:
        mine = {**SELL, "clientOrderId": "mine"}
        [first] = await opened.results(mine)
        again, another, changed = await opened.results(mine, {**SELL, "clientOrderId": "other"}, SELL)
        assert again == first
        assert another["accepted"]["orderId"] != first["accepted"]["orderId"] != changed["accepted"]["orderId"]
        [reused] = await opened.results({**mine, "amount": "2"})
        assert codes([reused]) == ["key-reused"]


async def test_of_two_orders_of_a_batch_with_one_client_order_id_one_is_stored() -> None:
    async with door() as opened:
        mine = {**SELL, "clientOrderId": "mine"}
        results = await opened.results(mine, SELL, mine)
        assert codes(results) == ["accepted", "accepted", "key-under-way"]
        assert len(opened.small.database.orders) == 2
        assert await opened.results(mine) == [results[0]]


async def test_when_the_intake_gets_full_on_the_way_the_first_ones_are_in() -> None:
    async with door(IntakeLimits(waiting=3)) as opened:
        results = await opened.results(*[SELL] * 5)
        assert codes(results) == ["accepted"] * 3 + ["intake-full"] * 2
        assert len(opened.small.database.orders) == 3


async def test_in_a_halt_every_order_is_refused() -> None:
    async with door() as opened:
        await opened.small.journal.halt("stop", HaltCause.OPERATOR)
        opened.small.engine.gate.halt = await opened.small.journal.halted()
        assert codes(await opened.results(SELL, SELL)) == ["halted"] * 2
        assert not opened.small.database.orders


ONE: Final = json.dumps(SELL)


@pytest.mark.parametrize(
    "body",
    [
        f' {{\n"orders"\t: [ {ONE} , {ONE} ] }}\r\n',
        f'{{"\\u006frders":[{ONE},{ONE}]}}',
        f'{{"orders":[{ONE},{ONE.replace("SOL", "XX", 1)}]}}',
    ],
)
async def test_a_batch_may_be_written_in_any_way_that_json_allows(body: str) -> None:
    async with door() as opened:
        answer = await opened.post(body)
        assert answer.status_code == 200
        assert len(answer.json()["results"]) == 2


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ("", 400, "malformed-json", None),
        ('{"orders":[', 400, "malformed-json", None),
        (f'{{"orders":[{ONE},]}}', 400, "malformed-json", None),
        (b'{"orders":["\xff"]}', 400, "malformed-json", None),
        ('{"orders":' + "[" * 60_000, 400, "malformed-json", None),
        (f"[{ONE}]", 422, "validation", ""),
        ("{}", 422, "validation", "/orders"),
        ('{"orders":[]}', 422, "validation", "/orders"),
        ('{"orders":null}', 422, "validation", "/orders"),
        ('{"orders":{}}', 422, "validation", "/orders"),
        ('{"orders":"x"}', 422, "validation", "/orders"),
        (json.dumps({"orders": [1] * 1_001}), 422, "validation", "/orders"),
        (f'{{"orders":[{ONE}],"orders":[{ONE}]}}', 422, "validation", "/orders"),
        (f'{{"orders":[{ONE}],"more":1}}', 422, "validation", "/more"),
        (" " * (1024 * 1024 + 1), 413, "body-too-large", None),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(
    body: str | bytes, status: int, code: str, pointer: str | None
) -> None:
    async with door() as opened:
        answer = await opened.post(body)
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (status, f"/problems/{code}")
        assert [each["pointer"] for each in problem.get("errors", [])] == ([] if pointer is None else [pointer])
        assert not opened.small.database.orders


async def test_one_order_of_a_batch_may_be_no_larger_than_alone() -> None:
    async with door() as opened:
        results = await opened.results({**SELL, "clientOrderId": "x" * 65_536}, SELL)
        assert codes(results) == ["body-too-large", "accepted"]


async def test_a_batch_is_json_and_takes_no_idempotency_key() -> None:
    async with door() as opened:
        body = f'{{"orders":[{ONE}]}}'
        assert (await opened.post(body, content_type="text/plain")).status_code == 415
        answer = await opened.post(body, idempotency_key="a key")
        assert (answer.status_code, answer.json()["errors"][0]["header"]) == (422, "Idempotency-Key")
        assert not opened.small.database.orders
