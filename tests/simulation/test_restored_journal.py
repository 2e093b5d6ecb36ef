"""An old backup restored over executed orders, on a virtual clock and from a seed: nothing executes again.

The chain goes on and misbehaves meanwhile; the engine may be killed again in the middle of reconciling.
"""

import asyncio
import copy
import random
from collections import Counter
from contextlib import suppress
from typing import Any, Final

import pytest

from bestex.audit.audit import audit
from bestex.audit.evidence import Evidence
from bestex.domain.errors import BestexError
from bestex.domain.log_hash import PublishedHead
from bestex.domain.terms import Kind
from bestex.domain.tokens import load_tokens
from bestex.engine.engine import Engine
from bestex.engine.intake import OrderRequest
from bestex.engine.operator import Operator
from bestex.engine.reconciliation import Reconciled, Reconciliation
from bestex.journal.evidence import MemoryJournalEvidence
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.journal.published_head import why_behind
from bestex.journal.trigger_store import MemoryTriggerStore, TriggerTables
from bestex.ports import HaltCause
from bestex.routing.router import QuoteLimits, Router
from bestex.simulation.clock import SeededIds, VirtualClock
from bestex.simulation.engine import engine_limits
from bestex.simulation.loop import new_loop
from bestex.simulation.process import Process
from bestex.venues.simulated.evidence import MemoryLedgerEvidence
from bestex.venues.simulated.ledger import MemoryLedger
from bestex.venues.simulated.world import SimulatedWorld, open_simulation

SEEDS: Final = 150
ORDERS: Final = 8
PATIENCE_S: Final = 600.0  # virtual
POLL_S: Final = 0.05
FAULTS: Final = {
    "dropped": 0.3,
    "late_landing": 0.5,
    "lost_status": 0.2,
    "lagging_node": 0.4,
    "pruned_history": 0.3,
    "send_error_after": 0.3,
    "dying_fork_error": 0.2,
    "fork_after_confirmed": 0.2,
    "price_jump": 0.3,
    "chain_unreachable": 0.05,
}
TOKENS: Final = load_tokens()


class Restoration:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.loop = new_loop()
        self.clock = VirtualClock(self.loop)
        self.database = MemoryDatabase()
        self.ledger = MemoryLedger()
        self.head: PublishedHead | None = None
        self.numbers = 0
        self.process: Process | None = None
        self.engine: Engine | None = None
        self.operator: Operator | None = None
        self.found = Reconciled()

    async def go(self) -> None:
        pick = self.random
        faults = {name: chance for name, chance in FAULTS.items() if pick.random() < 0.4}
        self.world = world = await open_simulation(
            seed=self.seed,
            profile="instant",
            slot_ms=None,
            tokens=TOKENS,
            clock=self.clock,
            entropy=self.seed.to_bytes(32, "big"),
            ledger=self.ledger,
            faults=faults,
        )
        passing = asyncio.create_task(world.run())
        await self.start()
        placing = self.place(ORDERS)
        await asyncio.sleep(pick.uniform(0.0, 1.0))
        backup = copy.copy(self.database)  # rows never change; what holds them is copied
        backup.log, backup.hashes = list(backup.log), list(backup.hashes)
        backup.orders = {order_id: copy.copy(order) for order_id, order in backup.orders.items()}
        for order in backup.orders.values():
            order.events = list(order.events)
        backup.keys, backup.engines = dict(backup.keys), {}
        await asyncio.sleep(pick.uniform(0.0, 2.0))
        self.kill()
        placing.cancel()
        await asyncio.sleep(pick.uniform(0.0, 0.5))
        self.database = backup
        await self.start()
        if pick.random() < 0.5 and self.operator is not None:
            self.reconcile()
            await asyncio.sleep(pick.uniform(0.0, 2.0))
            self.kill()
            await self.start()
        await self.reconcile_and_resume()
        later = self.place(2)
        await asyncio.sleep(1.0)
        await world.control.set_faults(dict.fromkeys(FAULTS, 0.0))
        await self.until_settled()
        await asyncio.gather(later, return_exceptions=True)
        self.kill()
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)
        await world.close()

    async def start(self) -> None:
        """What `bootstrap` does: publish the head, or start halted behind it."""
        self.numbers += 1
        ids = SeededIds(self.seed, self.numbers, self.clock)
        self.process = Process(self.loop, f"engine {self.numbers}", None)
        self.database.engines.clear()
        journal = MemoryJournal(self.database, ids.order_id(), self.clock)
        world: SimulatedWorld = self.world
        router = Router(world.venues, self.clock, QuoteLimits())
        limits = engine_limits("instant")

        async def republish() -> None:
            head = await journal.log_head()
            self.head = PublishedHead(head.journal_id, head.position, head.hash.hex())

        def make() -> tuple[Engine, Operator]:
            engine = Engine(
                journal,
                router,
                world.chain,
                world.wallet,
                world.market_data,
                MemoryTriggerStore(TriggerTables()),
                TOKENS,
                self.clock,
                ids,
                limits,
            )
            journal.listen(engine.committed)
            return engine, Operator(engine, journal, engine.chain, world.wallet, TOKENS, self.clock, republish)

        self.engine, self.operator = self.process.context.copy().run(make)
        published = self.head
        row_hash = await journal.hash_at(published.position) if published is not None else None
        self.behind = why_behind(published, await journal.log_head(), row_hash)
        if self.behind is None:
            journal.on_head(lambda position, row: self.publish(journal, position, row))
        else:
            self.process.spawn(self.halt_then_recover(self.operator, self.engine, self.behind))
        self.process.spawn(journal.run())
        self.process.spawn(self.engine.run())
        if self.behind is None:
            self.process.spawn(self.halt_then_recover(self.operator, self.engine, None))

    async def halt_then_recover(self, operator: Operator, engine: Engine, behind: str | None) -> None:
        if behind is not None:
            await operator.halt(behind, HaltCause.JOURNAL_BEHIND)
        await operator.obey()
        await engine.recover()

    def publish(self, journal: MemoryJournal, position: int, row: bytes) -> None:
        self.head = PublishedHead(journal.database.journal_id, position, row.hex())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def place(self, orders: int) -> "asyncio.Task[Any]":
        assert self.process is not None
        assert self.engine is not None
        return self.process.spawn(self._place(self.engine, orders))

    async def _place(self, engine: Engine, orders: int) -> None:
        sol, usdc = TOKENS.get("SOL"), TOKENS.get("USDC")
        for _ in range(orders):
            await asyncio.sleep(self.random.uniform(0.0, 0.4))
            with suppress(BestexError):
                await engine.intake.accept(OrderRequest(Kind.MARKET, sol, usdc, 250_000_000, 50), "local", None)

    def reconcile(self) -> None:
        if self.process is not None and self.operator is not None and self.operator.halt_in_force is not None:
            operator = self.operator

            async def begin() -> None:
                operator.start_reconciling("local")

            self.process.spawn(begin())

    async def reconcile_and_resume(self) -> None:
        operator = self.operator
        assert operator is not None
        if self.behind is None:  # the backup was of the last moment
            return
        await self.until(lambda: operator.halt_in_force is not None)
        self.reconcile()
        await self.until(lambda: operator.reconcile_state.result is not None)
        result = operator.reconcile_state.result
        assert result is not None
        self.found = result
        assert not result.contradictions, result.contradictions
        assert operator.reconcile_state.error is None
        assert self.process is not None
        await self.process.spawn(operator.resume())

    async def until(self, condition: Any) -> None:
        deadline = self.clock.monotonic() + PATIENCE_S
        while not condition():
            assert self.clock.monotonic() < deadline, "waited in vain"
            await asyncio.sleep(POLL_S)

    async def until_settled(self) -> None:
        await self.until(lambda: all(order.settled for order in self.database.orders.values()))


