"""A small engine for tests: a journal in memory, a venue and a chain that do as they are told, a clock at rest."""

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

from msgspec.structs import replace

from bestex.domain.events import Event, PendingDetail, SealedTokens, SignedTransaction, SubmittedDetail, seal
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.order_state import OrderView
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.terms import NO_TERMS, Kind, Terms
from bestex.domain.tokens import TokenRegistry, load_tokens, pair_of
from bestex.engine.engine import Engine
from bestex.engine.execution import EngineLimits
from bestex.engine.intake import Accepted, OrderRequest
from bestex.engine.landing import LandingLimits
from bestex.engine.retry import RetryPolicy
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.journal.trigger_store import MemoryTriggerStore, TriggerTables
from bestex.ports import (
    Balance,
    BlockHeight,
    Commitment,
    HeldOrder,
    Lease,
    RestingOrder,
    StatusReport,
    TransactionStatus,
    WalletTransaction,
)
from bestex.routing.router import QuoteLimits, Router
from bestex.venues.scripted import ScriptedMarketData, fixed_curve
from tests.support.clock import FakeClock
from tests.support.orders import DETAILS, DraftOrder, pending

PATIENCE_S: Final = 10.0
SHORT_S: Final = 0.03  # a deadline that a test waits out
STEP_S: Final = 0.1  # of the fake clock, between two looks at a condition
TOKENS: Final = load_tokens()
SOL_USDC: Final = pair_of(TOKENS.get("SOL"), TOKENS.get("USDC"))
LIMITS: Final = EngineLimits(
    retry=RetryPolicy(base_s=0.5, jitter=0.0),
    landing=LandingLimits(note_after_s=3_600.0),
    funds_patience_s=20 * SHORT_S,
    build_deadline_s=SHORT_S,
    chain_deadline_s=SHORT_S,
)
FOREVER_US: Final = 2**62


class Hang:
    """In place of an error: the call never answers."""


HANG: Final = Hang()
Trouble = Exception | Hang


async def meet(trouble: Trouble | None) -> None:
    if isinstance(trouble, Hang):
        await asyncio.Event().wait()
    elif trouble is not None:
        raise trouble


