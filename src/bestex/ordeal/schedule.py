"""Which blow falls when: all of it from one seed."""

import random  # noqa: TID251 - only ever seeded, never ambient
from enum import StrEnum
from typing import Final

import msgspec


class Blow(StrEnum):
    KILL = "kill -9 of the engine"
    DRAIN = "SIGTERM to the engine"
    PAUSE = "the engine frozen for a moment"
    DATABASE_KILL = "kill -9 of PostgreSQL"
    DATABASE_RESTART = "fast restart of PostgreSQL"
    DATABASE_FREEZE = "PostgreSQL's sessions frozen, longer than the engine's clients wait"
    DATABASE_SLOW_RESTART = "restart of PostgreSQL that first waits for its sessions"


class Planned(msgspec.Struct, frozen=True):
    at_s: float  # since the load began
    blow: Blow
    lasts_s: float  # of those that last


FIRST_AT_SHARE: Final = 0.05  # of the time: something must run before anything can be interrupted
LASTS_S: Final = (0.1, 1.5)
FREEZE_LASTS_S: Final = (5.5, 8.0)  # the engine answers after 5 s, with what it knows


def blow_counts(kills: int) -> dict[Blow, int]:
    """How often each blow falls in an ordeal with so many kills."""
    return {
        Blow.KILL: kills,
        Blow.DRAIN: kills // 5,
        Blow.PAUSE: kills // 5,
        Blow.DATABASE_KILL: max(1, kills // 5),
        Blow.DATABASE_FREEZE: kills // 10,
        Blow.DATABASE_RESTART: kills // 10,
        Blow.DATABASE_SLOW_RESTART: kills // 10,
    }


def lasts_s(blow: Blow) -> tuple[float, float]:
    """How long a blow lasts, at least and at most."""
    return FREEZE_LASTS_S if blow is Blow.DATABASE_FREEZE else LASTS_S


def schedule(seed: int, seconds: float, kills: int) -> list[Planned]:
    """The blows in the order in which they fall."""
    chance = random.Random(f"{seed} schedule")  # noqa: S311 - a schedule needs repetition, not secrecy
    planned = [
        Planned(chance.uniform(FIRST_AT_SHARE * seconds, seconds), blow, chance.uniform(*lasts_s(blow)))
        for blow, count in blow_counts(kills).items()
        for _ in range(count)
    ]
    return sorted(planned, key=lambda each: each.at_s)
