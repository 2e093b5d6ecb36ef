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


class HaltFollower:
    """Keeps this process's gate as the journal says."""

    def __init__(self, journal: Journal, gate: SigningGate, clock: Clock, refold: Callable[[str], None]) -> None:
        """`refold` reads an order that the halt held anew, and goes on from there."""
        self._journal = journal
        self._gate = gate
        self._clock = clock
        self._refold = refold
        self._wake = asyncio.Event()

    @property
    def journal_is_behind(self) -> bool:
        return self._gate.journal_is_behind

    def look(self) -> None:
        """Ask the journal now: a halt may have begun or ended."""
        self._wake.set()

    async def obey(self) -> None:
        """Close or open the gate as the journal says. Raises `JournalUnavailableError`."""
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
            self._refold(order_id)

    async def run(self) -> None:
        """Obey for ever. While the journal cannot be read, the gate stays as it is: nothing is sent unrecorded."""
        while True:
            self._wake.clear()
            try:
                await self.obey()
            except JournalError as error:
                _log.warning("halt.unreadable", error=str(error))
            await sleep_or(self._clock, LOOK_EVERY_S, self._wake)
