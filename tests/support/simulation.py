"""Simulated worlds for tests, on a fake clock, over a ledger in memory or in PostgreSQL, that can be killed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from bestex.domain.events import SignedTransaction
from bestex.domain.money import min_amount_out, parse_amount
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import TokenRegistry, load_tokens
from bestex.journal.embedded import EmbeddedPostgres
from bestex.ports import StatusReport, TransactionStatus, Venue
from bestex.venues.simulated.ledger import Ledger, MemoryLedger
from bestex.venues.simulated.postgres_ledger import PostgresLedger
from bestex.venues.simulated.world import ProfileName, SimulatedWorld, open_simulation
from tests.support.clock import FakeClock

ENTROPY = b"the entropy of a test, not random"
STEP_S = 0.2


class World:
    """One simulated world, its clock, and the hands that kill it and open it again."""

    def __init__(
        self, world: SimulatedWorld, clock: FakeClock, ledger: Ledger, reopen: "Callable[[World], Awaitable[None]]"
    ) -> None:
        self.world = world
        self.clock = clock
        self.ledger = ledger
        self.tokens: TokenRegistry = load_tokens()
        self.registry = self.tokens  # the world's own, which learns what is launched
        self._reopen = reopen
        self._running: asyncio.Task[None] | None = None
        self._numbers = count(1)

    def start(self) -> None:
        self._running = asyncio.create_task(self.world.run())

    async def reach(self) -> None:
        """Have the running world reached as its users reach it."""

    async def kill(self) -> None:
        """Stop the world at this very moment: what is not in the ledger is lost."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def restart(self) -> None:
        """Kill it and open it again over the same ledger."""
        await self.kill()
        await self._reopen(self)
        self.start()
        await self.reach()

    async def fill(self, signature: str) -> Fill:
        """What an executed swap did."""
        [fill] = await self.world.chain.fills([signature])
        assert fill is not None, f"no executed swap has the signature {signature}"
        return fill

    def venue(self, name: str = "raydium") -> Venue:
        return next(venue for venue in self.world.venues if venue.name == name)

    async def during(self, awaitable: Awaitable[object]) -> object:
        """The result of something that takes the clock's time."""
        task = asyncio.ensure_future(awaitable)
        for _ in range(1000):
            await self.clock.settle()
            if task.done():
                return task.result()
            await self.pass_time(STEP_S)
        task.cancel()
        raise AssertionError("it took too long")

    async def quote(self, pay: str, receive: str, amount: str, venue: str = "raydium") -> Quote:
        token_in, token_out = self.tokens.get(pay), self.tokens.get(receive)
        request = QuoteRequest(token_in, token_out, parse_amount(amount, token_in.decimals))
        quote = await self.during(self.venue(venue).quote(request))
        assert isinstance(quote, Quote)
        return quote

    def swap_request(self, pay: str, receive: str, quote: Quote, *, slippage_bps: int = 50) -> SwapRequest:
        return SwapRequest(
            order_id=f"order-{next(self._numbers)}",
            attempt=1,
            token_in=self.tokens.get(pay),
            token_out=self.tokens.get(receive),
            amount_in=quote.amount_in,
            min_amount_out=min_amount_out(quote.amount_out, slippage_bps),
            quote=quote,
        )

    async def built(
        self, pay: str, receive: str, amount: str, *, slippage_bps: int = 50, venue: str = "raydium"
    ) -> SignedTransaction:
        """A signed swap, not sent."""
        quote = await self.quote(pay, receive, amount, venue)
        request = self.swap_request(pay, receive, quote, slippage_bps=slippage_bps)
        transaction = await self.during(self.venue(venue).build(request))
        assert isinstance(transaction, SignedTransaction)
        return transaction

    async def report(self, signature: str) -> StatusReport:
        return await self.world.chain.statuses([signature])

    async def status(self, signature: str) -> TransactionStatus | None:
        return (await self.report(signature)).statuses[0]

    async def until_known(self, signature: str, limit_s: float = 10.0) -> TransactionStatus:
        found: list[TransactionStatus] = []

        async def known() -> bool:
            status = await self.status(signature)
            if status is not None:
                found.append(status)
            return status is not None

        await self.until(known, limit_s)
        return found[0]

    async def until(self, condition: Callable[[], Awaitable[bool]], limit_s: float = 10.0) -> None:
        """Let time pass until the condition holds; fail when it does not within `limit_s` of the clock."""
        for _ in range(round(limit_s / STEP_S)):
            if await condition():
                return
            await self.pass_time(STEP_S)
        assert await condition(), f"not within {limit_s} s"

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        if isinstance(self.ledger, PostgresLedger):
            await asyncio.sleep(0.01)  # a commit takes real time; conditions are waited for, this only helps

    async def balance(self, symbol: str) -> int:
        mint = self.tokens.get(symbol).mint
        return {balance.mint: balance.units for balance in await self.world.wallet.balances()}[mint]

    async def balances(self) -> dict[str, int]:
        return {balance.mint: balance.units for balance in await self.world.wallet.balances()}

    async def close(self) -> None:
        await self.kill()
        await self.world.close()


async def open_world(
    *,
    seed: int = 1,
    profile: ProfileName = "realistic",
    ledger: Ledger | None = None,
    clock: FakeClock | None = None,
    faults: Mapping[str, float] | None = None,
    entropy: bytes = ENTROPY,
    slot_ms: int | None = None,
    launch_every_s: int | None = None,
    kind: type[World] = World,
) -> World:
    clock = clock or FakeClock()
    ledger = ledger or MemoryLedger()

    async def make(registry: TokenRegistry) -> SimulatedWorld:
        return await open_simulation(
            seed=seed,
            profile=profile,
            slot_ms=slot_ms,
            tokens=registry,
            clock=clock,
            entropy=entropy,
            ledger=ledger,
            faults=faults or {},
            launch_every_s=launch_every_s,
        )

    async def reopen(world: World) -> None:
        world.registry = load_tokens()
        world.world = await make(world.registry)

    registry = load_tokens()
    opened = kind(await make(registry), clock, ledger, reopen)
    opened.registry = registry
    return opened


OpenWorld = Callable[..., Awaitable[World]]


@pytest.fixture(scope="session", name="postgres_dsn_of_ledgers")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server for this process's tests."""
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("ledgers")))
    with ThreadPoolExecutor(1) as apart:  # where no event loop runs yet
        apart.submit(lambda: asyncio.run(server.start())).result()
        yield server.dsn
        apart.submit(lambda: asyncio.run(server.stop())).result()


async def empty_postgres_ledger(dsn: str) -> PostgresLedger:
    connection = await asyncpg.connect(dsn)
    await connection.execute("drop schema if exists sim cascade")
    await connection.close()
    return PostgresLedger(dsn)


@pytest.fixture(name="ledger", params=["memory", "postgres"])
async def ledger_fixture(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    """An empty ledger of each kind."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    ledger = await empty_postgres_ledger(request.getfixturevalue("postgres_dsn_of_ledgers"))
    yield ledger
    await ledger.close()


@pytest.fixture(name="open_case")
async def open_case_fixture(ledger: Ledger) -> AsyncIterator[OpenWorld]:
    """Open running worlds over the ledger; they are closed in the end."""
    opened: list[World] = []

    async def open_case(**options: object) -> World:
        world = await open_world(ledger=ledger, **options)  # type: ignore[arg-type]
        opened.append(world)
        world.start()
        return world

    yield open_case
    for world in opened:
        with suppress(Exception):
            await world.close()
