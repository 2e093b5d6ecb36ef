"""Which blow hits which process of a cluster when: all of it from one seed."""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Iterator
from enum import StrEnum
from itertools import cycle, islice
from typing import Final

import msgspec

from bestex.ordeal.schedule import FIRST_AT_SHARE

FREEZE_LASTS_S: Final = (6.0, 8.0)  # a process is taken for dead after 5 s of silence, and its leases are others' then
LAST_FREEZE_BY: Final = 0.6  # of the time: others must find what it held, and itself that it holds nothing


class Target(StrEnum):
    API = "api"
    WORKER = "worker"
    WATCHER = "watcher"
    SIMNET = "simnet"
    POSTGRES = "PostgreSQL"
    VALKEY = "Valkey"


class Act(StrEnum):
    KILL = "kill -9"
    FREEZE = "stopped past its lease"
    END = "SIGTERM"


class ClusterBlow(msgspec.Struct, frozen=True):
    at_s: float  # since the load began
    act: Act
    target: Target
    number: int  # which of its kind, from 1 on
    lasts_s: float = 0.0  # of a freeze

    @property
    def name(self) -> str:
        """What is counted together."""
        return f"{self.target}: {self.act}"

    @property
    def told(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        number = f" {self.number}" if self.target in NUMBERS else ""
        return f"{self.at_s:.1f} s: {self.target}{number}: {self.act}{lasts}"


NUMBERS: Final = {Target.API: 2, Target.WORKER: 3, Target.WATCHER: 2}
"""How many processes of a kind there are; of the others one."""
VICTIMS: Final = (
    Target.WORKER,
    Target.WATCHER,
    Target.API,
    Target.WORKER,
    Target.SIMNET,
    Target.WORKER,
    Target.API,
    Target.WATCHER,
    Target.WORKER,
    Target.API,
)
"""Whom the kills hit, and again from the first on."""


def cluster_schedule(seed: int, seconds: float, kills: int, *, valkey: bool) -> list[ClusterBlow]:
    """The blows in the order in which they fall. `valkey`: whether there is one."""
    chance = random.Random(f"{seed} cluster")  # noqa: S311 - a schedule needs repetition, not secrecy
    planned = []
    for act, target in _what(kills, valkey=valkey):
        freezes = act is Act.FREEZE
        at_s = chance.uniform(FIRST_AT_SHARE * seconds, seconds * (LAST_FREEZE_BY if freezes else 1))
        lasts_s = chance.uniform(*FREEZE_LASTS_S) if freezes else 0.0
        planned.append(ClusterBlow(at_s, act, target, chance.randint(1, NUMBERS.get(target, 1)), lasts_s))
    return sorted(planned, key=lambda each: each.at_s)


def _what(kills: int, *, valkey: bool) -> Iterator[tuple[Act, Target]]:
    """What falls in an ordeal with so many kills of processes: with any at all, a freeze and a restart as well."""
    for target in islice(cycle(VICTIMS), kills):
        yield Act.KILL, target
    least = min(1, kills)
    counts = {
        (Act.FREEZE, Target.WORKER): max(least, kills // 6),
        (Act.FREEZE, Target.WATCHER): kills // 8,
        (Act.FREEZE, Target.API): kills // 20,
        (Act.END, Target.WORKER): kills // 7,
        (Act.END, Target.WATCHER): kills // 10,
        (Act.END, Target.API): kills // 10,
        (Act.END, Target.SIMNET): kills // 15,
        (Act.END, Target.POSTGRES): max(least, kills // 10),
        (Act.KILL, Target.POSTGRES): kills // 7,
    }
    if valkey:
        counts |= {(Act.KILL, Target.VALKEY): max(least, kills // 10), (Act.END, Target.VALKEY): kills // 10}
    for what, count in counts.items():
        yield from [what] * count