class FixedIds:
    """`Ids` that count."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def order_id(self) -> str:
        return str(uuid.UUID(int=0x0191_0000_0000_7000_8000_0000_0000_0000 + next(self._numbers)))

    def fraction(self) -> float:
        return 0.5


class ScriptedVenue:
    """`Venue` that quotes at once and signs; `builds` says what each next `build` does instead."""

    name = "raydium"

    def __init__(self) -> None:
        self.quoted: list[QuoteRequest] = []
        self.built: list[SwapRequest] = []
        self.builds_at_once = False
        self.pays = 151_000_000  # base units of the output token, whatever the amount
        self.builds: list[Trouble | str] = []  # first to last; text is given in place of a transaction

    def quote_at_once(self, request: QuoteRequest) -> Quote | None:
        self.quoted.append(request)
        return Quote(self.name, "pool-r", request.amount_in, self.pays, 0, request.token_in, 3, 5_000, 1, 0, FOREVER_US)

    async def quote(self, request: QuoteRequest) -> Quote:
        raise AssertionError(f"it quotes {request} at once")

    def build_at_once(self, request: SwapRequest) -> SignedTransaction | None:
        if not self.builds_at_once:
            return None
        self.built.append(request)
        if self.builds and isinstance(trouble := self.builds[0], Exception):
            raise trouble
        return transaction(request.order_id, request.attempt)

    async def build(self, request: SwapRequest) -> SignedTransaction:
        self.built.append(request)
        told = self.builds.pop(0) if self.builds else None
        if isinstance(told, str):
            return told  # type: ignore[return-value] # a defect of the venue
        await meet(told)
        return transaction(request.order_id, request.attempt)


def transaction(order_id: str, attempt: int = 1) -> SignedTransaction:
    return SignedTransaction(signature(order_id, attempt), b"raw", "b1ockhash", 1_000, 1_150)


def signature(order_id: str, attempt: int = 1) -> str:
    return f"{order_id}/{attempt}"


class ScriptedChain:
    """`Chain` that knows the signatures it is told of. While `lands`, what is sent is confirmed at once."""

    def __init__(self) -> None:
        self.lands = True
        self.takes_at_once = False
        self.known: dict[str, TransactionStatus] = {}
        self.sent: list[str] = []
        self.calls: Counter[str] = Counter()
        self.trouble: dict[str, list[Trouble]] = defaultdict(list)  # for the next calls, by method
        self.trouble_with: dict[tuple[str, str], Trouble] = {}  # by method and signature, until taken away
        self.tells_fills = asyncio.Event()  # cleared: `fills` waits
        self.tells_fills.set()
        self.fill = Fill(1_500_000_000, 151_000_000, 15_000)  # of every swap
        self.height = BlockHeight("a node", height=1_000, slot=1_000)
        self.finalized_slot = 1_000
        self.hint: Callable[[Sequence[str]], None] = lambda _: None

    def send_at_once(self, transaction: SignedTransaction) -> bool:
        if not self.takes_at_once:
            return False
        if self.trouble["send"] and isinstance(trouble := self.trouble["send"].pop(0), Exception):
            raise trouble
        self._take(transaction)
        return True

    async def send(self, transaction: SignedTransaction) -> None:
        await self._meet("send", transaction.signature)
        self._take(transaction)

    def _take(self, transaction: SignedTransaction) -> None:
        self.sent.append(transaction.signature)
        if self.lands:
            self.tell(transaction.signature, TransactionStatus(1_001, Commitment.CONFIRMED))

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        await self._meet("statuses", *signatures)
        statuses = tuple(self.known.get(each) for each in signatures)
        return StatusReport("a node", 1_010, self.finalized_slot, 0, statuses)

    async def finalized_height(self) -> BlockHeight:
        await self._meet("finalized_height")
        return self.height

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        await self._meet("fills", *signatures)
        await self.tells_fills.wait()
        return [self.fill if signature in self.known else None for signature in signatures]

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        self.hint = listener

    def finalize(self, signature: str) -> None:
        """Have a confirmed transaction be final."""
        self.tell(signature, TransactionStatus(self.known[signature].slot, Commitment.FINALIZED))

    def tell(self, signature: str, status: TransactionStatus) -> None:
        """Know this of a signature from now on, and hint at it."""
        self.known[signature] = status
        self.hint([signature])

    async def _meet(self, method: str, *signatures: str) -> None:
        self.calls[method] += 1
        if self.trouble[method]:
            await meet(self.trouble[method].pop(0))
        for each in signatures:
            await meet(self.trouble_with.get((method, each)))


class ScriptedWallet:
    """`Wallet` that holds what it is told to; more than any order asks for, where nothing is said."""

    address = "wa11et"

    def __init__(self) -> None:
        self.units: dict[str, int] = {}  # by mint

    def held(self, mint: str) -> int | None:
        return self.units.get(mint, 2**63)

    async def balances(self) -> list[Balance]:
        return [Balance(mint, units) for mint, units in self.units.items()]

    async def history(self, before: str | None, limit: int) -> list[WalletTransaction]:
        return []


class TroubledJournal(MemoryJournal):
    """The memory journal, whose reads fail when told to."""

    def __init__(self, database: MemoryDatabase, engine_id: str, clock: FakeClock) -> None:
        super().__init__(database, engine_id, clock)
        self.trouble: dict[str, list[Exception | None]] = defaultdict(list)  # for the next calls, by method
        self.reads = asyncio.Event()  # cleared: what was read of watched orders and histories comes late
        self.reads.set()
        self.unreadable: dict[str, Exception] = {}  # by order: what reading its events raises
        self.tells_histories = asyncio.Event()  # cleared: `histories` waits
        self.tells_histories.set()
        self.tells_children = asyncio.Event()  # cleared: an answer of `children` is on its way
        self.tells_children.set()
        self.tells_more_resting = asyncio.Event()  # cleared: behind the first page of them, `resting` waits
        self.tells_more_resting.set()

    def _meet(self, method: str) -> None:
        if self.trouble[method] and (trouble := self.trouble[method].pop(0)) is not None:
            raise trouble

    async def claim(self, limit: int) -> list[Lease]:
        self._meet("claim")
        return await super().claim(limit)

    async def resting(self, after_id: str | None, limit: int) -> list[RestingOrder]:
        if after_id is not None:
            await self.tells_more_resting.wait()
            self._meet("more resting")
        self._meet("resting")
        page = await super().resting(after_id, limit)
        await self.reads.wait()
        return page

    async def children(self, parent_id: str) -> list[OrderView]:
        self._meet("children")
        views = await super().children(parent_id)
        await self.tells_children.wait()
        return views

    async def held(self, after_id: str | None, limit: int) -> list[HeldOrder]:
        self._meet("held")
        return await super().held(after_id, limit)

    async def histories(self, order_ids: Sequence[str]) -> dict[str, list[Event]]:
        self._meet("histories")
        await self.tells_histories.wait()
        for order_id in order_ids:
            if order_id in self.unreadable:
                raise self.unreadable[order_id]
        histories = await super().histories(order_ids)
        await self.reads.wait()
        return histories


class SmallEngine:
    """The engine and all it talks to. Only landing runs by itself: a test calls `engine.sweep` where it means to."""

    def __init__(
        self,
        tokens: TokenRegistry,
        limits: EngineLimits,
        database: MemoryDatabase,
        tables: TriggerTables,
        clock: FakeClock,
        ids: FixedIds,
    ) -> None:
        self.clock = clock
        self.database = database
        self.tables = tables
        self.ids = ids
        self.journal = TroubledJournal(self.database, str(uuid.uuid4()), self.clock)
        self.venue = ScriptedVenue()
        self.chain = ScriptedChain()
        router = Router([self.venue], self.clock, QuoteLimits())
        self.wallet = ScriptedWallet()
        self.market = ScriptedMarketData(self.clock)
        self.store = MemoryTriggerStore(tables)
        self.engine = Engine(
            self.journal,
            router,
            self.chain,
            self.wallet,
            self.market,
            self.store,
            tokens,
            self.clock,
            ids,
            limits,
        )
        self.journal.listen(self.engine.committed)
        self.running: list[asyncio.Task[None]] = []

    async def order(self, kind: Kind = Kind.MARKET, **terms: Any) -> str:
        """Accept an order of 1.5 SOL for USDC, of a kind with these terms; its id."""
        return (await self.accept(kind, **terms)).order_id

    async def accept(self, kind: Kind, **terms: Any) -> Accepted:
        """Accept such an order."""
        demanded = Terms(**terms) if terms else NO_TERMS
        request = OrderRequest(kind, TOKENS.get("SOL"), TOKENS.get("USDC"), 1_500_000_000, 50, terms=demanded)
        return await self.engine.intake.accept(request, "local", None)

    def price(self, price: str, **limits: Any) -> None:
        """Have a price of SOL in USDC come now."""
        self.market.tick(SOL_USDC, fixed_curve(SOL_USDC, price, **limits))

    async def left_here(self, *statuses: Status) -> DraftOrder:
        """An order of this engine's that stands after `statuses` and that nobody is at."""
        return await leave(self.journal, *statuses)

    async def left_by_the_dead(self, *statuses: Status, detail: PendingDetail | None = None) -> DraftOrder:
        """An order that a dead engine left after `statuses`."""
        journal = MemoryJournal(self.database, str(uuid.uuid4()), self.clock)
        writer = asyncio.create_task(journal.run())
        draft = await leave(journal, *statuses, detail=detail)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        self.database.bury(journal.engine_id)
        return draft

    async def view(self, order_id: str) -> OrderView:
        row = await self.journal.order(order_id)
        assert row is not None
        return row.view

    async def statuses(self, order_id: str) -> list[Status]:
        return [stored.event.status for stored in await self.journal.events(order_id)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the fake clock go on until the condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.clock.advance(STEP_S)
                await asyncio.sleep(0.001)  # deadlines on calls are in real time

    async def until_status(self, order_id: str, *statuses: Status) -> OrderView:
        """Wait until the order has one of these statuses, or has ended when none is named."""
        wanted = statuses or tuple(ENDS)

        def reached() -> bool:
            order = self.database.orders.get(order_id)
            return order is not None and order.status in wanted

        await self.until(reached)
        return await self.view(order_id)

    async def recover(self) -> int:
        """`engine.recover`, with the clock going on; how many orders it took over."""
        recovering = asyncio.create_task(self.engine.recover())
        await self.until(recovering.done)
        return recovering.result().orders


async def leave(journal: MemoryJournal, *statuses: Status, detail: PendingDetail | None = None) -> DraftOrder:
    """Write an order's events up to the last of `statuses`, sealed as the engine seals them."""
    draft = DraftOrder()
    sol, usdc = TOKENS.get("SOL"), TOKENS.get("USDC")
    sealed = seal(SealedTokens(sol.mint, usdc.mint, sol.decimals, usdc.decimals))
    for status in statuses:
        match status:
            case Status.PENDING:
                append = draft.add((status, detail or pending()), sealed=sealed)
            case Status.SUBMITTED:
                signed = transaction(draft.id)
                submitted = SubmittedDetail("raydium", signed.signature, signed.last_valid_block_height)
                append = draft.add((status, submitted), sealed=seal(signed))
            case _:
                append = draft.add((status, DETAILS[status]))
        await journal.append(append)
    return draft


@asynccontextmanager
async def small_engine(
    *,
    tokens: TokenRegistry = TOKENS,
    limits: EngineLimits = LIMITS,
    sweeping: bool = False,
    after: SmallEngine | None = None,
) -> AsyncIterator[SmallEngine]:
    """A running `SmallEngine`; with `sweeping`, its regular sweep runs too; `after` another, on what that one left."""
    if after is None:
        small = SmallEngine(tokens, limits, MemoryDatabase(), TriggerTables(), FakeClock(), FixedIds())
    else:
        small = SmallEngine(tokens, limits, after.database, after.tables, after.clock, after.ids)
    engine = small.engine
    parts = (engine.run(),) if sweeping else (engine.landing.run(), engine.watch.run(), engine.dead_man.run())
    works = (*parts, small.journal.run())
    small.running = [asyncio.create_task(work) for work in works]
    try:
        yield small
        for task in small.running:
            assert not task.done(), f"a part of the engine ended: {task.exception()!r}"
    finally:
        await small.engine.stop()
        for task in small.running:
            task.cancel()
        await asyncio.gather(*small.running, return_exceptions=True)


def registry(*, without: Iterable[str] = (), **decimals: int) -> TokenRegistry:
    """The built-in registry without some symbols, and with other decimals for some."""
    gone = set(without)
    kept = (token for token in TOKENS if token.symbol not in gone)
    return TokenRegistry(replace(token, decimals=decimals.get(token.symbol, token.decimals)) for token in kept)
