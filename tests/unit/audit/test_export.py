"""An export holds all of the evidence to the byte, and one that is not whole says where."""

import json

import pytest

from bestex.audit.audit import audit
from bestex.audit.evidence import Counts
from bestex.audit.export.read import ExportError, read_export
from bestex.audit.export.write import write_export
from bestex.audit.findings import Report
from bestex.domain.log_hash import PublishedHead
from tests.support.trading_day import Records, TradingDay

AT = "2026-11-24T20:00:00.000Z"


def records() -> Records:
    day = TradingDay()
    day.order().execute()
    day.order().route().sign().land("slippage_exceeded").fail()
    return day.records()


async def lines_of(evidence: Records, *, ledger: bool = True) -> list[bytes]:
    written = bytearray()
    await write_export(evidence.evidence(ledger=ledger), written.extend, AT)
    return bytes(written).splitlines(keepends=True)


async def audited(lines: list[bytes], published: PublishedHead | None = None) -> Report:
    return await audit(read_export(lines), published)


async def refused(lines: list[bytes]) -> str:
    with pytest.raises(ExportError) as refusal:
        await audited(lines)
    return str(refusal.value)


async def test_an_export_audits_as_what_it_was_made_from() -> None:
    day = records()
    day.row(3, at_us=7)
    report = await audited(await lines_of(day))
    assert report.findings == (await day.audit()).findings
    assert report.findings[0].kind == "row-changed"


async def test_an_export_holds_every_field_to_the_byte() -> None:
    day = records()
    evidence = read_export(await lines_of(day))
    assert await evidence.journal.head() == day.last
    assert [row async for rows in evidence.journal.log() for row in rows] == day.rows
    assert evidence.ledger is not None
    assert [row async for rows in evidence.ledger.transactions() for row in rows] == day.landed
    assert [row async for rows in evidence.ledger.adjustments() for row in rows] == day.given
    assert [row async for rows in evidence.ledger.balances() for row in rows] == day.held
    assert [row async for rows in evidence.journal.orders() for row in rows] == day.images
    assert evidence.stated is not None
    assert evidence.stated() == Counts(11, 2, 2, 2, 2)


async def test_an_export_without_a_ledger_is_audited_without_it() -> None:
    report = await audited(await lines_of(records(), ledger=False))
    assert report.clean
    assert report.transactions == 0


async def test_the_first_line_says_what_the_export_is_of() -> None:
    day = records()
    assert json.loads((await lines_of(day))[0]) == {
        "type": "header",
        "format": 2,
        "journalId": day.last.journal_id,
        "headPosition": 11,
        "headHash": day.last.hash.hex(),
        "exportedAt": AT,
        "ledger": True,
        "archive": False,
    }


async def test_a_detail_is_a_string_of_the_stored_bytes() -> None:
    day = records()
    line = json.loads((await lines_of(day))[1])
    assert line["detail"].encode() == day.rows[0].detail
    assert line["hash"] == day.rows[0].hash.hex()


async def test_a_line_taken_out_is_missed_by_the_chain_and_by_the_count() -> None:
    lines = await lines_of(records())
    del lines[6]
    kinds = {finding.kind.value for finding in (await audited(lines)).findings}
    assert kinds == {"row-missing", "row-differs", "count-differs"}


async def test_a_cut_export_is_no_export() -> None:
    lines = await lines_of(records())
    assert await refused(lines[:-1]) == f"the file was cut: it has no end behind line {len(lines) - 1}"
    assert await refused(lines[:5]) == "the file was cut: it has no end behind line 5"
    assert (await refused([*lines[:5], lines[5][:40]])).startswith("line 6 cannot be read: ")


async def test_an_empty_file_is_no_export() -> None:
    assert await refused([]) == "the file is empty: it is no export"


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b"\xff\n", b'{"type":"other"}\n', b'{"type":"log"}\n'])
async def test_a_line_that_cannot_be_read_is_named(line: bytes) -> None:
    lines = await lines_of(records())
    lines[4] = line
    assert (await refused(lines)).startswith("line 5 cannot be read: ")


async def test_a_value_that_is_none_of_its_kind_is_named() -> None:
    lines = await lines_of(records())
    lines[1] = lines[1].replace(b'"hash":"', b'"hash":"no')
    assert (await refused(lines)).startswith("line 2: ")


async def test_lines_out_of_place_are_named() -> None:
    lines = await lines_of(records())
    assert await refused(lines[1:]) == "line 1 is not the header of an export"
    assert await refused([*lines[:-1], lines[1], lines[-1]]) == (
        f"line {len(lines)} is a log line, which has no place there"
    )
    assert await refused([*lines, lines[1]]) == f"line {len(lines) + 1} stands behind the export's end"
    assert await refused([lines[0], *lines]) == "line 2 is a header line, which has no place there"


async def test_another_format_is_refused() -> None:
    lines = await lines_of(records())
    lines[0] = lines[0].replace(b'"format":2', b'"format":3')
    assert await refused(lines) == "line 1: the export's format is 3; this release reads 2"


async def test_a_line_of_a_ledger_that_the_header_denies_is_named() -> None:
    lines = await lines_of(records())
    lines[0] = lines[0].replace(b'"ledger":true', b'"ledger":false')
    assert await refused(lines) == "line 13 is a transaction line, which has no place there"
