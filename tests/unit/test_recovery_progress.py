"""How far a recovery is: a bar on a terminal, a line of the log now and then elsewhere."""

import io
import sys

import pytest
from structlog.testing import capture_logs

from bestex.observability import RecoveryProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def recover(total: int) -> None:
    """Orders come a thousand at a time, as they are claimed."""
    with RecoveryProgress("recovering") as progress:
        for orders in range(1_000, total + 1, 1_000):
            progress(orders, total)


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with capture_logs() as logs:
        recover(3_000)
    assert "recovering" in terminal.getvalue()
    assert "3000/3000" in terminal.getvalue()
    assert not logs


def test_elsewhere_a_line_tells_of_every_ten_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with capture_logs() as logs:
        recover(25_000)
    assert [(entry["event"], entry["orders"], entry["of"]) for entry in logs] == [
        ("engine.recovering", 10_000, 25_000),
        ("engine.recovering", 20_000, 25_000),
    ]
