"""The operator's hand: a halt signs nothing, a person decides only what the chain does not show, a journal that is
older than the world adopts what the wallet signed.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pytest
from msgspec.structs import replace

from bestex.domain.errors import ChainUnreachableError, NotFoundError
from bestex.domain.events import CancelledDetail, ConfirmedDetail, FailedDetail, SubmittedDetail
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView
from bestex.engine.errors import ContradictedError, JournalBehindError, NotHaltedError, NotUnknownError
from bestex.engine.intake import HaltedError
from bestex.engine.operator import Operator
from bestex.engine.reconciliation import Reconciled
from bestex.engine.resolution import Resolution
from bestex.ports import (
    Balance,
    BlockHeight,
    Commitment,
    HaltCause,
    StatusReport,
    TransactionStatus,
    WalletTransaction,
)
from tests.support.orders import HAPPY
from tests.support.small_engine import HANG, TOKENS, SmallEngine, signature, small_engine

SOL, USDC = TOKENS.get("SOL"), TOKENS.get("USDC")
SETTLE_S: Final = 3.0


class ScriptedWallet:
    """`Wallet` with a history that a test writes."""

    address = "the wallet"

    def __init__(self) -> None:
        self.landed: list[WalletTransaction] = []

    def held(self, mint: str) -> int | None:
        return None

    async def balances(self) -> list[Balance]:
        return []

    async def history(self, before: str | None, limit: int) -> list[WalletTransaction]:
        newest = sorted(self.landed, key=lambda each: (each.slot, each.signature), reverse=True)
        at = 0 if before is None else [each.signature for each in newest].index(before) + 1
        return newest[at : at + limit]


class Desk:
    """A small engine with an operator."""

    def __init__(self, small: SmallEngine) -> None:
        self.small = small
        self.wallet = ScriptedWallet()
        self.republished = 0
        self.operator = Operator(
            small.engine, small.journal, small.engine.chain, self.wallet, TOKENS, small.clock, self._republish
        )

    async def _republish(self) -> None:
        self.republished += 1

    def landed(self, order_id: str, attempt: int = 1, error: str | None = None, slot: int = 1_010) -> WalletTransaction:
        """Have the wallet's history and the chain show a transaction."""
        landing = WalletTransaction(
            signature(order_id, attempt),
            slot,
            self.small.clock.now_us(),
            order_id,
            attempt,
            "meteora",
            "pool-m",
            SOL.mint,
            USDC.mint,
            1_500_000_000,
            0 if error else 1_500_000_000,
            0 if error else 151_000_000,
            15_000,
            error,
        )
        self.wallet.landed.append(landing)
        self.small.chain.known[landing.signature] = TransactionStatus(slot, Commitment.FINALIZED, error)
        return landing

    def let_everything_expire(self) -> None:
        later = self.small.chain.height.slot + 1_000
        self.small.chain.height = BlockHeight("a node", height=later, slot=later)
        self.small.chain.finalized_slot = later

    async def reconcile(self) -> Reconciled:
        """Reconcile to the end; the blockhashes of before expire meanwhile."""
        self.operator.start_reconciling("local")
        await self.small.until(lambda: self.operator.reconcile_state.progress is not None)
        self.let_everything_expire()
        await self.small.until(lambda: not self.operator.reconcile_state.running)
        assert self.operator.reconcile_state.error is None
        result = self.operator.reconcile_state.result
        assert result is not None
        return result


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    async with small_engine() as small:
        made = Desk(small)
        yield made
        await made.operator.stop()


# --- Halt and resume


