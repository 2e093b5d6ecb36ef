"""A halt holds for all processes over one journal, whoever ordered it: each looks once a second."""

from collections.abc import Callable
from typing import Final

import structlog

from bestex.domain.errors import JournalError
from bestex.engine.signing import SigningGate
from bestex.ports import Clock, Journal

LOOK_EVERY_S: Final = 1.0

_log = structlog.get_logger(__name__)


class SharedHalt:
    """Keeps this process's gate as the journal says."""

    def __init__(
        self, journal: Journal, gate: SigningGate, clock: Clock, take_up: Callable[[str], None] = lambda _: None
    ) -> None:
        """`take_up` gets the ids of the orders that the gate held, when it opens."""
        self._journal = journal
        self._gate = gate
        self._clock = clock
        self._take_up = take_up

    async def look(self) -> None:
        """Close the gate or open it. Raises `JournalError`, and it stays as it was."""
        halt = await self._journal.halted()
        if halt is not None:
            if halt != self._gate.halt:
                _log.warning("engine.halted", reason=halt.reason, cause=halt.cause.value)
            self._gate.close(halt)
        elif self._gate.halt is not None:
            _log.info("engine.resumed")
            for order_id in sorted(self._gate.open()):
                self._take_up(order_id)

    async def run(self) -> None:
        """Look regularly, for ever."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except JournalError as error:
                _log.warning("halt.not_read", error=str(error))
