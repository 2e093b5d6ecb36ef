"""The latency budget: no time that was not spent, and no finality that did not come."""

from msgspec.structs import replace

from bestex.api.budget import Budget
from bestex.domain.events import ConfirmedDetail
from bestex.domain.lifecycle import Status
from tests.support.orders import HAPPY, DraftOrder


def executed(last: ConfirmedDetail) -> DraftOrder:
    draft = DraftOrder()
    draft.next(*HAPPY)
    draft.add((Status.CONFIRMED, last))
    return draft


def test_only_what_became_final_tells_how_long_that_took() -> None:
    final = Budget(executed(ConfirmedDetail(commitment="finalized")).events).of_order()
    gone = Budget(executed(ConfirmedDetail(commitment="lost", gone=True)).events).of_order()
    assert final["finalize"] == 250.001
    assert "finalize" not in gone
    assert final["total"] == gone["total"]


def test_a_clock_that_was_set_back_makes_no_negative_times() -> None:
    events = executed(ConfirmedDetail(commitment="finalized")).events
    set_back = [replace(event, at_us=event.at_us - event.seq * 3_600_000_000) for event in events]
    budget = Budget(set_back)
    assert min([*budget.of_order().values(), *budget.of_attempt(1).values()]) == 0