async def test_a_halt_refuses_orders_holds_those_that_would_sign_and_resolves_what_was_signed() -> None:
    async with desk() as at:
        small = at.small
        small.chain.lands = False
        signed = await small.order()
        await small.until_status(signed, Status.SUBMITTED)
        halt = await at.operator.halt("a look at the wallet")
        assert halt.cause is HaltCause.OPERATOR
        with pytest.raises(HaltedError, match="a look at the wallet"):
            await small.order()
        held = await small.left_by_the_dead(*HAPPY[:2])
        await small.recover()
        await small.clock.advance(SETTLE_S)
        assert await small.statuses(held.id) == list(HAPPY[:2]), "nothing was begun"
        small.chain.tell(signature(signed), TransactionStatus(1_001, Commitment.CONFIRMED))
        assert (await small.until_status(signed)).status == "confirmed"
        assert len(small.venue.built) == 1

        small.chain.lands = True
        await at.operator.resume()
        assert (await small.until_status(held.id)).status == "confirmed"
        assert (await small.until_status(await small.order())).status == "confirmed"


async def test_a_halt_while_a_venue_builds_discards_what_it_signed() -> None:
    async with desk() as at:
        small = at.small
        building, go_on = asyncio.Event(), asyncio.Event()
        build = small.venue.build

        async def slow_build(request: object) -> object:
            building.set()
            await go_on.wait()
            return await build(request)  # type: ignore[arg-type]

        small.venue.build = slow_build  # type: ignore[method-assign, assignment]
        small.engine.execution._executor._build_deadline_s = 60.0
        order_id = await small.order()
        await small.until(building.is_set)
        await at.operator.halt("now")
        go_on.set()
        await small.until(lambda: order_id in small.engine.gate.held)
        assert small.chain.sent == []
        assert Status.SUBMITTED not in await small.statuses(order_id)
        await at.operator.resume()
        view = await small.until_status(order_id)
        assert (view.status, view.attempt) == ("confirmed", 1)


async def test_a_halt_during_a_resume_stands() -> None:
    async with desk() as at:
        await at.operator.halt("first")
        resume, answered = at.small.journal.resume, asyncio.Event()

        async def slow_resume() -> None:
            await resume()
            await answered.wait()

        at.small.journal.resume = slow_resume  # type: ignore[method-assign]
        resuming = asyncio.create_task(at.operator.resume())
        await asyncio.sleep(0)
        with pytest.raises(NotHaltedError):
            at.operator.start_reconciling("local")
        halting = asyncio.create_task(at.operator.halt("second"))
        await at.small.clock.advance(1)
        answered.set()
        await asyncio.gather(resuming, halting)
        in_force = at.operator.halt_in_force
        assert in_force is not None, "the journal has the second halt"
        assert in_force.reason == "second"


async def test_a_retry_that_a_halt_held_goes_on_from_its_proof() -> None:
    async with desk() as at:
        small = at.small
        small.chain.lands = False
        order_id = await small.order()
        await small.until_status(order_id, Status.SUBMITTED)
        await at.operator.halt("now")
        small.chain.tell(signature(order_id), TransactionStatus(1_001, Commitment.FINALIZED, "slippage_exceeded"))
        await small.until(lambda: order_id in small.engine.gate.held)
        assert len(small.venue.built) == 1
        small.chain.lands = True
        await at.operator.resume()
        view = await small.until_status(order_id)
        assert (view.status, view.attempt) == ("confirmed", 2)


async def test_a_journal_that_is_behind_is_not_resumed_before_it_is_reconciled() -> None:
    async with desk() as at:
        await at.operator.halt("30 rows are missing", HaltCause.JOURNAL_BEHIND)
        with pytest.raises(JournalBehindError, match="bestex reconcile"):
            await at.operator.resume()
        await at.reconcile()
        assert at.republished == 1
        await at.operator.resume()
        assert at.operator.halt_in_force is None
        assert (await at.small.until_status(await at.small.order())).status == "confirmed"


