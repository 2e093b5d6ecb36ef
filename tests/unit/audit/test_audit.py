"""What must hold of orders, attempts, transactions and balances: each broken once, and found as what it is."""

import msgspec
import pytest
from msgspec.structs import replace

from bestex.audit.audit import Progress, audit
from bestex.audit.evidence import Evidence, LedgerBalance
from bestex.audit.findings import CHECK_OF, LEDGER_CHECKS, Check, Kind
from bestex.domain.events import (
    BuildingDetail,
    FailedDetail,
    RoutingDetail,
    SubmittedDetail,
    encode_detail,
    seal,
)
from bestex.domain.lifecycle import Status
from bestex.domain.log_hash import PublishedHead
from bestex.journal.evidence import MemoryJournalEvidence
from bestex.venues.simulated.evidence import MemoryLedgerEvidence
from tests.support.trading_day import BUILDING, SOL, TOKENS, DayOrder, Records, TradingDay


@pytest.fixture
def day() -> TradingDay:
    return TradingDay()


def executed() -> Records:
    """One order that executed: rows 1 pending, 2 routing, 3 building, 4 submitted, 5 confirmed, 6 finalized."""
    day = TradingDay()
    day.order().execute()
    return day.records()


# --- What is right -------------------------------------------------------------------------------------------


async def test_a_day_of_all_that_orders_may_go_through_is_clean(day: TradingDay) -> None:
    day.order().execute()
    retried = day.order().route().sign().land("slippage_exceeded")
    retried.route(retried.story("slippage_exceeded")).sign().land().confirm().note("finalized")
    expired = day.order().route().sign()
    expired.route(expired.story()).sign().fail()
    day.order().route().route().sign().land().confirm()  # cut short by a crash before it was signed
    unsigned = day.order().route()
    unsigned.route(unsigned.story("venue_down")).fail()
    day.order().cancel()
    day.order().route().sign().add(Status.SUBMITTED, SubmittedDetail(cancel_requested=True)).cancel()
    day.order()
    day.order().route().sign()
    day.order().route().sign().land()  # executed, and the journal does not know yet
    day.order().route().sign().confirm()  # confirmed, and a fork has just taken it
    day.order().route().sign().confirm().note("lost")
    day.order().route().sign().confirm().note("lost", gone=True)
    day.order().route().sign().confirm().note("lost").land().note("finalized")  # it landed again
    day.order().route().sign(adopted=True).land().confirm()
    report = await day.records().audit()
    assert report.findings == []
    assert (report.orders, report.transactions) == (15, 7)
    assert {check.name: check.checked for check in report.checks}[Check.OUTCOMES] == 12


async def test_the_journal_and_the_ledger_in_memory_are_evidence(day: TradingDay) -> None:
    day.order().execute()
    day.order().route().sign().land("slippage_exceeded").fail()
    database, ledger = await day.stored()
    report = await audit(Evidence(MemoryJournalEvidence(database), MemoryLedgerEvidence(ledger)))
    assert report.clean
    assert report == await day.records().audit()


async def test_the_same_evidence_gives_the_same_report() -> None:
    records = executed()
    records.row(3, at_us=1)
    assert await records.audit() == await records.audit()


async def test_without_a_ledger_its_checks_are_not_made() -> None:
    records = executed()
    records.landed = []
    report = await records.audit(ledger=False)
    assert report.clean
    assert {check.name for check in report.checks if check.skipped} == {
        *LEDGER_CHECKS,
        Check.PUBLISHED_HEAD,
        Check.EXPORT,
        Check.CHECKPOINT,
    }


async def test_progress_is_told_for_each_kind_of_rows() -> None:
    told: list[Progress] = []
    await audit(executed().evidence(), None, told.append)
    assert told == [Progress("events", 6, 6), Progress("transactions", 1, None), Progress("orders", 1, 1)]


def test_every_kind_of_finding_violates_a_check() -> None:
    assert set(CHECK_OF) == set(Kind)


