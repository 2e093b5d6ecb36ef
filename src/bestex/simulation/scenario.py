"""What a run is going to be, drawn from its seed: orders, clients, faults, crashes."""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Mapping
from enum import StrEnum
from itertools import islice
from typing import Final

import msgspec

from bestex.domain.terms import Kind
from bestex.domain.tokens import Token, TokenRegistry, pair_of
from bestex.simulation.callers import CancelMany, DeadManPlan, Migration, Move
from bestex.simulation.clock import START_US
from bestex.simulation.faults import random_faults
from bestex.simulation.wishes import Levels, Wish, draw_amends, draw_request, draw_sniper
from bestex.venues.simulated.launch_nature import Schedule
from bestex.venues.simulated.market import REFERENCES, SOL_MINT
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
    moves: tuple[Move, ...]  # of the market
    cancels: tuple[CancelMany, ...]
    dead_man: DeadManPlan | None
    launch_every_s: int  # 0: never
    migrations: tuple[Migration, ...]


_ARRIVING_S: Final = (0.0, 2.0, 15.0)
_ORDERS_A_SECOND: Final = 400  # the most, when there are many
_MANY_ORDERS: Final = 100  # from so many on, not each has several watchers
_USD: Final = (0.5, 20.0, 400.0, 9_000.0)  # an order's size, about
_TOO_LARGE_USD: Final = 900_000_000.0
_SHARE_TOO_LARGE: Final = 0.03
_SHARE_WITH_KEY: Final = 0.8
_SHARE_OF_GREEDY: Final = 0.08  # of the runs, those whose orders all want to spend most of one token
_GREEDY_USD: Final = (50_000_000.0, 120_000_000.0)  # the wallet has 150,000,000 of each
_GREEDY_S: Final = 1.0  # in which they arrive
_SHARE_OF_CROWDED: Final = 0.4  # of the runs, those whose orders all trade one pair
_SHARE_PATIENT: Final = 0.3  # of the runs, those whose clients wait until nothing goes wrong any more
_SHARE_PATIENT_WITH_SWITCH: Final = 0.7
_WAITS_S: Final = (2.0, 6.0, 15.0, 30.0)  # for what rests
_TRUSTS_S: Final = 40.0  # so much longer for what has an expiry
_SHARE_WITH_LAUNCHES: Final = 0.12  # of the runs
_SHARE_SNIPERS: Final = 0.7  # of their orders
_LAUNCHES_EVERY_S: Final = (2, 6)
_LAUNCHES: Final = 4  # those that snipers know of
_SHARE_MIGRATING: Final = 0.3
_MOVES: Final = (0, 2, 3, 4, 6)
_MOVES_PERCENT: Final = (0.5, 2.0, 5.0, 12.0)


def draw(seed: int, options: Options, tokens: TokenRegistry) -> Scenario:
    """The scenario of a seed."""
    luck = random.Random(f"{seed}/scenario")  # noqa: S311 -- repetition, not secrecy
    faults = random_faults(luck) if options.faults is None else options.faults
    profile: ProfileName = luck.choice(("realistic", "realistic", "instant"))
    is_stale = faults.get("feed_stale", 0.0) > 0
    arriving_s = max(
        luck.choice((0.0, 2.0, 15.0, 15.0) if is_stale else (0.0, 2.0, 15.0)), options.orders / _ORDERS_A_SECOND
    )
    traded = [token for token in tokens if token.mint in REFERENCES]
    greedy = luck.choice(traded) if options.faults is None and luck.random() < _SHARE_OF_GREEDY else None
    dead_man = _dead_man(arriving_s, faults, luck)
    is_patient = luck.random() < (_SHARE_PATIENT if dead_man is None else _SHARE_PATIENT_WITH_SWITCH)
    crowded = luck.sample(traded, 2) if luck.random() < (0.9 if is_stale else _SHARE_OF_CROWDED) else None
    launches = _launches(seed, traded, luck) if luck.random() < _SHARE_WITH_LAUNCHES else None
    wishes = [
        _wish(number, arriving_s, crowded or traded, greedy, launches, is_patient, faults, luck, options)
        for number in range(options.orders)
    ]
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
        moves=_moves(wishes, arriving_s, luck),
        cancels=tuple(_cancel_many(at_s, wishes, luck) for at_s in _times("cancel_many", arriving_s, faults, luck)),
        dead_man=dead_man,
        launch_every_s=launches.every_s if launches is not None else 0,
        migrations=launches.migrations if launches is not None else (),
    )


def _times(fault: str, arriving_s: float, faults: Mapping[str, float], luck: random.Random) -> tuple[float, ...]:
    """When something happens that happens once or twice, or not at all."""
    if luck.random() >= faults.get(fault, 0.0):
        return ()
    return tuple(sorted(luck.uniform(0.0, arriving_s + 5.0) for _ in range(luck.randint(1, 2))))


