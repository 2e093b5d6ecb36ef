"""Recovery: how long a start takes that finds many open orders, and how much memory. `python -m bench.recovery`.

Half of the orders were accepted and not begun, half have a signed transaction of which nobody knows what became.
"""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bench.dead_engine import dead_engine
from bench.engine import BESTEX, READY_SECONDS_MAX, end_postgres
from bench.processes import child, free_port, peak_memory_bytes, temporary_directory, wait_for_ok
from bench.results import Figures, Findings, Reading, Result
from bench.suite import Benchmark, ProgressOf, Run, main
from bestex.ambient import SystemClock, SystemIds
from bestex.domain.events import (
    BuildingDetail,
    Detail,
    Event,
    QuoteRecord,
    RoutingDetail,
    SignedTransaction,
    SubmittedDetail,
    seal,
)
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.terms import Kind
from bestex.domain.tokens import load_tokens
from bestex.journal.embedded import EmbeddedPostgres
from bestex.ports import Append, NewOrder
from bestex.venues.simulated.slots import last_valid_height
from bestex.venues.simulated.transaction import Message, sign

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES: Final = (20_000, 50_000, 100_000)
QUICK_SIZES: Final = (1_000, 5_000)
OPEN, READY, MEMORY = "open orders", "ready after, s", "peak memory, MB"
EPOCH: Final = 1
QUOTES: Final = (
    QuoteRecord("raydium", 251.3, "FJXAViwGpool", "40.204417", "0.000625", "SOL", 1, "40.2031", chosen=True),
    QuoteRecord("meteora", 300.1, "4AUKrmQ9pool", "39.1", "0.08", "USDC", 1, "39.0998", reason="pays 1.1 USDC less"),
)


async def measure(run: Run) -> Findings:
    sizes = QUICK_SIZES if run.quick else SIZES
    readings: list[Reading] = []
    for number in range(1, run.rounds + 1):
        for size in sizes:
            found = await _figures(run, size)
            readings.append(Reading(system_of(size), number, found))
            run.say(f"round {number}: {size:,} open orders: ready after {found[READY]:.1f} s")
    readings.sort(key=lambda reading: (reading.figures[OPEN], reading.round))
    return Findings(
        readings, {"orders": "half accepted and not begun, half with a signed transaction of unknown outcome"}
    )


async def _figures(run: Run, orders: int) -> Figures:
    with temporary_directory() as folder:
        data = folder / "data"
        data.mkdir()
        port = free_port()
        settings = {"PORT": str(port), "BESTEX_DATA_DIR": str(data), "BESTEX_LOG_JSON": "true"}
        try:
            async with child("bestex", [BESTEX, "serve"], folder / "first.log", settings) as serve:
                await wait_for_ok(serve, f"http://127.0.0.1:{port}/readyz", READY_SECONDS_MAX)
            postgres = EmbeddedPostgres(data)
            await postgres.start()
            with run.bar(f"writing {orders:,} open orders", orders) as progress:
                await load(postgres.dsn, orders, progress)
            await postgres.stop()
            began = time.monotonic()
            async with child("bestex", [BESTEX, "serve"], folder / "second.log", settings) as serve:
                with run.bar(f"recovering {orders:,} open orders", 1):
                    await wait_for_ok(serve, f"http://127.0.0.1:{port}/readyz", READY_SECONDS_MAX)
                return {
                    OPEN: orders,
                    READY: time.monotonic() - began,
                    MEMORY: peak_memory_bytes(serve.pid) / 1e6,
                }
        finally:
            await end_postgres(data)


async def load(dsn: str, orders: int, progress: ProgressOf) -> None:
    """Write the orders through the journal, as an engine that is dead then."""
    async with dead_engine(dsn, "inline") as dead:
        slot = dead.anchor_slot + (dead.clock.now_us() - dead.anchor_us) // dead.slot_us
        await dead.write(drafts(orders, dead.clock, dead.ids, dead.wallet_key, slot), progress)


def drafts(orders: int, clock: SystemClock, ids: SystemIds, key: bytes, slot: int) -> Iterator[Append]:
    tokens = load_tokens()
    sol, usdc = tokens.get("SOL"), tokens.get("USDC")
    for number in range(orders):
        order = Order(ids.order_id(), Kind.MARKET, sol, usdc, 250_000_000, 50, clock.now_us())
        state, events = OrderState(), list[Event]()

        steps: list[tuple[Status, int, Detail, bytes]] = [
            (Status.PENDING, 0, order.pending_detail(), seal(order.sealed_tokens()))
        ]
        if number % 2:
            message = Message(order.id, 1, "raydium", "pool", sol.mint, usdc.mint, 250_000_000, 1, "b1ockhash", slot)
            signature, raw = sign(message, key)
            transaction = SignedTransaction(signature, raw, "b1ockhash", slot, last_valid_height(slot))
            building = BuildingDetail("raydium", "FJXAViwGpool", "40.2", "40.0", 1, QUOTES, wraps_sol=True)
            submitted = SubmittedDetail("raydium", signature, transaction.last_valid_block_height)
            steps += [
                (Status.ROUTING, 1, RoutingDetail(), b""),
                (Status.BUILDING, 1, building, b""),
                (Status.SUBMITTED, 1, submitted, seal(transaction)),
            ]
        for status, attempt, detail, sealed in steps:
            event = Event(order.id, state.seq + 1, status, attempt, clock.now_us(), detail, sealed)
            state.apply(event)
            events.append(event)
        new = NewOrder(order.id, order.kind.value, order.pair.name, "local")
        yield Append(order.id, 0, None, EPOCH, tuple(events), state.view(), new)


def system_of(size: int) -> str:
    return f"{size:,} open"


def draw(result: Result) -> "Figure":
    from bench.charts import figure, line, title

    made, (left, right) = figure(columns=2, height_in=2.8)
    middle = list(result.medians.values())
    line(left, [(each[OPEN], each[READY]) for each in middle], "open orders found", "s")
    title(left, "from the start to ready")
    line(right, [(each[OPEN], each[MEMORY]) for each in middle], "open orders found", "MB")
    title(right, "peak memory of the process")
    return made


def describe(result: Result) -> str:
    return (
        "A start that finds many open orders after a crash, until the engine answers that it is ready; PostgreSQL's "
        "own start is in it. Ready means that every order has been folded from its events, that every signed "
        "transaction is being looked up, and that new orders are taken."
    )


BENCHMARK: Final = Benchmark(
    name="recovery",
    title="Recovery",
    measure=measure,
    draw=draw,
    describe=describe,
    alt="Seconds from the start to ready, and peak memory, over the number of open orders found",
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