# --- Events --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(1, 6))
async def test_a_gap_in_an_order_s_events_is_found_once(position: int) -> None:
    records = executed()
    del records.rows[position - 1]
    records.chain()
    expected = ["seq-gap", *(["never-submitted"] if position == 4 else [])]
    assert await records.kinds() == expected


async def test_an_event_that_stands_twice_is_found() -> None:
    records = executed()
    records.rows.insert(3, records.rows[2])
    records.chain()
    assert await records.kinds() == ["seq-gap"]


async def test_an_illegal_transition_is_found() -> None:
    records = executed()
    records.row(3, status="submitted", detail=records.rows[3].detail, sealed=records.rows[3].sealed)
    records.chain()
    assert await records.kinds() == ["illegal-transition"]


async def test_a_status_that_does_not_exist_is_found() -> None:
    records = executed()
    records.row(6, status="finalized")
    records.chain()
    assert await records.kinds() == ["illegal-transition"]


@pytest.mark.parametrize("detail", [b"", b"{", b"{}", b"\xff", b"[]"])
async def test_a_detail_that_cannot_be_read_is_found(detail: bytes) -> None:
    records = executed()
    records.row(3, detail=detail)
    records.chain()
    assert await records.kinds() == ["detail-unreadable"]


async def test_a_time_beyond_all_calendars_is_found() -> None:
    records = executed()
    records.row(1, at_us=2**62)
    records.chain()
    assert await records.kinds() == ["detail-unreadable"]


async def test_an_order_without_its_tokens_is_found() -> None:
    records = executed()
    records.row(1, sealed=b"")
    records.chain()
    assert await records.kinds() == ["sealed-unreadable"]


@pytest.mark.parametrize("sealed", [b"", b"\x00", seal(TOKENS)])
async def test_an_attempt_without_its_signed_bytes_is_found(sealed: bytes) -> None:
    records = executed()
    records.row(4, sealed=sealed)
    records.chain()
    assert await records.kinds() == ["sealed-unreadable"]


# --- Attempts ------------------------------------------------------------------------------------------------


async def test_a_second_signature_while_the_first_is_open_is_found(day: TradingDay) -> None:
    day.order().route().sign("first").sign("second")
    assert await day.records().kinds() == ["signed-while-open"]


async def test_leaving_a_signed_attempt_behind_without_its_story_is_found(day: TradingDay) -> None:
    order = day.order().route().sign()
    order.add(Status.ROUTING, RoutingDetail(), attempt=2).add(Status.BUILDING, BUILDING).sign()
    assert await day.records().kinds() == ["story-missing"]


async def test_a_story_of_another_signature_is_none(day: TradingDay) -> None:
    order = day.order().route().sign()
    order.route(msgspec.structs.replace(order.story(), signature="another")).sign()
    assert await day.records().kinds() == ["story-missing"]


async def test_failing_without_the_story_of_what_was_signed_is_found(day: TradingDay) -> None:
    day.order().route().sign().add(Status.FAILED, FailedDetail("internal", "gave up", ()))
    assert await day.records().kinds() == ["story-missing"]


async def test_signing_an_attempt_again_is_found(day: TradingDay) -> None:
    order = day.order().route().sign("first")
    order.add(Status.ROUTING, RoutingDetail(None, order.story()), attempt=1).add(Status.BUILDING, BUILDING)
    order.sign("second")
    assert await day.records().kinds() == ["attempt-number"]


async def test_an_attempt_number_that_falls_is_found(day: TradingDay) -> None:
    order = day.order().route()
    order.route(order.story()).add(Status.ROUTING, RoutingDetail(), attempt=1)
    assert await day.records().kinds() == ["attempt-number"]


async def test_a_signature_that_stands_for_two_orders_is_found(day: TradingDay) -> None:
    day.order().route().sign("the same")
    day.order().route().sign("the same")
    [finding] = (await day.records().audit()).findings
    assert (finding.kind, finding.signature) == (Kind.SIGNATURE_REUSED, "the same")


