"""A log whose beginning was archived: what is found of it, of what stayed, and of its archives."""

import pytest
from msgspec.structs import replace

from bestex.audit.findings import Check, Report
from bestex.domain.log_hash import PublishedHead
from bestex.domain.terms import Kind
from tests.support.cut_log import CutLog
from tests.support.trading_day import TradingDay


@pytest.fixture
async def log() -> CutLog:
    """Positions 1 to 2 are a resting order's, 3 to 8 and 9 to 14 of orders that left; 15 to 20 are behind the cut."""
    day = TradingDay()
    day.order(Kind.LIMIT)
    for _ in range(3):
        day.order().execute()
    log = CutLog(day.records())
    await log.archive(14)
    return log


def kinds(report: Report) -> list[str]:
    return [finding.kind.value for finding in report.findings]


def result(report: Report, check: Check) -> tuple[int, str | None]:
    [found] = [each for each in report.checks if each.name is check]
    return found.checked, found.skipped


async def test_the_chain_goes_on_behind_the_checkpoint_and_what_stayed_is_counted(log: CutLog) -> None:
    report = await log.audit()
    assert report.clean
    assert result(report, Check.HASH_CHAIN) == (6, None)
    assert result(report, Check.CHECKPOINT) == (3, None)  # it, and the two rows that stayed
    assert result(await log.audit_joined(), Check.CHECKPOINT) == (1, None)


async def test_a_row_that_stayed_cannot_be_changed_removed_or_added(log: CutLog) -> None:
    row = log.here.rows[0]
    log.here.rows[0] = replace(row, hash=bytes(32))
    assert kinds(await log.audit()) == ["kept-rows-differ"]
    assert kinds(await log.audit_joined()) == ["hash-changed"]
    log.here.rows[0] = row
    gone = log.here.rows.pop(1)
    assert "kept-rows-differ" in kinds(await log.audit())
    assert "row-missing" in kinds(await log.audit_joined())
    log.here.rows[1:1] = [gone, replace(gone, position=4)]
    assert "kept-rows-differ" in kinds(await log.audit())


async def test_an_order_that_did_not_leave_and_is_gone_is_missed_with_the_archives(log: CutLog) -> None:
    log.here.rows = [row for row in log.here.rows if row.position > 14]
    log.here.images = [image for image in log.here.images if not image.resting]
    assert kinds(await log.audit()) == ["kept-rows-differ"]
    assert "row-missing" in kinds(await log.audit_joined())


async def test_another_hash_of_the_checkpoint_does_not_lead_on(log: CutLog) -> None:
    assert log.checkpoint is not None
    log.checkpoint = replace(log.checkpoint, hash=bytes(32))
    assert "row-changed" in kinds(await log.audit())


async def test_while_rows_are_being_removed_what_stays_is_not_judged_yet(log: CutLog) -> None:
    assert log.checkpoint is not None
    log.checkpoint = replace(log.checkpoint, kept_rows=None, kept_hash=None)
    report = await log.audit()
    assert report.clean
    assert result(report, Check.CHECKPOINT)[1] == "rows up to position 14 are being removed"


async def test_a_swap_of_an_order_that_nobody_archived_was_never_submitted(log: CutLog) -> None:
    left = log.left.pop()
    report = await log.audit()
    assert [(finding.kind.value, finding.order_id) for finding in report.findings] == [("never-submitted", left)]
    assert log.checkpoint is not None
    log.checkpoint = replace(log.checkpoint, forgotten_to=left)  # it left, and was forgotten
    assert (await log.audit()).clean


@pytest.mark.parametrize(("position", "skipped"), [(14, False), (9, True), (20, False)])
async def test_a_published_head_that_was_archived_is_judged_with_the_archives_only(
    log: CutLog, position: int, skipped: bool
) -> None:
    row = log.records.rows[position - 1]
    published = PublishedHead(log.records.last.journal_id, position, row.hash.hex())
    report = await log.audit(published)
    assert report.clean
    assert (result(report, Check.PUBLISHED_HEAD)[1] is not None) == skipped
    wrong = replace(published, hash="00" * 32)
    assert (await log.audit(wrong)).clean == skipped
    assert kinds(await log.audit_joined(wrong)) == ["rewritten"]


async def test_a_line_taken_out_of_an_archive_is_found(log: CutLog) -> None:
    lines = log.files[0]
    lines.pop(5)
    assert {"row-missing", "count-differs"} <= set(kinds(await log.audit_file(1)))
    assert "row-missing" in kinds(await log.audit_joined())
