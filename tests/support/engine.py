"""The real engine in tests: `bestex serve` as a process of its own, and what must hold of its database afterwards."""

import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
from msgspec.structs import replace

from bestex.audit.audit import audit
from bestex.audit.evidence import Evidence
from bestex.bootstrap.inline import InlineProcess
from bestex.config import Settings
from bestex.domain.derived_ids import derived_id
from bestex.domain.events import Event, RoutingDetail, SealedTokens, SignedTransaction, Trigger, unseal_tokens
from bestex.domain.lifecycle import NEXT, Status, check_transition
from bestex.domain.order_state import OrderView, fold
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.terms import Kind
from bestex.domain.tokens import load_tokens
from bestex.engine.engine import Engine
from bestex.journal.evidence import PostgresJournalEvidence, connect_for_audit
from bestex.journal.rows import decode_view, stored_event
from bestex.ports import BlockHeight, Chain, StatusReport, Venue
from bestex.venues.simulated.evidence import PostgresLedgerEvidence
from bestex.venues.simulated.world import SimulatedWorld
from tests.support.postgres import TEMPLATE, PostgresServer

PATIENCE_S = 30.0
POLL_S = 0.01
ENDED = ("confirmed", "failed", "cancelled", "expired")
DEFECTS = (
    "api.defect",
    "order.executor_broke",
    "engine.part_ended",
    "Traceback",
    "order.stopped",
    "rows_rejected",
    "never retrieved",
    "never awaited",
)
"""What stands in the log of an engine that has a defect."""
_PR_SET_PDEATHSIG = 1
Json = dict[str, Any]
T = TypeVar("T")


class Served:
    """A running `bestex serve`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log_file = log
        self.url = f"http://127.0.0.1:{port}"
        self.ws_url = f"ws://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE_S)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def until_ready(self, within_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + within_s
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the engine ended with {self.process.returncode}:\n{self.log}")
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/readyz").status_code == 200:
                    return
            if time.monotonic() > deadline:
                raise AssertionError(f"the engine was not ready within {within_s} s:\n{self.log}")
            time.sleep(POLL_S)

    def post(self, headers: dict[str, str] | None = None, **fields: object) -> httpx.Response:
        """Post an order: 0.25 SOL for USDC where `fields` say nothing else."""
        body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"} | fields
        return self.http.post("/api/orders/execute", json=body, headers=headers)

    def order(self, headers: dict[str, str] | None = None, **fields: object) -> str:
        """Post an order that is accepted; its id."""
        answer = self.post(headers, **fields)
        assert answer.status_code == 202, answer.text
        order_id: str = answer.json()["orderId"]
        return order_id

    def view(self, order_id: str) -> Json:
        answer = self.http.get(f"/api/orders/{order_id}")
        assert answer.status_code == 200, answer.text
        view: Json = answer.json()
        return view

    def history(self, order_id: str) -> list[Json]:
        data: list[Json] = self.http.get(f"/api/orders/{order_id}/history").json()["data"]
        return data

    def receipt(self, order_id: str) -> Json:
        receipt: Json = self.http.get(f"/api/orders/{order_id}/receipt").json()
        return receipt

    def until(self, order_id: str, *statuses: str, within_s: float = PATIENCE_S) -> Json:
        """Wait until the order has one of these statuses, or has ended; its view."""
        deadline = time.monotonic() + within_s
        while True:
            view = self.view(order_id)
            if view["status"] in (statuses or ENDED):
                return view
            if time.monotonic() > deadline or (view["status"] in ENDED and statuses):
                raise AssertionError(f"waited for {statuses or 'an end'}, found {view}\n{self.log[-3000:]}")
            time.sleep(POLL_S)

    def faults(self, **changes: float) -> None:
        answer = self.http.patch("/api/sim/faults", json=changes)
        assert answer.status_code == 200, answer.text

    def balances(self) -> dict[str, Decimal]:
        """By symbol."""
        answer = self.http.get("/api/wallet").json()
        return {each["symbol"]: Decimal(each["amount"]) for each in answer["balances"]}

    def gauge(self, name: str) -> float:
        """A number of /metrics."""
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith((f"{name} ", f"{name}{{")):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"there is no metric {name}")

    def cpu_s(self) -> float:
        """CPU seconds that the engine has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def terminate(self, within_s: float = PATIENCE_S) -> float:
        """SIGTERM, and wait for the exit; how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(within_s)
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**settings: object) -> dict[str, str]:
    """This process's environment without its settings for the engine, with these: names without BESTEX_."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BESTEX_") and name not in ("PORT", "DATABASE_URL")
    }
    plain = {"PORT", "DATABASE_URL"}
    given = {name if name in plain else f"BESTEX_{name}": str(value) for name, value in settings.items()}
    scratch = scratch_of(str(settings.get("DATABASE_URL", "")))
    return inherited | {"BESTEX_DATA_DIR": str(scratch)} | given