async def test_no_order_ends_on_the_word_of_a_journal_that_is_behind() -> None:
    async with desk() as at:
        small = at.small
        await at.operator.halt("30 rows are missing", HaltCause.JOURNAL_BEHIND)
        small.chain.lands = False
        pending = await small.left_by_the_dead(*HAPPY[:1])
        last_try = await small.left_by_the_dead(*HAPPY[:4])
        await small.recover()
        at.landed(last_try.id, error="insufficient_funds")  # not to be tried again, as this engine is set up
        small.chain.hint([signature(last_try.id)])
        await small.until(lambda: last_try.id in small.engine.gate.held)
        for order_id in (pending.id, last_try.id):
            with pytest.raises(JournalBehindError):
                await small.engine.orders.cancel(order_id)
            with pytest.raises(JournalBehindError):
                await at.operator.resolve(order_id, Resolution(None, force=True))
        at.landed(pending.id, 1)
        at.landed(last_try.id, 2)
        result = await at.reconcile()
        assert (set(result.adopted), result.contradictions) == ({pending.id, last_try.id}, [])
        assert (await small.until_status(pending.id)).status == "confirmed"
        assert (await small.until_status(last_try.id)).status == "confirmed"


# --- Reconcile


async def test_nothing_is_reconciled_while_the_engine_signs() -> None:
    async with desk() as at:
        with pytest.raises(NotHaltedError):
            at.operator.start_reconciling("local")


async def test_reconciling_waits_until_nothing_signed_before_can_land() -> None:
    async with desk() as at:
        await at.operator.halt("restored")
        at.operator.start_reconciling("local")
        await at.small.clock.advance(30)
        assert at.operator.reconcile_state.running
        late = str(uuid.uuid4())
        at.landed(late)  # it was on its way
        at.let_everything_expire()
        await at.small.until(lambda: not at.operator.reconcile_state.running)
        assert at.operator.reconcile_state.result is not None
        assert at.operator.reconcile_state.result.adopted == [late]


async def test_a_node_that_lags_does_not_shorten_the_wait() -> None:
    async with desk() as at:
        chain = at.small.chain
        await at.operator.halt("restored")
        statuses, up_to_date = chain.statuses, chain.height

        async def of_a_lagging_node(signatures: Sequence[str]) -> StatusReport:
            chain.statuses, chain.height = statuses, up_to_date  # type: ignore[method-assign]
            return replace(await statuses(signatures), slot=810)

        chain.statuses = of_a_lagging_node  # type: ignore[method-assign]
        chain.height = BlockHeight("a node", height=800, slot=800)
        at.operator.start_reconciling("local")
        await at.small.until(lambda: at.operator.reconcile_state.progress is not None)
        chain.height = BlockHeight("a node", height=1_160, slot=1_160)
        await at.small.clock.advance(5)
        assert at.operator.reconcile_state.running, "a blockhash of block 1,010 is alive"
        at.let_everything_expire()
        await at.small.until(lambda: not at.operator.reconcile_state.running)


@pytest.mark.parametrize("statuses", [HAPPY[:1], HAPPY[:2], HAPPY[:3]], ids=len)
async def test_an_executed_swap_is_adopted_by_the_order_that_does_not_know_it(statuses: tuple[Status, ...]) -> None:
    async with desk() as at:
        await at.operator.halt("restored")
        draft = await at.small.left_by_the_dead(*statuses)
        await at.small.recover()
        at.landed(draft.id)
        result = await at.reconcile()
        assert (result.adopted, result.unknown_orders) == ([draft.id], [])
        view = await at.small.until_status(draft.id)
        assert (view.status, view.amount_out, view.tx_hash) == ("confirmed", "151", signature(draft.id))
        await at.operator.resume()
        await at.small.clock.advance(SETTLE_S)
        assert at.small.venue.built == [], "nothing executes again"


async def test_what_the_halted_engine_wrote_does_not_hide_what_landed_before() -> None:
    async with desk() as at:
        small = at.small
        confirmed = await small.left_by_the_dead(*HAPPY)  # in the restored journal it is not final yet
        pending = await small.left_by_the_dead(*HAPPY[:1])
        await small.clock.advance(60)
        at.landed(pending.id)
        await small.clock.advance(3_600)  # until the old backup is restored
        await at.operator.halt("restored", HaltCause.JOURNAL_BEHIND)
        await small.recover()
        small.chain.tell(signature(confirmed.id), TransactionStatus(1_001, Commitment.FINALIZED))
        await small.until(lambda: small.engine.landing.confirmed == 0)
        assert (await small.view(confirmed.id)).commitment == "finalized"
        assert (await at.reconcile()).adopted == [pending.id]
        await at.operator.resume()
        await small.until_status(pending.id)
        assert small.venue.built == [], "nothing executes again"


