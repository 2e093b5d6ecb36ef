"""What clients of an ordeal order: every kind, and nothing that the engine would have to refuse."""

import random
from decimal import Decimal

import msgspec

from bestex.api.order_control import read_changes
from bestex.api.order_request import read_order
from bestex.domain.terms import Kind, LegName, TimeInForce
from bestex.domain.tokens import load_tokens
from bestex.ordeal.wishes import Wishes

NOW_US = 1_795_000_000_000_000


def test_clients_wish_for_every_kind_and_the_api_takes_what_they_wish_for() -> None:
    wishes, tokens = Wishes(random.Random(1)), load_tokens()
    orders = [wishes.order(Decimal("150.25"), NOW_US) for _ in range(500)]
    requests = [read_order(msgspec.json.encode(order), tokens, NOW_US) for order in orders]
    assert {request.kind for request in requests} == set(Kind) - {Kind.EXITS}
    assert {leg for request in requests if request.terms.exits for leg, _ in request.terms.exits.legs()} == set(LegName)
    assert {request.terms.time_in_force for request in requests} == set(TimeInForce)
    changes = [(order, change) for order in orders if (change := wishes.change(order, Decimal(150))) is not None]
    assert {order["kind"] for order, _ in changes} == {"limit", "stop"}
    assert all(read_changes(msgspec.json.encode(change), None, NOW_US) for _, change in changes)


def test_clients_who_do_not_know_the_price_wish_for_market_orders() -> None:
    wishes = Wishes(random.Random(1))
    assert not any("kind" in wishes.order(None, NOW_US) for _ in range(100))
