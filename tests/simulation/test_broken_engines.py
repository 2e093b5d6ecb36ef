"""Proof that the proof works: the simulation catches every engine that was broken on purpose, within its budget."""

import pytest

from bestex.simulation.invariants import Invariant
from bestex.simulation.run import Outcome, simulate
from bestex.simulation.scenario import Options
from tests.simulation.broken import Broken
from tests.simulation.broken_engines import BROKEN
from tests.simulation.broken_watchers import BROKEN_WATCHERS


def first_violation(budget: int) -> Outcome | None:
    outcomes = (simulate(seed, Options()) for seed in range(1, budget + 1))
    return next((outcome for outcome in outcomes if outcome.violation is not None), None)


@pytest.mark.parametrize("broken", [*BROKEN, *BROKEN_WATCHERS], ids=lambda broken: broken.break_it.__name__)
def test_a_broken_engine_is_caught(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    broken.break_it(monkeypatch)
    caught = first_violation(broken.budget)
    assert caught is not None, f"not caught within {broken.budget} seeds"
    assert caught.violation is not None
    assert caught.violation.invariant in (*broken.caught_by, Invariant.AUDITS_CLEAN)
    monkeypatch.undo()
    assert simulate(caught.seed, Options()).violation is None, "the engine as it is violates it, too"
