"""The receipt of an order that waited: what each firing saw, what was given up, and how long it watched."""

from bestex.api.budget import Budget
from bestex.api.receipt import receipt_of
from bestex.domain.events import AttemptStory, ExpiredDetail, RoutingDetail, Trigger, WatchingDetail
from bestex.domain.lifecycle import Status
from tests.support.orders import DraftOrder

SAW = Trigger(kind="limit", price="176.2", threshold="175", slot=9, age_ms=12.5)
NOT_MET = AttemptStory(1, "limit_not_met", "the best route pays 261, not 262.5")


def watched() -> DraftOrder:
    """An order that watched, fired, found no route at its limit, watched again and fired again."""
    draft = DraftOrder(kind="limit")
    draft.next(Status.PENDING)
    draft.add((Status.WATCHING, WatchingDetail()))
    draft.add((Status.ROUTING, RoutingDetail(trigger=SAW)), attempt=1)
    draft.add((Status.WATCHING, WatchingDetail(reason=NOT_MET.message, previous=NOT_MET)))
    draft.add((Status.ROUTING, RoutingDetail(trigger=SAW)), attempt=2)
    return draft


def test_a_receipt_tells_what_each_firing_saw() -> None:
    receipt = receipt_of(watched().events)
    assert [(each.attempt, each.price, each.threshold, each.age_ms) for each in receipt.triggers] == [
        (1, "176.2", "175", 12.5),
        (2, "176.2", "175", 12.5),
    ]
    assert receipt.triggers[0].at < receipt.triggers[1].at


def test_an_attempt_that_went_back_to_watching_says_why() -> None:
    [first, _] = receipt_of(watched().events).attempts
    assert first.outcome is not None
    assert first.outcome.code == "limit_not_met"


def test_an_attempt_that_expired_says_why() -> None:
    draft = watched()
    story = AttemptStory(2, "slippage_exceeded", "pays too little")
    draft.add((Status.EXPIRED, ExpiredDetail("its time was up", story)))
    receipt = receipt_of(draft.events)
    assert receipt.status == "expired"
    assert receipt.attempts[1].outcome is not None
    assert receipt.attempts[1].outcome.code == "slippage_exceeded"


def test_the_time_watched_is_neither_queue_nor_route() -> None:
    draft = watched()
    draft.next(Status.BUILDING, Status.SUBMITTED, Status.CONFIRMED)
    order = Budget(draft.events).of_order()
    step_ms = 250.001  # between two events of a draft
    assert order["queue"] == step_ms
    assert order["watch"] == round(2 * step_ms, 3)
    assert order["total"] == 7 * step_ms
    assert Budget(draft.events).of_attempt(1) == {"route": step_ms}
    assert Budget(draft.events).of_attempt(2)["route"] == step_ms


def test_a_market_order_watches_nothing() -> None:
    draft = DraftOrder()
    draft.next(Status.PENDING, Status.ROUTING)
    assert "watch" not in Budget(draft.events).of_order()
    assert receipt_of(draft.events).triggers == ()
