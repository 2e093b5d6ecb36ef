"""The hash chain: each tampering with the log is named, once."""

import pytest
from msgspec.structs import replace

from bestex.audit.evidence import JournalHead, LogRow
from bestex.audit.findings import Check, Finding, Findings
from bestex.domain.log_hash import GENESIS, PublishedHead
from tests.support.trading_day import Records, TradingDay

ROWS = 18


@pytest.fixture
def records() -> Records:
    """Three orders that executed, event by event in turns: 18 rows."""
    day = TradingDay()
    for _ in range(3):
        day.order().execute()
    records = day.records()
    records.rows.sort(key=lambda row: row.seq)
    records.chain()
    assert len(records.rows) == ROWS
    return records


async def log_findings(records: Records, published: PublishedHead | None = None) -> list[Finding]:
    """What is found of the log itself, without what follows from it for its orders."""
    own = {Check.HASH_CHAIN, Check.POSITIONS, Check.HEAD, Check.PUBLISHED_HEAD}
    return [finding for finding in (await records.audit(published)).findings if finding.check in own]


async def places(records: Records, published: PublishedHead | None = None) -> list[tuple[str, int | None]]:
    return [(finding.kind.value, finding.position) for finding in await log_findings(records, published)]


async def test_an_untouched_log_is_clean(records: Records) -> None:
    report = await records.audit(records.published())
    assert report.clean
    counted = {check.name.value: check.checked for check in report.checks}
    assert (counted["hash-chain"], counted["positions"], counted["head"], counted["published-head"]) == (18, 18, 1, 1)


async def test_an_empty_log_is_clean() -> None:
    assert (await TradingDay().records().audit(PublishedHead("x", 0, GENESIS.hex()))).violations == 1  # another journal
    records = TradingDay().records()
    assert (await records.audit(records.published())).clean


@pytest.mark.parametrize("position", range(1, ROWS + 1))
async def test_a_changed_row_is_named(records: Records, position: int) -> None:
    records.row(position, at_us=1)
    assert await places(records) == [("row-changed", position)]


@pytest.mark.parametrize("position", range(1, ROWS + 1))
async def test_a_changed_hash_is_named(records: Records, position: int) -> None:
    records.row(position, hash=bytes(32))
    assert await places(records) == [("hash-changed", position)]


async def test_changed_rows_side_by_side_are_each_named(records: Records) -> None:
    for position in (5, 6, 7):
        records.row(position, attempt=9)
    assert await places(records) == [("row-changed", 5), ("row-changed", 6), ("row-changed", 7)]


async def test_a_row_rewritten_with_its_hash_is_told_as_the_possible_reason(records: Records) -> None:
    rewritten = Records(TradingDay())
    rewritten.rows = [*records.rows[:7], replace(records.rows[7], attempt=9)]
    rewritten.chain()
    records.rows[7] = rewritten.rows[7]
    [finding] = await log_findings(records)
    assert (finding.kind.value, finding.position) == ("row-changed", 9)


@pytest.mark.parametrize("position", range(1, ROWS))
async def test_a_removed_row_is_named_by_its_missing_position(records: Records, position: int) -> None:
    del records.rows[position - 1]
    assert await places(records) == [("row-missing", position)]


async def test_several_missing_rows_are_one_finding(records: Records) -> None:
    del records.rows[3:6]
    [finding] = await log_findings(records)
    assert finding.kind.value == "row-missing"
    assert finding.message.startswith(
        "positions 4 to 6 are missing from the log: removed. The row behind, at position 7"
    )


@pytest.mark.parametrize("position", range(1, ROWS))
async def test_a_row_removed_with_the_others_renumbered_is_named(records: Records, position: int) -> None:
    del records.rows[position - 1]
    records.renumber()
    assert await places(records) == [("row-removed", position)]


@pytest.mark.parametrize("position", range(1, ROWS - 1))
async def test_setting_the_head_back_does_not_hide_a_removed_row(records: Records, position: int) -> None:
    del records.rows[position - 1]
    records.renumber()
    records.last = replace(records.last, position=ROWS - 1)
    assert await places(records) == [("row-removed", position)]


async def test_several_rows_removed_and_renumbered_are_one_finding(records: Records) -> None:
    del records.rows[3:6]
    records.renumber()
    [finding] = await log_findings(records)
    assert finding.kind.value == "row-removed"
    assert finding.message.startswith("3 rows were removed before the row that stands at position 4")


