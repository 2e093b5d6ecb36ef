"""The real command line against a running engine."""

import json
import subprocess

from tests.support.engine import PATIENCE_S, Json, Served, command, environment


def bestex(engine: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(PORT=engine.port),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def answer(engine: Served, *arguments: str) -> Json:
    """What a command that succeeds answers, as JSON."""
    done = bestex(engine, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: Json = json.loads(done.stdout)
    return found
