"""Many runs, over several processes, and what they came to together."""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice

import msgspec

from bestex.simulation.run import Outcome, points_of, simulate
from bestex.simulation.scenario import CrashAt, Options

RUNS_A_TASK = 8  # given to another process at a time
TASKS_AHEAD = 4  # for each process


class Plan(msgspec.Struct, frozen=True):
    """The runs to make."""

    options: Options
    first_seed: int
    seeds: int
    point: int | None = None  # for one seed: crash there alone
    exhaust: bool = False  # for one seed: crash at each of its points, one a run


class Work(msgspec.Struct, frozen=True):
    """One run to make."""

    options: Options
    number: int  # 0, 1, 2 ...
    seed: int
    point: int | None  # where to crash; None: where its turn is


def works(plan: Plan) -> list[Work]:
    """All runs of a plan, in their order."""
    if plan.exhaust:
        points = sorted(point for of_place in points_of(plan.first_seed, plan.options).values() for point in of_place)
        return [Work(plan.options, number, plan.first_seed, point) for number, point in enumerate(points)]
    return [Work(plan.options, number, plan.first_seed + number, plan.point) for number in range(plan.seeds)]


def run(work: Work) -> Outcome:
    """Make one run.

    When processes are to be killed at every point, the places in the code take their turns from run to run, and the
    points of one place, too: those that come seldom are crashed at as often as the others.
    """
    if work.options.crash_at is not CrashAt.EVERY or work.point is not None:
        return simulate(work.seed, work.options, point=work.point)
    places = points_of(work.seed, work.options)
    if not places:
        return simulate(work.seed, work.options)
    turn, place = divmod(work.number, len(places))
    points = places[sorted(places)[place]]
    outcome = simulate(work.seed, work.options, point=points[turn * _STRIDE % len(points)])
    return msgspec.structs.replace(outcome, points=sum(map(len, places.values())), places=len(places))


_STRIDE = 7_919  # a prime: neighbouring turns of one place lie far apart


def outcomes(all_works: Sequence[Work], jobs: int) -> Generator[Outcome, None, None]:
    """The outcomes, in the order of the works; `jobs` processes make them."""
    if jobs <= 1 or len(all_works) <= RUNS_A_TASK:
        yield from map(run, all_works)
        return
    tasks = (all_works[start : start + RUNS_A_TASK] for start in range(0, len(all_works), RUNS_A_TASK))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_signals_to_the_parent)
    try:
        waiting: list[Future[list[Outcome]]] = [
            pool.submit(_run_all, task) for task in islice(tasks, jobs * TASKS_AHEAD)
        ]
        while waiting:
            yield from waiting.pop(0).result()
            waiting.extend(pool.submit(_run_all, task) for task in islice(tasks, 1))
    finally:
        pool.shutdown(cancel_futures=True)  # what runs ends first: an exit without it is a race that Python can lose


def _run_all(task: Sequence[Work]) -> list[Outcome]:
    return [run(work) for work in task]


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Report(msgspec.Struct, rename="camel"):
    """What the runs came to together."""

    runs: int = 0
    orders: int = 0
    ends: dict[str, int] = {}
    kinds: dict[str, int] = {}
    slices: int = 0
    firings: int = 0  # of watched orders
    attempts: int = 0  # signed
    retries: int = 0
    crashes: int = 0
    stalls: int = 0
    takeovers: int = 0
    stops: int = 0
    restarts: int = 0
    points: int = 0  # at which a process might have been killed, in all runs
    places: dict[str, int] = {}  # with `every`: how often a process was killed at each place in the code
    places_known: int = 0  # how many of them the run with the most has
    faults: dict[str, int] = {}  # how often each really struck
    checks: dict[str, int] = {}  # how often each invariant was checked
    simulated_s: float = 0.0
    seconds: float = 0.0
    interrupted: bool = False
    violation: Outcome | None = None
    repeat: str | None = None  # the command that repeats the violation exactly

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.orders += sum(outcome.ends.values())
        self.ends = _sum(self.ends, outcome.ends)
        self.kinds = _sum(self.kinds, outcome.kinds)
        self.slices += outcome.slices
        self.firings += outcome.firings
        self.attempts += outcome.attempts
        self.retries += outcome.retries
        self.crashes += outcome.crashes
        self.stalls += outcome.stalls
        self.takeovers += outcome.takeovers
        self.stops += outcome.stops
        self.restarts += outcome.restarts
        self.points += outcome.points
        self.places_known = max(self.places_known, outcome.places)
        if outcome.place is not None:
            self.places = _sum(self.places, {outcome.place: 1})
        self.faults = _sum(self.faults, outcome.faults)
        self.checks = _sum(self.checks, outcome.checks)
        self.simulated_s += outcome.simulated_s
        if outcome.violation is not None and self.violation is None:
            self.violation = outcome


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))
