"""Runs of the simulation: nothing is violated, each repeats exactly, and what is counted adds up."""

import os
import subprocess
import sys
from typing import Final

import pytest

from bestex.domain.terms import Kind
from bestex.simulation.faults import PROBABILITIES, chosen_faults
from bestex.simulation.run import Outcome, points_of, simulate
from bestex.simulation.scenario import CrashAt, Options
from bestex.simulation.torture import Plan, Report, outcomes, run, works

SEEDS: Final = 60
"""Enough to notice most defects in a few seconds; `bestex torture` runs as many as one likes."""

REPEATED: Final = (1, 4, 17, 32)


@pytest.mark.parametrize("crash_at", [CrashAt.RANDOM, CrashAt.EVERY])
def test_no_seed_violates_anything(crash_at: CrashAt) -> None:
    report = Report()
    for work in works(Plan(Options(crash_at=crash_at), first_seed=1, seeds=SEEDS)):
        outcome = run(work)
        assert outcome.violation is None, "\n".join((str(outcome.violation), *outcome.violation.story))
        report.add(outcome)
    assert report.runs == SEEDS
    assert report.ends.keys() >= {"confirmed", "failed", "cancelled"}
    assert report.crashes >= SEEDS // 2
    assert all(report.checks.values())


def test_all_faults_at_once_violate_nothing() -> None:
    for seed in range(1, 16):
        outcome = simulate(seed, Options(faults=chosen_faults("all")))
        assert outcome.violation is None, outcome.violation


def test_every_fault_strikes_in_some_seed() -> None:
    report = Report()
    for work in works(Plan(Options(orders=6), first_seed=1, seeds=2 * SEEDS)):
        report.add(run(work))
    assert report.faults.keys() >= PROBABILITIES.keys()
    assert report.kinds.keys() == set(Kind)
    assert report.firings > 2 * SEEDS
    assert report.slices > SEEDS


def digests(seeds: tuple[int, ...]) -> list[str]:
    return [simulate(seed, Options(), digest=True).digest for seed in seeds]


def test_a_seed_repeats_exactly_under_any_hash_seed() -> None:
    here = digests(REPEATED)
    assert here == digests(REPEATED)
    assert len(set(here)) == len(here)
    script = f"from tests.simulation.test_seeds import digests; print(*digests({REPEATED}), sep='\\n')"
    for hash_seed in ("1", "271828"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
        ran = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert ran.stdout.splitlines() == here


def test_a_crash_point_is_the_same_one_in_every_run() -> None:
    options = Options(crash_at=CrashAt.EVERY)
    places = points_of(3, options)
    assert places == points_of(3, options)
    place, points = max(places.items())
    first, again = (simulate(3, options, point=points[0], digest=True) for _ in range(2))
    assert (first.place, first.crashes) == (place, 1)
    assert first.digest == again.digest


def test_the_points_lie_around_every_call_and_at_every_step() -> None:
    found: set[str] = set()  # not every seed comes to each call
    for seed in range(1, 6):
        places = points_of(seed, Options(crash_at=CrashAt.EVERY))
        points = sorted(point for of_place in places.values() for point in of_place)
        assert points == list(range(1, len(points) + 1))
        found |= places.keys()
    for call in ("a commit", "a send", "a look-up", "the fills", "the height", "a build"):
        assert f"before {call}" in found
        assert f"after {call}" in found
    assert "a step of Executor.execute" in found


@pytest.mark.parametrize("seed", [7, 4])  # a market order; one that waits
def test_every_point_of_one_seed_is_crashed_at_once(seed: int) -> None:
    plan = Plan(Options(orders=1, crash_at=CrashAt.EVERY, faults={}), first_seed=seed, seeds=1, exhaust=True)
    all_works = works(plan)
    points = sorted(point for of_place in points_of(seed, plan.options).values() for point in of_place)
    assert [work.point for work in all_works] == points
    for work in all_works:
        outcome = run(work)
        assert outcome.violation is None, (work.point, outcome.violation)
        assert outcome.crashes == 1


def test_several_processes_make_the_same_runs() -> None:
    all_works = works(Plan(Options(), first_seed=1, seeds=20))

    def told(outcome: Outcome) -> tuple[int, int, float]:
        return outcome.seed, outcome.points, outcome.simulated_s

    assert [told(outcome) for outcome in outcomes(all_works, 2)] == [told(run(work)) for work in all_works]


def test_many_orders_without_faults_end_well() -> None:
    outcome = simulate(1, Options(orders=300, crash_at=CrashAt.NONE, faults={}))
    assert outcome.violation is None
    # Some that wait are cancelled by their clients in the end, or their time is up; exits and slices come on top.
    assert outcome.ends.keys() == {"confirmed", "cancelled", "expired"}
    assert sum(outcome.kinds.values()) >= 300
    assert outcome.ends["confirmed"] >= outcome.kinds["market"]
    assert outcome.crashes == outcome.restarts == 0
    assert not outcome.faults


def test_faults_are_named_with_or_without_a_probability() -> None:
    assert chosen_faults("dropped=0.25, stall") == {"dropped": 0.25, "stall": 0.05}
    assert chosen_faults("none") == {}
    assert chosen_faults("all=0.5,cancel=0").keys() == PROBABILITIES.keys()


@pytest.mark.parametrize("text", ["nonsense", "dropped=2", "dropped=much", "journal_away_s"])
def test_bad_faults_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"nonsense|dropped|journal_away_s"):
        chosen_faults(text)
