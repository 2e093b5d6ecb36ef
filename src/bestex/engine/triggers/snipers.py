"""The orders that wait for launches, and which of them a new pool makes fire.

A pool is judged once for each distinct set of filters, however many orders wait with it. One that is too young for a
set, or has not passed often enough, is a candidate: it is looked at again, for a while.
"""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from bestex.domain.events import Trigger
from bestex.domain.launches import STANDARD_FILTERS, FilterVerdict, Launch, LaunchFilters, judge
from bestex.domain.money import parse_amount
from bestex.domain.tokens import Token, pair_of
from bestex.engine.triggers.resting import id_of, key_of
from bestex.ports import FilterSetVerdict, RestingOrder

MAX_SETS_SHOWN: Final = 20
"""Sets of filters whose verdicts a launch keeps: the standard ones, then those that most orders wait with."""

MAX_CANDIDATES: Final = 1_000
"""Pools that are looked at again; the oldest are given up before."""

MAX_CANDIDATE_US: Final = 86_400_000_000  # from the first look to the last, whatever age a filter asks for
PASSES_WITHIN_US: Final = 60_000_000
"""Microseconds, from the age that is asked for, in which a pool must have passed often enough."""


class Sniper(msgspec.Struct, frozen=True, gc=False):
    """An order that waits for a launch."""

    key: int  # the order's id as the number that a UUID is: later orders have greater ones
    seq: int  # of the order's last event
    epoch: int  # of its last lease
    pays: str  # mint of its input token
    mint: str | None  # of the token that it waits for; None: any
    filters: LaunchFilters | None  # None: whatever it is like
    migrations: bool  # a pool that moved to another venue will do

    @property
    def order_id(self) -> str:
        return id_of(self.key)

    def wants(self, launch: Launch) -> bool:
        """Whether it would buy there, if its filters let it pass."""
        return (
            self.pays == launch.quote.mint
            and (self.migrations or launch.migrated_from is None)
            and self.mint in (None, launch.token.mint)
        )


class Match(msgspec.Struct, frozen=True, gc=False):
    """A sniper that fires."""

    sniper: Sniper
    checks: tuple[FilterVerdict, ...]  # by its own filters


class Sighting(msgspec.Struct, frozen=True):
    """What a look at a pool came to."""

    matches: tuple[Match, ...]  # the orders that fire, by time
    verdicts: tuple[FilterSetVerdict, ...]  # of the latest look by each set: for the launch's record
    is_candidate: bool  # it will be looked at again


def launch_trigger(match: Match, launch: Launch, now_us: int) -> Trigger:
    """What the order's event keeps."""
    return Trigger(
        kind="launch" if launch.migrated_from is None else "migration",
        venue=launch.venue,
        pool=launch.pool,
        slot=launch.slot,
        age_ms=max(0, now_us - launch.listed_us) / 1000,
        mint=launch.token.mint,
        decimals=launch.token.decimals,
        pair=pair_of(launch.quote, launch.token).name,
        verdicts=match.checks,
    )


class _Candidate:
    """A pool that some filters may let pass later."""

    __slots__ = ("due_us", "last_slot", "passes", "verdicts")

    def __init__(self) -> None:
        self.passes: dict[LaunchFilters, int] = {}  # of the sets that it has not passed: looks in a row that it did
        self.verdicts: dict[LaunchFilters, FilterSetVerdict] = {}
        self.due_us = 0  # of the next look
        self.last_slot = -1  # of the last look


_Shelf = dict[int, Sniper]  # by key
_Wanting = dict[LaunchFilters | None, list[_Shelf]]  # those that would buy a pool's token, by their filters