def _moves(wishes: list[Wish], arriving_s: float, luck: random.Random) -> tuple[Move, ...]:
    """The market moves in the pairs that clients trade; where they are patient, in the end once more."""
    moves: list[Move] = []
    for number in range(luck.choice(_MOVES)):
        wish = luck.choice(wishes)
        if wish.request.kind is Kind.SNIPER:
            continue
        pair = pair_of(wish.request.token_in, wish.request.token_out)
        percent = luck.choice(_MOVES_PERCENT) * luck.uniform(0.5, 1.5) * luck.choice((-1, 1))
        when_healed = wish.is_patient and number < 2
        at_s = luck.uniform(0.0, 10.0) if when_healed else luck.uniform(0.0, arriving_s + 12.0)
        moves.append(Move(at_s, pair, percent, when_healed))
    return tuple(moves)


class _Launches(msgspec.Struct, frozen=True):
    """What is launched while a run lasts."""

    sol: Token
    every_s: int
    mints: tuple[str, ...]  # of the first ones
    migrations: tuple[Migration, ...]


def _launches(seed: int, traded: list[Token], luck: random.Random) -> _Launches:
    sol = next(token for token in traded if token.mint == SOL_MINT)
    every_s = luck.choice(_LAUNCHES_EVERY_S)
    schedule = Schedule(seed, every_s)
    listings = [schedule.draw(number, slot=0) for number in islice(schedule.after(START_US), _LAUNCHES)]
    migrations = tuple(
        Migration((listing.listed_us - START_US) / 1e6 + luck.uniform(0.5, 20.0), listing.mint)
        for listing in listings
        if luck.random() < _SHARE_MIGRATING
    )
    return _Launches(sol, every_s, tuple(listing.mint for listing in listings), migrations)


def _cancel_many(at_s: float, wishes: list[Wish], luck: random.Random) -> CancelMany:
    request = luck.choice(wishes).request
    what = luck.choice(("pair", "kind", "all"))
    pair = pair_of(request.token_in, request.token_out).name if what == "pair" else None
    return CancelMany(at_s, pair, request.kind if what == "kind" else None)


def _dead_man(arriving_s: float, faults: Mapping[str, float], luck: random.Random) -> DeadManPlan | None:
    if luck.random() >= faults.get("dead_man", 0.0):
        return None
    return DeadManPlan(
        at_s=luck.uniform(0.0, arriving_s + 2.0),
        seconds=luck.choice((1, 10, 40)),
        keeps_stops=luck.random() < 0.5,
        renewals=luck.choice((0, 0, 1, 2)),
        disarms=luck.random() < 0.3,
    )


def _wish(
    number: int,
    arriving_s: float,
    traded: list[Token],
    greedy: Token | None,
    launches: _Launches | None,
    is_patient: bool,
    faults: Mapping[str, float],
    luck: random.Random,
    options: Options,
) -> Wish:
    """`greedy`: the token that all orders of the run want to spend most of."""
    token_in, token_out = luck.sample(traded, 2)
    usd = luck.choice(_USD) * luck.uniform(0.5, 2.0)
    if greedy is not None and token_out != greedy:
        token_in, usd = greedy, luck.uniform(*_GREEDY_USD)
    elif options.faults is None and luck.random() < _SHARE_TOO_LARGE:
        usd = _TOO_LARGE_USD
    amount_in = max(1, int(usd / REFERENCES[token_in.mint].usd * 10**token_in.decimals))
    at_s = luck.uniform(0.0, arriving_s if greedy is None else min(arriving_s, _GREEDY_S))
    if launches is not None and luck.random() < _SHARE_SNIPERS:
        request, levels = draw_sniper(launches.sol, launches.mints, luck), Levels()
    else:
        request, levels = draw_request(token_in, token_out, amount_in, at_s, luck)
    cancels = luck.random() < faults.get("cancel", 0.0)
    return Wish(
        request=request,
        levels=levels,
        at_s=at_s,
        key=f"key-{number}" if luck.random() < _SHARE_WITH_KEY else None,
        repeats=luck.random() < faults.get("repeat", 0.0),
        cancel_after_s=luck.choice((0.0, 0.3, 1.0, 3.0, 20.0)) * luck.random() if cancels else None,
        watchers=1 if options.orders > _MANY_ORDERS else luck.choice((1, 1, 2)),
        amends=draw_amends(request.kind, levels, faults, luck),
        waits_s=luck.choice(_WAITS_S) * luck.uniform(0.5, 1.5) + (_TRUSTS_S if request.terms.expires_at else 0.0),
        is_patient=is_patient,
    )