# --- Projection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed"},
        {"seq": 5},
        {"attempt": 2},
        {"unfilled": "failed"},
        {"settled": False},
        {"kind": "limit"},
        {"pair": "SOL/USDT"},
        {"client_order_id": "mine"},
        {"view": b"{}"},
        {"view": b""},
        {"view": b"\xff"},
        {"resting": True},
        {"parent_id": "another"},
    ],
)
async def test_a_row_of_an_order_that_is_not_the_fold_is_found(changes: dict[str, object]) -> None:
    records = executed()
    records.images = [replace(records.images[0], **changes)]
    assert await records.kinds() == ["row-differs"]


async def test_a_changed_view_is_told_field_by_field() -> None:
    records = executed()
    view = records.images[0].view.replace(b'"151.1"', b'"999.1"')
    records.images = [replace(records.images[0], view=view)]
    [finding] = (await records.audit()).findings
    assert finding.message.endswith("view.amountOut: '999.1', not '151.1'")


async def test_an_order_without_a_row_is_found() -> None:
    records = executed()
    records.images = []
    assert await records.kinds() == ["order-without-row"]


async def test_a_row_without_an_order_is_found() -> None:
    records = executed()
    records.images.append(replace(records.images[0], order_id="another"))
    assert await records.kinds() == ["row-without-order"]


# --- Transactions and outcomes -------------------------------------------------------------------------------


def only(day: TradingDay, order: DayOrder) -> str:
    """The id of the one order of a day that has landed something."""
    assert {row.order_id for row in day.landed} == {order.id}
    return order.id


async def test_a_transaction_that_nobody_submitted_is_found(day: TradingDay) -> None:
    order_id = only(day, day.order().route().land("slippage_exceeded"))
    [finding] = (await day.records().audit()).findings
    assert (finding.kind, finding.order_id) == (Kind.NEVER_SUBMITTED, order_id)


@pytest.mark.parametrize("changes", [{"attempt": 2}, {"order_id": "another"}])
async def test_a_transaction_of_another_attempt_or_order_is_found(day: TradingDay, changes: dict[str, object]) -> None:
    day.order().route().sign().land("slippage_exceeded")
    records = day.records()
    records.landed = [replace(records.landed[0], **changes)]
    assert await records.kinds() == ["other-attempt"]


async def test_an_order_that_was_executed_twice_is_found(day: TradingDay) -> None:
    order = day.order().route().sign().land()
    order.route(order.story()).sign().land().confirm().note("finalized")
    assert await day.records().kinds() == ["executed-twice", "amount-differs"]  # it reports the second swap


@pytest.mark.parametrize("end", [DayOrder.fail, DayOrder.cancel])
async def test_an_order_that_ended_unfilled_but_was_executed_is_found(day: TradingDay, end: object) -> None:
    order = day.order().route().sign().land()
    assert callable(end)
    end(order)
    assert await day.records().kinds() == ["executed-unfilled"]


async def test_an_order_that_is_lost_for_good_but_was_executed_is_found(day: TradingDay) -> None:
    day.order().route().sign().confirm().note("lost", gone=True).land()
    assert await day.records().kinds() == ["executed-unfilled"]


async def test_an_order_confirmed_for_good_without_a_swap_is_found(day: TradingDay) -> None:
    day.order().route().sign().confirm().note("finalized")
    assert await day.records().kinds() == ["confirmed-unexecuted"]


async def test_an_order_whose_transaction_failed_is_not_confirmed_by_it(day: TradingDay) -> None:
    day.order().route().sign().land("slippage_exceeded").confirm(commitment="finalized")
    assert await day.records().kinds() == ["confirmed-unexecuted"]


