"""What the simulation must say of an engine that was broken on purpose."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from bestex.simulation.invariants import Invariant

Break = Callable[[pytest.MonkeyPatch], None]


class Broken(NamedTuple):
    break_it: Break
    budget: int  # seeds, from 1 on, within which the simulation catches it
    caught_by: tuple[Invariant, ...]
