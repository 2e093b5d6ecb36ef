"""Recovery: how long a start takes that finds many open orders, and how much memory. `python -m bench.recovery`.

Half of the orders were accepted and not begun, half have a signed transaction of which nobody knows what became.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.dead_engine import dead_engine
from bench.engine import BESTEX, READY_SECONDS_MAX, end_postgres
from bench.errors import BenchError
from bench.processes import child, free_port, peak_memory_bytes, temporary_directory, wait_for_ok
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

ORDERS: Final = 100_000
EPOCH: Final = 1
QUOTES: Final = (
    QuoteRecord("raydium", 251.3, "FJXAViwGpool", "40.204417", "0.000625", "SOL", 1, "40.2031", chosen=True),
    QuoteRecord("meteora", 300.1, "4AUKrmQ9pool", "39.1", "0.08", "USDC", 1, "39.0998", reason="pays 1.1 USDC less"),
)


async def run(orders: int) -> None:
    console = Console()
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
            await load(postgres.dsn, orders)
            await postgres.stop()
            began = time.monotonic()
            log = folder / "second.log"
            async with child("bestex", [BESTEX, "serve"], log, settings) as serve:
                await wait_for_ok(serve, f"http://127.0.0.1:{port}/readyz", READY_SECONDS_MAX)
                seconds = time.monotonic() - began
                memory = peak_memory_bytes(serve.pid)
            console.print(f"{orders:,} open orders recovered in {seconds:.1f} s, peak memory {memory / 1e6:.0f} MB")
            console.print(told(log))
        finally:
            await end_postgres(data)


def told(log: Path) -> str:
    """What the engine itself said of it."""
    lines = log.read_text().splitlines()
    return "\n".join(line for line in lines if '"engine.recovered"' in line or '"level": "warning"' in line)


async def load(dsn: str, orders: int) -> None:
    """Write the orders through the journal, as an engine that is dead then."""
    async with dead_engine(dsn, "inline") as dead:
        slot = dead.anchor_slot + (dead.clock.now_us() - dead.anchor_us) // dead.slot_us
        await dead.write(drafts(orders, dead.clock, dead.ids, dead.wallet_key, slot), orders)


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--orders", type=int, default=ORDERS, help="open orders (default: %(default)s)")
    try:
        asyncio.run(run(parser.parse_args().orders))
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