def restored(seed: int) -> tuple[Restoration, list[str]]:
    run = Restoration(seed)
    run.loop.run(run.go())
    evidence = Evidence(MemoryJournalEvidence(run.database), MemoryLedgerEvidence(run.ledger))
    auditing = audit(evidence, None, lambda _: None)
    try:
        auditing.send(None)
    except StopIteration as done:
        return run, [finding.message for finding in done.value.findings]
    raise AssertionError("an audit of what is in memory does not wait")


def first_violation(seeds: int) -> str | None:
    """What is wrong with the first seed that something is wrong with."""
    for seed in range(1, seeds + 1):
        try:
            _, findings = restored(seed)
        except AssertionError as error:
            findings = [str(error)]
        if findings:
            return f"seed {seed}: {findings}"
    return None


def test_an_old_backup_restored_at_any_moment_executes_nothing_again() -> None:
    assert first_violation(SEEDS) is None


def test_restored_journals_are_behind_and_lack_orders_of_both_kinds() -> None:
    adopted: Counter[str] = Counter()
    for seed in range(1, SEEDS + 1):
        run, _ = restored(seed)
        adopted["runs"] += run.behind is not None
        adopted["orders"] += len(run.found.adopted)
        adopted["unknown"] += len(run.found.unknown_orders)
    assert adopted["runs"] > SEEDS / 2, adopted
    assert adopted["orders"] > adopted["unknown"] > SEEDS / 4, adopted


# --- Broken on purpose


async def do_not_wait(self: Reconciliation, on_progress: object) -> None:
    """What was signed before may land still."""


async def give_nothing_up(self: Reconciliation, events: object) -> None:
    """What the journal left open is not looked up."""


@pytest.mark.parametrize(
    ("method", "broken"), [("_until_nothing_can_land", do_not_wait), ("_given_up", give_nothing_up)]
)
def test_a_broken_reconcile_is_caught_within_100_seeds(
    method: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reconciliation, method, broken)
    assert first_violation(100) is not None


def test_an_engine_that_does_not_ask_for_its_published_head_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.test_restored_journal.why_behind", lambda *_: None)
    assert first_violation(10) is not None
