"""CPU time per order of the simulated world behind a socket, on both sides, beside the same world in process.

An order is a route (two quotes), a build, a send, and its share of the look-ups that a status hint sets off.
`instant` profile, ledger in memory. Usage: python bench/simnet_cpu.py [--orders 20000] [--concurrency 100] [--rounds 3]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe
from typing import Any

import uvloop

from bestex.ambient import SystemClock
from bestex.domain.events import SignedTransaction
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import load_tokens
from bestex.ports import Commitment, StatusReport, TransactionStatus
from bestex.routing.choose import Chosen
from bestex.routing.router import QuoteLimits, Router
from bestex.venues.simnet.remote_world import connect_simnet
from bestex.venues.simnet.server import SimnetServer
from bestex.venues.simulated.ledger import MemoryLedger
from bestex.venues.simulated.world import SimulatedWorld, open_simulation

TOKENS = load_tokens()
REQUEST = QuoteRequest(TOKENS.get("SOL"), TOKENS.get("USDC"), 10_000_000)


class Orders:
    """Orders one after the other, so many beside each other."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.router = Router(world.venues, SystemClock(), QuoteLimits())
        self.landed: dict[str, asyncio.Future[None]] = {}
        self.hinted: list[str] = []
        self.wake = asyncio.Event()
        world.chain.on_status(self.hint)

    def hint(self, signatures: Sequence[str]) -> None:
        self.hinted.extend(signatures)
        self.wake.set()

    async def follow(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            hinted, self.hinted = self.hinted, []
            known = [each for each in hinted if each in self.landed]
            for start in range(0, len(known), 256):
                some = known[start : start + 256]
                await self.world.chain.statuses(some)
                await self.world.chain.fills(some)
                for each in some:
                    self.landed.pop(each).set_result(None)

    async def order(self, number: int) -> None:
        chosen = await self.router.route(REQUEST)
        assert isinstance(chosen, Chosen)
        best = chosen.quote
        request = SwapRequest(f"order-{number:030}", 1, REQUEST.token_in, REQUEST.token_out, 10_000_000, 1, best)
        transaction = await self.router.venue(best.venue).build(request)
        landed = self.landed[transaction.signature] = asyncio.get_running_loop().create_future()
        await self.world.chain.send(transaction)
        await landed

    async def run(self, first: int, orders: int, concurrency: int) -> None:
        numbers = iter(range(first, first + orders))

        async def some() -> None:
            for number in numbers:
                await self.order(number)

        following = asyncio.create_task(self.follow())
        await asyncio.gather(*(some() for _ in range(concurrency)))
        following.cancel()


class Nothing:
    """A world that answers at once and does nothing: what the harness itself costs."""

    def __init__(self, name: str = "nothing") -> None:
        self.name = name
        self.venues = [self, Nothing("more")] if name == "nothing" else []
        self.chain = self
        self.numbers = 0
        self.waiting: list[str] = []

    def on_status(self, listener: Any) -> None:
        self.listener = listener

    def quote_at_once(self, request: QuoteRequest) -> Quote:
        return Quote("nothing", "p", 1, 1, 1, request.token_in, 1, 1, 1, 1, 2**60)

    async def build(self, request: SwapRequest) -> SignedTransaction:
        self.numbers += 1
        return SignedTransaction(str(self.numbers), b"", "", 1, 1)

    async def send(self, transaction: SignedTransaction) -> None:
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.tell)
        self.waiting.append(transaction.signature)

    def tell(self) -> None:
        told, self.waiting = self.waiting, []
        self.listener(told)

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        seen = TransactionStatus(1, Commitment.CONFIRMED)
        return StatusReport("n", 1, 1, 1, tuple([seen for _ in signatures]))

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        return [Fill(1, 1, 1) for _ in signatures]


async def new_world() -> SimulatedWorld:
    return await open_simulation(
        seed=1,
        profile="instant",
        slot_ms=None,
        tokens=TOKENS,
        clock=SystemClock(),
        entropy=os.urandom(32),
        ledger=MemoryLedger(),
        faults={},
    )


def serve(pipe: Pipe) -> None:
    async def main() -> None:
        world = await new_world()
        running = asyncio.create_task(world.run())
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        serving = asyncio.create_task(SimnetServer(world, TOKENS, listener, SystemClock()).run())
        pipe.send(listener.getsockname()[1])
        loop = asyncio.get_running_loop()
        loop.add_reader(pipe.fileno(), lambda: pipe.send(time.process_time()) if pipe.recv() else serving.cancel())
        await asyncio.wait((serving, running), return_when=asyncio.FIRST_COMPLETED)

    uvloop.run(main())


async def measure(orders: int, concurrency: int, rounds: int) -> dict[str, float]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    remote = await connect_simnet(f"http://127.0.0.1:{here.recv()}", load_tokens(), SystemClock())
    world = await new_world()
    running = asyncio.create_task(world.run())
    kinds: dict[str, Any] = {"harness": Orders(Nothing()), "inline": Orders(world), "client": Orders(remote)}
    spent: dict[str, list[float]] = {name: [] for name in (*kinds, "server", "seconds")}
    number = 0
    for _ in range(rounds):
        for name, kind in kinds.items():
            await kind.run(number, 1_000, concurrency)
            number += 1_000
            here.send(True)
            server_before, before, began = here.recv(), time.process_time(), time.monotonic()
            await kind.run(number, orders, concurrency)
            number += orders
            spent[name].append((time.process_time() - before) / orders * 1e6)
            if name == "client":
                spent["seconds"].append(time.monotonic() - began)
                here.send(True)
                spent["server"].append((here.recv() - server_before) / orders * 1e6)
    running.cancel()
    await remote.close()
    here.send(False)
    process.join(5)
    return {name: statistics.median(values) for name, values in spent.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--orders", type=int, default=20_000)
    options.add_argument("--concurrency", type=int, default=100)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    us = uvloop.run(measure(given.orders, given.concurrency, given.rounds))
    shown = {
        "harness_us": us["harness"],
        "inline_us": us["inline"],
        "world_us": us["inline"] - us["harness"],
        "client_us": us["client"],
        "client_beyond_harness_us": us["client"] - us["harness"],
        "server_us": us["server"],
        "server_beyond_world_us": us["server"] - (us["inline"] - us["harness"]),
        "orders_a_second": given.orders / us["seconds"],
    }
    print(json.dumps({name: round(value, 1) for name, value in shown.items()}, indent=2))


if __name__ == "__main__":
    main()
