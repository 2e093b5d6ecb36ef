"""Obey the halt that the journal has, whoever gave it: an operator's word goes to one process and counts in all."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from bestex.domain.errors import JournalError
from bestex.engine.signing import SigningGate
from bestex.ports import Clock, Journal
from bestex.waiting import sleep_or

LOOK_EVERY_S: Final = 0.8
"""How often the journal is asked without a signal; with the asking itself, a halt is obeyed within a second."""

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
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Have the journal asked now: a halt may have begun or ended."""
        self._wake.set()

    async def look(self) -> None:
        """Close the gate or open it. Raises `JournalError`, and it stays as it was."""
        gate = self._gate
        while True:
            before = gate.halt
            halt = await self._journal.halted()
            if gate.halt is before:
                break  # else an operator's word to this process came between: the answer may be of before it
        if halt == before:
            return
        if halt is not None:
            gate.close(halt)
            _log.warning("engine.halted", reason=halt.reason, cause=halt.cause.value)
            return
        _log.info("engine.resumed")
        for order_id in sorted(gate.open()):
            self._take_up(order_id)

    async def run(self) -> None:
        """Look regularly, for ever. The gate stays as it is while the journal cannot be read: nor can one sign then."""
        while True:
            self._wake.clear()
            try:
                await self.look()
            except JournalError as error:
                _log.warning("halt.not_read", error=str(error))
            await sleep_or(self._clock, LOOK_EVERY_S, self._wake)
