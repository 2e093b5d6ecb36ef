"""What the API asks of the engine beside order entry."""

from typing import Protocol

from bestex.domain.events import Changes
from bestex.domain.orders import OrderView
from bestex.domain.terms import Kind
from bestex.ports import DeadMan


class CancelledMany(Protocol):
    """What a cancel of many did, by the orders' ids."""

    @property
    def cancelled(self) -> list[str]:
        """They ended."""

    @property
    def requested(self) -> list[str]:
        """They are signed: no further attempt is made."""


class DeadManSwitches(Protocol):
    """The callers' dead-man switches. Raises `JournalUnavailableError`."""

    async def arm(self, caller: str, seconds: int, keep_stops: bool) -> DeadMan:
        """Have the caller's resting orders cancelled in so many seconds; armed already: from now on."""

    async def disarm(self, caller: str) -> None: ...

    def switch(self, caller: str) -> DeadMan | None: ...


class OrderEngine(Protocol):
    """What may be done to orders. Raises `JournalError` when it cannot be written down."""

    @property
    def dead_man(self) -> DeadManSwitches: ...

    async def cancel(self, order_id: str) -> OrderView:
        """Raises `NotFoundError`, `AlreadyEndedError`, `JournalBehindError`."""

    async def cancel_many(self, pair: str | None, kind: Kind | None, caller: str) -> CancelledMany:
        """The caller's orders that have not ended, of this pair and kind where they are given."""

    async def amend(self, order_id: str, changes: Changes) -> OrderView:
        """Raises `NotFoundError`, `AlreadyEndedError`, `NotWatchingError`, `BadChangeError`."""
