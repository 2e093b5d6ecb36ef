"""What must hold of the database itself: `bestex verify`, by the real command line, beside the engine that runs."""

import asyncio
import sys
from pathlib import Path

import msgspec

from bestex.audit.findings import Report

VERIFY_S = 120.0


async def audit(data_dir: Path) -> list[str]:
    """What is wrong with the database in the folder, whose server runs."""
    verify = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bestex",
        "verify",
        "--json",
        "--data-dir",
        str(data_dir),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        answer, said = await asyncio.wait_for(verify.communicate(), VERIFY_S)
    except TimeoutError:
        verify.kill()
        await verify.wait()
        return [f"bestex verify did not end within {VERIFY_S:.0f} s"]
    if verify.returncode == 0:
        return []
    try:
        report = msgspec.json.decode(answer, type=Report)
    except msgspec.MsgspecError:
        return [f"bestex verify ended with {verify.returncode}: {said.decode(errors='replace').strip()}"]
    return [finding.message for finding in report.findings]
