"""A cluster: apis, workers, watchers and simnet over one PostgreSQL, with a Valkey where the queue is BullMQ's."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bestex.journal.embedded import EmbeddedPostgres, EmbeddedPostgresError
from bestex.ordeal.audit import audit
from bestex.ordeal.cluster_schedule import NUMBERS, Act, ClusterBlow, Target, cluster_schedule
from bestex.ordeal.database import DatabaseProcess
from bestex.ordeal.engine import HOSTILE, settings, url_of, world_settings
from bestex.ordeal.free_ports import free_ports
from bestex.ordeal.process import EngineFailedError, KeptProcess, Program
from bestex.ordeal.report import ClusterPlan, Queue, Tally
from bestex.ordeal.system import Strike
from bestex.ordeal.valkey import ValkeyProcess
from bestex.ports import Clock

PORTS: Final = sum(NUMBERS.values()) + 2
"""One for each process, for simnet and for Valkey."""


class Cluster:
    """All of it, on this machine."""

    def __init__(self, plan: ClusterPlan, folder: Path, clock: Clock, tally: Tally) -> None:
        """Raises `ValkeyMissingError`."""
        self._plan = plan
        self._folder = folder
        self._data_dir = folder / "data"
        self._clock = clock
        self._tally = tally
        self._postgres = EmbeddedPostgres(self._data_dir)
        self._database = DatabaseProcess(self._data_dir, clock)
        *ports, valkey_port = free_ports(plan.seed, PORTS)
        self._valkey: ValkeyProcess | None = None
        if plan.queue is Queue.BULLMQ:
            self._valkey = ValkeyProcess(valkey_port, folder / "valkey", clock)
        self._processes: dict[tuple[Target, int], KeptProcess] = {}
        self._simnet_url = url_of(ports.pop())
        self._add(Target.SIMNET, 1, int(self._simnet_url.rpartition(":")[2]))
        urls = []
        for target, count in NUMBERS.items():
            for number in range(1, count + 1):
                port = ports.pop()
                self._add(target, number, port)
                if target is Target.API:
                    urls.append(url_of(port))
        self.urls: Sequence[str] = urls

    async def keep(self) -> None:
        try:
            await self._postgres.start()
        except EmbeddedPostgresError as error:
            raise EngineFailedError(str(error)) from error
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._postgres.supervise())
                if self._valkey is not None:
                    group.create_task(self._valkey.keep())
                for process in self._processes.values():
                    group.create_task(process.keep())
        except ExceptionGroup as failed:
            if (failures := failed.subgroup(EngineFailedError)) is None:
                raise
            raise failures.exceptions[0] from failed

    async def until_ready(self) -> None:
        if self._valkey is not None:
            await self._valkey.until_ready()
        for process in self._processes.values():
            await process.until_ready()

    def strikes(self) -> list[Strike]:
        plan = self._plan
        blows = cluster_schedule(plan.seed, plan.seconds, plan.kills, valkey=plan.queue is Queue.BULLMQ)
        return [Strike(each.at_s, each.name, partial(self._let_fall, each)) for each in blows]

    async def stop(self) -> None:
        await asyncio.gather(*(process.stop() for process in self._processes.values()))
        if self._valkey is not None:
            await self._valkey.stop()
        await self._postgres.stop()
        await self._database.stop()

    async def audit(self) -> list[str]:
        return await audit(self._data_dir)

    def defects(self) -> list[str]:
        return [f"{each.name}: {line}" for each in self._processes.values() for line in each.defects()]

    def _add(self, target: Target, number: int, port: int) -> None:
        name = f"{target} {number}" if target in NUMBERS else str(target)
        serves = target in (Target.API, Target.SIMNET)
        program = Program(
            name=name,
            arguments=("-m", "bestex", str(target)),
            settings=self._settings(target, port if serves else None, None if serves else port),
            ready_url=f"{url_of(port)}/readyz",
            shares=True,
        )
        log = self._folder / f"{name.replace(' ', '-')}.log"
        self._processes[target, number] = KeptProcess(program, log, self._clock, self._tally)

    def _settings(self, target: Target, port: int | None, health_port: int | None) -> dict[str, str]:
        given = HOSTILE | {"DATA_DIR": str(self._data_dir), "QUEUE": str(self._plan.queue)}
        given |= world_settings(self._plan.seed) if target is Target.SIMNET else {"SIMNET_URL": self._simnet_url}
        if health_port is not None:
            given["HEALTH_PORT"] = str(health_port)
        environment = settings(given) | {"DATABASE_URL": self._postgres.dsn}
        if port is not None:
            environment["PORT"] = str(port)
        if self._valkey is not None:
            environment["REDIS_URL"] = self._valkey.url
        return environment

    async def _let_fall(self, blow: ClusterBlow) -> None:
        match blow.target:
            case Target.POSTGRES:
                await (self._database.kill() if blow.act is Act.KILL else self._database.restart())
            case Target.VALKEY:
                if self._valkey is not None:
                    await (self._valkey.kill() if blow.act is Act.KILL else self._valkey.restart())
            case _:
                await self._hit(self._processes[blow.target, blow.number], blow)

    @staticmethod
    async def _hit(process: KeptProcess, blow: ClusterBlow) -> None:
        match blow.act:
            case Act.KILL:
                await process.kill()
            case Act.FREEZE:
                await process.pause(blow.lasts_s)
            case Act.END:
                await process.drain()
