"""An order and its first event say the same; its state follows its attempts."""

import msgspec
import pytest

from bestex.domain.errors import UnknownTokenError
from bestex.domain.events import (
    Changes,
    ConfirmedDetail,
    Event,
    ExpiredDetail,
    RoutingDetail,
    Slice,
    SubmittedDetail,
    Trigger,
    WatchingDetail,
    ends,
    seal,
)
from bestex.domain.lifecycle import Status
from bestex.domain.orders import UNKNOWN_TOKEN, Order, Side, order_as_it_stands, order_from_pending
from bestex.domain.terms import ExitLeg, ExitTerms, Kind, Leg, LegName, OnSliceFailure, Terms, TimeInForce
from bestex.domain.tokens import Token, TokenRegistry, load_tokens
from tests.support.orders import DETAILS, STORY, DraftOrder, order_id

TOKENS = load_tokens()
BUILDING, SUBMITTED, ROUTING = Status.BUILDING, Status.SUBMITTED, Status.ROUTING


def an_order(pay: str = "SOL", receive: str = "USDC", client_order_id: str | None = None) -> Order:
    return Order(
        order_id(), Kind.MARKET, TOKENS.get(pay), TOKENS.get(receive), 1_500_000_001, 50, 1_750_000_000_123_457,
        client_order_id,
    )  # fmt: skip


def first_event(order: Order) -> Event:
    sealed = seal(order.sealed_tokens())
    return Event(order.id, 1, Status.PENDING, 0, order.created_us, order.pending_detail(), sealed)


@pytest.mark.parametrize("client_order_id", [None, "mine-1"])
@pytest.mark.parametrize(("pay", "receive"), [("SOL", "USDC"), ("USDC", "SOL"), ("BONK", "JUP")])
def test_the_first_event_alone_rebuilds_the_order(pay: str, receive: str, client_order_id: str | None) -> None:
    order = an_order(pay, receive, client_order_id)

    assert order_from_pending(first_event(order), TOKENS) == order


def test_an_order_whose_token_left_the_registry_is_said_to_be_unknown() -> None:
    left = TokenRegistry(token for token in TOKENS if token.symbol != "USDC")
    with pytest.raises(UnknownTokenError, match="USDC"):
        order_from_pending(first_event(an_order()), left)


def test_an_order_is_not_rebuilt_from_another_event_than_its_first() -> None:
    event = msgspec.structs.replace(first_event(an_order()), status=ROUTING, detail=RoutingDetail())
    with pytest.raises(TypeError, match="pending"):
        order_from_pending(event, TOKENS)


@pytest.mark.parametrize(
    ("pay", "receive", "side"),
    [("SOL", "USDC", Side.SELL), ("USDC", "SOL", Side.BUY), ("SOL", "JUP", Side.BUY), ("JUP", "WIF", Side.SELL)],
)
def test_selling_pays_the_pairs_base_token_and_buying_receives_it(pay: str, receive: str, side: Side) -> None:
    assert an_order(pay, receive).side is side


def test_a_new_attempt_forgets_the_venue_and_signature_of_the_last_one() -> None:
    draft = DraftOrder()
    draft.next(Status.PENDING, ROUTING, BUILDING, SUBMITTED)
    assert (draft.view.venue, draft.view.tx_hash) == ("raydium", "5ignature")

    draft.add((ROUTING, RoutingDetail("slippage_exceeded: paid too little", STORY)), attempt=2)
    assert (draft.view.venue, draft.view.tx_hash, draft.view.attempt) == (None, None, 2)
    assert draft.state.attempts == [STORY]


def test_a_note_on_a_submitted_order_keeps_its_signature() -> None:
    draft = DraftOrder()
    draft.next(Status.PENDING, ROUTING, BUILDING, SUBMITTED)
    draft.add((SUBMITTED, SubmittedDetail(cancel_requested=True)))
    assert (draft.view.tx_hash, draft.view.cancel_requested) == ("5ignature", True)

    draft.add((SUBMITTED, SubmittedDetail(note="the chain does not answer")))
    assert (draft.view.tx_hash, draft.view.cancel_requested) == ("5ignature", True)
    assert draft.state.submitted == DETAILS[SUBMITTED]


