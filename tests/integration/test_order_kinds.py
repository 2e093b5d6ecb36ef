"""The examples of the how-to guides against the real engine: each is accepted, and does what its guide says."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.engine import Json, Served, check_ledger, database_for_module, serving
from tests.support.examples import Example, examples, order_examples
from tests.support.postgres import PostgresServer

EXAMPLES = examples()
EXECUTED_AT_ONCE = ("market", "exits")
WATCHED = ("limit", "stop", "takeProfit", "trailingStop", "sniper", "expiry")
SLICES_S = 60.0
EXPIRY = timedelta(hours=1)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with database_for_module(postgres_server) as dsn:
        yield dsn
        check_ledger(dsn, all_ended=False)  # slices may be under way when the engine stops


@pytest.fixture(scope="module")
def engine(database: str) -> Iterator[Served]:
    with serving(DATABASE_URL=database) as served:
        yield served
        cancelled = served.http.delete("/api/orders?all=true")
        assert cancelled.status_code == 200, cancelled.text


def posted(example: Example) -> Json:
    """The example's body; only the time in it grows old."""
    body = dict(example.body)
    if "expiresAt" in body:
        body["expiresAt"] = (datetime.now(UTC) + EXPIRY).isoformat()
    return body


def enter(engine: Served, name: str) -> Json:
    """Post an example; what the engine answers."""
    answer = engine.http.post("/api/orders/execute", json=posted(EXAMPLES[name]))
    assert answer.status_code == 202, answer.text
    accepted: Json = answer.json()
    return accepted


@pytest.mark.parametrize("name", order_examples())
def test_every_example_is_accepted_and_keeps_what_it_says(engine: Served, name: str) -> None:
    accepted = enter(engine, name)
    view = engine.view(accepted["orderId"])
    wanted = {"kind": "market"} | EXAMPLES[name].body
    usual = ("expiresAt", "onSliceFailure")  # a time that is another, and what a view leaves out
    assert {field: view.get(field) for field in wanted if field not in usual} == {
        field: value for field, value in wanted.items() if field not in usual
    }


@pytest.mark.parametrize("name", EXECUTED_AT_ONCE)
def test_an_example_that_waits_for_nothing_is_executed(engine: Served, name: str) -> None:
    accepted = enter(engine, name)
    assert accepted["status"] == "pending"
    assert "fundsCovered" not in accepted
    assert engine.until(accepted["orderId"], "confirmed")["amountOut"]


@pytest.mark.parametrize("name", WATCHED)
def test_an_example_that_waits_says_so_and_can_be_cancelled(engine: Served, name: str) -> None:
    accepted = enter(engine, name)
    order_id = accepted["orderId"]
    assert accepted["status"] == "watching"
    assert accepted["fundsCovered"] is True
    assert engine.until(order_id, "watching")["kind"] == EXAMPLES[name].body["kind"]
    assert engine.http.delete(f"/api/orders/{order_id}").json()["status"] == "cancelled"


def test_a_limit_order_changes_as_its_guide_says(engine: Served) -> None:
    order_id = enter(engine, "limit")["orderId"]
    answer = engine.http.patch(f"/api/orders/{order_id}", json=posted(EXAMPLES["change"]))
    assert answer.status_code == 200, answer.text
    assert engine.view(order_id)["limitPrice"] == EXAMPLES["change"].body["limitPrice"]


def test_a_sliced_order_ends_with_the_sums_of_its_slices(engine: Served) -> None:
    order_id = enter(engine, "twap")["orderId"]
    view = engine.until(order_id, "confirmed", within_s=SLICES_S)
    assert (view["filledSlices"], view["amountIn"]) == (5, "5")
    slices = engine.http.get(f"/api/orders?parentId={order_id}").json()["data"]
    assert sorted(each["sliceNumber"] for each in slices) == [1, 2, 3, 4, 5]


def test_the_exits_of_an_entry_wait_for_what_was_received(engine: Served) -> None:
    entry = engine.until(enter(engine, "exits")["orderId"], "confirmed")
    [exits] = engine.http.get(f"/api/orders?parentId={entry['orderId']}").json()["data"]
    assert (exits["kind"], exits["status"]) == ("exits", "watching")
    assert exits["amount"] == entry["amountOut"]
    assert {leg["name"] for leg in exits["legs"]} == EXAMPLES["exits"].body["exits"].keys()


def test_the_dead_man_switch_is_armed_as_its_guide_says(engine: Served) -> None:
    armed = engine.http.post("/api/deadman", json=EXAMPLES["deadman"].body).json()
    assert (armed["armed"], armed["keepStops"]) == (True, True)
    assert engine.http.delete("/api/deadman").json() == {"armed": False}
