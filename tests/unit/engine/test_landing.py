"""Landing: an attempt ends by proof only, once, and what breaks on the way to the proof stops nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs

from bestex.domain.errors import FailureCode
from bestex.domain.events import RoutingDetail, SignedTransaction
from bestex.domain.lifecycle import Status
from bestex.engine.decision import expiry_is_proven
from bestex.ports import BlockHeight, Commitment, StatusReport, TransactionStatus
from tests.support.orders import HAPPY
from tests.support.small_engine import HANG, LIMITS, SmallEngine, Trouble, signature, small_engine

CONFIRMED = TransactionStatus(1_001, Commitment.CONFIRMED)
TROUBLES = [RuntimeError("broken"), ZeroDivisionError(), HANG]
EACH_TROUBLE = pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: type(trouble).__name__)


async def submitted(small: SmallEngine, orders: int = 1) -> list[str]:
    """Orders whose transactions have been sent and are not known to the chain."""
    small.chain.lands = False
    ids = [await small.order() for _ in range(orders)]
    await small.until(lambda: len(small.chain.sent) == orders)
    return ids


# --- Two looks at one attempt


async def test_an_attempt_that_two_looks_are_at_while_its_fill_is_asked_for_concludes_once() -> None:
    limits = replace(LIMITS, chain_deadline_s=60.0)
    async with small_engine(limits=limits) as small:
        with capture_logs() as logs:
            await confirm_by_two_looks(small)
        assert not [each for each in logs if each["log_level"] == "error"]


async def confirm_by_two_looks(small: SmallEngine) -> None:
    order_id, other = await submitted(small, 2)
    small.chain.tells_fills.clear()
    small.chain.tell(signature(order_id), CONFIRMED)
    await small.until(lambda: small.chain.calls["fills"] == 2)  # for the hint, and for the regular look
    small.chain.tells_fills.set()
    assert (await small.until_status(order_id)).status == "confirmed"
    small.chain.tell(signature(other), CONFIRMED)
    assert (await small.until_status(other)).status == "confirmed"
    await small.clock.advance(5)
    assert await small.statuses(order_id) == list(HAPPY)
    assert len(small.engine.landing) == 0


async def test_an_attempt_read_anew_while_its_fill_is_asked_for_concludes_once() -> None:
    async with small_engine(limits=replace(LIMITS, chain_deadline_s=60.0)) as small:
        [order_id] = await submitted(small)
        small.chain.tells_fills.clear()
        small.chain.tell(signature(order_id), CONFIRMED)
        await small.until(lambda: small.chain.calls["fills"] >= 1)
        await small.engine.orders.cancel(order_id)  # from here on, the state that landing has is behind
        small.chain.tells_fills.set()
        assert (await small.until_status(order_id)).cancel_requested
        await small.clock.advance(5)
        assert await small.statuses(order_id) == [*HAPPY[:-1], Status.SUBMITTED, Status.CONFIRMED]


# --- A chain that breaks or hangs


@EACH_TROUBLE
async def test_a_send_that_breaks_or_hangs_stops_nobody_else_and_is_repeated(trouble: Trouble) -> None:
    async with small_engine(limits=replace(LIMITS, concurrency=1)) as small:
        small.chain.trouble["send"] = [trouble]
        first, second = await small.order(), await small.order()
        assert (await small.until_status(second)).status == "confirmed"
        view = await small.until_status(first)
        assert (view.status, view.attempt) == ("confirmed", 1)
        assert small.chain.sent.count(signature(first)) == 1


@EACH_TROUBLE
async def test_a_send_that_always_breaks_leaves_its_order_unknown_and_the_others_alone(trouble: Trouble) -> None:
    async with small_engine(limits=replace(LIMITS, concurrency=1)) as small:
        bad = "01910000-0000-7000-8000-000000000001"
        small.chain.trouble_with["send", signature(bad)] = trouble
        assert await small.order() == bad
        assert (await small.until_status(await small.order())).status == "confirmed"
        tries = small.chain.calls["send"]
        await small.until(lambda: small.chain.calls["send"] >= tries + 2)  # the same bytes, again and again
        assert await small.statuses(bad) == list(HAPPY[:-1])
        assert (await small.until_status(await small.order())).status == "confirmed"


@EACH_TROUBLE
@pytest.mark.parametrize("method", ["statuses", "finalized_height"])
async def test_a_look_that_breaks_or_hangs_is_repeated(trouble: Trouble, method: str) -> None:
    async with small_engine() as small:
        ids = await submitted(small, 2)
        small.chain.trouble[method] = [trouble, trouble]
        small.chain.known = dict.fromkeys(map(signature, ids), CONFIRMED)  # without a hint
        for order_id in ids:
            assert (await small.until_status(order_id)).status == "confirmed"
        assert not small.chain.trouble[method]


@EACH_TROUBLE
async def test_a_fill_that_breaks_or_hangs_stops_nobody_else(trouble: Trouble) -> None:
    async with small_engine() as small:
        bad, good = await submitted(small, 2)
        small.chain.trouble_with["fills", signature(bad)] = trouble
        small.chain.known = {signature(bad): CONFIRMED, signature(good): CONFIRMED}
        small.chain.hint([signature(bad), signature(good)])
        assert (await small.until_status(good)).status == "confirmed"
        assert await small.statuses(bad) == list(HAPPY[:-1])
        del small.chain.trouble_with["fills", signature(bad)]
        assert (await small.until_status(bad)).status == "confirmed"
        assert await small.statuses(bad) == list(HAPPY)


# --- What proves that an attempt was not executed


@pytest.mark.parametrize("commitment", [Commitment.PROCESSED, Commitment.CONFIRMED])
async def test_an_error_that_is_not_final_proves_nothing(commitment: Commitment) -> None:
    async with small_engine() as small:
        [order_id] = await submitted(small)
        small.chain.tell(signature(order_id), TransactionStatus(1_001, commitment, "slippage_exceeded"))
        await small.clock.advance(10)
        assert await small.statuses(order_id) == list(HAPPY[:-1])
        assert len(small.venue.built) == 1
        small.chain.tell(signature(order_id), CONFIRMED)  # on the fork that lives it executed
        assert (await small.until_status(order_id)).attempt == 1


async def test_an_execution_that_is_only_processed_proves_nothing() -> None:
    async with small_engine() as small:
        [order_id] = await submitted(small)
        small.chain.tell(signature(order_id), TransactionStatus(1_001, Commitment.PROCESSED))
        await small.clock.advance(10)
        assert await small.statuses(order_id) == list(HAPPY[:-1])


async def test_a_final_error_is_an_attempt_not_executed() -> None:
    async with small_engine() as small:
        [order_id] = await submitted(small)
        small.chain.lands = True
        small.chain.tell(signature(order_id), TransactionStatus(1_001, Commitment.FINALIZED, "slippage_exceeded"))
        view = await small.until_status(order_id)
        assert (view.status, view.attempt) == ("confirmed", 2)
        assert await given_up(small, order_id) == [(FailureCode.SLIPPAGE_EXCEEDED, signature(order_id))]


async def test_an_expired_attempt_is_not_executed_and_one_that_may_land_is_unknown() -> None:
    async with small_engine() as small:
        [order_id] = await submitted(small)
        small.chain.height = BlockHeight("a node", height=1_150, slot=1_200)
        small.chain.finalized_slot = 1_200
        await small.clock.advance(10)
        assert await small.statuses(order_id) == list(HAPPY[:-1])
        small.chain.height = BlockHeight("a node", height=1_151, slot=1_201)
        await small.clock.advance(10)  # what was looked up is from before the height
        assert await small.statuses(order_id) == list(HAPPY[:-1])
        assert len(small.venue.built) == 1
        small.chain.finalized_slot = 1_201
        small.chain.lands = True
        assert (await small.until_status(order_id)).attempt == 2
        assert await given_up(small, order_id) == [(FailureCode.BLOCKHASH_EXPIRED, signature(order_id))]


async def given_up(small: SmallEngine, order_id: str) -> list[tuple[str, str | None]]:
    """Code and signature of each attempt that was given up."""
    details = [stored.event.detail for stored in await small.journal.events(order_id)]
    stories = [detail.previous for detail in details if isinstance(detail, RoutingDetail)]
    return [(story.code, story.signature) for story in stories if story is not None]


SLOT = st.integers(0, 2**40)
MORE = st.integers(0, 2**20)
JUST_MORE = st.integers(1, 2**20)
Proof = tuple[SignedTransaction, StatusReport, BlockHeight]


@st.composite
def proofs(draw: st.DrawFn) -> Proof:
    """A transaction, and a report and a height that prove its expiry."""
    blockhash_slot, last_height, height_slot = draw(SLOT), draw(SLOT), draw(SLOT)
    finalized = max(blockhash_slot, height_slot) + draw(MORE)
    node = draw(st.text(max_size=4))
    history_from = draw(st.integers(0, blockhash_slot))
    return (
        SignedTransaction("5ignature", b"raw", "b1ockhash", blockhash_slot, last_height),
        StatusReport(node, finalized + draw(MORE), finalized, history_from, (None,)),
        BlockHeight(node, last_height + draw(JUST_MORE), height_slot),
    )


@given(proofs())
def test_expiry_is_proven_where_every_condition_holds(proof: Proof) -> None:
    assert expiry_is_proven(*proof)


@given(proofs(), st.text(max_size=4))
def test_another_endpoints_height_proves_no_expiry(proof: Proof, other: str) -> None:
    transaction, report, height = proof
    assert expiry_is_proven(transaction, replace(report, endpoint=other), height) is (other == height.endpoint)


@given(proofs(), JUST_MORE)
def test_an_endpoint_that_has_not_come_to_the_blockhashs_slot_proves_no_expiry(proof: Proof, earlier: int) -> None:
    transaction, report, height = proof
    early = transaction.blockhash_slot - earlier
    lagging = replace(report, finalized_slot=early)
    assert not expiry_is_proven(transaction, lagging, replace(height, slot=early))


@given(proofs(), MORE)
def test_a_height_that_is_not_past_the_last_valid_one_proves_no_expiry(proof: Proof, below: int) -> None:
    transaction, report, height = proof
    reached = transaction.last_valid_block_height - below
    assert not expiry_is_proven(transaction, report, replace(height, height=reached))


@given(proofs(), JUST_MORE)
def test_a_report_from_before_the_height_proves_no_expiry(proof: Proof, earlier: int) -> None:
    transaction, report, height = proof
    assert not expiry_is_proven(transaction, replace(report, finalized_slot=height.slot - earlier), height)


@given(proofs(), JUST_MORE)
def test_a_history_that_begins_after_the_blockhash_proves_no_expiry(proof: Proof, later: int) -> None:
    transaction, report, height = proof
    short = replace(report, history_from_slot=transaction.blockhash_slot + later)
    assert not expiry_is_proven(transaction, short, height)
