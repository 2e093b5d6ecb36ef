"""What an ordeal needs of the system that it is about: one engine, or many processes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Strike:
    """One blow at the system."""

    at_s: float  # since the load began
    blow: str  # for people, and counted by
    fall: Callable[[], Awaitable[None]]  # returns when it is over; raises `TimeoutError`, `EngineFailedError`
    alone: bool = False  # no other falls until it is over


class System(Protocol):
    """Started, shot at, and in the end stopped."""

    @property
    def urls(self) -> Sequence[str]:
        """Where orders are taken."""

    async def keep(self) -> None:
        """Run, and start again whatever ends, until `stop`. Raises `EngineFailedError`."""

    async def until_ready(self) -> None:
        """Wait until all of it is. Raises `EngineFailedError`."""

    def strikes(self) -> Sequence[Strike]:
        """What happens to it, in the order of time."""

    async def stop(self) -> None:
        """End everything; nothing of it is left."""

    async def audit(self) -> list[str]:
        """What is wrong with the database, while it all runs."""

    def defects(self) -> list[str]:
        """The lines of the logs that speak of a defect."""
