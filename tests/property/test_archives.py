"""Wherever a log is cut, it verifies from there on, its archives do by themselves, and all of it as one as before."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bestex.domain.log_hash import PublishedHead
from bestex.domain.terms import Kind
from tests.support.cut_log import CutLog
from tests.support.trading_day import DayOrder, Records, TradingDay

LIVES = ("executed", "cancelled", "failed", "open", "landed", "resting", "fired late")


def _live(day: TradingDay, life: str) -> DayOrder:
    match life:
        case "executed":
            return day.order().execute()
        case "cancelled":
            return day.order().cancel()
        case "failed":
            return day.order().route().sign().land("slippage_exceeded").fail()
        case "open":
            return day.order().route()
        case "landed":
            return day.order().route().sign().land().confirm()
        case "resting":
            return day.order(Kind.LIMIT)
        case _:
            return day.order(Kind.LIMIT).wait().fire().sign().land().confirm().note("finalized")


@st.composite
def cut_logs(draw: st.DrawFn) -> tuple[Records, list[int]]:
    """A day whose orders' events stand between each other, and the positions at which it is cut."""
    day = TradingDay()
    for life in draw(st.lists(st.sampled_from(LIVES), min_size=1, max_size=6)):
        _live(day, life)
    records = day.records()
    left: dict[str, list[int]] = {}
    for index, row in enumerate(records.rows):
        left.setdefault(row.order_id, []).append(index)
    order = []
    while left:
        order_id = draw(st.sampled_from(sorted(left)))
        order.append(records.rows[left[order_id].pop(0)])
        if not left[order_id]:
            del left[order_id]
    records.rows = order
    records.chain()
    cuts = draw(st.sets(st.integers(1, len(order)), min_size=1, max_size=3))
    return records, sorted(cuts)


async def _cut(records: Records, positions: list[int]) -> CutLog:
    log = CutLog(records)
    for position in positions:
        await log.archive(position)
    return log


@settings(max_examples=60)
@given(cut_logs())
def test_a_log_that_is_cut_anywhere_is_whole_in_every_way_it_can_be_read(cut: tuple[Records, list[int]]) -> None:
    async def check() -> None:
        records, positions = cut
        log = await _cut(records, positions)
        assert (await records.audit()).clean
        for report in (await log.audit(records.published()), await log.audit_export()):
            assert report.clean, report.findings
        for number in range(1, len(log.files) + 1):
            alone = await log.audit_file(number)
            assert alone.clean, alone.findings
        together = await log.audit_joined(records.published())
        whole = await records.audit(records.published())
        assert together.clean, together.findings
        assert (together.events, together.orders, together.transactions) == (
            whole.events,
            whole.orders,
            whole.transactions,
        )
        older = records.rows[positions[0] - 1]
        published = PublishedHead(records.last.journal_id, older.position, older.hash.hex())
        assert (await log.audit(published)).clean
        assert (await log.audit_joined(published)).clean

    asyncio.run(check())


@settings(max_examples=60)
@given(cut_logs(), st.data())
def test_a_row_that_is_changed_after_the_cut_is_found(cut: tuple[Records, list[int]], data: st.DataObject) -> None:
    async def check() -> None:
        records, positions = cut
        log = await _cut(records, positions)
        if not log.here.rows:
            return
        index = data.draw(st.integers(0, len(log.here.rows) - 1))
        row = log.here.rows[index]
        log.here.rows[index] = replace(row, at_us=row.at_us + 1)
        assert not (await log.audit()).clean
        together = await log.audit_joined()
        assert ("row-changed", row.position) in [(each.kind.value, each.position) for each in together.findings]

    asyncio.run(check())