# --- Amounts and balances ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_in": "1.500000001"},
        {"amount_out": "151.100001"},
        {"fee_paid": "0.000006"},
        {"venue": "meteora"},
        {"tx_hash": "another"},
        {"amount_out": None},
        {"slot": 119, "commitment": "finalized"},
    ],
)
async def test_a_report_that_is_a_base_unit_off_is_found(day: TradingDay, changes: dict[str, object]) -> None:
    day.order().route().sign().land().confirm(**changes).note("finalized")
    [finding] = (await day.records().audit()).findings
    assert finding.kind is Kind.AMOUNT_DIFFERS


async def test_a_swap_that_a_fork_moved_is_compared_once_the_journal_knows(day: TradingDay) -> None:
    moved = day.order().route().sign().land(amount_out=151_000_000).confirm(slot=100)  # the ledger has slot 120
    assert await day.records().kinds() == []
    moved.note("finalized")
    assert await day.records().kinds() == ["amount-differs"]


async def test_an_operator_s_decision_may_not_know_the_fee_but_must_know_the_amounts(day: TradingDay) -> None:
    day.order().route().sign().land().confirm(fee_paid="0", commitment="finalized", resolved=True)
    assert await day.records().kinds() == []
    day.order().route().sign().land().confirm(amount_out="151", commitment="finalized", resolved=True)
    assert await day.records().kinds() == ["amount-differs"]


@pytest.mark.parametrize("changes", [{"mint_in": "another"}, {"mint_out": "another"}, {"amount_in": 1_500_000_001}])
async def test_a_swap_that_is_not_what_was_ordered_is_found(changes: dict[str, object]) -> None:
    records = executed()
    records.landed = [replace(records.landed[0], **changes)]
    kinds = await records.kinds()
    assert "amount-differs" in kinds
    assert "balance-differs" in kinds


async def test_a_swap_that_paid_less_than_its_limit_is_found(day: TradingDay) -> None:
    day.order().route().sign().land(amount_out=150_448_394).confirm(amount_out="150.448394").note("finalized")
    assert await day.records().kinds() == ["below-minimum"]


async def test_a_swap_at_its_limit_is_none(day: TradingDay) -> None:
    day.order().route().sign().land(amount_out=150_448_395).confirm(amount_out="150.448395").note("finalized")
    assert await day.records().kinds() == []


async def test_an_open_order_s_swap_is_held_against_its_limit_too(day: TradingDay) -> None:
    day.order().route().sign().land(amount_out=1)
    assert await day.records().kinds() == ["below-minimum"]


async def test_a_limit_that_is_no_amount_is_found() -> None:
    records = executed()
    detail = msgspec.json.decode(records.rows[2].detail, type=BuildingDetail)
    records.row(3, detail=encode_detail(msgspec.structs.replace(detail, min_amount_out="much")))
    records.chain()
    assert await records.kinds() == ["below-minimum"]


@pytest.mark.parametrize("off_by", [-1, 1])
async def test_a_balance_that_is_a_base_unit_off_is_found(off_by: int) -> None:
    records = executed()
    records.held = [replace(each, units=each.units + off_by * (each.mint == SOL.mint)) for each in records.held]
    [finding] = (await records.audit()).findings
    assert (finding.kind, finding.mint) == (Kind.BALANCE_DIFFERS, SOL.mint)


async def test_a_balance_out_of_nowhere_is_found() -> None:
    records = executed()
    records.held.append(LedgerBalance("another", 1))
    assert await records.kinds() == ["balance-differs"]


async def test_a_removed_grant_is_found() -> None:
    records = executed()
    del records.given[0]
    assert await records.kinds() == ["balance-differs"]


async def test_a_removed_transaction_is_found() -> None:
    records = executed()
    records.landed = []
    assert await records.kinds() == ["balance-differs", "balance-differs", "confirmed-unexecuted"]


async def test_the_report_says_which_head_the_log_was_held_against() -> None:
    records = executed()
    published = PublishedHead(records.last.journal_id, 2, records.rows[1].hash.hex())
    report = await records.audit(published)
    assert (report.published_head, report.head_position, report.head_hash) == (published, 6, records.last.hash.hex())
