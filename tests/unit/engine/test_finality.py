"""After `confirmed`: final, lost to a fork, landed again; and before it: notes while the outcome is unknown."""

from msgspec.structs import replace

from bestex.domain.events import ConfirmedDetail, Detail, SubmittedDetail
from bestex.domain.lifecycle import Status
from bestex.domain.route import Fill
from bestex.engine.landing import LandingLimits
from bestex.observability import Metrics
from bestex.ports import BlockHeight, Commitment, TransactionStatus
from tests.support.orders import HAPPY
from tests.support.small_engine import HANG, LIMITS, SmallEngine, signature, small_engine

FINAL = TransactionStatus(1_001, Commitment.FINALIZED)


async def confirmed(small: SmallEngine) -> str:
    order_id = await small.order()
    assert (await small.until_status(order_id)).commitment == "confirmed"
    return order_id


async def notes(small: SmallEngine, order_id: str) -> list[ConfirmedDetail]:
    """What stands behind the first `confirmed`."""
    details = [stored.event.detail for stored in await small.journal.events(order_id)]
    return [detail for detail in details if isinstance(detail, ConfirmedDetail)][1:]


async def until_noted(small: SmallEngine, order_id: str, commitment: str) -> ConfirmedDetail:
    def noted() -> bool:
        view = small.database.orders[order_id].view
        return view is not None and view.commitment == commitment

    await small.until(noted)
    return (await notes(small, order_id))[-1]


async def test_a_final_transaction_is_noted_once_and_followed_no_more() -> None:
    async with small_engine() as small:
        order_id = await confirmed(small)
        assert small.engine.landing.confirmed == 1
        assert len(small.engine.landing) == 0, "it waits for no proof"
        small.chain.known[signature(order_id)] = FINAL
        note = await until_noted(small, order_id, "finalized")
        assert note == ConfirmedDetail(commitment="finalized"), "nothing else has changed"
        await small.clock.advance(60)
        assert await small.statuses(order_id) == [*HAPPY, Status.CONFIRMED]
        assert small.engine.landing.confirmed == 0


async def test_what_a_fork_took_away_is_noted_and_the_same_bytes_land_again_with_their_own_amounts() -> None:
    async with small_engine() as small:
        order_id = await confirmed(small)
        small.chain.lands = False
        del small.chain.known[signature(order_id)]
        small.chain.hint([signature(order_id)])
        lost = await until_noted(small, order_id, "lost")
        assert not lost.gone
        sent = small.chain.sent.count(signature(order_id))
        await small.until(lambda: small.chain.sent.count(signature(order_id)) > sent)
        assert small.venue.built == small.venue.built[:1], "nothing else was signed"

        small.chain.fill = Fill(1_500_000_000, 150_900_000, 15_000)
        small.chain.tell(signature(order_id), TransactionStatus(1_020, Commitment.CONFIRMED))
        again = await until_noted(small, order_id, "confirmed")
        assert (again.amount_out, again.slot) == ("150.9", 1_020)
        assert (await small.view(order_id)).amount_out == "150.9"
        small.chain.known[signature(order_id)] = replace(FINAL, slot=1_020)
        await until_noted(small, order_id, "finalized")
        assert (await small.view(order_id)).amount_out == "150.9"


async def test_what_lands_again_unnoticed_is_final_with_the_amounts_it_has_now() -> None:
    async with small_engine() as small:
        order_id = await confirmed(small)
        small.chain.fill = Fill(1_500_000_000, 150_800_000, 15_000)
        small.chain.known[signature(order_id)] = replace(FINAL, slot=1_030)
        note = await until_noted(small, order_id, "finalized")
        assert (note.amount_out, note.slot) == ("150.8", 1_030)


async def test_what_can_never_land_again_is_lost_for_good_and_a_persons_to_decide() -> None:
    async with small_engine() as small:
        order_id = await confirmed(small)
        small.chain.lands = False
        del small.chain.known[signature(order_id)]
        small.chain.hint([signature(order_id)])
        await until_noted(small, order_id, "lost")
        small.chain.height = BlockHeight("a node", height=1_151, slot=1_201)
        small.chain.finalized_slot = 1_201
        await small.until(lambda: small.engine.landing.confirmed == 0)
        last = (await notes(small, order_id))[-1]
        assert last.gone
        assert last.note is not None
        await small.clock.advance(60)
        assert len(small.venue.built) == 1, "the engine never executes it again"


