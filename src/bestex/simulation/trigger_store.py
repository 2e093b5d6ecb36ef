"""The trigger store of an engine process, over the same server as its journal, and with the same faults."""

from collections.abc import Sequence

from bestex.journal.trigger_store import MemoryTriggerStore
from bestex.ports import DeadMan, HighWater, LaunchRecord
from bestex.simulation.database import DatabaseCalls, DatabaseServer
from bestex.simulation.process import Process


class ProcessTriggerStore(MemoryTriggerStore):
    """`TriggerStore` of one engine process."""

    def __init__(self, server: DatabaseServer, process: Process) -> None:
        super().__init__(server.triggers)
        self._calls = DatabaseCalls(server, process)

    async def keep_high_waters(self, marks: Sequence[HighWater]) -> None:
        await self._calls.write(super().keep_high_waters, marks)

    async def high_waters(self) -> list[HighWater]:
        return await self._calls.read(super().high_waters)

    async def keep_launch(self, record: LaunchRecord) -> None:
        await self._calls.write(super().keep_launch, record)

    async def launches(self, limit: int, before_us: int | None, mint: str | None) -> list[LaunchRecord]:
        return await self._calls.read(super().launches, limit, before_us, mint)

    async def set_dead_man(self, switch: DeadMan) -> None:
        await self._calls.write(super().set_dead_man, switch)

    async def drop_dead_man(self, caller: str, due_us: int | None = None) -> None:
        await self._calls.write(super().drop_dead_man, caller, due_us)

    async def dead_men(self) -> list[DeadMan]:
        return await self._calls.read(super().dead_men)
