"""What must hold of orders that wait, and of those that belong to another: each broken once, and found."""

import msgspec
import pytest
from msgspec.structs import replace

from bestex.audit.account import Account
from bestex.audit.export.read import read_export
from bestex.audit.export.write import write_export
from bestex.audit.findings import Check, Finding
from bestex.domain.events import (
    Changes,
    ConfirmedDetail,
    RoutingDetail,
    Trigger,
    WatchingDetail,
    encode_detail,
)
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState, fold
from bestex.domain.terms import Kind
from tests.support.trading_day import TOKENS, USDC, DayOrder, Records, TradingDay


@pytest.fixture
def day() -> TradingDay:
    return TradingDay()


async def finding(records: Records) -> Finding:
    [found] = (await records.audit()).findings
    return found


def sliced(day: TradingDay, *amounts: str, of: str = "1.5") -> tuple[DayOrder, list[DayOrder]]:
    order = day.order(Kind.TWAP, slices=len(amounts), amount=of)
    return order, [order.slice(number, amount) for number, amount in enumerate(amounts, start=1)]


# --- What is right -------------------------------------------------------------------------------------------


async def test_a_day_of_all_that_watched_orders_may_go_through_is_clean(day: TradingDay) -> None:
    day.order(Kind.LIMIT, limit_price="100.7")
    day.order(Kind.LIMIT, limit_price="100.7").fire().sign().land().confirm().note("finalized")
    again = day.order(Kind.STOP, trigger_price="90").fire().sign().land("slippage_exceeded").give_back()
    again.wait(WatchingDetail(changes=Changes(trigger_price="95", expires_at="2027-01-01T00:00:00Z")))
    again.fire().sign().land().confirm()
    day.order(Kind.TAKE_PROFIT, trigger_price="200").cancel()
    late = day.order(Kind.TRAILING_STOP, trail_bps=100).fire().sign()
    late.expire(late.story())
    day.order(Kind.SNIPER).find().sign().land().confirm().note("finalized")
    day.order().execute().exits()
    day.order().execute().exits().fire().sign().land().confirm().note("finalized")
    less = Trigger(kind="stopLoss", amount="100")
    day.order().execute().exits().fire(less).sign().land(amount_in=100_000_000).confirm()
    order, [first, second, third] = sliced(day, "0.5", "0.5", "0.5")
    first.execute()
    second.cancel()
    third.route().sign().confirm().note("lost", gone=True)
    order.conclude(first)
    report = await day.records().audit()
    assert report.findings == []
    counted = {check.name: check.checked for check in report.checks}
    assert counted[Check.TRIGGERS] == 7
    assert counted[Check.CHILDREN] == 7


async def test_exits_may_be_for_what_their_entry_had_received_before_a_fork(day: TradingDay) -> None:
    entry = day.order().route().sign().land().confirm(amount_out="151.2").note("lost")
    entry.add(Status.CONFIRMED, ConfirmedDetail(commitment="finalized", amount_in="1.5", amount_out="151.1"))
    entry.exits(amount="151.2")
    assert (await day.records().audit()).findings == []


async def test_a_settled_watched_order_comes_back_whole_from_its_packing(day: TradingDay) -> None:
    order = day.order(Kind.STOP, trigger_price="90", parent_id="another").fire().sign().give_back()
    order.wait(WatchingDetail(changes=Changes(trigger_price="95"), cancel_requested=True)).cancel()
    events = [event for append in day.appends for event in append.events]
    account = Account()
    account.state = fold(events)
    account.pending, account.tokens = account.state._pending, TOKENS
    unpacked = Account.unpacked(order.id, account.packed()).state
    assert unpacked.view() == account.state.view()
    for name in set(OrderState.__slots__) - {"attempts"}:  # their events tell these stories
        assert getattr(unpacked, name) == getattr(account.state, name), name


# --- The projection, and exports -----------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"resting": False}, {"parent_id": None}, {"pair": "SOL/USDT"}])
async def test_a_watched_order_s_row_that_is_not_the_fold_is_found(day: TradingDay, changes: dict[str, object]) -> None:
    day.order().execute().exits()
    records = day.records()
    records.images[-1] = replace(records.images[-1], **changes)
    assert await records.kinds() == ["row-differs"]


async def test_a_sniper_s_row_has_the_pair_that_it_found(day: TradingDay) -> None:
    day.order(Kind.SNIPER).find()
    records = day.records()
    assert records.images[0].pair == f"{USDC.mint}/SOL"
    records.images[0] = replace(records.images[0], pair="*/SOL")
    assert await records.kinds() == ["row-differs"]


