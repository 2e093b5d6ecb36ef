"""A process under fire: it is started again whenever it ends, and its end is accounted for."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bestex.ambient import SystemClock
from bestex.ordeal.process import FAILED_STARTS_MAX, EngineFailedError, KeptProcess, Program
from bestex.ordeal.report import Tally
from tests.support.postgres import until

NOWHERE = "http://127.0.0.1:9/readyz"
FENCED = """if True:
    print('{"event": "engine.fenced"}', flush=True)
    raise SystemExit(1)
"""
UNTIL_TOLD = "import signal; signal.pause()"


def kept(folder: Path, program: str, tally: Tally, *, shares: bool = True) -> KeptProcess:
    wanted = Program(name="worker 1", arguments=("-c", program), settings={}, ready_url=NOWHERE, shares=shares)
    return KeptProcess(wanted, folder / "log", SystemClock(), tally)


async def keep_until(condition: Callable[[], object], process: KeptProcess) -> None:
    keeping = asyncio.create_task(process.keep())
    try:
        await until(condition)
    finally:
        await process.stop()
        await keeping


async def test_one_that_was_fenced_off_is_counted_and_started_again(tmp_path: Path) -> None:
    tally = Tally()
    await keep_until(lambda: tally.fenced == 2, kept(tmp_path, FENCED, tally))
    assert tally.findings.violations == []
    assert tally.failed_starts == 0


async def test_one_that_cannot_be_started_is_given_up_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bestex.ordeal.process.FAILED_STARTS_MAX", 1)
    tally = Tally()
    with pytest.raises(EngineFailedError, match=r"^worker 1 failed to start 2 times"):
        await kept(tmp_path, "raise SystemExit(1)", tally).keep()
    assert tally.failed_starts == 2 <= FAILED_STARTS_MAX


async def test_an_engine_alone_that_is_fenced_off_has_failed(tmp_path: Path) -> None:
    tally = Tally()
    await keep_until(lambda: tally.failed_starts == 1, kept(tmp_path, FENCED, tally, shares=False))
    assert tally.fenced == 0


async def test_one_that_is_killed_is_started_again_without_a_word(tmp_path: Path) -> None:
    tally = Tally()
    process = kept(tmp_path, UNTIL_TOLD, tally)
    keeping = asyncio.create_task(process.keep())
    await process.kill()
    await process.stop()
    await keeping
    assert (tally.findings.violations, tally.failed_starts) == ([], 0)


async def test_lines_that_speak_of_a_defect_are_found(tmp_path: Path) -> None:
    process = kept(tmp_path, UNTIL_TOLD, Tally())
    assert process.defects() == []
    (tmp_path / "log").write_text('{"event": "order.defect"}\n{"event": "hub.log_unreadable"}\n')
    assert process.defects() == ['{"event": "order.defect"}']
