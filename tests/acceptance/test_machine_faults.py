"""What PostgreSQL goes through under a loaded engine, as clients see it: refused at once or settled, and then on.

In each test clients go on placing orders while the fault lasts. Afterwards, with the same engine process: every order
of theirs exists once and was executed once, and what was answered "nothing was stored" had not been stored.
"""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import asyncpg
import httpx
import pytest

from bestex.journal.embedded import EmbeddedPostgres
from bestex.journal.embedded.process import running_server
from tests.support.engine import PATIENCE_S, POLL_S, Json, Served, check_ledger, serving
from tests.support.postgres import PostgresServer
from tests.support.proxy import Cut, ProxyApart, proxy_apart

CLIENTS = 4
PAUSE_S = 0.03
AT_ONCE_S = 1.5  # a refusal takes moments; the machine may be busy
ANSWER_S = 5.0 + AT_ONCE_S  # what cannot be known sooner: the engine answers after 5 s
SLOW_ORDERS = {"SIM_SLOT_MS": 10, "SIM_FAULTS": "late_landing=0.5,late_landing_slots=60"}
"""Some orders are executing at every moment: half of them land up to 0.6 s late."""

SLOW_S = 10.0

SLOW_S = 10.0

UNAVAILABLE, UNKNOWN, UNDER_WAY = "unavailable", "outcome-unknown", "key-under-way"


class Answer:
    def __init__(self, key: str, sent_s: float, took_s: float, status: int, body: Json) -> None:
        self.key = key
        self.sent_s = sent_s  # Unix time
        self.took_s = took_s
        self.status = status
        self.order_id: str | None = body.get("orderId")
        self.code = str(body.get("type", "")).rpartition("/")[2] or "accepted"

    def __repr__(self) -> str:
        return f"{self.key}: {self.status} {self.code} {self.order_id or ''} after {self.took_s:.2f} s"


class Load:
    """Clients that place one order after the other, and repeat each under its key until it is accepted."""

    def __init__(self, engine: Served) -> None:
        self.answers: list[Answer] = []
        self.errors: list[BaseException] = []
        self._engine = engine
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        self.until(lambda: self.count("accepted") > 2 * CLIENTS)

    def close(self) -> None:
        """Let every client finish the order that it is at."""
        self._closing.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        assert not self.errors, self.errors
        assert not any(thread.is_alive() for thread in self._threads), self.answers[-20:]

    def count(self, *codes: str) -> int:
        return sum(answer.code in codes for answer in self.answers)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, (Counter(each.code for each in self.answers), self.answers[-20:])
            time.sleep(POLL_S)

    def until_accepted_again(self) -> None:
        """Wait until every client has had an order accepted that it sent from now on."""
        now_s = time.time()
        self.until(lambda: len({each.key[0] for each in self.answers if self._accepted_since(each, now_s)}) == CLIENTS)

    @staticmethod
    def _accepted_since(answer: Answer, since_s: float) -> bool:
        return answer.code == "accepted" and answer.sent_s > since_s

    def refusals(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == 503]

    def key_of(self, client: int, later: int) -> str:
        """The key of the order that a client places `later` orders from now."""
        placed = {each.key for each in self.answers if each.key.startswith(f"{client}-")}
        return _key(client, len(placed) + later)

    def _client(self, number: int) -> None:
        try:
            with httpx.Client(base_url=self._engine.url, trust_env=False, timeout=PATIENCE_S) as http:
                placed = 0
                while not self._closing.is_set():
                    while self._place(http, _key(number, placed)).status != 202:
                        time.sleep(PAUSE_S)
                    placed += 1
                    time.sleep(PAUSE_S)
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            self.errors.append(error)

    def _place(self, http: httpx.Client, key: str) -> Answer:
        body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.05", "slippageBps": 500}
        sent_s, began = time.time(), time.monotonic()
        answered = http.post("/api/orders/execute", json=body, headers={"Idempotency-Key": key})
        answer = Answer(key, sent_s, time.monotonic() - began, answered.status_code, answered.json())
        assert answer.status in (202, 503) or answer.code == UNDER_WAY, answer
        self.answers.append(answer)
        return answer


def _key(client: int, number: int) -> str:
    return f"{client}-machine-fault-{number:05}"


