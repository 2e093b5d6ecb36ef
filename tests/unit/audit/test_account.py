"""An order that is settled is kept small, and nothing that the audit needs is lost by it."""

from bestex.audit.account import Account
from bestex.domain.order_state import OrderState, fold
from tests.support.trading_day import TOKENS, TradingDay


def test_a_packed_account_comes_back_whole_but_for_its_quotes() -> None:
    day = TradingDay()
    order = day.order().route().sign()
    order.route(order.story()).sign().land().confirm().note("lost", gone=True)
    events = [event for append in day.appends for event in append.events]
    account = Account()
    account.state = fold(events)
    account.pending, account.tokens, account.signed_attempt = account.state._pending, TOKENS, 2
    unpacked = Account.unpacked(order.id, account.packed())
    assert (unpacked.pending, unpacked.tokens, unpacked.signed_attempt) == (account.pending, TOKENS, 2)
    assert unpacked.state.view() == account.state.view()
    given_up = {"attempts", "building"}  # the stories are told by their events; the building is without its quotes
    kept = [name for name in OrderState.__slots__ if name not in given_up]
    assert {name: getattr(unpacked.state, name) for name in kept} == {
        name: getattr(account.state, name) for name in kept
    }


def test_an_order_goes_on_behind_its_settling() -> None:
    day = TradingDay()
    order = day.order().route().sign().confirm().note("lost", gone=True)
    order.note("finalized")
    events = [event for append in day.appends for event in append.events]
    account = Account()
    account.state = fold(events[:-1])
    account.pending = account.state._pending
    unpacked = Account.unpacked(order.id, account.packed())
    unpacked.state.apply(events[-1])
    assert unpacked.state.view() == fold(events).view()
