"""An engine as several processes by the real command line: each part dies, stops, starts later, and it goes on."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from bestex.domain.lifecycle import Status
from tests.support.engine import (
    PATIENCE_S,
    Json,
    check_ledger,
    command,
    count_of,
    database_for_module,
    environment,
    free_port,
    serving,
)
from tests.support.parts import House, Part, feed_updates, housing, status_updates
from tests.support.postgres import PostgresServer
from tests.support.watched import firings, move, price, times, wait_for

HELD = "select count(*) from bestex.orders where lease_owner is not null and unfilled is null and status = 'routing'"
HEAD = "select coalesce(max(position), 0) from bestex.events"
EXECUTED = "select count(*) from sim.transactions where error is null"
ROLES = ("api", "worker", "watcher", "simnet")


@pytest.fixture(scope="module", name="house")
def house_fixture(postgres_server: PostgresServer) -> Iterator[House]:
    with database_for_module(postgres_server) as dsn, housing(dsn) as house:
        yield house
        check_ledger(dsn)


def stuck_in_routing(house: House, api: Part, count: int) -> list[str]:
    """Orders that a worker holds and cannot go on with: no venue answers until `quote_timeout` is 0 again."""
    before = count_of(house.dsn, HELD)
    api.faults(quote_timeout=1, quote_timeout_s=60)
    order_ids = [api.order() for _ in range(count)]
    wait_for(lambda: count_of(house.dsn, HELD) == before + count)
    return order_ids


def all_confirmed(api: Part, order_ids: list[str]) -> None:
    for order_id in order_ids:
        assert api.until(order_id)["status"] == Status.CONFIRMED


# --- Orders and their streams


def test_an_order_of_a_dead_api_is_executed_by_a_worker_started_later_and_its_streams_go_on_at_another_api(
    house: House,
) -> None:
    house.of("worker", 0)
    posted_to, other = house.of("api", 2)
    head = count_of(house.dsn, HEAD)
    order_id = posted_to.order()
    seen = status_updates(posted_to, order_id, 0, 1)
    fed = feed_updates(posted_to, head, 1)
    posted_to.kill()
    with ThreadPoolExecutor(2) as clients:
        watching = clients.submit(status_updates, other, order_id, seen[-1]["seq"], 5)
        following = clients.submit(feed_updates, other, fed[-1][0], 4)
        house.of("worker", 1)
        seen += watching.result(PATIENCE_S)
        fed += following.result(PATIENCE_S)
    assert [update["status"] for update in seen] == ["pending", "routing", "building", "submitted", "confirmed"]
    assert [update["seq"] for update in seen] == [1, 2, 3, 4, 5]
    assert [position for position, _ in fed] == list(range(head + 1, head + 6))
    assert [update for _, update in fed] == seen == other.history(order_id)[:5]
    [_, again] = house.of("api", 2)
    assert status_updates(again, order_id, 2, 5)[:3] == seen[2:]


def test_two_apis_make_one_order_of_one_key(house: House) -> None:
    apis = house.of("api", 2)
    house.of("worker", 1)

    def post(number: int) -> Json:
        while (answer := apis[number % 2].post({"Idempotency-Key": "one of many"}, amount="0.3")).status_code != 202:
            assert answer.status_code in (409, 503), answer.text
        body: Json = answer.json()
        return body

    with ThreadPoolExecutor(8) as clients:
        accepted = list(clients.map(post, range(24)))
    assert all(answer == accepted[0] for answer in accepted)
    for api in apis:
        again = api.post({"Idempotency-Key": "one of many"}, amount="0.3")
        assert (again.status_code, again.json()) == (202, accepted[0])
        assert api.post({"Idempotency-Key": "one of many"}, amount="0.4").status_code == 422
    all_confirmed(apis[0], [accepted[0]["orderId"]])


def test_a_halt_through_one_api_stops_all_parts_until_another_resumes(house: House) -> None:
    one, other = house.of("api", 2)
    [worker] = house.of("worker", 1)
    accepted = one.order()
    all_confirmed(one, [accepted])
    assert one.http.post("/api/operator/halt", json={"reason": "a look"}).status_code == 200
    wait_for(lambda: other.post().status_code == 503)
    assert other.post().json()["type"] == "/problems/halted"
    wait_for(lambda: worker.gauge("bestex_halted") == 1)
    assert other.http.post("/api/operator/resume").status_code == 200
    wait_for(lambda: one.post().status_code == 202)
    all_confirmed(one, [other.order()])


# --- Workers


def test_a_stopped_workers_orders_are_taken_over_and_executed_once_although_it_goes_on(house: House) -> None:
    [api, *_] = house.of("api", 2)
    [stopped] = house.of("worker", 1)
    executed = count_of(house.dsn, EXECUTED)
    order_ids = stuck_in_routing(house, api, 5)
    stopped.freeze()
    house.start("worker")
    api.faults(quote_timeout=0)
    all_confirmed(api, order_ids)
    stopped.go_on()
    wait_for(lambda: not stopped.lives or (answers(stopped) and stopped.gauge("bestex_orders_executing") == 0))
    all_confirmed(api, [api.order()])
    assert count_of(house.dsn, EXECUTED) == executed + 6
    if not stopped.lives:
        assert "engine.fenced" in stopped.log


def test_a_worker_that_is_told_to_stop_hands_its_orders_back_at_once(house: House) -> None:
    [api, *_] = house.of("api", 2)
    [stopping] = house.of("worker", 1)
    order_ids = stuck_in_routing(house, api, 5)
    stopping.terminate()
    assert stopping.process.returncode == 0
    assert count_of(house.dsn, HELD) == 0
    api.faults(quote_timeout=0)
    house.of("worker", 1)
    all_confirmed(api, order_ids)


# --- Watchers


def test_what_a_dead_watcher_watched_is_fired_by_another_and_executed_by_a_worker(house: House) -> None:
    [api, *_] = house.of("api", 2)
    house.of("worker", 1)
    [first] = house.of("watcher", 1)
    fires_first = api.order(kind="limit", limitPrice=times(price(api), 1.02))
    move(api, 3)
    assert api.until(fires_first)["status"] == Status.CONFIRMED
    assert [trigger["kind"] for trigger in firings(api.history(fires_first))] == ["limit"]

    rest = [
        api.order(kind="limit", tokenOut=token_out, limitPrice=times(price(api, "SOL", token_out), 1.05))
        for token_out in ("USDC", "USDT")
    ]
    wait_for(lambda: first.gauge("bestex_orders_watched") == len(rest))
    second = house.start("watcher")
    wait_for(lambda: second.gauge("bestex_books") > 0)
    first.kill()
    for token_out in ("USDC", "USDT"):
        move(api, 8, f"SOL/{token_out}")
    all_confirmed(api, rest)
    for order_id in rest:
        assert len(firings(api.history(order_id))) == 1


# --- What a supervisor and a person see


def test_each_part_answers_those_who_ask_for_its_health(house: House) -> None:
    for role in ROLES:
        [part, *_] = house.of(role, 1) if role != "api" else house.of(role, 2)
        assert part.http.get("/healthz").status_code == 200
        assert part.http.get("/readyz").status_code == 200
        asked = subprocess.run(
            command("--url", part.url, "health"),
            env=environment(),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr
        if role != "simnet":
            assert part.gauge("bestex_events_total") >= 0


def test_a_part_without_a_simnet_waits_and_says_so(house: House) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    parts = [house.begin(role, SIMNET_URL=nowhere) for role in ("worker", "watcher")]
    for part in parts:
        part.until_said("simnet.unreachable")
        assert nowhere in part.log
        wait_for(partial(answers, part))
        assert part.http.get("/healthz").status_code == 200
        assert part.http.get("/readyz").status_code == 503
        part.terminate()
        assert part.process.returncode == 0


def answers(part: Part) -> bool:
    try:
        return part.http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_part_without_a_database_says_what_it_needs() -> None:
    with ThreadPoolExecutor(2) as starts:
        for refused in starts.map(run_to_its_end, ROLES):
            assert refused.returncode == 2
            assert refused.stderr == "bestex: DATABASE_URL: this process cannot do without it\n"


def test_a_part_and_an_engine_alone_do_not_share_a_database(house: House, database_url: str) -> None:
    house.of("api", 2)
    alone = run_to_its_end("serve", DATABASE_URL=house.dsn, PORT=free_port())
    assert alone.returncode == 1
    assert "another engine runs on this database (" in alone.stderr
    with serving(DATABASE_URL=database_url):
        part = run_to_its_end("worker", DATABASE_URL=database_url)
    assert part.returncode == 1
    assert "another engine runs on this database (inline: " in part.stderr


def run_to_its_end(role: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(role), env=environment(**settings), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
