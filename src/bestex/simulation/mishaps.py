"""When an engine's process is killed or stalled: at which of the points where it might be.

A point is before and after each call of the journal, the chain or a venue, and each time a task or a callback of the
process is about to go on.
"""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Callable
from typing import Final

from bestex.simulation.loop import Handle
from bestex.simulation.process import Process

_NEVER: Final = 2**62
_GAPS: Final = (3, 10, 30, 100, 300, 1000)  # most points between a start and what happens next
_BUSY_GAPS: Final = (2, 8, 30, 120)  # most points between something that an engine writes and what happens next
_SHARE_WHEN_BUSY: Final = 0.7  # of what happens, that which waits for an engine to write
_SHARE_OF_WRITES: Final = 0.15  # of the rows written while something waits, those that set it off
STALLS_S: Final = ((0.01, 1.0), (1.0, 5.0), (5.5, 30.0))  # over 5 s, another engine takes the place

Kill = Callable[[Process, str], None]
Stall = Callable[[Process, str, float], None]


class Mishaps:
    """Counts the points of a run, and lets things happen at some of them."""

    def __init__(self, luck: random.Random, kill: Kill, stall: Stall) -> None:
        self.points = 0  # passed so far
        self.places: dict[str, list[int]] | None = None  # the points of each place in the code, while they are wanted
        self._luck = luck
        self._kill = kill
        self._stall = stall
        self._kill_at = _NEVER
        self._stall_at = _NEVER
        self._kills_left = 0
        self._stalls_left = 0
        self._next = _NEVER
        self._kill_when_busy = False
        self._sometimes = False  # crashes are at random points

    def kill_at(self, point: int) -> None:
        """One crash, at this point of the run."""
        self._kill_at = point
        self._plan()

    def kill_sometimes(self, times: int) -> None:
        """So many crashes, at random points."""
        self._kills_left = times
        self._sometimes = True

    def stall_sometimes(self, times: int) -> None:
        self._stalls_left = times

    def heal(self) -> None:
        """Nothing more happens, except a crash whose point was named."""
        if self._sometimes:
            self._kill_at = _NEVER
        self._kill_when_busy = False
        self._kills_left = self._stalls_left = 0
        self._stall_at = _NEVER
        self._plan()

    def started(self) -> None:
        """A process has started: what is left to happen will, at some of the next points."""
        if self._kill_at <= self.points:
            self._kill_at = _NEVER
        if self._stall_at <= self.points:
            self._stall_at = _NEVER
        if self._kills_left and self._kill_at == _NEVER:
            if self._luck.random() < _SHARE_WHEN_BUSY:
                self._kill_when_busy = True
            else:
                self._kills_left -= 1
                self._kill_at = self._soon(_GAPS)
        self._plan()

    def busy(self) -> None:
        """An engine writes something: a good moment."""
        if self._kill_when_busy and self._luck.random() < _SHARE_OF_WRITES:
            self._kill_when_busy = False
            self._kills_left -= 1
            self._kill_at = self._soon(_BUSY_GAPS)
            self._plan()
        if self._stalls_left and self._stall_at == _NEVER and self._luck.random() < _SHARE_OF_WRITES:
            self._stalls_left -= 1
            self._stall_at = self._soon(_BUSY_GAPS)
            self._plan()

    def step(self, process: Process, where: str | Handle) -> None:
        """A process has come to a point."""
        self.points += 1
        if self.places is not None:
            self.places.setdefault(str(where), []).append(self.points)
        if self.points < self._next:
            return
        if self.points >= self._kill_at:
            self._kill_at = _NEVER
            self._kill(process, str(where))
        elif self.points >= self._stall_at:
            self._stall_at = _NEVER
            self._stall(process, str(where), self._luck.uniform(*self._luck.choice(STALLS_S)))
        self._plan()

    def _soon(self, gaps: tuple[int, ...]) -> int:
        return self.points + self._luck.randint(1, self._luck.choice(gaps))

    def _plan(self) -> None:
        self._next = min(self._kill_at, self._stall_at)
