"""The way to the ledger: group commits, a ledger that goes away, accounts that add up to the last base unit."""

import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestex.domain.errors import BestexError, ChainUnreachableError
from bestex.domain.events import SignedTransaction
from bestex.ports import Commitment
from bestex.venues.simulated import books
from bestex.venues.simulated.ledger import Batch, LedgerUnavailableError, MemoryLedger
from bestex.venues.simulated.market import SOL_MINT
from bestex.venues.simulated.transaction import verify
from tests.support.simulation import World, open_world


class FlakyLedger(MemoryLedger):
    """A ledger that fails before or after it stored a batch, as often as told."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_before = 0
        self.fail_after = 0
        self.batches: list[Batch] = []

    async def commit(self, epoch: int, batch: Batch) -> None:
        if self.fail_before:
            self.fail_before -= 1
            raise LedgerUnavailableError("the connection is refused")
        await super().commit(epoch, batch)
        self.batches.append(batch)
        if self.fail_after:
            self.fail_after -= 1
            raise LedgerUnavailableError("the connection broke")


async def instant_world(ledger: MemoryLedger) -> World:
    world = await open_world(profile="instant", ledger=ledger)
    world.start()
    return world


async def test_what_happens_during_a_commit_goes_together_in_the_next() -> None:
    ledger = FlakyLedger()
    world = await instant_world(ledger)
    transactions = []
    quote = await world.quote("SOL", "USDC", "1")
    for _ in range(50):
        request = world.swap_request("SOL", "USDC", quote, slippage_bps=500)
        transactions.append(await world.venue().build(request))
    ledger.batches.clear()
    for transaction in transactions:
        await world.world.chain.send(transaction)
    await world.clock.settle()
    assert [len(batch.landed) for batch in ledger.batches] == [50]


@pytest.mark.parametrize("kind", ["fail_before", "fail_after"])
async def test_a_ledger_that_went_away_gets_everything_once_when_it_returns(kind: str) -> None:
    ledger = FlakyLedger()
    world = await instant_world(ledger)
    sol = await world.balance("SOL")
    setattr(ledger, kind, 5)
    transactions = [await world.built("SOL", "USDC", "1") for _ in range(3)]
    for transaction in transactions:
        await world.world.chain.send(transaction)
    await world.clock.settle()
    assert [await world.status(transaction.signature) for transaction in transactions] == [None] * 3
    before = await world.world.chain.finalized_height()
    await world.pass_time(0.5)
    during = await world.world.chain.finalized_height()
    assert during.slot < before.slot + 40, "no slot is final while its transactions are on their way to the ledger"
    await world.pass_time(10)
    fills = [await world.fill(transaction.signature) for transaction in transactions]
    assert (await world.world.control.status()).transactions == 3
    await world.restart()
    assert (await world.world.control.status()).transactions == 3
    assert await world.balance("SOL") == sol - sum(fill.amount_in + fill.fee_paid for fill in fills)


async def test_the_chain_takes_no_more_when_too_much_waits_for_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "MAX_UNCOMMITTED", 5)
    ledger = FlakyLedger()
    world = await instant_world(ledger)
    ledger.fail_before = 1000
    quote = await world.quote("SOL", "USDC", "1")
    for _ in range(6):
        request = world.swap_request("SOL", "USDC", quote, slippage_bps=500)
        await world.world.chain.send(await world.venue().build(request))
        await world.clock.settle()
    request = world.swap_request("SOL", "USDC", quote, slippage_bps=500)
    with pytest.raises(ChainUnreachableError, match="overloaded"):
        await world.world.chain.send(await world.venue().build(request))


async def test_old_transactions_leave_memory_and_are_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "MAX_RECENT", 3)
    world = await instant_world(MemoryLedger())
    transactions = []
    for _ in range(8):
        transactions.append(await world.built("SOL", "USDC", "1"))
        await world.world.chain.send(transactions[-1])
        await world.pass_time(2)
    kept = world.world._books.executed
    assert len(kept) == 3
    signatures = [transaction.signature for transaction in transactions]
    report = await world.world.chain.statuses([*signatures, "unknown"])
    assert [status is not None for status in report.statuses] == [True] * 8 + [False]
    assert (await world.fill(signatures[0])).amount_in == 10**9


async def test_a_swap_stays_shown_when_its_old_bytes_are_sent_again_after_a_restart() -> None:
    world = await open_world()
    world.start()
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    landed = await world.until_known(transaction.signature)
    await world.pass_time(90)
    await world.restart()
    for _ in range(2):
        await world.world.chain.send(transaction)
        again = await world.status(transaction.signature)
        assert again is not None
        assert again.slot == landed.slot
        await world.pass_time(5)


async def test_a_slot_that_a_fork_will_change_is_not_final_however_late_the_fork_comes() -> None:
    world = await open_world(faults={"fork_after_confirmed": 1})
    world.start()
    transaction = await world.built("SOL", "USDC", "1")
    await world.world.chain.send(transaction)
    landed = await world.until_known(transaction.signature)
    await world.kill()  # nothing happens any more, but time passes
    await world.clock.advance(60)
    assert (await world.report(transaction.signature)).finalized_slot < landed.slot
    world.start()
    await world.pass_time(0.1)
    assert await world.status(transaction.signature) is None
    assert (await world.report(transaction.signature)).finalized_slot > landed.slot


async def test_a_change_of_the_slots_length_never_turns_the_chain_back() -> None:
    ledger = MemoryLedger()
    first = await instant_world(ledger)
    await first.pass_time(100)
    before = await first.world.control.status()
    await first.close()
    second = await open_world(profile="realistic", ledger=ledger, clock=first.clock)
    after = await second.world.control.status()
    await second.clock.advance(4)
    later = await second.world.control.status()
    assert after.slot > before.slot
    assert later.slot == after.slot + 10


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["swap", "swap", "swap", "resend", "wait", "long wait", "restart", "fund", "reset"]),
        st.integers(0, 10**6),
    ),
    min_size=5,
    max_size=30,
)
FAULTS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from([0.2, 0.6])
        for name in (
            "send_error_before",
            "send_error_after",
            "dropped",
            "late_landing",
            "lost_status",
            "lagging_node",
            "pruned_history",
            "dying_fork_error",
            "fork_after_confirmed",
            "price_jump",
        )
    },
)
PAIRS = [("SOL", "USDC"), ("USDC", "SOL"), ("BONK", "SOL"), ("WIF", "MET")]


class Run:
    """A random run, and what must hold of it."""

    def __init__(self, world: World, ledger: FlakyLedger) -> None:
        self.world = world
        self.ledger = ledger
        self.sent: list[SignedTransaction] = []
        self.proven_absent: set[str] = set()
        self.final: dict[str, tuple[int, str | None]] = {}

    async def act(self, action: str, number: int, faults: dict[str, float]) -> None:
        world = self.world
        if action == "swap":
            pay, receive = PAIRS[number % len(PAIRS)]
            amount = world.tokens.get(pay).decimals > 0 and str(1 + number % 20_000)
            try:
                self.sent.append(await world.built(pay, receive, str(amount), venue=["raydium", "meteora"][number % 2]))
                await world.world.chain.send(self.sent[-1])
            except BestexError:
                pass
        elif action == "resend" and self.sent:
            with suppress(BestexError):
                await world.world.chain.send(self.sent[number % len(self.sent)])
        elif action == "wait":
            await world.pass_time(number % 5000 / 1000)
        elif action == "long wait":
            await world.pass_time(number % 80)
        elif action == "restart":
            self.ledger.fail_before = number % 3
            await world.restart()
            await world.world.control.set_faults(faults)
        elif action == "fund":
            await world.during(world.world.control.fund(world.tokens.get("SOL"), 1 + number))
        elif action == "reset" and number % 3 == 0:
            await world.during(world.world.control.reset())
            await world.world.control.set_faults(faults)
        if number % 4 == 0:
            self.ledger.fail_after = number % 3

    async def look(self) -> None:
        """Gather proofs of absence by rule 4, and final outcomes: neither may ever change."""
        height = await self.world.world.chain.finalized_height()
        for transaction in self.sent:
            report = await self.world.report(transaction.signature)
            status = report.statuses[0]
            if status is not None and status.commitment is Commitment.FINALIZED:
                outcome = status.slot, status.error
                assert self.final.setdefault(transaction.signature, outcome) == outcome
            expired = height.height > transaction.last_valid_block_height
            same_node = report.endpoint == height.endpoint or report.endpoint == "sim-c"
            covers = report.finalized_slot >= height.slot and report.history_from_slot <= transaction.blockhash_slot
            if status is None and expired and same_node and covers:
                self.proven_absent.add(transaction.signature)

    async def check(self) -> None:
        stored = await self.ledger.since(0)
        landed = {row.signature: row for row in stored}
        assert len(landed) == len(stored) == (await self.world.world.control.status()).transactions
        assert not self.proven_absent & landed.keys()
        for signature, (slot, error) in self.final.items():
            assert (landed[signature].slot, landed[signature].error) == (slot, error)
        minimums = {
            each.signature: verify(each.raw, self.world.world.venues[0]._key)[1].min_amount_out  # type: ignore[attr-defined]
            for each in self.sent
        }
        expected: Counter[str] = Counter()
        for adjustment in self.ledger.adjustments:
            expected[adjustment.mint] += adjustment.units
        for row in stored:
            expected[SOL_MINT] -= row.network_fee
            expected[row.mint_in] -= row.amount_in
            expected[row.mint_out] += row.amount_out
            assert row.error is not None or row.amount_out >= minimums[row.signature]
            assert row.error is None or row.amount_in == row.amount_out == 0
        assert await self.world.balances() == dict(expected)


@given(actions=ACTIONS, faults=FAULTS, seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_balances_are_the_start_and_the_landed_transactions_to_the_last_base_unit(
    actions: list[tuple[str, int]], faults: dict[str, float], seed: int
) -> None:
    async def run() -> None:
        ledger = FlakyLedger()
        world = await open_world(seed=seed, ledger=ledger, faults=faults)
        world.start()
        story = Run(world, ledger)
        for action, number in actions:
            await story.act(action, number, faults)
            await story.look()
        ledger.fail_before = ledger.fail_after = 0
        await world.pass_time(120)
        await story.look()
        await story.check()
        await world.restart()
        await story.check()
        await world.close()

    asyncio.run(run())
