"""What a run is going to be, drawn from its seed: orders, clients, faults, crashes."""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from bestex.domain.terms import Kind
from bestex.domain.tokens import Token, TokenRegistry
from bestex.engine.intake import OrderRequest
from bestex.simulation.clients import Wish
from bestex.simulation.faults import random_faults
from bestex.venues.simulated.market import REFERENCES
from bestex.venues.simulated.world import ProfileName


class CrashAt(StrEnum):
    """Where engine processes are killed."""

    RANDOM = "random"  # several times, at random points
    EVERY = "every"  # once, at one point after the other
    NONE = "none"


class Options(msgspec.Struct, frozen=True):
    """What runs have in common; the seed is all that they do not."""

    orders: int = 3
    crash_at: CrashAt = CrashAt.RANDOM
    faults: Mapping[str, float] | None = None  # None: a random mix for each seed


class Scenario(msgspec.Struct, frozen=True):
    """One run, as far as it can be known before."""

    seed: int
    profile: ProfileName
    slot_ms: int
    wishes: tuple[Wish, ...]
    faults: Mapping[str, float]
    heals_at_s: float  # from then on nothing goes wrong any more
    crashes: int
    stalls: int
    restarts_at_s: tuple[float, ...]  # in order, with a drain
    halts_s: tuple[tuple[float, float], ...]  # when, and for how long


_ORDERS_A_SECOND: Final = 400  # the most, when there are many
_MANY_ORDERS: Final = 100  # from so many on, not each has several watchers
_USD: Final = (0.5, 20.0, 400.0, 9_000.0)  # an order's size, about
_TOO_LARGE_USD: Final = 900_000_000.0
_SHARE_TOO_LARGE: Final = 0.03
_SHARE_WITH_KEY: Final = 0.8


def draw(seed: int, options: Options, tokens: TokenRegistry) -> Scenario:
    """The scenario of a seed."""
    luck = random.Random(f"{seed}/scenario")  # noqa: S311 -- repetition, not secrecy
    faults = random_faults(luck) if options.faults is None else options.faults
    profile: ProfileName = luck.choice(("realistic", "realistic", "instant"))
    arriving_s = max(luck.choice((0.0, 2.0, 15.0)), options.orders / _ORDERS_A_SECOND)
    traded = [token for token in tokens if token.mint in REFERENCES]
    wishes = [_wish(number, arriving_s, traded, faults, luck, options) for number in range(options.orders)]
    heals_at_s = arriving_s + luck.uniform(5.0, 150.0)
    return Scenario(
        seed=seed,
        profile=profile,
        slot_ms=400 if profile == "realistic" else luck.choice((4, 4, 20, 100)),
        wishes=tuple(wishes),
        faults=faults,
        heals_at_s=heals_at_s,
        crashes=luck.choice((0, 1, 1, 2, 3, 5)) if options.crash_at is CrashAt.RANDOM else 0,
        stalls=luck.randint(1, 2) if luck.random() < faults.get("stall", 0.0) else 0,
        restarts_at_s=_times("restart", arriving_s, faults, luck),
        halts_s=tuple((at_s, luck.choice((0.1, 2.0, 30.0))) for at_s in _times("halt", arriving_s, faults, luck)),
    )


def _times(fault: str, arriving_s: float, faults: Mapping[str, float], luck: random.Random) -> tuple[float, ...]:
    """When something happens that happens once or twice, or not at all."""
    if luck.random() >= faults.get(fault, 0.0):
        return ()
    return tuple(sorted(luck.uniform(0.0, arriving_s + 5.0) for _ in range(luck.randint(1, 2))))


def _wish(
    number: int,
    arriving_s: float,
    traded: list[Token],
    faults: Mapping[str, float],
    luck: random.Random,
    options: Options,
) -> Wish:
    token_in, token_out = luck.sample(traded, 2)
    usd = luck.choice(_USD) * luck.uniform(0.5, 2.0)
    if options.faults is None and luck.random() < _SHARE_TOO_LARGE:
        usd = _TOO_LARGE_USD
    amount_in = max(1, int(usd / REFERENCES[token_in.mint].usd * 10**token_in.decimals))
    cancels = luck.random() < faults.get("cancel", 0.0)
    return Wish(
        request=OrderRequest(Kind.MARKET, token_in, token_out, amount_in, luck.choice((10, 50, 50, 100, 300))),
        at_s=luck.uniform(0.0, arriving_s),
        key=f"key-{number}" if luck.random() < _SHARE_WITH_KEY else None,
        repeats=luck.random() < faults.get("repeat", 0.0),
        cancel_after_s=luck.choice((0.0, 0.3, 1.0, 3.0, 20.0)) * luck.random() if cancels else None,
        watchers=1 if options.orders > _MANY_ORDERS else luck.choice((1, 1, 2)),
    )
