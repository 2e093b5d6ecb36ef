"""What can be measured: something that takes orders, with its processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Ends:
    """How many orders have ended."""

    total: int
    confirmed: int  # executed


class System(Protocol):
    """Something that takes orders on `POST /api/orders/execute`."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def folder(self) -> Path:
        """Where its logs are, and whatever else goes when it stops."""
        ...

    @property
    def pids(self) -> Sequence[int]:
        """Its own processes, databases and queues apart."""
        ...

    @property
    def bodies(self) -> Sequence[str]:
        """The orders to send, in turn."""
        ...

    async def ends(self) -> Ends:
        """How many orders have ended since it started."""
        ...

    def peak_memory_bytes(self) -> int: ...