async def test_an_export_keeps_what_rests_and_what_belongs_to_another(day: TradingDay) -> None:
    day.order().execute().exits()
    records = day.records()
    written = bytearray()
    await write_export(records.evidence(), written.extend, "2026-11-24T20:00:00.000Z")
    evidence = read_export(bytes(written).splitlines(keepends=True))
    assert [row async for rows in evidence.journal.log() for row in rows] == records.rows
    assert evidence.ledger is not None
    for section in (evidence.ledger.transactions, evidence.ledger.adjustments, evidence.ledger.balances):
        assert [row async for rows in section() for row in rows]
    assert [image async for images in evidence.journal.orders() for image in images] == records.images
    assert records.images[-1].resting


async def test_an_export_of_an_earlier_release_has_neither(day: TradingDay) -> None:
    day.order().execute()
    written = bytearray()
    await write_export(day.records().evidence(), written.extend, "2026-11-24T20:00:00.000Z")
    lines = []
    for line in bytes(written).splitlines():
        fields = msgspec.json.decode(line)
        for name in ("resting", "parentId"):
            assert (name in fields) == (fields["type"] == "order")
            fields.pop(name, None)
        lines.append(msgspec.json.encode(fields) + b"\n")
    evidence = read_export(lines)
    rows = [row async for batch in evidence.journal.log() for row in batch]
    assert len(rows) == 6
    assert evidence.ledger is not None
    for section in (evidence.ledger.transactions, evidence.ledger.adjustments, evidence.ledger.balances):
        assert [row async for batch in section() for row in batch]
    [[image]] = [images async for images in evidence.journal.orders()]
    assert (image.resting, image.parent_id) == (False, None)


# --- Triggers ------------------------------------------------------------------------------------------------


async def test_a_watched_order_that_fires_for_no_reason_is_found(day: TradingDay) -> None:
    day.order(Kind.LIMIT, limit_price="100.7").add(Status.ROUTING, RoutingDetail(), attempt=1)
    assert (await finding(day.records())).kind == "trigger-missing"


async def test_a_trigger_that_was_taken_out_of_its_event_is_found(day: TradingDay) -> None:
    day.order(Kind.LIMIT, limit_price="100.7").fire()
    records = day.records()
    records.row(3, detail=encode_detail(RoutingDetail()))
    records.chain()
    assert await records.kinds() == ["trigger-missing", "row-differs"]


@pytest.mark.parametrize("kind", [Kind.MARKET, Kind.LIMIT])
async def test_an_order_that_fires_without_being_watched_is_found(day: TradingDay, kind: Kind) -> None:
    order = day.order(kind)
    order.route() if kind is Kind.MARKET else order.fire()
    order.add(Status.ROUTING, RoutingDetail(trigger=Trigger(kind="limit")), attempt=2)
    assert (await finding(day.records())).kind == "fired-unwatched"


@pytest.mark.parametrize("leaves", [DayOrder.wait, DayOrder.expire])
async def test_a_signed_attempt_that_is_left_without_its_story_is_found(day: TradingDay, leaves: object) -> None:
    order = day.order(Kind.LIMIT, limit_price="100.7").fire().sign()
    assert callable(leaves)
    leaves(order)
    assert (await finding(day.records())).kind == "story-missing"


async def test_a_mint_found_with_decimals_that_no_token_has_is_found(day: TradingDay) -> None:
    trigger = Trigger(kind="launch", mint=USDC.mint, decimals=19, pair="X/SOL")
    day.order(Kind.SNIPER).fire(trigger).sign().land()
    assert "detail-unreadable" in await day.records().kinds()


async def test_a_sniper_that_bought_another_mint_than_it_found_is_found(day: TradingDay) -> None:
    day.order(Kind.SNIPER).fire(Trigger(kind="launch", mint="another", decimals=6, pair="X/SOL")).sign().land()
    found = await finding(day.records())
    assert (found.kind, "mintOut" in found.message) == ("amount-differs", True)


@pytest.mark.parametrize("kind", [Kind.LIMIT, Kind.STOP, Kind.SNIPER])
async def test_a_watched_order_moves_what_it_asked_for(day: TradingDay, kind: Kind) -> None:
    order = day.order(kind)
    order = order.find() if kind is Kind.SNIPER else order.fire()
    order.sign().land(amount_in=1_499_999_999).confirm()
    found = await finding(day.records())
    assert (found.kind, "amount: '1.5', not '1.499999999'" in found.message) == ("amount-differs", True)