async def test_an_attempt_behind_one_that_failed_is_adopted_with_the_failed_ones_story() -> None:
    async with desk() as at:
        await at.operator.halt("restored")
        draft = await at.small.left_by_the_dead(*HAPPY[:4])  # attempt 1 is open in the restored journal
        at.small.chain.lands = False
        await at.small.recover()
        at.landed(draft.id, 2)
        result = await at.reconcile()
        assert result.adopted == [draft.id]
        view = await at.small.until_status(draft.id)
        assert (view.status, view.attempt) == ("confirmed", 2)
        stories = [each.event.detail for each in await at.small.journal.events(draft.id)]
        assert [each.signature for each in stories if isinstance(each, SubmittedDetail)] == [
            signature(draft.id, 1),
            signature(draft.id, 2),
        ]


@pytest.mark.parametrize("reachable", [True, False], ids=["lagging", "unreachable"])
async def test_an_open_attempt_is_looked_at_until_a_node_proves_what_became_of_it(*, reachable: bool) -> None:
    async with desk() as at:
        small = at.small
        await at.operator.halt("restored")
        draft = await small.left_by_the_dead(*HAPPY[:4])  # attempt 1 is open in the restored journal
        small.chain.lands = False
        await small.recover()
        at.landed(draft.id, 2)
        at.operator.start_reconciling("local")
        await small.until(lambda: at.operator.reconcile_state.progress is not None)
        if reachable:
            small.chain.height = BlockHeight("a node", height=2_000, slot=2_000)  # its statuses are of before that
        else:
            small.chain.trouble_with["statuses", signature(draft.id, 1)] = ChainUnreachableError("gone")
            at.let_everything_expire()
        await small.clock.advance(5)
        at.let_everything_expire()
        small.chain.trouble_with.clear()
        await small.until(lambda: not at.operator.reconcile_state.running)
        result = at.operator.reconcile_state.result
        assert result is not None, at.operator.reconcile_state.error
        assert (result.adopted, result.contradictions) == ([draft.id], [])
        await at.operator.resume()
        assert (await small.until_status(draft.id)).attempt == 2
        assert small.venue.built == [], "nothing executes again"


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_attempts_of_one_order_on_two_pages_of_the_history_are_adopted_together(
    monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    monkeypatch.setattr("bestex.engine.reconciliation.PAGE", 1)
    async with desk() as at:
        await at.operator.halt("restored")
        order_id = (await at.small.left_by_the_dead(*HAPPY[:2])).id if known else str(uuid.uuid4())
        await at.small.recover()
        at.landed(order_id, 1, error="slippage_exceeded", slot=1_010)
        at.landed(order_id, 2, slot=1_020)
        result = await at.reconcile()
        assert (result.adopted, result.contradictions) == ([order_id], [])
        view = await at.small.until_status(order_id)
        assert (view.status, view.attempt, view.tx_hash) == ("confirmed", 2, signature(order_id, 2))


async def test_an_order_that_the_journal_does_not_know_is_made_of_its_transaction() -> None:
    async with desk() as at:
        await at.operator.halt("restored")
        executed, failed = str(uuid.uuid4()), str(uuid.uuid4())
        at.landed(executed)
        at.landed(failed, error="slippage_exceeded")
        result = await at.reconcile()
        assert set(result.adopted) == set(result.unknown_orders) == {executed, failed}
        view = await at.small.until_status(executed)
        assert (view.status, view.amount, view.amount_out) == ("confirmed", "1.5", "151")
        assert (await at.small.until_status(failed)).status == "failed"
        await at.operator.resume()
        await at.small.clock.advance(SETTLE_S)
        assert at.small.venue.built == []


async def test_what_the_journal_knows_is_not_adopted_and_nothing_is_adopted_twice() -> None:
    async with desk() as at:
        known = await at.small.order()
        await at.small.until_status(known)
        await at.operator.halt("restored")
        at.landed(known)
        before = await at.small.journal.head()
        result = await at.reconcile()
        assert (result.transactions, result.adopted) == (1, [])
        await at.small.until(lambda: at.small.engine.landing.confirmed == 0)
        assert await at.small.journal.head() == before + 1, "the note that it is final"
        again = await at.reconcile()
        assert again.adopted == []


async def test_a_landing_of_an_order_that_ended_otherwise_is_a_contradiction_for_a_person() -> None:
    async with desk() as at:
        await at.operator.halt("restored")
        draft = await at.small.left_here(Status.PENDING, Status.FAILED)
        at.landed(draft.id)
        result = await at.reconcile()
        assert result.adopted == []
        [contradiction] = result.contradictions
        assert (contradiction.order_id, contradiction.signature) == (draft.id, signature(draft.id))
        assert await at.small.statuses(draft.id) == [Status.PENDING, Status.FAILED]


async def test_a_token_that_the_registry_does_not_know_is_named_and_left() -> None:
    async with desk() as at:
        await at.operator.halt("restored")
        landing = at.landed(str(uuid.uuid4()))
        at.wallet.landed = [replace(landing, mint_in="SomeOtherMint")]
        assert (await at.reconcile()).foreign == [landing.signature]


# --- Resolve


async def unknown(at: Desk) -> str:
    """An order whose transaction the chain does not show."""
    at.small.chain.lands = False
    order_id = await at.small.order()
    await at.small.until_status(order_id, Status.SUBMITTED)
    at.small.chain.trouble["statuses"] = [HANG] * 10_000
    return order_id


async def last_detail(at: Desk, order_id: str) -> object:
    return (await at.small.journal.events(order_id))[-1].event.detail


async def resolve(at: Desk, order_id: str, resolution: Resolution) -> OrderView:
    resolving = asyncio.create_task(at.operator.resolve(order_id, resolution))
    await at.small.until(resolving.done)
    return resolving.result()


async def test_a_person_says_that_it_executed_where_the_chain_shows_nothing() -> None:
    async with desk() as at:
        order_id = await unknown(at)
        with pytest.raises(ContradictedError, match="amount out"):
            await resolve(at, order_id, Resolution(executed=signature(order_id)))
        decided = Resolution(executed=signature(order_id), amount_out=150_900_000, note="seen in the explorer")
        view = await resolve(at, order_id, decided)
        assert (view.status, view.amount_in, view.amount_out) == ("confirmed", "1.5", "150.9")
        detail = await last_detail(at, order_id)
        assert isinstance(detail, ConfirmedDetail)
        assert (detail.resolved, detail.note, detail.commitment) == (True, "seen in the explorer", "finalized")
        assert len(at.small.engine.landing) == 0, "it is followed no more"


async def test_a_signature_of_another_order_resolves_nothing() -> None:
    async with desk() as at:
        order_id = await unknown(at)
        with pytest.raises(ContradictedError, match="no transaction of this order"):
            await resolve(at, order_id, Resolution(executed="another", amount_out=1))


async def test_a_person_says_that_it_did_not_execute() -> None:
    async with desk() as at:
        order_id = await unknown(at)
        with pytest.raises(ContradictedError, match="does not answer"):
            await resolve(at, order_id, Resolution(None))
        view = await resolve(at, order_id, Resolution(None, force=True))
        assert view.status == "failed"
        detail = await last_detail(at, order_id)
        assert isinstance(detail, FailedDetail)
        assert (detail.code, detail.resolved) == ("resolved", True)
        assert len(at.small.engine.landing) == 0
        await at.small.clock.advance(SETTLE_S)
        assert len(at.small.venue.built) == 1, "it is not tried again"


async def test_what_a_person_decided_of_a_cancelled_order_says_why() -> None:
    async with desk() as at:
        order_id = await unknown(at)
        await at.small.engine.orders.cancel(order_id)
        view = await resolve(at, order_id, Resolution(None, force=True, note="the node lost it"))
        assert view.status == "cancelled"
        detail = await last_detail(at, order_id)
        assert isinstance(detail, CancelledDetail)
        assert (detail.by, detail.previous and detail.previous.message) == ("operator", "the node lost it")


async def test_what_may_still_land_is_not_said_not_to_have_executed() -> None:
    async with desk() as at:
        at.small.chain.lands = False
        order_id = await at.small.order()
        await at.small.until_status(order_id, Status.SUBMITTED)
        with pytest.raises(ContradictedError, match="may still land"):
            await at.operator.resolve(order_id, Resolution(None))


async def test_what_the_chain_shows_goes_before_what_a_person_says() -> None:
    async with desk() as at:
        order_id = await unknown(at)
        at.small.chain.trouble["statuses"].clear()
        at.small.chain.tells_fills.clear()  # so that landing does not conclude first
        at.small.chain.known[signature(order_id)] = TransactionStatus(1_001, Commitment.CONFIRMED)
        with pytest.raises(ContradictedError, match="shows that it executed"):
            await at.operator.resolve(order_id, Resolution(None, force=True))
        at.small.chain.tells_fills.set()


async def test_an_earlier_attempt_executed_only_where_the_latest_did_not_and_cannot() -> None:
    async with desk() as at:
        small = at.small
        small.chain.lands = False
        order_id = await small.order()
        await small.until_status(order_id, Status.SUBMITTED)
        first, second = signature(order_id, 1), signature(order_id, 2)
        at.landed(order_id, 1, error="slippage_exceeded")
        small.chain.hint([first])
        await small.until(lambda: second in small.chain.sent)
        said = Resolution(executed=first, amount_out=150_000_000)
        with pytest.raises(ContradictedError, match="may still land"):
            await at.operator.resolve(order_id, said)
        with pytest.raises(ContradictedError, match="executed with an error"):
            await at.operator.resolve(order_id, replace(said, force=True))
        del small.chain.known[first]
        small.chain.tells_fills.clear()  # so that landing does not conclude first
        small.chain.known[second] = TransactionStatus(1_001, Commitment.CONFIRMED)
        with pytest.raises(ContradictedError, match=f"executed, by {second}"):
            await at.operator.resolve(order_id, replace(said, force=True))
        small.chain.tells_fills.set()


async def test_only_what_is_unknown_is_resolved() -> None:
    async with desk() as at:
        order_id = await at.small.order()
        await at.small.until_status(order_id)
        with pytest.raises(NotUnknownError):
            await at.operator.resolve(order_id, Resolution(None))
        with pytest.raises(NotFoundError):
            await at.operator.resolve(str(uuid.uuid4()), Resolution(None))


async def test_one_that_a_fork_took_for_good_is_a_persons_to_close() -> None:
    async with desk() as at:
        small = at.small
        order_id = await small.order()
        await small.until_status(order_id)
        small.chain.lands = False
        del small.chain.known[signature(order_id)]
        at.let_everything_expire()
        await small.until(lambda: small.engine.landing.confirmed == 0)
        view = await resolve(at, order_id, Resolution(None, note="the client was told"))
        assert (view.status, view.commitment) == ("confirmed", "lost")
        detail = await last_detail(at, order_id)
        assert isinstance(detail, ConfirmedDetail)
        assert detail.resolved


async def test_a_swap_below_the_limit_that_the_chain_enforces_did_not_execute() -> None:
    async with desk() as at:
        order_id = await unknown(at)
        with pytest.raises(ContradictedError, match=r"pay less than 150\.245"):
            await resolve(at, order_id, Resolution(executed=signature(order_id), amount_out=150_244_999))


async def test_what_may_still_land_is_not_said_to_have_executed_either() -> None:
    async with desk() as at:
        at.small.chain.lands = False
        order_id = await at.small.order()
        await at.small.until_status(order_id, Status.SUBMITTED)
        decided = Resolution(executed=signature(order_id), amount_out=150_900_000)
        with pytest.raises(ContradictedError, match="may still land"):
            await at.operator.resolve(order_id, decided)
        assert (await at.operator.resolve(order_id, replace(decided, force=True))).status == "confirmed"
