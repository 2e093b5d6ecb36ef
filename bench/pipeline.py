"""CPU time per order of one process, without sockets and without a database: what the engine's own code costs.

    python -m bench.pipeline --orders 20000 --width 64 --entry http

Requests enter as bytes at the HTTP protocol (`http`), at its batch call (`batch`), or behind all of that, as validated
requests (`intake`). The journal's writer and the simulated chain's ledger make and encode their commits as for
PostgreSQL, and a timer answers for it. What is left out is the driver, the system calls and the database itself.
"""

import argparse
import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
import uvloop
from uvicorn.server import ServerState

from bench.engine import order_body
from bench.wire import EXECUTE_PATH, post
from bestex.ambient import SystemClock, SystemIds
from bestex.api.app import Application
from bestex.api.direct_entry import DirectEntry
from bestex.api.execute import OrderEntry
from bestex.api.guard import Guard
from bestex.api.server import HttpProtocol, HttpServer
from bestex.api.stream import OpenStreams
from bestex.domain.events import StoredEvent, ends
from bestex.domain.tokens import load_tokens
from bestex.engine.engine import Engine
from bestex.engine.execution import EngineLimits
from bestex.engine.intake import CALLER, OrderRequest
from bestex.engine.landing import LandingLimits
from bestex.hub.local import LocalHub
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.journal.rows import append_columns
from bestex.journal.trigger_store import MemoryTriggerStore, TriggerTables
from bestex.journal.writer import GroupCommitWriter, MergedRows, Verdict
from bestex.observability import Metrics
from bestex.ports import JournalListener
from bestex.routing.router import QuoteLimits, Router
from bestex.venues.simulated.ledger import Batch, MemoryLedger
from bestex.venues.simulated.postgres_ledger import batch_columns
from bestex.venues.simulated.world import LOOK_EVERY_S, open_simulation

ENTRIES: Final = ("http", "batch", "intake")
BATCH_PATH: Final = "/api/orders/batch"
ENGINE_ID: Final = "00000000-0000-7000-8000-000000000001"
WARM_UP_ORDERS: Final = 2_000


class EncodingStore:
    """Encodes each commit and forgets it; the answer comes after a while, as a database's would."""

    def __init__(self, commit_s: float) -> None:
        self._commit_s = commit_s
        self._position = 1
        self.bytes = 0

    async def commit(self, number: int, rows: Sequence[MergedRows]) -> Verdict:
        append_columns(rows)
        first = self._position
        self._position += sum(len(append.events) for merged in rows for append in merged.appends)
        await asyncio.sleep(self._commit_s)
        return Verdict(first, {}, bytes(32))


class EncodingLedger(MemoryLedger):
    """The ledger in memory, which encodes each batch too and forgets what landed long ago."""

    def __init__(self, commit_s: float) -> None:
        super().__init__()
        self._commit_s = commit_s

    async def commit(self, epoch: int, batch: Batch) -> None:
        batch_columns(epoch, batch)
        await asyncio.sleep(self._commit_s)


class Journal(MemoryJournal):
    """Writes through the real writer into an `EncodingStore`; of what it wrote it reads nothing."""

    def __init__(self, clock: SystemClock, commit_s: float) -> None:
        database = MemoryDatabase()
        database.enrol(ENGINE_ID)
        super().__init__(database, ENGINE_ID, clock)
        self.writer = GroupCommitWriter(EncodingStore(commit_s), clock)

    def listen(self, listener: JournalListener) -> None:
        self.writer.listen(listener)


class Wire:
    """A transport that hands each complete answer to whoever waits for it."""

    def __init__(self) -> None:
        self.answered: Callable[[bytes], None] = lambda _: None
        self._parts = b""

    def write(self, data: bytes) -> None:
        self._parts += data
        head = self._parts.find(b"\r\n\r\n")
        if head < 0:
            return
        length = self._parts.find(b"content-length: ")
        size = int(self._parts[length + 16 : self._parts.index(b"\r\n", length)])
        if len(self._parts) >= head + 4 + size:
            answer, self._parts = self._parts, b""
            self.answered(answer)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 4000) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Pipeline:
    """An engine as `bestex serve` puts it together, over nothing."""

    def __init__(self, engine: Engine, server: HttpServer, tokens: Any, parts: list[asyncio.Task[None]]) -> None:
        self.engine = engine
        self.server = server
        self.tokens = tokens
        self.ended = 0
        self._parts = parts
        self._awaited = 0
        self._done = asyncio.Event()

    def committed(self, events: Sequence[StoredEvent]) -> None:
        self.ended += sum(ends(stored.event) for stored in events)
        if self.ended >= self._awaited:
            self._done.set()

    async def drive(self, orders: int, entry: Callable[[int], Coroutine[Any, Any, None]], width: int) -> float:
        """Have `orders` orders executed, `width` at once; the CPU seconds that it took."""
        self._awaited = self.ended + orders
        self._done.clear()
        before = time.process_time()
        share = orders // width
        await asyncio.gather(*(entry(share) for _ in range(width)))
        self._awaited -= orders - share * width
        if self.ended < self._awaited:
            await self._done.wait()
        return (time.process_time() - before) / (share * width)