@contextlib.contextmanager
def loaded(dsn: Callable[[], str], **settings: object) -> Iterator[tuple[Served, Load]]:
    """An engine under load; in the end everything is compared, in the database behind `dsn`."""
    with serving(**(SLOW_ORDERS | settings)) as engine:  # type: ignore[arg-type]
        load = Load(engine)
        try:
            load.start()
            yield engine, load
            load.until_accepted_again()
        finally:
            load._closing.set()
        load.close()
        order_ids = order_ids_of(load)
        for order_id in order_ids.values():
            assert engine.until(order_id)["status"] == "confirmed"
        check_refusals(engine, load, order_ids)
        assert engine.process.poll() is None
        assert engine.http.get("/readyz").status_code == 200
        assert check_ledger(dsn(), all_ended=True) == {"confirmed": len(order_ids)}


def order_ids_of(load: Load) -> dict[str, str]:
    """The order of each key: one, whatever it was answered with in between."""
    told: dict[str, set[str]] = {}
    for answer in load.answers:
        if answer.order_id is not None:
            told.setdefault(answer.key, set()).add(answer.order_id)
    assert {key: len(ids) for key, ids in told.items()} == dict.fromkeys(told, 1)
    assert told.keys() == {answer.key for answer in load.answers}
    return {key: ids.pop() for key, ids in told.items()}


def check_refusals(engine: Served, load: Load, order_ids: dict[str, str]) -> None:
    """An order that was refused at first was stored by a later request: no earlier than that was sent."""
    assert all(answer.status == 202 or answer.took_s < ANSWER_S for answer in load.answers)
    for key in {answer.key for answer in load.refusals()}:
        maybe = next(each for each in load.answers if each.key == key and each.code != UNAVAILABLE)
        created = engine.view(order_ids[key])["createdAt"]
        assert int(datetime.fromisoformat(created).timestamp() * 1000) >= int(maybe.sent_s * 1000), maybe


def check_refused_at_once(load: Load, since_s: float) -> None:
    """Once it is known that the database is away, a new order is refused in moments."""
    refused = [answer for answer in load.answers if answer.code == UNAVAILABLE and answer.sent_s > since_s]
    assert refused
    assert all(answer.took_s < AT_ONCE_S for answer in refused), refused


@pytest.fixture
def proxy(postgres_server: PostgresServer, database_url: str) -> Iterator[ProxyApart]:
    with proxy_apart(postgres_server.socket, database_url) as proxy:
        yield proxy


def test_a_postgresql_that_is_restarted_is_waited_for(postgres_server: PostgresServer, database_url: str) -> None:
    with loaded(lambda: database_url, DATABASE_URL=database_url) as (_, load):
        asyncio.run(postgres_server.stop())
        try:
            load.until(lambda: load.count(UNAVAILABLE) >= 3 * CLIENTS)
            known_s = time.time()
            load.until(lambda: load.count(UNAVAILABLE) >= 10 * CLIENTS)
        finally:
            asyncio.run(postgres_server.start())
        check_refused_at_once(load, known_s)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "fast shutdown"])
def test_an_embedded_postgresql_that_dies_is_started_again_by_the_engine(data_dir: Path, blow: signal.Signals) -> None:
    with loaded(lambda: EmbeddedPostgres(data_dir).dsn, DATA_DIR=data_dir) as (engine, load):
        for round_number in (1, 2):
            server = running_server(data_dir / "postgres")
            assert server is not None
            refused = len(load.refusals())
            os.kill(server.pid, blow)
            load.until(lambda: not server.alive() and len(load.refusals()) > refused)  # noqa: B023 - called here
            load.until_accepted_again()
            assert engine.log.count('"postgres.died"') == round_number


def test_a_postgresql_that_refuses_connections_is_tried_until_it_takes_them(
    database_url: str, proxy: ProxyApart
) -> None:
    with loaded(lambda: database_url, DATABASE_URL=proxy.dsn) as (_, load):
        proxy.refuse()
        load.until(lambda: load.count(UNAVAILABLE) >= 3 * CLIENTS)
        known_s = time.time()
        load.until(lambda: load.count(UNAVAILABLE) >= 20 * CLIENTS)
        proxy.admit()
        load.until_accepted_again()
        check_refused_at_once(load, known_s)


