"""What clients do to orders that wait: enter, change, cancel, list, tie to a dead-man switch."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from bestex.api.bodies import ORDER_EXAMPLES
from bestex.domain.events import Changes
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView
from bestex.domain.terms import Kind, Terms
from bestex.engine.errors import AlreadyEndedError, BadChangeError, BeyondTriggerError, NotWatchingError
from bestex.engine.intake import Accepted
from bestex.ports import OrderFilter
from tests.support.orders import HAPPY, DraftOrder
from tests.unit.api.doors import NOW_US, ScriptedEngine, doors

EXECUTE = "/api/orders/execute"


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
async def client(engine: ScriptedEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with doors(engine) as each:
        yield each


@pytest.fixture
def order(engine: ScriptedEngine) -> OrderView:
    draft = DraftOrder()
    draft.next(HAPPY[0])
    view = msgspec.structs.replace(draft.view, kind="limit", status="watching", limit_price="175")
    engine.views[view.order_id] = view
    return view


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{code}"
    return document


# --- entry ----------------------------------------------------------------------------------------------------


async def test_an_order_that_rests_says_whether_the_wallet_covers_it(
    engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    engine.accepted = Accepted("id", NOW_US, Status.WATCHING, covered=False)
    answer = await client.post(EXECUTE, json=ORDER_EXAMPLES["limit"])
    assert answer.status_code == 202
    assert answer.json() == {
        "orderId": "id",
        "statusEndpoint": "/api/orders/id/status",
        "createdAt": "2026-11-18T11:06:40.000Z",
        "status": "watching",
        "fundsCovered": False,
    }
    assert engine.requests[0].terms == Terms(limit_price="220")


async def test_an_order_that_is_executed_at_once_says_nothing_of_that(client: httpx.AsyncClient) -> None:
    answer = await client.post(EXECUTE, json=ORDER_EXAMPLES["market"])
    assert answer.json()["status"] == "pending"
    assert "fundsCovered" not in answer.json()


async def test_a_stop_beyond_its_trigger_names_the_field(engine: ScriptedEngine, client: httpx.AsyncClient) -> None:
    engine.refusal = BeyondTriggerError("triggerPrice", "the price is 119 already: say allowImmediate")
    document = problem(await client.post(EXECUTE, json=ORDER_EXAMPLES["stop"]), 422, "validation")
    assert document["errors"] == [
        {"detail": "the price is 119 already: say allowImmediate", "pointer": "/triggerPrice"}
    ]


# --- changes --------------------------------------------------------------------------------------------------


async def test_a_change_reaches_the_engine_in_its_normal_form(
    engine: ScriptedEngine, client: httpx.AsyncClient, order: OrderView
) -> None:
    answer = await client.patch(f"/api/orders/{order.order_id.upper()}", json={"minAmountOut": 250.50})
    assert answer.status_code == 200, answer.text
    assert answer.json()["orderId"] == order.order_id
    assert engine.amended == [(order.order_id, Changes(min_amount_out="250.5"))]
    await client.patch(f"/api/orders/{order.order_id}", json={"minAmountOut": "0.0000001"})
    assert len(engine.amended) == 1, "finer than the order's token"


async def test_a_bad_change_names_every_field_and_changes_nothing(
    engine: ScriptedEngine, client: httpx.AsyncClient, order: OrderView
) -> None:
    bad = {"limitPrice": [], "slippageBps": "1", "expiresAt": "2020-01-01T00:00:00Z", "amount": "2"}
    answer = await client.patch(f"/api/orders/{order.order_id}", json=bad)
    named = {each["pointer"] for each in problem(answer, 422, "validation")["errors"]}
    assert named == {"/limitPrice", "/slippageBps", "/amount"}, "what needs no clock is named first"
    answer = await client.patch(f"/api/orders/{order.order_id}", json={"expiresAt": "2020-01-01T00:00:00Z"})
    assert problem(answer, 422, "validation")["errors"][0]["pointer"] == "/expiresAt"
    problem(await client.patch(f"/api/orders/{order.order_id}", content=b"{"), 415, "unsupported-media-type")
    assert engine.amended == []


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (NotWatchingError("it is submitted"), 409, "not-watching"),
        (AlreadyEndedError("it is confirmed"), 409, "order-ended"),
        (BadChangeError("triggerPrice", "is not for limit orders"), 422, "validation"),
    ],
)
async def test_what_the_engine_will_not_change_is_a_problem(
    engine: ScriptedEngine, client: httpx.AsyncClient, order: OrderView, refusal: Exception, status: int, code: str
) -> None:
    engine.refusal = refusal
    answer = await client.patch(f"/api/orders/{order.order_id}", json={"triggerPrice": "1"})
    document = problem(answer, status, code)
    if code == "validation":
        assert document["errors"] == [{"detail": "is not for limit orders", "pointer": "/triggerPrice"}]


async def test_an_order_that_is_not_there_cannot_be_changed(client: httpx.AsyncClient) -> None:
    unknown = "00000000-0000-7000-8000-000000000000"
    problem(await client.patch(f"/api/orders/{unknown}", json={"limitPrice": "1"}), 404, "order-not-found")
    problem(await client.patch("/api/orders/x", json={"limitPrice": "1"}), 422, "malformed-id")


# --- cancel and list ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("pair=SOL/USDC", ("SOL/USDC", None)),
        ("kind=limit", (None, Kind.LIMIT)),
        ("pair=SOL/USDC&kind=exits", ("SOL/USDC", Kind.EXITS)),
        ("all=true", (None, None)),
    ],
)
async def test_many_are_cancelled_by_pair_and_kind(
    engine: ScriptedEngine, client: httpx.AsyncClient, query: str, asked: tuple[object, ...]
) -> None:
    answer = await client.delete(f"/api/orders?{query}")
    assert answer.status_code == 200
    assert answer.json() == {"cancelled": ["a"], "cancelRequested": ["b"]}
    assert engine.cancels == [asked]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "all"),
        ("all=yes", "all"),
        ("all=true&kind=limit", "all"),
        ("kind=iceberg", "kind"),
        ("status=watching", "status"),
    ],
)
async def test_all_are_never_cancelled_by_mistake(
    engine: ScriptedEngine, client: httpx.AsyncClient, query: str, named: str
) -> None:
    document = problem(await client.delete(f"/api/orders?{query}"), 422, "validation")
    assert named in {each["parameter"] for each in document["errors"]}
    assert engine.cancels == []


async def test_the_slices_of_an_order_can_be_listed(engine: ScriptedEngine, client: httpx.AsyncClient) -> None:
    parent = "01A20470-bc2f-7016-ae45-f9d2688ab31b"
    assert (await client.get(f"/api/orders?parentId={parent}&kind=market")).status_code == 200
    assert engine.listed == [OrderFilter(kind=Kind.MARKET, parent_id=parent.lower())]
    problem(await client.get("/api/orders?parentId=x"), 422, "validation")


# --- the dead-man switch --------------------------------------------------------------------------------------


async def test_a_dead_man_switch_is_armed_shown_and_disarmed(client: httpx.AsyncClient) -> None:
    armed = {"armed": True, "dueAt": "2026-11-18T11:07:10.000Z", "keepStops": True}
    off = {"armed": False}
    assert (await client.get("/api/deadman")).json() == off
    assert (await client.post("/api/deadman", json={"seconds": 30, "keepStops": True})).json() == armed
    assert (await client.get("/api/deadman")).json() == armed
    assert (await client.post("/api/deadman", json={"seconds": 0})).json() == off
    await client.post("/api/deadman", json={"seconds": 30})
    assert (await client.delete("/api/deadman")).json() == off
    assert (await client.get("/api/deadman")).json() == off


async def test_a_bad_dead_man_switch_is_not_armed(engine: ScriptedEngine, client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/deadman", json={"seconds": "30", "keepStops": "no"})
    assert len(problem(answer, 422, "validation")["errors"]) == 2
    assert engine.dead_man.armed == {}


# --- the description ------------------------------------------------------------------------------------------


async def test_openapi_has_an_example_for_each_kind(client: httpx.AsyncClient) -> None:
    document = (await client.get("/schema/openapi.json")).json()
    body = document["paths"][EXECUTE]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["examples"] == list(ORDER_EXAMPLES.values())
    kinds = {example.get("kind", "market") for example in body["examples"]}
    assert kinds == {kind for kind in Kind if kind is not Kind.EXITS}
    fields = document["components"]["schemas"]["OrderBody"]["properties"]
    for example in body["examples"]:
        assert example.keys() <= fields.keys()
