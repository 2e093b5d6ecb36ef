"""The audit: whatever lawful history is stored is clean, and no byte of it can be changed unseen."""

import asyncio
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bestex.audit.audit import audit
from bestex.audit.evidence import Evidence
from bestex.audit.findings import Report
from bestex.domain.events import Changes, RoutingDetail, SubmittedDetail, Trigger, WatchingDetail
from bestex.domain.lifecycle import Status
from bestex.domain.money import parse_amount
from bestex.domain.terms import Kind
from bestex.journal.evidence import MemoryJournalEvidence
from bestex.venues.simulated.evidence import MemoryLedgerEvidence
from tests.support.trading_day import USDC, DayOrder, Records, TradingDay

END = st.sampled_from(["open", "cancel", "confirmed", "finalized", "lost", "gone", "relanded", "resolved"])


def attempts(draw: st.DrawFn, order: DayOrder) -> None:
    """Some attempts that were given up, then the order stands before or behind its last signature."""
    given_up = None
    for _ in range(draw(st.integers(0, 2))):
        order.route(given_up)
        if draw(st.booleans()):
            order.add(Status.ROUTING, RoutingDetail("a crash cut it short"))
            continue
        if draw(st.booleans()):
            order.sign()
            if draw(st.booleans()):
                order.add(Status.SUBMITTED, SubmittedDetail(note="looked in vain"))
            if draw(st.booleans()):
                order.land("slippage_exceeded")
        given_up = order.story()
    order.route(given_up)


def watched(draw: st.DrawFn, day: TradingDay) -> None:
    """An order that waits, and what it leads to."""
    match draw(st.sampled_from(["limit", "sniper", "entry", "sliced", "cancel", "expire", "wait"])):
        case "limit":
            order = day.order(Kind.LIMIT, limit_price="100.7").wait(WatchingDetail(changes=Changes(slippage_bps=60)))
            if draw(st.booleans()):
                order.fire().sign().land("slippage_exceeded").give_back()
            order.fire().sign().land().confirm().note("finalized")
        case "sniper":
            day.order(Kind.SNIPER).find().sign().land().confirm().note("finalized")
        case "entry":
            exits = day.order().execute().exits()
            if draw(st.booleans()):
                amount = draw(st.sampled_from([None, "151.1", "100"]))
                units = None if amount is None else parse_amount(amount, USDC.decimals)
                exits.fire(Trigger(kind="stopLoss", amount=amount)).sign().land(amount_in=units).confirm()
        case "sliced":
            order = day.order(Kind.TWAP, slices=3)
            parts = [order.slice(number, "0.5") for number in range(1, draw(st.integers(1, 3)) + 1)]
            for part in parts:
                part.execute() if draw(st.booleans()) else part.cancel()
            filled = [part for part in parts if part.is_executed]
            if draw(st.booleans()) and filled:
                order.conclude(*filled)
        case "cancel":
            day.order(Kind.STOP, trigger_price="90").cancel()
        case "expire":
            day.order(Kind.TAKE_PROFIT, trigger_price="200").expire()
        case _:
            day.order(Kind.TRAILING_STOP, trail_bps=100)


@st.composite
def days(draw: st.DrawFn) -> TradingDay:
    """Orders through all that they may go through, in turns."""
    day = TradingDay()
    for _ in range(draw(st.integers(1, 4))):
        order = day.order()
        if draw(st.booleans()):
            attempts(draw, order)
            match draw(END):
                case "cancel":
                    order.cancel()
                case "confirmed":
                    order.sign().land().confirm()
                case "finalized":
                    order.sign().land().confirm().note("finalized")
                case "lost":
                    order.sign().confirm().note("lost")
                case "gone":
                    order.sign().confirm().note("lost", gone=True)
                case "relanded":
                    order.sign().confirm().note("lost").land().note("finalized")
                case "resolved":
                    order.sign().fail()
                case _:
                    pass
    for _ in range(draw(st.integers(0, 2))):
        watched(draw, day)
    draw(st.randoms(use_true_random=False)).shuffle(day.landed)
    return day


def audited(records: Records) -> Report:
    return asyncio.run(records.audit(records.published()))


@given(days())
def test_a_lawful_day_is_clean(day: TradingDay) -> None:
    report = audited(day.records())
    assert report.findings == []


@given(days())
@settings(max_examples=30)
def test_the_journal_and_the_ledger_in_memory_hold_the_same_day(day: TradingDay) -> None:
    async def of_memory() -> Report:
        database, ledger = await day.stored()
        return await audit(Evidence(MemoryJournalEvidence(database), MemoryLedgerEvidence(ledger)))

    in_memory, expected = asyncio.run(of_memory()), asyncio.run(day.records().audit())
    assert in_memory == expected


def changed_byte(draw: Callable[[st.SearchStrategy[int]], int], value: bytes) -> bytes:
    """`value` with one byte changed; one byte longer when it is empty."""
    if not value:
        return b"x"
    index = draw(st.integers(0, len(value) - 1))
    return value[:index] + bytes([value[index] ^ draw(st.integers(1, 255))]) + value[index + 1 :]


def changed(draw: Callable[[st.SearchStrategy[int]], int], value: object) -> object:
    """Another value of the same kind, as near as a byte or a base unit."""
    match value:
        case bool():
            return not value
        case int():
            return value + draw(st.integers(1, 255)) * (1 - 2 * draw(st.integers(0, 1)))
        case bytes():
            return changed_byte(draw, value)
        case str():
            index = draw(st.integers(0, len(value) - 1))
            return value[:index] + chr(ord(value[index]) ^ draw(st.integers(1, 31))) + value[index + 1 :]
        case _:
            return "x"


@given(days(), st.data())
@settings(max_examples=300)
def test_no_field_of_a_row_of_the_log_can_be_changed_unseen(day: TradingDay, data: st.DataObject) -> None:
    records = day.records()
    published = records.published()
    index = data.draw(st.integers(0, len(records.rows) - 1))
    row = records.rows[index]
    field = data.draw(st.sampled_from(row.__struct_fields__))
    records.rows[index] = replace(row, **{field: changed(data.draw, getattr(row, field))})
    report = asyncio.run(records.audit(published))
    places = {finding.position for finding in report.findings if finding.check == "hash-chain"}
    assert places & {records.rows[index].position}


@given(days(), st.data())
@settings(max_examples=200)
def test_no_field_of_an_order_s_row_can_be_changed_unseen(day: TradingDay, data: st.DataObject) -> None:
    records = day.records()
    index = data.draw(st.integers(0, len(records.images) - 1))
    image = records.images[index]
    field = data.draw(st.sampled_from(image.__struct_fields__))
    records.images[index] = replace(image, **{field: changed(data.draw, getattr(image, field))})
    assert not audited(records).clean


@given(days(), st.data())
@settings(max_examples=200)
def test_no_field_of_a_transaction_that_matters_can_be_changed_unseen(day: TradingDay, data: st.DataObject) -> None:
    records = day.records()
    if not records.landed:
        return
    index = data.draw(st.integers(0, len(records.landed) - 1))
    row = records.landed[index]
    moving = ("amount_in", "amount_out", "network_fee", "order_id", "attempt", "signature")
    field = data.draw(st.sampled_from(moving))
    records.landed[index] = replace(row, **{field: changed(data.draw, getattr(row, field))})
    assert not audited(records).clean