def test_a_postgresql_that_is_slow_for_ten_seconds_is_told_from_one_that_is_gone(
    database_url: str, proxy: ProxyApart
) -> None:
    """What it was sent last is unknown: it may have taken it. What waited behind that was never sent."""
    with loaded(lambda: database_url, DATABASE_URL=proxy.dsn) as (engine, load):
        key = load.key_of(0, later=3)
        proxy.hold_after(key.encode())
        load.until(lambda: proxy.holds)
        held_s = time.time()
        load.until(lambda: time.time() > held_s + SLOW_S)  # meanwhile the engine answers each request after 5 s
        sent_last = [answer for answer in load.answers if answer.key == key]
        proxy.release()
        load.until_accepted_again()
        assert (sent_last[0].status, sent_last[0].code) == (503, UNKNOWN), sent_last
        assert {answer.code for answer in sent_last[1:]} == {UNDER_WAY}  # and never a second order
        assert sent_last[0].order_id is not None
        assert engine.until(sent_last[0].order_id)["status"] == "confirmed"
        refused = [answer for answer in load.answers if answer.sent_s > held_s and answer.status != 202]
        assert {answer.code for answer in refused} <= {UNAVAILABLE, UNKNOWN, UNDER_WAY}


def test_a_disk_that_is_full_at_the_commit_stores_nothing_and_is_waited_for(database_url: str) -> None:
    with loaded(lambda: database_url, DATABASE_URL=database_url) as (_, load):
        execute(
            database_url,
            """create function no_room() returns trigger language plpgsql as
               $$ begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$
            """,
            """create constraint trigger no_room after insert on bestex.events deferrable initially deferred
               for each row execute function no_room()""",  # its error comes with the COMMIT
        )
        load.until(lambda: load.count(UNAVAILABLE) >= 3 * CLIENTS)
        known_s = time.time()
        load.until(lambda: load.count(UNAVAILABLE) >= 20 * CLIENTS)
        stored = count_of_events(database_url)
        load.until(lambda: load.count(UNAVAILABLE) >= 22 * CLIENTS)
        assert count_of_events(database_url) == stored
        execute(database_url, "drop trigger no_room on bestex.events")
        load.until_accepted_again()
        check_refused_at_once(load, known_s)
        assert load.count(UNKNOWN) == 0


def execute(dsn: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def count_of_events(dsn: str) -> int:
    async def ask() -> int:
        connection = await asyncpg.connect(dsn)
        try:
            return int(await connection.fetchval("select count(*) from bestex.events"))
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("cut", list(Cut), ids=lambda cut: cut.name.lower())
def test_a_commit_that_is_cut_off_is_settled_and_answered(database_url: str, proxy: ProxyApart, cut: Cut) -> None:
    """Connections can be made again at once: no client learns that anything happened."""
    with loaded(lambda: database_url, DATABASE_URL=proxy.dsn) as (_, load):
        for number in range(5):
            key = load.key_of(number % CLIENTS, later=3)
            proxy.cut_next(cut, key.encode())
            load.until(lambda: proxy.cuts == number + 1)  # noqa: B023 - called here
            load.until(lambda: any(each.key == key for each in load.answers))  # noqa: B023
            assert [each.status for each in load.answers if each.key == key] == [202], load.answers[-20:]
            load.until_accepted_again()


@pytest.mark.parametrize("cut", [Cut.AFTER_QUERY, Cut.BEFORE_ANSWER], ids=lambda cut: cut.name.lower())
def test_a_commit_that_is_cut_off_by_a_database_that_stays_away_is_unknown_until_it_is_settled(
    database_url: str, proxy: ProxyApart, cut: Cut
) -> None:
    with loaded(lambda: database_url, DATABASE_URL=proxy.dsn) as (engine, load):
        proxy.refuse_after_cut()
        key = load.key_of(0, later=3)
        proxy.cut_next(cut, key.encode())
        load.until(lambda: proxy.cuts == 1)
        load.until(lambda: any(each.key == key for each in load.answers))
        first = next(each for each in load.answers if each.key == key)
        assert (first.status, first.code) == (503, UNKNOWN), first
        assert first.order_id is not None
        known_s = time.time()
        load.until(lambda: any(each.code == UNAVAILABLE and each.sent_s > known_s for each in load.answers))
        proxy.admit()
        load.until_accepted_again()
        check_refused_at_once(load, known_s)
        assert engine.until(first.order_id)["status"] == "confirmed"  # what it was told is what became of it
        load.until(lambda: any(each.key == key and each.status == 202 for each in load.answers))
