"""A trading day in memory: orders that go as orders go, what the chain did for them, and all of it as evidence."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import msgspec
from msgspec.structs import replace

from bestex.ambient import SystemClock
from bestex.audit.audit import audit
from bestex.audit.evidence import (
    Evidence,
    JournalHead,
    LedgerAdjustment,
    LedgerBalance,
    LedgerTransaction,
    LogRow,
    OrderImage,
)
from bestex.audit.findings import Report
from bestex.domain.events import (
    AttemptStory,
    BuildingDetail,
    CancelledDetail,
    ConfirmedDetail,
    Detail,
    ExpiredDetail,
    FailedDetail,
    RoutingDetail,
    SealedTokens,
    SignedTransaction,
    Slice,
    SubmittedDetail,
    Trigger,
    WatchingDetail,
    encode_detail,
    seal,
)
from bestex.domain.lifecycle import UNFILLED, Status
from bestex.domain.log_hash import GENESIS, PublishedHead, row_bytes, row_hash
from bestex.domain.money import format_amount, parse_amount
from bestex.domain.terms import RESTING, Kind
from bestex.domain.tokens import load_tokens
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.ports import Append
from bestex.venues.simulated.ledger import Adjustment, Anchor, Batch, Genesis, LandedTransaction, MemoryLedger
from tests.support.orders import QUOTES, DraftOrder, pending

JOURNAL_ID = "6ab4b99b-10c4-4d72-87ab-04bb9a28fe83"
SOL, USDC = load_tokens().get("SOL"), load_tokens().get("USDC")
AMOUNT_IN, AMOUNT_OUT, FEE = 1_500_000_000, 151_100_000, 5_000
GIVEN = {SOL.mint: 10**15, USDC.mint: 10**12}
BUILDING = BuildingDetail("raydium", "pool-r", "151.204417", "150.448395", 3, QUOTES, wraps_sol=True)
TOKENS = SealedTokens(SOL.mint, USDC.mint, SOL.decimals, USDC.decimals)
_PAIRS = {Kind.SNIPER: "*/SOL"}


class DayOrder:
    """An order of 1.5 SOL for USDC, or what its kind makes of it, one step at a time."""

    def __init__(
        self, day: "TradingDay", kind: Kind = Kind.MARKET, parent_id: str | None = None, **terms: object
    ) -> None:
        self._day = day
        self._draft = DraftOrder(kind=kind.value, pair=_PAIRS.get(kind, "SOL/USDC"), parent_id=parent_id)
        self.id = self._draft.id
        self.amount_in, self.amount_out = AMOUNT_IN, AMOUNT_OUT
        self.token_in, self.token_out = SOL, USDC
        detail = replace(pending(kind=kind.value), parent_id=parent_id)
        sealed = TOKENS
        if kind is Kind.EXITS:
            self.token_in, self.token_out = USDC, SOL
            self.amount_in, self.amount_out = AMOUNT_OUT, 1_490_000_000
            detail = replace(detail, token_in="USDC", token_out="SOL", amount="151.1", side="buy")
            sealed = SealedTokens(USDC.mint, SOL.mint, USDC.decimals, SOL.decimals)
        if kind is Kind.SNIPER:  # what it buys is known once it has found it
            detail = replace(detail, token_out="*", pair="*/SOL", side="buy")
            sealed = SealedTokens(SOL.mint, "", SOL.decimals, 0)
        if "amount" in terms:
            self.amount_in = parse_amount(str(terms["amount"]), self.token_in.decimals)
        self.add(Status.PENDING, replace(detail, **terms), sealed=seal(sealed))
        if kind in RESTING:
            self.wait()

    @property
    def attempt(self) -> int:
        return self._draft.state.attempt

    @property
    def is_executed(self) -> bool:
        return self._draft.state.status is Status.CONFIRMED

    @property
    def signature(self) -> str:
        """Of the attempt under way."""
        return f"sig-{self.id[-6:]}-{self.attempt}"

    def add(self, status: Status, detail: Detail, *, sealed: bytes = b"", attempt: int | None = None) -> "DayOrder":
        self._day.appends.append(self._draft.add((status, detail), sealed=sealed, attempt=attempt))
        return self

    def route(self, previous: AttemptStory | None = None) -> "DayOrder":
        """Begin an attempt; the next one when `previous` was given up."""
        attempt = previous.attempt + 1 if previous else max(1, self.attempt)
        self.add(Status.ROUTING, RoutingDetail(None, previous), attempt=attempt)
        return self.add(Status.BUILDING, self._building())

    def wait(self, detail: WatchingDetail | None = None) -> "DayOrder":
        return self.add(Status.WATCHING, detail or WatchingDetail())

    def fire(self, trigger: Trigger | None = None) -> "DayOrder":
        """Begin the first attempt of a firing."""
        detail = RoutingDetail(trigger=trigger or Trigger(kind="limit", price="100.7"))
        return self.add(Status.ROUTING, detail, attempt=self.attempt + 1).add(Status.BUILDING, self._building())

    def find(self) -> "DayOrder":
        """What a sniper waits for is listed."""
        return self.fire(Trigger(kind="launch", mint=USDC.mint, decimals=USDC.decimals, pair=f"{USDC.mint}/SOL"))

    def give_back(self) -> "DayOrder":
        """The attempt under way is given up, and the order waits again."""
        return self.wait(WatchingDetail(reason="no luck", previous=self.story(), not_before="later"))

    def slice(self, number: int, amount: str) -> "DayOrder":
        """A slice of this order begins."""
        part = DayOrder(self._day, Kind.MARKET, self.id, slice_number=number, amount=amount)
        part.amount_out = part.amount_in // 10
        begins = self._day.appends.pop()
        self.wait(WatchingDetail(slice=Slice(number, part.id, amount)))
        self._day.appends.append(begins)
        return part

    def conclude(self, *filled: "DayOrder", **changes: object) -> "DayOrder":
        """A sliced order ends with what these slices did."""
        detail = ConfirmedDetail(
            amount_in=format_amount(sum(part.amount_in for part in filled), SOL.decimals),
            amount_out=format_amount(sum(part.amount_out for part in filled), USDC.decimals),
            commitment="finalized",
            filled_slices=len(filled),
        )
        return self.add(Status.CONFIRMED, replace(detail, **changes))

    def _building(self) -> BuildingDetail:
        least = format_amount(self.amount_out * 99 // 100, self.token_out.decimals)
        return BUILDING if self.amount_out == AMOUNT_OUT else replace(BUILDING, min_amount_out=least)

    def sign(self, signature: str | None = None, *, adopted: bool = False) -> "DayOrder":
        signature = signature or self.signature
        sealed = b"" if adopted else seal(SignedTransaction(signature, b"raw", "blockhash", 100, 250))
        return self.add(Status.SUBMITTED, SubmittedDetail("raydium", signature, 250, adopted=adopted), sealed=sealed)

    def land(self, error: str | None = None, amount_out: int | None = None, amount_in: int | None = None) -> "DayOrder":
        """The chain executes what was signed, or fails."""
        executed = error is None
        self.amount_in = self.amount_in if amount_in is None else amount_in
        paid = self.amount_out if amount_out is None else amount_out
        self._day.landed.append(
            LandedTransaction(
                signature=self.signature,
                slot=120,
                landed_us=1,
                order_id=self.id,
                attempt=self.attempt,
                venue="raydium",
                mint_in=self.token_in.mint,
                mint_out=self.token_out.mint,
                amount_in=self.amount_in * executed,
                amount_out=paid * executed,
                network_fee=FEE,
                error=error,
            )
        )
        return self

    def confirm(self, **changes: object) -> "DayOrder":
        detail = ConfirmedDetail(
            venue="raydium",
            tx_hash=self.signature,
            amount_in=format_amount(self.amount_in, self.token_in.decimals),
            amount_out=format_amount(self.amount_out, self.token_out.decimals),
            executed_price="100.733333333333",
            fee_paid="0.000005",
            commitment="confirmed",
        )
        return self.add(Status.CONFIRMED, replace(detail, **changes))

    def note(self, commitment: str, *, gone: bool = False) -> "DayOrder":
        return self.add(Status.CONFIRMED, ConfirmedDetail(commitment=commitment, gone=gone))

    def story(self, code: str = "blockhash_expired") -> AttemptStory:
        """What became of the attempt under way."""
        submitted = self._draft.state.submitted
        return AttemptStory(self.attempt, code, "given up", "raydium", submitted.signature if submitted else None)

    def fail(self) -> "DayOrder":
        story = self.story()
        return self.add(Status.FAILED, FailedDetail(story.code, story.message, (story,)))

    def cancel(self) -> "DayOrder":
        return self.add(Status.CANCELLED, CancelledDetail("client"))

    def expire(self, previous: AttemptStory | None = None) -> "DayOrder":
        return self.add(Status.EXPIRED, ExpiredDetail("its time was up", previous))

    def exits(self, **terms: object) -> "DayOrder":
        """What sells what this order has received."""
        return DayOrder(self._day, Kind.EXITS, self.id, **terms)

    def execute(self) -> "DayOrder":
        """All that happens to an order when all goes well, to its finality."""
        return self.route().sign().land().confirm().note("finalized")


class TradingDay:
    """Orders, and what landed for them."""

    def __init__(self) -> None:
        self.appends: list[Append] = []
        self.landed: list[LandedTransaction] = []

    def order(self, kind: Kind = Kind.MARKET, parent_id: str | None = None, **terms: object) -> DayOrder:
        return DayOrder(self, kind, parent_id, **terms)

    def records(self) -> "Records":
        return Records(self)

    async def stored(self) -> tuple[MemoryDatabase, MemoryLedger]:
        """The day through the journal's own writer, and in a ledger."""
        database = MemoryDatabase(JOURNAL_ID)
        journal = MemoryJournal(database, "engine", SystemClock())
        writing = asyncio.create_task(journal.run())
        for append in self.appends:  # one after the other: the log is to be in their order
            await journal.append(append)
        writing.cancel()
        ledger = MemoryLedger()
        stored = await ledger.open(Genesis(0, bytes(32)), Anchor(0, 0, 4_000))
        grants = [Adjustment(number, mint, units, "start", 1) for number, (mint, units) in enumerate(GIVEN.items(), 1)]
        await ledger.commit(
            stored.epoch, Batch(1, 120, len(self.landed), self.landed, (), grants, _balances(self.landed), {})
        )
        return database, ledger


