"""`bestex verify` and `bestex export` without a database: what they print, write and refuse."""

import asyncio
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from bestex.audit.audit import Progress
from bestex.audit.export.write import write_export
from bestex.audit.findings import CHECK_OF
from bestex.cli import app
from bestex.cli.errors import CommandError
from bestex.cli.exit_codes import ExitCode
from bestex.cli.progress import reading_bar
from bestex.cli.whole_file import whole_file
from tests.support.trading_day import Records, TradingDay

HOW_TO = "docs/how-to/verify-and-export.md"


@pytest.fixture
def records() -> Records:
    day = TradingDay()
    for _ in range(3):
        day.order().execute()
    return day.records()


def exported(records: Records, folder: Path) -> Path:
    file = folder / "log.jsonl"
    with file.open("wb") as out:
        asyncio.run(write_export(records.evidence(), out.write, "2026-11-24T20:00:00.000Z"))
    return file


def bestex(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="bestex")


def test_nothing_found_ends_with_0_and_says_how_often_each_check_was_made(records: Records, tmp_path: Path) -> None:
    result = bestex("verify", "--export", exported(records, tmp_path))
    assert result.exit_code == ExitCode.DONE
    assert re.search(r"^hash-chain +18 +0 *$", result.stdout, re.MULTILINE)
    assert re.search(r"^published-head +- +- +no published head was given *$", result.stdout, re.MULTILINE)
    assert re.search(r"18 events, 3 orders, 3 transactions; [\d.]+ s, [\d,]+ events/s", result.stdout)
    assert result.stdout.rstrip().endswith("nothing found")


def test_violations_end_with_1_and_are_named(records: Records, tmp_path: Path) -> None:
    records.row(5, attempt=9)
    result = bestex("verify", "--export", exported(records, tmp_path))
    assert result.exit_code == ExitCode.VIOLATIONS
    assert "row-changed  the row at position 5 was changed" in result.stdout


def test_what_is_shown_is_bounded_and_what_is_counted_is_not(records: Records, tmp_path: Path) -> None:
    records.rows = [*records.rows, *(records.rows[-1] for _ in range(200))]
    result = bestex("verify", "--export", exported(records, tmp_path))
    assert "; the first 50 are shown" in result.stdout


def test_json_is_one_object(records: Records, tmp_path: Path) -> None:
    records.row(5, attempt=9)
    answer = json.loads(bestex("verify", "--export", exported(records, tmp_path), "--json").stdout)
    assert (answer["clean"], answer["events"], answer["headPosition"]) == (False, 18, 18)
    [changed] = [finding for finding in answer["findings"] if finding["kind"] == "row-changed"]
    assert (changed["check"], changed["position"], changed["orderId"]) == ("hash-chain", 5, records.rows[4].order_id)
    assert answer["violations"] == sum(check.get("violations", 0) for check in answer["checks"])


def test_text_from_the_evidence_cannot_command_the_terminal(records: Records, tmp_path: Path) -> None:
    records.row(6, status="\x1b[2Jgone")
    result = bestex("verify", "--export", exported(records, tmp_path))
    assert "\x1b[2J" not in result.stdout


def test_an_export_and_a_database_at_once_are_bad_usage(tmp_path: Path) -> None:
    assert bestex("verify", "--export", tmp_path / "x", "--data-dir", tmp_path).exit_code == ExitCode.REFUSED


def test_a_folder_that_is_named_goes_before_the_environment_s_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    result = bestex("verify", "--data-dir", tmp_path)
    assert result.exit_code == ExitCode.REFUSED
    assert "there is no database in" in result.stderr


def test_a_bad_setting_is_refused() -> None:
    result = bestex("verify", "--database-url", "mysql://x")
    assert result.exit_code == ExitCode.REFUSED
    assert "DATABASE_URL" in result.stderr


# --- The file and the bar ------------------------------------------------------------------------------------


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "out"
    with whole_file(file, overwrite=False) as write:
        write(b"all")
        assert not file.exists()
    assert file.read_bytes() == b"all"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with whole_file(tmp_path / "out", overwrite=False) as write:
            write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "out"
    with pytest.raises(CommandError, match="--force"), whole_file(file, overwrite=False):
        file.write_text("another's")
    assert file.read_text() == "another's"


def test_the_bar_shows_on_a_terminal_and_nowhere_else() -> None:
    for terminal in (True, False):
        shown = io.StringIO()
        with reading_bar(Console(file=shown, force_terminal=terminal, width=80)) as on_progress:
            on_progress(Progress("events", 3, 18))
            on_progress(Progress("transactions", 2, None))
        assert ("3/18" in shown.getvalue()) is terminal


# --- The documentation ---------------------------------------------------------------------------------------


def test_the_documentation_s_program_recomputes_the_head(records: Records, tmp_path: Path, repository: Path) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (repository / HOW_TO).read_text(), re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(exported(records, tmp_path))],
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == records.last.hash.hex(), run.stderr


def test_every_kind_of_finding_is_explained(repository: Path) -> None:
    rows = [line.split("|") for line in (repository / HOW_TO).read_text().splitlines() if line.startswith("| `")]
    explained = {kind: row[2].strip() for row in rows for kind in re.findall(r"`([a-z-]+)`", row[1])}
    assert {kind.value: check.value for kind, check in CHECK_OF.items()}.items() <= explained.items()
