"""One engine alone: `bestex serve` with its embedded PostgreSQL."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bestex.ordeal.audit import audit
from bestex.ordeal.database import DatabaseProcess
from bestex.ordeal.engine import engine_alone, url_of
from bestex.ordeal.free_ports import free_ports
from bestex.ordeal.process import KeptProcess
from bestex.ordeal.report import LivePlan, Tally
from bestex.ordeal.schedule import Blow, Planned, schedule
from bestex.ordeal.system import Strike
from bestex.ports import Clock

ENGINE_LOG: Final = "engine.log"


class EngineAlone:
    def __init__(self, plan: LivePlan, folder: Path, clock: Clock, tally: Tally) -> None:
        [port] = free_ports(plan.seed, 1)
        self._plan = plan
        self._data_dir = folder / "data"
        self._engine = KeptProcess(engine_alone(self._data_dir, port, plan.seed), folder / ENGINE_LOG, clock, tally)
        self._database = DatabaseProcess(self._data_dir, clock)
        self.urls: Sequence[str] = (url_of(port),)

    async def keep(self) -> None:
        await self._engine.keep()

    async def until_ready(self) -> None:
        await self._engine.until_ready()

    def strikes(self) -> list[Strike]:
        planned = schedule(self._plan.seed, self._plan.seconds, self._plan.kills)
        return [
            # Other blows wait for a freeze: with a kill in the midst, nobody would be left to answer late.
            Strike(each.at_s, each.blow, partial(self._let_fall, each), alone=each.blow is Blow.DATABASE_FREEZE)
            for each in planned
        ]

    async def stop(self) -> None:
        await self._engine.stop()
        await self._database.stop()

    async def audit(self) -> list[str]:
        return await audit(self._data_dir)

    def defects(self) -> list[str]:
        return self._engine.defects()

    async def _let_fall(self, planned: Planned) -> None:
        match planned.blow:
            case Blow.KILL:
                await self._engine.kill()
            case Blow.DRAIN:
                await self._engine.drain()
            case Blow.PAUSE:
                await self._engine.pause(planned.lasts_s)
            case Blow.DATABASE_KILL:
                await self._database.kill()
            case Blow.DATABASE_FREEZE:
                await self._engine.until_ready()
                await self._database.freeze(planned.lasts_s)
            case Blow.DATABASE_RESTART:
                await self._database.restart()
            case Blow.DATABASE_SLOW_RESTART:
                await self._database.restart_slowly(planned.lasts_s)
