"""A process of the system under fire: started again at once whenever it ends, and its end accounted for."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import msgspec

from bestex.ordeal.report import Tally
from bestex.ports import Clock

DEFECTS: Final = (
    "Traceback",
    '.defect"',
    '_broke"',
    '"engine.part_ended"',
    '"journal.rows_rejected"',
    'order_unreadable"',
    "never retrieved",
    "never awaited",
)
"""What stands in the log of a process that has a defect."""
FENCED: Final = b'"engine.fenced"'
"""What the log of a process says that ends because it has no place on the database any more."""

READY_POLL_S: Final = 0.05
START_MAX_S: Final = 60.0
STOP_MAX_S: Final = 15.0  # a drain takes BESTEX_DRAIN_S at most, which is 10 s
FAILED_STARTS_MAX: Final = 20  # in a row
FAILED_START_PAUSE_S: Final = 0.2


class EngineFailedError(Exception):
    """A process cannot be brought up any more: there is nothing left to shoot at."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What is started."""

    name: str  # for people: "the engine", "worker 2"
    arguments: tuple[str, ...]  # of Python
    settings: Mapping[str, str]  # beside this process's environment
    ready_url: str  # answers 200 when it is ready
    shares: bool = False  # its database with others: who was silent for too long may lose its place, and ends by itself


class KeptProcess:
    """One process of a program after the other."""

    def __init__(self, program: Program, log: Path, clock: Clock, tally: Tally) -> None:
        self._program = program
        self._log = log
        self._clock = clock
        self._tally = tally
        self._process: asyncio.subprocess.Process | None = None
        self._log_began = 0  # the log's length when the present one was started
        self._ended_by: signal.Signals | None = None  # what the present one was sent
        self._ready = asyncio.Event()  # until it is told to end
        self._was_ready = False  # the present one, at some time
        self._stopped = False
        self._failed_in_a_row = 0

    @property
    def name(self) -> str:
        return self._program.name

    async def keep(self) -> None:
        """Start it, and start it again whenever it ends, until `stop`. Raises `EngineFailedError`."""
        while not self._stopped:
            self._ended_by = None
            self._was_ready = False
            self._ready.clear()
            self._process = process = await self._start()
            waiting = asyncio.create_task(self._until_it_is_ready())
            try:
                code = await process.wait()
            finally:
                waiting.cancel()
            await self._account_for(code)

    async def until_ready(self) -> None:
        try:
            async with asyncio.timeout(START_MAX_S):
                await self._ready.wait()
        except TimeoutError:
            raise EngineFailedError(f"{self.name} was not ready within {START_MAX_S:g} s; see its log") from None

    async def kill(self) -> None:
        process = await self._living()
        self._ready.clear()
        self._ended_by = signal.SIGKILL
        _send(process, signal.SIGKILL)

    async def drain(self) -> None:
        """SIGTERM, and wait until it has ended, by this or by a kill that came meanwhile."""
        process = await self._living()
        self._ready.clear()
        if self._ended_by is None:
            self._ended_by = signal.SIGTERM
        _send(process, signal.SIGTERM)
        in_time = await _ended(process, STOP_MAX_S)
        self._tally.findings.that("a stop is in time", in_time, f"{self.name} ran on {STOP_MAX_S:g} s after SIGTERM")
        if not in_time:
            self._ended_by = signal.SIGKILL
            _send(process, signal.SIGKILL)

    async def pause(self, seconds: float) -> None:
        process = await self._living()
        _send(process, signal.SIGSTOP)
        try:
            await self._clock.sleep(seconds)
        finally:
            _send(process, signal.SIGCONT)

    async def stop(self) -> None:
        """End the present one, and start no other."""
        self._stopped = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        if self._ended_by is None:
            self._ended_by = signal.SIGTERM
        _send(process, signal.SIGTERM)
        if not await _ended(process, STOP_MAX_S):
            _send(process, signal.SIGKILL)
            await process.wait()

    def defects(self) -> list[str]:
        """The lines of the log that speak of a defect."""
        if not self._log.exists():
            return []
        with self._log.open(errors="replace") as lines:
            return [line.strip()[:1_000] for line in lines if any(defect in line for defect in DEFECTS)]

    async def _start(self) -> asyncio.subprocess.Process:
        with self._log.open("ab") as output:
            self._log_began = output.tell()
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *self._program.arguments,
                env=engine_environment() | dict(self._program.settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal is for the ordeal, which ends it in order
            )

    async def _until_it_is_ready(self) -> None:
        began_s = self._clock.monotonic()
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            while True:
                try:
                    if (await http.get(self._program.ready_url)).status_code == 200:
                        break
                except httpx.TransportError:
                    pass  # not yet
                await self._clock.sleep(READY_POLL_S)
        self._failed_in_a_row = 0
        self._tally.longest_start_s = max(self._tally.longest_start_s, self._clock.monotonic() - began_s)
        self._was_ready = True
        self._ready.set()

    async def _account_for(self, code: int) -> None:
        """Tell the end that was asked for from the one that was not."""
        if self._ended_by is signal.SIGKILL:
            return
        if self._was_fenced():
            self._tally.fenced += 1
        elif self._ended_by is signal.SIGTERM:
            # One that has barely begun does not listen yet: the signal ends it.
            in_order = code == 0 or (code == -signal.SIGTERM and not self._was_ready)
            self._tally.findings.that("a stop is in order", in_order, f"{self.name} ended with {code} after SIGTERM")
        elif self._was_ready:
            self._tally.findings.that("the engine lives on", False, f"{self.name} ended by itself, with {code}")
        else:
            self._tally.failed_starts += 1
            self._failed_in_a_row += 1
            if self._failed_in_a_row > FAILED_STARTS_MAX:
                raise EngineFailedError(f"{self.name} failed to start {self._failed_in_a_row} times; see its log")
            await self._clock.sleep(FAILED_START_PAUSE_S)

    def _was_fenced(self) -> bool:
        if not self._program.shares:
            return False
        with self._log.open("rb") as log:
            log.seek(self._log_began)
            return any(FENCED in line for line in log)

    async def _living(self) -> asyncio.subprocess.Process:
        async with asyncio.timeout(START_MAX_S):
            while self._process is None or self._process.returncode is not None:
                await self._clock.sleep(READY_POLL_S)
        return self._process


def engine_environment() -> dict[str, str]:
    """This process's environment without its settings for an engine."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BESTEX_") and name not in ("PORT", "DATABASE_URL", "REDIS_URL")
    }


def _send(process: asyncio.subprocess.Process, what: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(what)


async def _ended(process: asyncio.subprocess.Process, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await process.wait()
    except TimeoutError:
        return False
    return True
