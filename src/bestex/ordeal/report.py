"""What an ordeal is asked for, what it tells on the way, and what came of it."""

from collections import Counter, defaultdict
from enum import StrEnum
from typing import Final

import msgspec

TOLD_MAX: Final = 20
"""Violations told of one check; the others are counted."""


class LivePlan(msgspec.Struct, frozen=True):
    seed: int
    seconds: int = 120  # of load and blows; starting, healing and checking come on top
    kills: int = 20  # of the engine, with SIGKILL
    clients: int = 16  # that place orders at the same time
    orders_max: int = 10_000

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError("seed must be a whole number from 0 to 2^63 - 1")
        if self.seconds < 1 or self.clients < 1 or self.orders_max < 1:
            raise ValueError("an ordeal needs at least one second, one client and one order")
        if not 0 <= self.kills <= self.seconds:
            raise ValueError(f"kills must be from 0 to {self.seconds}, one a second; not {self.kills}")


class Queue(StrEnum):
    """What tells a cluster's workers of orders."""

    POSTGRES = "postgres"
    BULLMQ = "bullmq"


class ClusterPlan(LivePlan, frozen=True):
    """The same of a cluster: `kills` are those of its processes."""

    queue: Queue = Queue.POSTGRES


class Progress(msgspec.Struct, frozen=True):
    phase: str  # "starting", "under fire", "healing", "checking"
    elapsed_s: float  # since the load began
    total_s: float  # of load and blows
    last_blow: str  # empty before the first
    accepted: int  # orders
    blows: int


class LiveReport(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    seconds: float  # from the first start to the end of the checks
    blows: dict[str, int]  # by kind
    failed_starts: int  # of the engine, under a blow at its database; each was followed by another
    fenced: int  # processes that ended because they had lost their place on the database
    longest_start_s: float  # from the process's start to its readiness
    longest_without_acceptance_s: float  # between two accepted orders
    orders: int  # accepted
    orders_by_end: dict[str, int]  # of all orders, also of those that the engine made: exits and slices
    orders_by_kind: dict[str, int]  # likewise; a slice is of kind market or limit
    slices: int  # of sliced orders
    exits_by_end: dict[str, int]
    firings: dict[str, int]  # of watched orders, by what fired them
    world: dict[str, int]  # what happened around the orders meanwhile
    answers: dict[str, int]  # to requests that place orders: "202", "503 unavailable", "no answer", ...
    cancels: dict[str, int]  # by answer
    changes: dict[str, int]  # of watched orders, by answer
    watchers: int
    reconnects: int  # of all watchers
    events: int
    checks: dict[str, int]  # how often each was made
    violations: tuple[str, ...]
    kept: str | None = None  # the folder with database and log, kept when there are violations

    @property
    def passed(self) -> bool:
        return not self.violations


class Findings:
    """Counts each check, and keeps what it found to be violated."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self._broken: dict[str, list[str]] = defaultdict(list)

    def that(self, name: str, holds: bool, told: str) -> None:
        self.made[name] += 1
        if not holds:
            self._broken[name].append(told)

    @property
    def violations(self) -> list[str]:
        found: list[str] = []
        for name, broken in self._broken.items():
            found += [f"{name}: {told}" for told in broken[:TOLD_MAX]]
            if len(broken) > TOLD_MAX:
                found.append(f"{name}: and {len(broken) - TOLD_MAX} more")
        return found


class Tally:
    """What is counted while it happens."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.cancels: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.world: Counter[str] = Counter()
        self.firings: Counter[str] = Counter()
        self.blows: Counter[str] = Counter()
        self.last_blow = ""
        self.reconnects = 0
        self.failed_starts = 0
        self.fenced = 0
        self.longest_start_s = 0.0
        self.longest_without_acceptance_s = 0.0
        self.accepted = 0
        self.findings = Findings()
        self._accepted_s: float | None = None

    def order_accepted(self, at_s: float) -> None:
        if self._accepted_s is not None:
            silence_s = at_s - self._accepted_s
            self.longest_without_acceptance_s = max(self.longest_without_acceptance_s, silence_s)
        self._accepted_s = at_s
        self.accepted += 1
