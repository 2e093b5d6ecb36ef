"""No order is forgotten: recovery goes on, one bad order keeps no other, and the sweep takes up what nobody is at."""

import msgspec
import pytest
from msgspec.structs import replace

from bestex.api.receipt import receipt_of
from bestex.domain.errors import FailureCode, JournalError, JournalUnavailableError
from bestex.domain.events import FailedDetail, RoutingDetail
from bestex.domain.lifecycle import Status
from bestex.domain.money import AmountError
from bestex.domain.order_state import fold
from bestex.domain.tokens import Token, TokenRegistry
from bestex.engine.execution import SWEEP_EVERY_S
from bestex.ports import Commitment, TransactionStatus
from tests.support.orders import pending
from tests.support.small_engine import HANG, LIMITS, TOKENS, registry, signature, small_engine

UNSIGNED = [
    (Status.PENDING,),
    (Status.PENDING, Status.ROUTING),
    (Status.PENDING, Status.ROUTING, Status.BUILDING),
]
SIGNED = (Status.PENDING, Status.ROUTING, Status.BUILDING, Status.SUBMITTED)
PATIENT = replace(LIMITS, build_deadline_s=60.0, chain_deadline_s=60.0)
OTHER_MINT = "11111111111111111111111111111112"


# --- Recovery goes on


async def test_recovery_takes_up_what_a_dead_engine_left_wherever_it_stood() -> None:
    async with small_engine() as small:
        left = [await small.left_by_the_dead(*statuses) for statuses in (*UNSIGNED, SIGNED)]
        assert await small.recover() == len(left)
        for draft in left:
            assert (await small.until_status(draft.id)).status == "confirmed"
        assert sorted(small.chain.sent) == sorted(signature(draft.id) for draft in left)


async def test_recovery_goes_on_after_a_claim_that_failed() -> None:
    async with small_engine() as small:
        draft = await small.left_by_the_dead(Status.PENDING)
        small.journal.trouble["claim"] = [JournalUnavailableError("away"), JournalError("odd")]
        assert await small.recover() == 1
        assert (await small.until_status(draft.id)).status == "confirmed"


async def test_recovery_goes_on_after_histories_that_could_not_be_read_and_the_sweep_takes_those_orders_up() -> None:
    async with small_engine() as small:
        draft = await small.left_by_the_dead(Status.PENDING)
        small.journal.trouble["histories"] = [JournalUnavailableError("away")]
        await small.recover()
        await small.engine.sweep()
        await small.engine.sweep()
        assert (await small.until_status(draft.id)).status == "confirmed"


# --- One bad order keeps no other


@pytest.mark.parametrize(
    "error",
    [ValueError("no such status"), msgspec.ValidationError("no such field"), AmountError("too fine"), KeyError("odd")],
    ids=lambda error: type(error).__name__,
)
async def test_an_order_whose_events_cannot_be_read_keeps_no_other(error: Exception) -> None:
    async with small_engine() as small:
        before, bad, after = [await small.left_by_the_dead(Status.PENDING) for _ in range(3)]
        small.journal.unreadable[bad.id] = error
        await small.recover()
        for draft in (before, after):
            assert (await small.until_status(draft.id)).status == "confirmed"
        assert await small.statuses(bad.id) == [Status.PENDING]


async def test_an_order_whose_amount_makes_no_sense_keeps_no_other() -> None:
    async with small_engine() as small:
        bad = await small.left_by_the_dead(Status.PENDING, detail=replace(pending(), amount="1.0000000000000001"))
        good = await small.left_by_the_dead(Status.PENDING)
        await small.recover()
        assert (await small.until_status(good.id)).status == "confirmed"
        assert await small.statuses(bad.id) == [Status.PENDING]


# --- Tokens that changed


@pytest.mark.parametrize("tokens", [registry(without=["USDC"]), registry(USDC=5), registry(SOL=8)], ids=lambda _: "")
@pytest.mark.parametrize("statuses", UNSIGNED, ids=lambda statuses: statuses[-1].value)
async def test_an_unsigned_order_whose_token_changed_fails_as_unknown_token(
    tokens: TokenRegistry, statuses: tuple[Status, ...]
) -> None:
    async with small_engine(tokens=tokens) as small:
        draft = await small.left_by_the_dead(*statuses)
        await small.recover()
        view = await small.until_status(draft.id)
        assert view.status == "failed"
        assert isinstance(view.failure, FailedDetail)
        assert view.failure.code == FailureCode.UNKNOWN_TOKEN
        assert not small.venue.quoted
        assert not small.chain.sent