def test_a_view_leaves_out_what_is_not_known_yet() -> None:
    draft = DraftOrder()
    draft.next(Status.PENDING)
    assert set(msgspec.json.decode(msgspec.json.encode(draft.view))) == {
        *("orderId", "kind", "status", "seq", "attempt", "pair", "side", "tokenIn", "tokenOut"),
        *("amount", "slippageBps", "createdAt", "updatedAt"),
    }


WATCHING = Status.WATCHING
LIMIT_TERMS = Terms(limit_price="150", expires_at="2026-01-02T03:04:05Z", time_in_force=TimeInForce.GTT)
TRIGGER = Trigger(kind="limit", price="150.2", threshold="150", venue="raydium", slot=7)


def a_limit_order(terms: Terms = LIMIT_TERMS, pay: str = "SOL", receive: str = "USDC") -> Order:
    return msgspec.structs.replace(an_order(pay, receive), kind=Kind.LIMIT, terms=terms)


def watched(order: Order) -> DraftOrder:
    draft = DraftOrder(order.id)
    draft.add((Status.PENDING, order.pending_detail()), sealed=seal(order.sealed_tokens()))
    draft.next(WATCHING)
    return draft


@pytest.mark.parametrize(
    "terms",
    [
        LIMIT_TERMS,
        Terms(trigger_price="140", allow_immediate=True, exits=ExitTerms(stop_loss=ExitLeg(loss_bps=100))),
        Terms(slices=5, interval_seconds=60, on_slice_failure=OnSliceFailure.STOP),
        Terms(parent_id=order_id(), legs=(Leg(LegName.TAKE_PROFIT, 50, trigger_price="160"),)),
    ],
)
def test_the_first_event_alone_rebuilds_an_order_with_its_terms(terms: Terms) -> None:
    order = a_limit_order(terms)
    assert order_from_pending(first_event(order), TOKENS) == order


def test_a_sniper_does_not_know_its_token_until_its_trigger_names_it() -> None:
    order = msgspec.structs.replace(an_order(), kind=Kind.SNIPER, token_out=UNKNOWN_TOKEN, terms=Terms(migrations=True))
    assert order_from_pending(first_event(order), TOKENS) == order

    mint = TOKENS.get("BONK").mint
    launch = Trigger(kind="launch", mint=mint, decimals=5, pair=f"{mint}/SOL")
    draft = watched(order)
    draft.add((ROUTING, RoutingDetail(trigger=launch)))
    assert order_as_it_stands(draft.events, TOKENS).token_out == Token(mint, mint, 5)
    assert (draft.view.token_out, draft.view.pair) == (mint, f"{mint}/SOL")


def test_a_limit_binds_as_an_amount_of_the_output_rounded_up() -> None:
    assert a_limit_order().limit_out() == 225_000_001  # 1.500000001 SOL at 150 USDC: 225.00000015
    assert a_limit_order(pay="USDC", receive="SOL").limit_out() == 10_000_000_007  # 1,500.000001 USDC
    assert a_limit_order(Terms(min_amount_out="225.5")).limit_out() == 225_500_000
    assert an_order().limit_out() is None


def test_an_order_rests_unless_it_executes_now_or_never() -> None:
    assert not an_order().rests
    assert a_limit_order().rests
    assert not a_limit_order(Terms(limit_price="150", time_in_force=TimeInForce.IOC)).rests
    assert not a_limit_order(Terms(limit_price="150", time_in_force=TimeInForce.FOK)).rests
    assert msgspec.structs.replace(an_order(), kind=Kind.EXITS).rests


def test_an_expiry_is_a_time() -> None:
    assert a_limit_order().expires_us == 1_767_323_045_000_000
    assert an_order().expires_us is None


def test_a_watched_order_fires_with_its_trigger_and_waits_again_with_the_reason() -> None:
    draft = watched(a_limit_order())
    assert (draft.view.status, draft.view.limit_price, draft.view.limit_price_inverse) == (
        "watching", "150", "0.006666666666666666",
    )  # fmt: skip

    draft.add((ROUTING, RoutingDetail(trigger=TRIGGER)), attempt=1)
    assert (draft.view.trigger, draft.state.fired, draft.state.first_attempt) == (TRIGGER, 1, 1)

    again = WatchingDetail(reason="no route at the limit", previous=STORY, not_before="2026-01-01T00:00:00.000Z")
    draft.add((WATCHING, again))
    assert (draft.view.waits_because, draft.view.not_before) == (again.reason, again.not_before)
    assert draft.state.attempts == [STORY]

    draft.add((ROUTING, RoutingDetail(trigger=TRIGGER)), attempt=2)
    assert (draft.view.waits_because, draft.view.not_before) == (None, None)
    assert (draft.state.attempts, draft.state.fired, draft.state.first_attempt) == ([], 2, 2)