class Snipers:
    """All orders that wait for launches. An order stays until it is removed, also when it has matched."""

    def __init__(self) -> None:
        self._snipers: _Shelf = {}
        self._by_mint: dict[str, _Shelf] = {}
        # Those that name no mint: by their filters, then by what they pay and whether migrations will do.
        self._by_filters: dict[LaunchFilters, dict[tuple[str, bool], _Shelf]] = {}
        self._candidates: dict[str, _Candidate] = {}  # by pool, the oldest first

    def __len__(self) -> int:
        return len(self._snipers)

    def __contains__(self, order_id: str) -> bool:
        return key_of(order_id) in self._snipers

    def add(self, order: RestingOrder, token_in: Token) -> Sniper:
        """Have an order wait, or wait on other terms than before.

        `ValueError` for one that names neither a mint nor filters, or whose filters cannot be read.
        """
        filters = order.filters
        if filters is None and order.mint is None:
            raise ValueError(f"order {order.order_id} of kind {order.kind} names neither a mint nor filters")
        if filters is not None:
            for liquidity in (filters.min_liquidity, filters.max_liquidity):
                if liquidity is not None:
                    parse_amount(liquidity, token_in.decimals)
        self.remove(order.order_id)
        key = key_of(order.order_id)
        sniper = Sniper(key, order.seq, order.epoch, token_in.mint, order.mint, filters, order.migrations)
        self._snipers[key] = self._shelf(sniper)[key] = sniper
        return sniper

    def remove(self, order_id: str) -> Sniper | None:
        """Have an order wait no more; None when it did not."""
        sniper = self._snipers.pop(key_of(order_id), None)
        if sniper is None:
            return None
        if sniper.mint is not None:
            shelf = self._by_mint[sniper.mint]
            del shelf[sniper.key]
            if not shelf:
                del self._by_mint[sniper.mint]
        elif sniper.filters is not None:
            shelves = self._by_filters[sniper.filters]
            buyers = sniper.pays, sniper.migrations
            del shelves[buyers][sniper.key]
            if not shelves[buyers]:
                del shelves[buyers]
            if not shelves:
                del self._by_filters[sniper.filters]
        return sniper

    def launched(self, launch: Launch, now_us: int) -> Sighting:
        """The first look at a pool."""
        candidate = _Candidate()
        self._candidates.pop(launch.pool, None)
        wanting = self._wanting(launch)
        matches = [Match(sniper, ()) for shelf in wanting.pop(None, ()) for sniper in shelf.values()]
        for filters, shelves in _to_show(wanting):
            matches += _look(candidate, filters, shelves, launch, now_us)
        return self._seen(candidate, matches, launch, now_us)

    def came_late(self, sniper: Sniper, launch: Launch, now_us: int) -> Sighting:
        """An order's look at a pool that was listed before it came: to the others the pool is not new."""
        if sniper.filters is None:
            return Sighting((Match(sniper, ()),), (), launch.pool in self._candidates)
        candidate = self._candidates.get(launch.pool) or _Candidate()
        matches = _look(candidate, sniper.filters, [{sniper.key: sniper}], launch, now_us)
        shown = (candidate.verdicts[sniper.filters],)
        return Sighting(tuple(matches), shown, self._seen(candidate, [], launch, now_us).is_candidate)

    def waiting_for(self, mint: str) -> list[Sniper]:
        """Those that name this mint."""
        return list(self._by_mint.get(mint, {}).values())

    def due(self, now_us: int) -> list[str]:
        """The pools that are to be looked at again now."""
        return [pool for pool, candidate in self._candidates.items() if candidate.due_us <= now_us]

    def looked_again(self, launch: Launch, now_us: int) -> Sighting:
        """Another look at a candidate; in the slot of the last one it changes nothing. `KeyError` for another pool."""
        candidate = self._candidates[launch.pool]
        matches: list[Match] = []
        if launch.slot > candidate.last_slot:
            wanting = self._wanting(launch)
            for filters in list(candidate.passes):
                matches += _look(candidate, filters, wanting.get(filters, ()), launch, now_us)
        return self._seen(candidate, matches, launch, now_us)

    def forget(self, pool: str) -> None:
        """The pool is known no more."""
        self._candidates.pop(pool, None)

    def _shelf(self, sniper: Sniper) -> _Shelf:
        if sniper.mint is not None:
            return self._by_mint.setdefault(sniper.mint, {})
        if sniper.filters is None:
            raise ValueError(f"order {sniper.order_id} names neither a mint nor filters")
        shelves = self._by_filters.setdefault(sniper.filters, {})
        return shelves.setdefault((sniper.pays, sniper.migrations), {})

    def _wanting(self, launch: Launch) -> _Wanting:
        migration_will_do = (True,) if launch.migrated_from is not None else (False, True)
        buyers = [(launch.quote.mint, each) for each in migration_will_do]
        wanting: _Wanting = {}
        for filters, shelves in self._by_filters.items():
            if found := [shelves[each] for each in buyers if each in shelves]:
                wanting[filters] = found
        for sniper in self._by_mint.get(launch.token.mint, {}).values():
            if sniper.wants(launch):
                wanting.setdefault(sniper.filters, []).append({sniper.key: sniper})
        return wanting

    def _seen(self, candidate: _Candidate, matches: list[Match], launch: Launch, now_us: int) -> Sighting:
        """Settle when the pool is looked at again, if it is."""
        candidate.last_slot = max(candidate.last_slot, launch.slot)
        for filters in [each for each in candidate.passes if now_us >= _until_us(each, launch)]:
            del candidate.passes[filters]
        if candidate.passes:
            candidate.due_us = max(now_us, min(_of_age_us(filters, launch) for filters in candidate.passes))
            self._candidates[launch.pool] = candidate
            if len(self._candidates) > MAX_CANDIDATES:
                del self._candidates[next(iter(self._candidates))]
        else:
            self._candidates.pop(launch.pool, None)
        matches.sort(key=attrgetter("sniper.key"))
        shown = tuple(candidate.verdicts.values())[:MAX_SETS_SHOWN]
        return Sighting(tuple(matches), shown, launch.pool in self._candidates)