@pytest.mark.parametrize("tokens", [registry(without=["USDC"]), registry(USDC=5)], ids=["gone", "decimals"])
async def test_a_submitted_order_whose_token_changed_is_left_alone(tokens: TokenRegistry) -> None:
    """Its transaction may have landed: it must not be called failed."""
    async with small_engine(tokens=tokens) as small:
        draft = await small.left_by_the_dead(*SIGNED)
        good = await small.left_by_the_dead(*SIGNED)
        await small.recover()
        await small.clock.advance(10)
        for left in (draft, good):
            assert await small.statuses(left.id) == list(SIGNED)
        assert not small.venue.quoted


async def test_a_symbol_given_to_another_mint_does_not_change_what_an_order_buys() -> None:
    usdc = TOKENS.get("USDC")
    others = [token for token in TOKENS if token.symbol != "USDC"]
    tokens = TokenRegistry([*others, replace(usdc, symbol="USDC1"), Token("USDC", OTHER_MINT, usdc.decimals)])
    async with small_engine(tokens=tokens) as small:
        draft = await small.left_by_the_dead(Status.PENDING)
        await small.recover()
        assert (await small.until_status(draft.id)).status == "confirmed"
        assert {request.token_out.mint for request in small.venue.quoted} == {usdc.mint}
        assert {request.token_out.mint for request in small.venue.built} == {usdc.mint}


async def test_a_symbol_given_to_another_mint_whose_own_is_gone_fails_the_order() -> None:
    others = [token for token in TOKENS if token.symbol != "USDC"]
    tokens = TokenRegistry([*others, Token("USDC", OTHER_MINT, TOKENS.get("USDC").decimals)])
    async with small_engine(tokens=tokens) as small:
        draft = await small.left_by_the_dead(Status.PENDING)
        await small.recover()
        view = await small.until_status(draft.id)
        assert view.failure is not None
        assert view.failure.code == FailureCode.UNKNOWN_TOKEN
        assert not small.venue.quoted


# --- The sweep


@pytest.mark.parametrize("statuses", [*UNSIGNED, SIGNED], ids=lambda statuses: statuses[-1].value)
async def test_the_second_sweep_takes_up_an_order_that_nobody_is_at(statuses: tuple[Status, ...]) -> None:
    async with small_engine() as small:
        draft = await small.left_here(*statuses)
        assert await small.engine.sweep() == 0
        await small.clock.advance(10)
        assert await small.statuses(draft.id) == list(statuses)
        assert await small.engine.sweep() == 1
        assert (await small.until_status(draft.id)).status == "confirmed"
        assert small.chain.sent == [signature(draft.id)]


async def test_an_order_that_moved_on_between_two_sweeps_is_not_taken_up() -> None:
    async with small_engine() as small:
        draft = await small.left_here(Status.PENDING, Status.ROUTING)
        await small.engine.sweep()
        await small.journal.append(draft.add((Status.ROUTING, RoutingDetail()), attempt=1))
        assert await small.engine.sweep() == 0
        assert await small.engine.sweep() == 1


async def test_the_regular_sweep_ends_a_lost_order_and_outlives_a_journal_that_fails() -> None:
    async with small_engine(sweeping=True) as small:
        draft = await small.left_here(Status.PENDING)
        small.journal.trouble["held"] = [JournalUnavailableError("away")]
        small.journal.trouble["claim"] = [JournalUnavailableError("away")]
        await small.clock.advance(2 * SWEEP_EVERY_S)
        assert await small.statuses(draft.id) == [Status.PENDING]
        await small.clock.advance(2 * SWEEP_EVERY_S)
        assert (await small.until_status(draft.id)).status == "confirmed"


async def test_an_order_that_executes_is_not_dispatched_again() -> None:
    async with small_engine(limits=PATIENT) as small:
        small.venue.builds = [HANG]
        await small.order()
        await small.until(lambda: bool(small.venue.built))
        assert [await small.engine.sweep() for _ in range(3)] == [0, 0, 0]
        await small.clock.settle()
        assert len(small.venue.built) == 1
        assert small.engine.open_orders == 1