async def test_orders_that_are_not_final_are_recovered_and_followed() -> None:
    async with small_engine() as small:
        draft = await small.left_by_the_dead(*HAPPY)
        assert await small.recover() == 1
        small.chain.known[signature(draft.id)] = FINAL
        await until_noted(small, draft.id, "finalized")
        assert not small.venue.built


# --- Notes while the outcome is unknown

NOTED = replace(LIMITS, landing=LandingLimits(note_after_s=10.0))


def note_of(detail: Detail) -> str | None:
    return detail.note if isinstance(detail, SubmittedDetail) else None


async def noted(small: SmallEngine, order_id: str) -> list[SubmittedDetail]:
    details = [stored.event.detail for stored in await small.journal.events(order_id)]
    return [detail for detail in details if isinstance(detail, SubmittedDetail) and detail.note is not None]


async def test_an_unreachable_chain_leaves_an_order_submitted_and_a_note_says_when_the_next_look_is() -> None:
    async with small_engine(limits=NOTED) as small:
        small.chain.lands = False
        order_id = await small.order()
        await small.until_status(order_id, Status.SUBMITTED)
        small.chain.trouble["finalized_height"] = [HANG] * 100
        await small.until(lambda: small.database.orders[order_id].seq > 4)
        [note] = await noted(small, order_id)
        assert note.note == "the chain's endpoint does not answer"
        assert note.next_look_at is not None
        small.chain.trouble["finalized_height"].clear()
        small.chain.known[signature(order_id)] = TransactionStatus(1_001, Commitment.CONFIRMED)
        assert (await small.until_status(order_id)).status == "confirmed"
        assert len(small.venue.built) == 1


async def test_notes_come_ever_more_rarely_and_say_what_is_known() -> None:
    async with small_engine(limits=NOTED) as small:
        small.chain.lands = False
        order_id = await small.order()
        await small.until_status(order_id, Status.SUBMITTED)
        await small.clock.advance(100)
        found = await noted(small, order_id)
        assert 3 <= len(found) <= 5, "after 10 s, then 20, 40 and 80 s later"
        assert all(note.note is not None and "may land up to block height 1150" in note.note for note in found)


async def test_a_note_does_not_hide_the_attempt_from_recovery() -> None:
    async with small_engine() as small:
        draft = await small.left_by_the_dead(*HAPPY[:4])
        note = SubmittedDetail(note="the chain does not show it")
        view = draft.add((Status.SUBMITTED, note))
        await small.journal.append(replace(view, lease_epoch=None))
        assert await small.recover() == 1
        small.chain.lands = True
        assert (await small.until_status(draft.id)).status == "confirmed"
        assert not small.venue.built


async def test_an_order_is_counted_as_ended_once_whatever_is_noted_later() -> None:
    async with small_engine() as small:
        metrics = Metrics()
        small.journal.listen(metrics.committed)
        order_id = await confirmed(small)
        small.chain.known[signature(order_id)] = TransactionStatus(1_030, Commitment.CONFIRMED)  # landed again
        small.chain.hint([signature(order_id)])
        await small.until(lambda: small.database.orders[order_id].seq == 6)
        small.chain.known[signature(order_id)] = replace(FINAL, slot=1_030)
        await until_noted(small, order_id, "finalized")
        assert b'bestex_orders_ended_total{status="confirmed"} 1.0' in metrics.text()


async def test_a_chain_that_does_not_answer_is_asked_once_a_round_for_all_that_wait_for_finality() -> None:
    async with small_engine() as small:
        for _ in range(3):
            await confirmed(small)
        small.chain.trouble["finalized_height"] = [RuntimeError("away")] * 1_000
        asked = small.chain.calls["finalized_height"]
        await small.clock.advance(4.0)
        assert small.engine.landing.confirmed == 3
        rounds = small.chain.calls["finalized_height"] - asked
        assert 1 <= rounds <= 16, "one call for all, a tick apart"