def test_an_order_that_waits_again_forgets_the_venue_and_signature_of_what_did_not_execute() -> None:
    draft = watched(a_limit_order())
    draft.add((ROUTING, RoutingDetail(trigger=TRIGGER)))
    draft.next(BUILDING, SUBMITTED)
    assert (draft.view.venue, draft.view.tx_hash) == ("raydium", "5ignature")

    draft.next(WATCHING)
    assert (draft.view.venue, draft.view.tx_hash, draft.state.submitted) == (None, None, None)


def test_a_note_while_it_watches_does_not_change_why_it_waits() -> None:
    draft = watched(a_limit_order())
    draft.add((ROUTING, RoutingDetail(trigger=TRIGGER)), (WATCHING, WatchingDetail(reason="no route at the limit")))

    draft.add((WATCHING, WatchingDetail(changes=Changes(slippage_bps=70))))
    assert draft.view.waits_because == "no route at the limit"


def test_a_clients_changes_add_up_and_change_what_is_to_be_done() -> None:
    draft = watched(a_limit_order())
    draft.add((WATCHING, WatchingDetail(changes=Changes(limit_price="155", slippage_bps=70))))
    draft.add((WATCHING, WatchingDetail(changes=Changes(expires_at="2026-02-02T03:04:05Z"))))

    view, order = draft.view, order_as_it_stands(draft.events, TOKENS)
    assert (view.limit_price, view.expires_at, view.slippage_bps) == ("155", "2026-02-02T03:04:05Z", 70)
    assert (order.terms.limit_price, order.terms.expires_at) == ("155", "2026-02-02T03:04:05Z")
    assert (order.slippage_bps, order.limit_out()) == (70, 232_500_001)


def test_the_leg_that_fires_says_how_an_exit_is_made() -> None:
    leg = Leg(LegName.STOP_LOSS, 300, trigger_price="140", limit_price="139")
    order = msgspec.structs.replace(an_order(), kind=Kind.EXITS, terms=Terms(parent_id=order_id(), legs=(leg,)))
    draft = watched(order)
    fired = Trigger(kind="stopLoss", slippage_bps=300, limit_price="139", amount="1.25")
    draft.add((ROUTING, RoutingDetail(trigger=fired)))

    exit_order = order_as_it_stands(draft.events, TOKENS)
    assert (exit_order.amount_in, exit_order.slippage_bps) == (1_250_000_000, 300)
    assert exit_order.limit_out() == 173_750_000


@pytest.mark.parametrize("end", [Status.CANCELLED, Status.EXPIRED])
def test_a_watched_order_that_was_cancelled_or_whose_time_was_up_is_settled(end: Status) -> None:
    draft = watched(a_limit_order())
    draft.next(end)
    assert (draft.view.status, draft.state.ended, draft.state.settled) == (end, True, True)


def test_an_expiry_that_waited_for_proof_keeps_the_story_of_its_attempt() -> None:
    draft = watched(a_limit_order())
    draft.add((ROUTING, RoutingDetail(trigger=TRIGGER)))
    draft.next(BUILDING, SUBMITTED)
    draft.add((Status.EXPIRED, ExpiredDetail("its time was up", STORY)))
    assert draft.state.attempts == [STORY]


def test_a_sliced_order_ends_with_its_slices_and_counts_those_that_began() -> None:
    sliced = msgspec.structs.replace(an_order(), kind=Kind.TWAP, terms=Terms(slices=2, interval_seconds=60))
    draft = watched(sliced)
    draft.add((WATCHING, WatchingDetail(slice=Slice(1, order_id(), "0.75"))))
    draft.add((WATCHING, WatchingDetail(slice=Slice(2, order_id(), "0.75"), cancel_requested=True)))
    assert (draft.view.slices_begun, draft.view.cancel_requested) == (2, True)

    sums = ConfirmedDetail(amount_in="1.5", amount_out="225", filled_slices=2, commitment="finalized")
    draft.add((Status.CONFIRMED, sums))
    assert (draft.view.filled_slices, draft.view.amount_out, draft.state.settled) == (2, "225", True)
    assert ends(draft.events[-1])