async def build(commit_s: float) -> Pipeline:
    clock, ids, tokens = SystemClock(), SystemIds(), load_tokens()
    journal = Journal(clock, commit_s)
    world = await open_simulation(
        seed=7, profile="instant", slot_ms=None, tokens=tokens, clock=clock, entropy=ids.entropy(),
        ledger=EncodingLedger(commit_s / 2), faults={}, launch_every_s=0,
    )  # fmt: skip
    engine = Engine(
        journal, Router(world.venues, clock, QuoteLimits()), world.chain, world.wallet, world.market_data,
        MemoryTriggerStore(TriggerTables()), tokens, clock, ids,
        EngineLimits(landing=LandingLimits.looking_every(LOOK_EVERY_S["instant"])),
    )  # fmt: skip
    metrics, hub = Metrics(), LocalHub()
    journal.listen(metrics.committed)
    journal.listen(hub.publish)
    journal.listen(engine.committed)
    entry = OrderEntry(engine.intake, tokens, clock)
    application = Application(entry, None, None, None, None)  # type: ignore[arg-type] # nobody asks them
    guard = Guard(application, (), ())
    server = HttpServer(guard, None, OpenStreams(), DirectEntry(entry, guard))  # type: ignore[arg-type] # no listener
    parts = [asyncio.create_task(each) for each in (journal.writer.run(), world.run(), engine.run())]
    pipeline = Pipeline(engine, server, tokens, parts)
    journal.listen(pipeline.committed)
    return pipeline


def bodies() -> tuple[str, str]:
    return order_body("SOL", "USDC", "0.25"), order_body("USDC", "SOL", "37.42")


def by_http(pipeline: Pipeline) -> Callable[[int], Coroutine[Any, Any, None]]:
    """One keep-alive connection each, one order a request."""
    requests = [post(4000, EXECUTE_PATH, body) for body in bodies()]
    return lambda orders: _exchange(pipeline, [requests[number % 2] for number in range(orders)], b"HTTP/1.1 202")


def by_batch(pipeline: Pipeline, size: int) -> Callable[[int], Coroutine[Any, Any, None]]:
    orders_of = bodies()
    body = f'{{"orders":[{",".join(orders_of[number % 2] for number in range(size))}]}}'
    head, _, _ = post(4000, EXECUTE_PATH, body).partition(b"\r\n\r\n")
    request = head.replace(b"/api/orders/execute", BATCH_PATH.encode()) + b"\r\n\r\n" + body.encode()
    return lambda orders: _exchange(pipeline, [request] * (orders // size), b"HTTP/1.1 200")


async def _exchange(pipeline: Pipeline, requests: Sequence[bytes], expected: bytes) -> None:
    wire = Wire()
    config = pipeline.server.config
    if not config.loaded:
        config.load()
    protocol: HttpProtocol = config.http_protocol_class(config, ServerState(), {})  # type: ignore[call-arg, assignment]
    protocol.connection_made(wire)  # type: ignore[arg-type] # as much of a transport as it uses
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = iter(requests)

    def send_next(answer: bytes) -> None:
        if not answer.startswith(expected):
            done.set_exception(RuntimeError(answer.decode()))
        elif (request := next(left, None)) is None:
            done.set_result(None)
        else:
            loop.call_soon(protocol.data_received, request)

    wire.answered = send_next
    send_next(expected)
    await done


def by_intake(pipeline: Pipeline) -> Callable[[int], Coroutine[Any, Any, None]]:
    from bestex.domain.terms import Kind

    sol, usdc = pipeline.tokens.get("SOL"), pipeline.tokens.get("USDC")
    asked = [
        OrderRequest(Kind.MARKET, sol, usdc, 250_000_000, 50),
        OrderRequest(Kind.MARKET, usdc, sol, 37_420_000, 50),
    ]

    async def enter(orders: int) -> None:
        for number in range(orders):
            await pipeline.engine.intake.accept(asked[number % 2], CALLER, None)

    return enter


async def run(arguments: argparse.Namespace) -> list[float]:
    pipeline = await build(arguments.commit_ms / 1000)
    size = arguments.batch
    entry = {"http": by_http, "batch": lambda each: by_batch(each, size), "intake": by_intake}[arguments.entry](
        pipeline
    )
    await pipeline.drive(WARM_UP_ORDERS, entry, arguments.width if arguments.entry != "batch" else 1)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    return [await pipeline.drive(arguments.orders, entry, arguments.width) for _ in range(arguments.rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64, help="connections, or orders entered side by side")
    parser.add_argument("--batch", type=int, default=100, help="orders a batch, with --entry batch")
    parser.add_argument("--entry", choices=ENTRIES, default="http")
    parser.add_argument("--commit-ms", type=float, default=4.0, help="how long a commit takes")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        took = runner.run(run(arguments))
    print(msgspec.json.encode([round(seconds * 1e6, 1) for seconds in took]).decode(), "us an order")


if __name__ == "__main__":
    main()