async def test_orders_that_wait_for_room_are_not_dispatched_again() -> None:
    async with small_engine(limits=replace(PATIENT, concurrency=1)) as small:
        small.venue.builds = [HANG]
        for _ in range(3):
            await small.order()
        await small.until(lambda: bool(small.venue.built))
        assert [await small.engine.sweep() for _ in range(3)] == [0, 0, 0]
        assert (small.engine.dispatcher.executing, small.engine.dispatcher.waiting) == (1, 2)


async def test_an_order_that_waits_for_proof_is_not_dispatched_again() -> None:
    async with small_engine() as small:
        small.chain.lands = False
        order_id = await small.order()
        await small.until(lambda: small.chain.sent == [signature(order_id)])
        assert [await small.engine.sweep() for _ in range(3)] == [0, 0, 0]
        await small.clock.settle()
        assert small.chain.sent == [signature(order_id)]
        assert small.engine.open_orders == 1


async def test_a_sweep_claims_the_orders_of_an_engine_that_died() -> None:
    async with small_engine() as small:
        left = [await small.left_by_the_dead(*statuses) for statuses in (*UNSIGNED, SIGNED)]
        assert await small.engine.sweep() == len(left)
        for draft in left:
            assert (await small.until_status(draft.id)).status == "confirmed"


# --- The executor


async def test_a_venue_that_hangs_while_building_is_given_up_and_tried_again() -> None:
    async with small_engine() as small:
        small.venue.builds = [HANG]
        order_id = await small.order()
        view = await small.until_status(order_id)
        assert (view.status, view.attempt) == ("confirmed", 2)
        [story] = [
            stored.event.detail.previous
            for stored in await small.journal.events(order_id)
            if isinstance(stored.event.detail, RoutingDetail) and stored.event.detail.previous is not None
        ]
        assert story.code == FailureCode.VENUE_DOWN
        assert "did not build within" in story.message
        assert story.signature is None


async def test_a_venue_that_always_hangs_while_building_fails_the_order() -> None:
    async with small_engine() as small:
        small.venue.builds = [HANG] * 3
        view = await small.until_status(await small.order())
        assert view.failure is not None
        assert [story.code for story in view.failure.attempts] == [FailureCode.VENUE_DOWN] * 3
        assert not small.chain.sent


async def test_a_defect_in_the_executor_ends_the_order_as_internal() -> None:
    async with small_engine() as small:
        small.venue.builds = ["not a signed transaction"]
        order_id = await small.order()
        view = await small.until_status(order_id)
        assert view.failure is not None
        assert (view.status, view.failure.code) == ("failed", FailureCode.INTERNAL)
        assert not small.chain.sent
        assert (await small.until_status(await small.order())).status == "confirmed"


@pytest.mark.parametrize("proven", [True, False], ids=["cancelled-in-the-pause", "cancelled-before-the-proof"])
async def test_after_a_cancel_note_nothing_more_is_signed_once_the_attempt_is_proven_not_executed(proven: bool) -> None:
    async with small_engine() as small:
        small.chain.lands = False
        order_id = await small.order()
        await small.until(lambda: small.chain.sent == [signature(order_id)])
        failed = TransactionStatus(1_001, Commitment.FINALIZED, "slippage_exceeded")
        if proven:
            small.chain.tell(signature(order_id), failed)
            await small.clock.settle()  # the executor pauses now before the next attempt
            assert small.engine.dispatcher.executing == 1
        assert (await small.engine.orders.cancel(order_id)).cancel_requested
        if not proven:
            small.chain.tell(signature(order_id), failed)
        view = await small.until_status(order_id)
        assert (view.status, view.attempt) == ("cancelled", 1)
        events = [stored.event for stored in await small.journal.events(order_id)]
        [attempt] = receipt_of(events).attempts
        assert attempt.outcome is not None, "nothing hides why the attempt was given up"
        assert attempt.outcome.code == "slippage_exceeded"
        assert fold(events).attempts[0].signature == attempt.signature
        assert len(small.venue.built) == 1
        assert small.chain.sent == [signature(order_id)]