@pytest.mark.parametrize("position", range(1, ROWS + 1))
@pytest.mark.parametrize("head_too", [False, True])
async def test_an_inserted_row_is_named(records: Records, position: int, head_too: bool) -> None:
    records.rows.insert(position - 1, replace(records.rows[4], at_us=7))
    records.renumber()
    if head_too:
        records.last = replace(records.last, position=ROWS + 1)
    assert await places(records) == [("row-inserted", position)]


async def test_inserted_rows_are_each_named(records: Records) -> None:
    records.rows[4:4] = [replace(records.rows[4], at_us=7), replace(records.rows[9], at_us=8)]
    records.renumber()
    assert await places(records) == [("row-inserted", 5), ("row-inserted", 6)]


async def test_a_row_inserted_under_a_position_that_is_taken_is_named(records: Records) -> None:
    records.rows.insert(5, replace(records.rows[4], at_us=7))
    assert await places(records) == [("row-inserted", 5)]


async def test_a_row_inserted_behind_the_head_is_named(records: Records) -> None:
    records.rows.append(replace(records.rows[-1], position=ROWS + 1, seq=7))
    assert await places(records) == [("row-inserted", ROWS + 1)]


async def test_a_row_chained_behind_the_head_is_named(records: Records) -> None:
    head = records.last
    records.rows.append(replace(records.rows[-1], seq=7))
    records.chain()
    records.last = head
    assert await places(records) == [("beyond-head", ROWS + 1)]


async def test_a_changed_position_is_named(records: Records) -> None:
    records.row(5, position=500)
    assert await places(records) == [("row-changed", 500)]


async def test_a_row_moved_to_the_end_is_missing_where_it_was(records: Records) -> None:
    records.row(5, position=500)
    records.rows.sort(key=lambda row: row.position)
    assert await places(records) == [("row-missing", 5), ("row-inserted", 500)]


async def test_a_cut_tail_shows_against_the_log_s_own_head(records: Records) -> None:
    del records.rows[15:]
    [finding] = await log_findings(records)
    assert (finding.kind.value, finding.position) == ("tail-cut", 16)
    assert "positions 16 to 18 are cut off" in finding.message


async def test_a_tail_cut_together_with_the_head_shows_against_the_published_head(records: Records) -> None:
    published = records.published()
    del records.rows[15:]
    records.last = JournalHead(records.last.journal_id, 15, records.rows[-1].hash)
    assert await places(records) == []
    assert await places(records, published) == [("behind-published", 16)]


async def test_a_changed_head_is_found(records: Records) -> None:
    records.last = replace(records.last, hash=bytes(32))
    assert await places(records) == [("head-differs", ROWS)]


async def test_a_log_rewritten_from_a_row_on_shows_against_the_published_head(records: Records) -> None:
    published = records.published()
    records.row(5, at_us=1)
    records.chain()
    assert await places(records) == []
    assert await places(records, published) == [("rewritten", ROWS)]


async def test_a_published_head_that_the_log_has_grown_past_still_holds(records: Records) -> None:
    row = records.rows[9]
    published = PublishedHead(records.last.journal_id, row.position, row.hash.hex())
    assert await places(records, published) == []
    del records.rows[9]
    assert await places(records, published) == [("row-missing", 10), ("rewritten", 10)]


async def test_another_journal_is_its_own_finding(records: Records) -> None:
    assert await places(records, replace(records.published(), journal_id="another")) == [("other-journal", None)]


async def test_tampering_in_many_places_is_named_in_each(records: Records) -> None:
    records.row(3, attempt=9)
    del records.rows[12]
    records.rows.insert(7, replace(records.rows[4], at_us=7))
    records.renumber()
    assert await places(records) == [("row-changed", 3), ("row-inserted", 8), ("row-removed", 14)]


async def test_a_log_of_noise_has_bounded_findings_and_all_counted() -> None:
    day = TradingDay()
    for _ in range(50):
        day.order().execute()
    records = day.records()
    records.rows = [_noise(row) for row in records.rows]
    report = await records.audit()
    chain = next(check for check in report.checks if check.name is Check.HASH_CHAIN)
    assert chain.violations == 300
    assert sum(finding.check is Check.HASH_CHAIN for finding in report.findings) == 100


def _noise(row: LogRow) -> LogRow:
    return replace(row, hash=row.hash[::-1], at_us=row.at_us + 1)


def test_every_check_counts_from_nothing() -> None:
    report = Findings().report(JournalHead("x", 0, GENESIS), None, 0, 0, 0)
    assert [check.name for check in report.checks] == list(Check)