def _to_show(wanting: _Wanting) -> Iterator[tuple[LaunchFilters, list[_Shelf]]]:
    """The sets of filters in the order in which they are shown."""
    yield STANDARD_FILTERS, wanting.pop(STANDARD_FILTERS, [])
    for filters, shelves in sorted(wanting.items(), key=lambda item: -_count(item[1])):
        if filters is not None:
            yield filters, shelves


def _count(shelves: Sequence[_Shelf]) -> int:
    return sum(map(len, shelves))


def _look(
    candidate: _Candidate, filters: LaunchFilters, shelves: Sequence[_Shelf], launch: Launch, now_us: int
) -> list[Match]:
    """Judge a pool by one set of filters; gives the orders that it makes fire."""
    orders = _count(shelves)
    checks = judge(filters, launch, now_us)
    passed = all(check.passed for check in checks)
    needed = filters.consecutive_passes
    if needed > 1:
        passes = candidate.passes.get(filters, 0) + 1 if passed else 0
        passed = passes >= needed
        checks = (*checks, FilterVerdict("consecutivePasses", str(needed), str(passes), passed))
    else:
        passes = 0
    if not passed and orders and (needed > 1 or now_us < _of_age_us(filters, launch)):
        candidate.passes[filters] = passes
    else:
        candidate.passes.pop(filters, None)
    candidate.verdicts[filters] = FilterSetVerdict(filters, orders, passed, checks)
    if not passed:
        return []
    return [Match(sniper, checks) for shelf in shelves for sniper in shelf.values()]


def _of_age_us(filters: LaunchFilters, launch: Launch) -> int:
    """When a pool is as old as a set of filters asks for."""
    return launch.listed_us + (filters.min_age_seconds or 0) * 1_000_000


def _until_us(filters: LaunchFilters, launch: Launch) -> int:
    """Until when a pool may pass."""
    latest_us = min(_of_age_us(filters, launch) + PASSES_WITHIN_US, launch.listed_us + MAX_CANDIDATE_US)
    if filters.max_age_seconds is not None:
        latest_us = min(latest_us, launch.listed_us + filters.max_age_seconds * 1_000_000 + 1)
    return latest_us
