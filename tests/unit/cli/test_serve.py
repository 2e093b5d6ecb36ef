"""`bestex serve` hands its options to the engine, and nothing else is loaded to print help."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from bestex.cli import app


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """The overrides of each `run_server`, which ends with 7."""
    calls: list[dict[str, object]] = []

    def run_server(**overrides: object) -> int:
        calls.append(overrides)
        return 7

    bootstrap = ModuleType("bestex.bootstrap")
    bootstrap.run_server = run_server  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bestex.bootstrap", bootstrap)
    return calls


def test_serve_passes_only_what_was_given_and_ends_as_the_engine_ends(served: list[dict[str, object]]) -> None:
    assert CliRunner().invoke(app, ["serve"]).exit_code == 7
    words = "serve --port 4100 --host ::1 --profile instant --seed 5 --data-dir somewhere --database-url postgres://x"
    assert CliRunner().invoke(app, words.split()).exit_code == 7
    assert served == [
        {},
        {
            "port": 4100,
            "host": "::1",
            "profile": "instant",
            "seed": 5,
            "data_dir": Path("somewhere"),
            "database_url": "postgres://x",
        },
    ]


@pytest.mark.parametrize("words", ["--port 0", "--port 65536", "--profile slow", "--seed -1"])
def test_serve_refuses_what_cannot_be(served: list[dict[str, object]], words: str) -> None:
    assert CliRunner().invoke(app, ["serve", *words.split()]).exit_code == 2
    assert served == []


def test_what_a_command_does_not_use_is_not_loaded() -> None:
    heavy = "{'httpx', 'websockets', 'litestar', 'asyncpg', 'asyncio', 'msgspec', 'rich'}"
    code = f"import sys, bestex.cli; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