class Records:
    """The day's evidence, to be tampered with: `JournalEvidence` and `LedgerEvidence` at once."""

    def __init__(self, day: TradingDay) -> None:
        events = [event for append in day.appends for event in append.events]
        self.rows = [
            LogRow(
                position,
                event.order_id,
                event.seq,
                event.status.value,
                event.attempt,
                event.at_us,
                encode_detail(event.detail),
                event.sealed,
                b"",
            )
            for position, event in enumerate(events, start=1)
        ]
        last = {append.order_id: append for append in day.appends}
        self.images = [_image(append) for append in last.values()]
        self.landed = [_transaction(row) for row in day.landed]
        self.given = [LedgerAdjustment(number, *grant, "start") for number, grant in enumerate(GIVEN.items(), start=1)]
        self.held = [LedgerBalance(mint, units) for mint, units in _balances(day.landed).items()]
        self.last = JournalHead(JOURNAL_ID, 0, GENESIS)
        self.chain()

    def chain(self) -> None:
        """Number and hash all rows anew, as they would be had they been written so."""
        link = GENESIS
        for index, row in enumerate(self.rows):
            position = index + 1
            link = row_hash(
                link,
                row_bytes(position, row.order_id, row.seq, row.status, row.attempt, row.at_us, row.detail, row.sealed),
            )
            self.rows[index] = replace(row, position=position, hash=link)
        self.last = JournalHead(JOURNAL_ID, len(self.rows), link)

    def row(self, position: int, /, **changes: object) -> None:
        """Change a row, and nothing else."""
        self.rows[position - 1] = replace(self.rows[position - 1], **changes)

    def renumber(self) -> None:
        """Give the rows the positions 1, 2, 3 ..., with their hashes as they are."""
        self.rows = [replace(row, position=position) for position, row in enumerate(self.rows, start=1)]

    def published(self) -> PublishedHead:
        return PublishedHead(self.last.journal_id, self.last.position, self.last.hash.hex(), "2026-11-24T20:00:00.000Z")

    def evidence(self, *, ledger: bool = True) -> Evidence:
        return Evidence(self, self if ledger else None)

    async def audit(self, published: PublishedHead | None = None, *, ledger: bool = True) -> Report:
        return await audit(self.evidence(ledger=ledger), published)

    async def kinds(self, published: PublishedHead | None = None) -> list[str]:
        """The kinds of what an audit finds, in its order."""
        return [finding.kind.value for finding in (await self.audit(published)).findings]

    async def head(self) -> JournalHead:
        return self.last

    async def log(self) -> AsyncIterator[Sequence[LogRow]]:
        for start in range(0, len(self.rows), 7):  # batches end anywhere
            yield self.rows[start : start + 7]

    async def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        yield self.images

    async def transactions(self) -> AsyncIterator[Sequence[LedgerTransaction]]:
        yield self.landed

    async def adjustments(self) -> AsyncIterator[Sequence[LedgerAdjustment]]:
        yield self.given

    async def balances(self) -> AsyncIterator[Sequence[LedgerBalance]]:
        yield self.held


def _image(append: Append) -> OrderImage:
    view = append.view
    return OrderImage(
        order_id=view.order_id,
        kind=view.kind,
        pair=view.pair,
        client_order_id=view.client_order_id,
        status=str(view.status),
        seq=view.seq,
        attempt=view.attempt,
        unfilled=str(view.status) if view.status in UNFILLED else None,
        settled=_is_settled(append),
        view=msgspec.json.encode(view),
        resting=view.status == Status.WATCHING,
        parent_id=view.parent_id,
    )


def _is_settled(append: Append) -> bool:
    detail = append.events[-1].detail
    if isinstance(detail, ConfirmedDetail):
        return detail.commitment == "finalized" or detail.gone
    return append.view.status in UNFILLED


def _transaction(row: LandedTransaction) -> LedgerTransaction:
    return LedgerTransaction(**{name: getattr(row, name) for name in LedgerTransaction.__struct_fields__})


def _balances(landed: Sequence[LandedTransaction]) -> dict[str, int]:
    balances: Counter[str] = Counter(GIVEN)
    for row in landed:
        balances[row.mint_in] -= row.amount_in
        balances[row.mint_out] += row.amount_out
        balances[SOL.mint] -= row.network_fee
    return dict(balances)