def scratch_of(database_url: str) -> Path:
    """The data folder of engines on this database that are given none: the head of its log is published there.

    Databases made of one template have one journal id, so each needs a folder of its own.
    """
    name = hashlib.blake2b(database_url.encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"bestex-tests-{os.getuid()}" / name


def die_with_parent() -> None:
    """A test process that is killed leaves no engine behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def command(*arguments: str) -> list[str]:
    """The real command line."""
    return [str(Path(sys.executable).with_name("bestex")), *arguments]


@contextlib.contextmanager
def serving(*, ready: bool = True, defects: bool = False, **settings: object) -> Iterator[Served]:
    """`bestex serve` with these settings (`PORT`, `DATABASE_URL`, the others without BESTEX_), profile instant.

    `defects`: whether the log may speak of defects.
    """
    port = int(str(settings.get("PORT") or free_port()))
    given = {"PROFILE": "instant", "LOG_JSON": "true", "RETRY_BASE_MS": 10} | settings | {"PORT": port}
    with tempfile.TemporaryDirectory(prefix="bestex-served-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command("serve"),
                env=environment(**given),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        served = Served(process, port, log)
        try:
            if ready:
                served.until_ready()
            yield served
            if process.poll() is None:
                served.terminate()
            if not defects:
                said = served.log
                first = min((said.find(defect) for defect in DEFECTS if defect in said), default=None)
                assert first is None, said[max(0, first - 1_000) :][:8_000]
        finally:
            served.http.close()
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE_S)


async def until(condition: Callable[[], Awaitable[object]], *, within_s: float = PATIENCE_S) -> None:
    """Wait until the asynchronous condition holds."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(POLL_S)


def count_of(dsn: str, query: str, *arguments: object) -> int:
    """The single number that a query gives, from a test without a running event loop."""

    async def ask() -> int:
        connection = await asyncpg.connect(dsn)
        try:
            return int(await connection.fetchval(query, *arguments))
        finally:
            await connection.close()

    return _apart(ask())


@contextlib.contextmanager
def database_for_module(server: PostgresServer) -> Iterator[str]:
    """A database that the tests of one module share, as those without a running event loop may."""
    with asyncio.Runner() as runner:
        database = server.database(TEMPLATE)
        dsn = runner.run(database.__aenter__())
        try:
            yield dsn
        finally:
            runner.run(database.__aexit__(None, None, None))


def orders_stored(dsn: str) -> int:
    return count_of(dsn, "select count(*) from bestex.orders")


def check_ledger(dsn: str, *, all_ended: bool = True) -> Counter[str]:
    """`check_database` for tests without a running event loop."""
    return _apart(check_database(dsn, all_ended=all_ended))


def _apart(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner() as runner:
        return runner.run(work)


async def check_database(dsn: str, *, all_ended: bool = True) -> Counter[str]:
    """What must be true whatever happened, by the audit and by these checks apart from it; how many orders there are
    of each status.

    - every order's events are numbered 1, 2, 3 ..., follow the lifecycle, and fold to the projection;
    - the log's positions are 1, 2, 3 ... up to its head;
    - at most one open attempt: an attempt has one signature, and no signature stands for two;
    - what the chain executed was on disk before, under the same order, attempt and signature;
    - an order is confirmed exactly when the chain executed one swap of it, with the amounts that it did; a sliced
      one when it executed swaps of its slices, with their sums;
    - a watched order fires once for each time it was armed;
    - an executed entry that asked for exits has them, for no more than was received;
    - the wallet holds what it was given and what the transactions moved, to the base unit.
    """
    connection = await connect_for_audit(dsn)
    try:
        await connection.execute("begin isolation level repeatable read read only")
        audited = await audit(
            Evidence(PostgresJournalEvidence(connection), PostgresLedgerEvidence(connection)), None, lambda _: None
        )
        rows = await connection.fetch(
            "select position, order_id, seq, status, attempt, (extract(epoch from at) * 1000000)::bigint as at_us,"
            " detail, sealed from bestex.events order by position"
        )
        head = await connection.fetchval("select position from bestex.log_head")
        views = await connection.fetch(
            "select id, view, status, seq, attempt, unfilled, settled, resting from bestex.orders"
        )
        swaps = await connection.fetch("select * from sim.transactions")
        adjusted = await connection.fetch("select mint, sum(units) as units from sim.adjustments group by mint")
        balances = await connection.fetch("select mint, units from sim.balances")
    finally:
        await connection.close()
    assert not audited.findings, "\n".join(finding.message for finding in audited.findings)
    assert [row["position"] for row in rows] == list(range(1, head + 1)), "positions have a gap"
    by_order: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_order[str(row["order_id"])].append(stored_event(row).event)
    assert by_order.keys() == {str(row["id"]) for row in views}, "the projection has other orders than the log"
    projected = {str(row["id"]): row for row in views}
    signed: dict[str, tuple[str, int]] = {}  # order and attempt by signature
    statuses: Counter[str] = Counter()
    shown = {
        order_id: decode_view(row["view"]) if row["view"] else fold(by_order[order_id]).view()
        for order_id, row in projected.items()
    }
    slices = defaultdict(list)
    for each in sorted(shown.values(), key=lambda each: each.slice_number or 0):
        if each.slice_number is not None:
            slices[each.parent_id].append(each)
    executed = defaultdict(list)
    for swap in swaps:
        if swap["error"] is None:
            executed[swap["order_id"]].append(swap)
    for order_id, events in by_order.items():
        story = _story(events)
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), story
        before = None
        for event in events:
            check_transition(before, event.status)
            fires = isinstance(event.detail, RoutingDetail) and event.detail.trigger is not None
            assert fires == (before is Status.WATCHING and event.status is Status.ROUTING), story
            before = event.status
            signature = getattr(event.detail, "signature", None)
            if event.status is Status.SUBMITTED and signature is not None:
                assert event.sealed, f"submitted without the bytes:\n{story}"
                assert signature not in signed, f"a signature stands twice:\n{story}"
                assert (order_id, event.attempt) not in signed.values(), f"an attempt was signed twice:\n{story}"
                signed[signature] = order_id, event.attempt
        view, row = fold(events).view(), projected[order_id]
        assert shown[order_id] == view, f"{row['view']} is not the fold of\n{story}"
        assert (row["view"] is not None) == (row["settled"] or row["resting"]), f"a view too many or too few:\n{story}"
        assert (row["status"], row["seq"], row["attempt"]) == (view.status, view.seq, view.attempt)
        assert row["unfilled"] == (view.status if view.status in ENDED and view.status != "confirmed" else None)
        statuses[view.status] += 1
        assert not all_ended or view.status in ENDED, f"has not ended:\n{story}"
        if view.kind != Kind.TWAP:
            _check_execution(view, executed[order_id], story, _mints(events))
            _check_exits(view, shown.get(derived_id(order_id, "exits")))
        else:
            _check_sliced(view, slices[order_id], executed)
    assert not executed.keys() - by_order.keys(), f"the chain executed swaps of unknown orders: {list(executed)}"
    for swap in swaps:
        assert signed.get(swap["signature"]) == (swap["order_id"], swap["attempt"]), "was sent before it was on disk"
    _check_balances(swaps, adjusted, balances)
    return statuses


def _check_execution(view: OrderView, swaps: Sequence[Any], story: str, mints: SealedTokens) -> None:
    assert len(swaps) <= 1, f"executed {len(swaps)} times:\n{story}"
    if view.status not in ENDED:
        return
    assert len(swaps) == (view.status == "confirmed"), f"{view.status}, and {len(swaps)} executed swaps:\n{story}"
    if not swaps:
        return
    [swap] = swaps
    assert view.amount_in is not None
    assert view.amount_out is not None
    assert view.fee_paid is not None
    assert view.tx_hash == swap["signature"]
    assert (swap["mint_in"], swap["mint_out"], swap["venue"]) == (mints.mint_in, mints.mint_out, view.venue)
    assert Decimal(view.amount_in).scaleb(mints.decimals_in) == swap["amount_in"], story
    asked = Decimal(view.amount).scaleb(mints.decimals_in)
    assert swap["amount_in"] <= asked if view.kind == Kind.EXITS else swap["amount_in"] == asked, story
    assert Decimal(view.amount_out).scaleb(mints.decimals_out) == swap["amount_out"], story
    assert Decimal(view.fee_paid).scaleb(9) == swap["network_fee"], story


def _mints(events: Sequence[Event]) -> SealedTokens:
    """The tokens that an order swaps: what a sniper buys is known once it has fired."""
    mints = unseal_tokens(events[0].sealed)
    for event in events:
        match event.detail:
            case RoutingDetail(trigger=Trigger(mint=str(mint), decimals=int(decimals))):
                mints = replace(mints, mint_out=mint, decimals_out=decimals)
            case _:
                pass
    return mints


def _check_sliced(view: OrderView, slices: Sequence[OrderView], executed: Mapping[str, Sequence[Any]]) -> None:
    """A sliced order executes nothing itself, and says what its slices did."""
    assert not executed[view.order_id], f"order {view.order_id} was executed beside its slices"
    assert [each.slice_number for each in slices] == list(range(1, view.slices_begun + 1)), slices
    assert sum(Decimal(each.amount) for each in slices) <= Decimal(view.amount), slices
    if view.status not in ENDED:
        return
    assert all(each.status in ENDED for each in slices), slices
    filled = [each for each in slices if each.status == "confirmed" and not each.gone]
    assert (view.filled_slices or 0) == len(filled), slices
    assert (view.status == "confirmed") == bool(filled), slices
    for told, fills in ((view.amount_in, "amount_in"), (view.amount_out, "amount_out")):
        assert Decimal(told or 0) == sum(Decimal(getattr(each, fills)) for each in filled), slices


def _check_exits(entry: OrderView, exits: OrderView | None) -> None:
    """An executed entry's exits are there, and belong to it."""
    if entry.exits is None or entry.amount_out is None:
        assert exits is None, f"{exits} are the exits of an order that has none"
        return
    assert exits is not None, f"entry {entry.order_id} was executed, and has no exits"
    assert (exits.kind, exits.parent_id) == (Kind.EXITS, entry.order_id)
    assert {leg.name for leg in exits.legs} == {name for name, _ in entry.exits.legs()}


def _check_balances(swaps: Sequence[Any], adjusted: Sequence[Any], balances: Sequence[Any]) -> None:
    expected: Counter[str] = Counter({row["mint"]: int(row["units"]) for row in adjusted})
    for swap in swaps:
        expected[swap["mint_in"]] -= int(swap["amount_in"])
        expected[swap["mint_out"]] += int(swap["amount_out"])
        expected[load_tokens().get("SOL").mint] -= swap["network_fee"]
    assert {row["mint"]: int(row["units"]) for row in balances} == dict(expected), "the wallet does not add up"


def _story(events: Sequence[Any]) -> str:
    return "\n".join(f"{event.seq} {event.status} attempt {event.attempt} {event.detail}" for event in events)


def check_updates(updates: Sequence[Json], *, first_seq: int = 1) -> None:
    """An order's updates as a watcher got them: each once, in order, as the lifecycle allows."""
    assert [update["seq"] for update in updates] == list(range(first_seq, first_seq + len(updates))), updates
    for before, after in pairwise(updates):
        assert Status(after["status"]) in NEXT[Status(before["status"])], updates


def updates_of(message: str | bytes) -> list[Json]:
    """The updates in one message of a status stream."""
    decoded = json.loads(message)
    assert decoded.keys() == {"type", "data"}, decoded
    data: list[Json] = decoded["data"] if decoded["type"] == "history" else [decoded["data"]]
    return data


# --- An engine in the test's own process, to be stopped at any moment of an order's life


class Gates:
    """Where orders wait until the test lets them go on: before a `quote`, a `build` or a `send` is answered."""

    def __init__(self, *closed: str) -> None:
        self._open = {name: asyncio.Event() for name in ("quote", "build", "send")}
        self.arrived: Counter[str] = Counter()
        for name, event in self._open.items():
            if name not in closed:
                event.set()

    async def passed(self, name: str) -> None:
        self.arrived[name] += 1
        await self._open[name].wait()

    def open(self, *names: str) -> None:
        for name in names or self._open:
            self._open[name].set()

    def close(self, *names: str) -> None:
        for name in names:
            self._open[name].clear()


class _GatedVenue:
    def __init__(self, venue: Venue, gates: Gates) -> None:
        self.name = venue.name
        self._venue = venue
        self._gates = gates

    def quote_at_once(self, request: QuoteRequest) -> Quote | None:
        return None

    async def quote(self, request: QuoteRequest) -> Quote:
        await self._gates.passed("quote")
        return await self._venue.quote(request)

    def build_at_once(self, request: SwapRequest) -> SignedTransaction | None:
        return None

    async def build(self, request: SwapRequest) -> SignedTransaction:
        await self._gates.passed("build")
        return await self._venue.build(request)


class _GatedChain:
    def __init__(self, chain: Chain, gates: Gates) -> None:
        self._chain = chain
        self._gates = gates

    def send_at_once(self, transaction: SignedTransaction) -> bool:
        return False

    async def send(self, transaction: SignedTransaction) -> None:
        await self._gates.passed("send")
        await self._chain.send(transaction)

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        return await self._chain.statuses(signatures)

    async def finalized_height(self) -> BlockHeight:
        return await self._chain.finalized_height()

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        return await self._chain.fills(signatures)

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        self._chain.on_status(listener)


class Local(InlineProcess):
    """The engine's process, without signals, in the test's own."""

    def __init__(self, gates: Gates, settings: Settings) -> None:
        super().__init__(settings, load_tokens(), {})
        self.gates = gates
        self.url = f"http://127.0.0.1:{settings.port}"
        self.ws_url = f"ws://127.0.0.1:{settings.port}"
        self.port = settings.port
        self.http = httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=PATIENCE_S)

    def _own_signals(self) -> None:
        pass

    async def _simulation(self, dsn: str) -> SimulatedWorld:
        world = await super()._simulation(dsn)
        world.venues = [_GatedVenue(venue, self.gates) for venue in world.venues]
        world.chain = _GatedChain(world.chain, self.gates)
        return world

    async def _recover(self, engine: Engine, began: float) -> None:
        await engine.recover()
        self._not_ready = None

    def stop(self) -> None:
        self._stop.set()

    async def ready(self) -> bool:
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def order(self, **fields: object) -> str:
        body = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"} | fields
        answer = await self.http.post("/api/orders/execute", json=body)
        assert answer.status_code == 202, answer.text
        order_id: str = answer.json()["orderId"]
        return order_id

    async def view(self, order_id: str) -> Json:
        view: Json = (await self.http.get(f"/api/orders/{order_id}")).json()
        return view

    async def until(self, order_id: str, *statuses: str) -> Json:
        """Wait until the order has one of these statuses, or has ended; its view."""

        async def reached() -> bool:
            return (await self.view(order_id))["status"] in (statuses or ENDED)

        await until(reached)
        return await self.view(order_id)

    async def history(self, order_id: str) -> list[Json]:
        data: list[Json] = (await self.http.get(f"/api/orders/{order_id}/history")).json()["data"]
        return data


@contextlib.asynccontextmanager
async def local_engine(database_url: str, *closed: str, **settings: object) -> AsyncIterator[Local]:
    """An engine over the database, the named gates closed. Settings by their field's name, profile instant."""
    given: dict[str, Any] = {
        "port": free_port(),
        "database_url": database_url,
        "data_dir": scratch_of(database_url),
        "profile": "instant",
        "retry_base_ms": 10,
        "quote_timeout_ms": 60_000,
    }
    local = Local(Gates(*closed), Settings(**(given | settings)))
    running = asyncio.create_task(local.run())
    try:
        ready = asyncio.create_task(until(local.ready))
        await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        assert not running.done(), f"the engine ended: {running.exception()!r}"
        yield local
        assert not running.done(), "the engine ended by itself"
    finally:
        await local.http.aclose()
        local.stop()
        assert await running == 0