# --- Exits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", ["151.100001", "1000000", "9" * 60])
async def test_an_exit_of_more_than_its_entry_received_is_found(day: TradingDay, amount: str) -> None:
    day.order().execute().exits()
    records = day.records()
    pending = msgspec.json.decode(records.rows[6].detail) | {"amount": amount}
    records.row(7, detail=msgspec.json.encode(pending))
    records.chain()
    assert "exit-exceeds-entry" in await records.kinds()


async def test_two_exits_of_one_entry_that_together_are_more_than_it_received_are_found(day: TradingDay) -> None:
    entry = day.order().execute()
    entry.exits(amount="100")
    assert await day.records().kinds() == []
    second = entry.exits(amount="51.100001")
    found = await finding(day.records())
    assert (found.kind, found.order_id) == ("exit-exceeds-entry", second.id)


async def test_an_exit_of_an_entry_that_received_nothing_is_found(day: TradingDay) -> None:
    day.order().route().exits()
    assert (await finding(day.records())).kind == "exit-exceeds-entry"


async def test_an_exit_that_fires_for_more_than_it_is_of_is_found(day: TradingDay) -> None:
    day.order().execute().exits(amount="100").fire(Trigger(kind="stopLoss", amount="100.000001"))
    assert (await finding(day.records())).kind == "exit-exceeds-entry"


@pytest.mark.parametrize("amount", [None, "100"])
async def test_an_exit_that_sold_more_than_it_was_to_is_found(day: TradingDay, amount: str | None) -> None:
    more = 151_100_001 if amount is None else 100_000_001
    day.order().execute().exits().fire(Trigger(kind="stopLoss", amount=amount)).sign().land(amount_in=more).confirm()
    assert (await finding(day.records())).kind == "amount-differs"


@pytest.mark.parametrize("kind", [Kind.EXITS, Kind.MARKET])
async def test_an_order_whose_parent_is_unknown_is_found(day: TradingDay, kind: Kind) -> None:
    day.order(kind, parent_id="another")
    assert (await finding(day.records())).kind == "parent-missing"


# --- Sliced orders -------------------------------------------------------------------------------------------


async def test_slices_that_together_are_more_than_their_order_are_found(day: TradingDay) -> None:
    _, slices = sliced(day, "0.5", "0.5", "0.500000001")
    found = await finding(day.records())
    assert (found.kind, found.order_id) == ("slices-exceed-order", slices[2].id)


@pytest.mark.parametrize(
    "changes", [{"amount_in": "1.000000001"}, {"amount_out": "99"}, {"filled_slices": 3}, {"filled_slices": None}]
)
async def test_a_sliced_order_that_is_not_the_sum_of_its_slices_is_found(
    day: TradingDay, changes: dict[str, object]
) -> None:
    order, [first, second, third] = sliced(day, "0.5", "0.5", "0.5")
    first.execute()
    second.execute()
    third.cancel()
    order.conclude(first, second, **changes)
    assert (await finding(day.records())).kind == "slices-differ"


@pytest.mark.parametrize("end", ["open", "cancelled", "gone"])
async def test_a_slice_that_executed_nothing_does_not_count(day: TradingDay, end: str) -> None:
    order, [first, second] = sliced(day, "0.75", "0.75")
    first.execute()
    match end:
        case "cancelled":
            second.cancel()
        case "gone":
            second.route().sign().confirm().note("lost", gone=True)
        case _:
            second.route()
    order.conclude(first, second)
    assert (await finding(day.records())).kind == "slices-differ"


async def test_a_sliced_order_that_ended_without_any_slice_is_found(day: TradingDay) -> None:
    order = day.order(Kind.TWAP, slices=2)
    order.add(Status.CONFIRMED, ConfirmedDetail(amount_in="1", amount_out="1", commitment="finalized", filled_slices=1))
    assert (await finding(day.records())).kind == "slices-differ"


async def test_a_sliced_order_that_executed_a_swap_of_its_own_is_found(day: TradingDay) -> None:
    day.order(Kind.TWAP, slices=2).fire().sign().land()
    assert await day.records().kinds() == ["executed-unfilled"]


async def test_a_slice_s_fill_is_held_against_the_chain_as_any_other_s(day: TradingDay) -> None:
    order, [first] = sliced(day, "1.5")
    first.route().sign().land(amount_out=149_999_999).confirm().note("finalized")
    order.conclude(first)
    assert (await finding(day.records())).kind == "amount-differs"
