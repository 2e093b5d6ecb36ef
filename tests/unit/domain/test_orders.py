"""An order and its first event say the same; its state follows its attempts."""

import msgspec
import pytest

from bestex.domain.errors import UnknownTokenError
from bestex.domain.events import Event, RoutingDetail, SubmittedDetail, seal
from bestex.domain.lifecycle import Status
from bestex.domain.orders import Order, Side, order_from_pending
from bestex.domain.terms import Kind
from bestex.domain.tokens import TokenRegistry, load_tokens
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
