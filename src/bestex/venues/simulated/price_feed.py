"""Prices of followed pairs: one tick a slot, and one as soon as a swap has moved a pool.

Ticks come from the tasks of `run` only, so whatever moved a pool is done first, and what moved within one turn of the
loop comes as one tick.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from bestex.domain.tokens import Pair
from bestex.ports import Clock, Curve, Tick, TickListener
from bestex.venues.simulated.faults import Faults
from bestex.venues.simulated.market import VENUES, Market
from bestex.venues.simulated.pools import Pool
from bestex.venues.simulated.slots import SlotClock

TICK_US_MIN: Final = 100_000
"""Between two ticks of a pair that nothing moved but time: prices hardly move in less."""
PAIRS_AT_ONCE: Final = 4
"""Pairs that tick before others may run: what listeners do with many must not keep everybody waiting."""


class PriceFeed:
    """The ticks of all pairs that any of its followers wants."""

    def __init__(self, *, clock: Clock, slots: SlotClock, market: Market, faults: Faults) -> None:
        self._clock = clock
        self._slots = slots
        self._market = market
        self._faults = faults
        self._every_us = max(slots.slot_us, TICK_US_MIN)
        self._wanted: dict[object, tuple[Pair, ...]] = {}  # by follower
        self._followed: dict[str, Pair] = {}  # by name: what any follower wants
        self._by_mints: dict[frozenset[str], list[Pair]] = {}  # the same by the mints of both tokens
        self._follows = asyncio.Event()  # set while any pair is followed
        self._moved: dict[str, Pair] = {}  # by name, those that a tick is due for
        self._has_moved = asyncio.Event()
        self._listeners: list[TickListener] = []
        self._shown: dict[str, Tick] = {}  # by the pair's name: the last one, which a stale feed repeats
        self._until_us: dict[str, int] = {}  # by fault: how long it lasts
        market.on_move(self._note_move)

    def follow(self, follower: object, pairs: Iterable[Pair]) -> None:
        """Have ticks of these pairs come, and no others for this follower's sake."""
        self._wanted[follower] = tuple(pairs)
        if not self._wanted[follower]:
            del self._wanted[follower]
        self._followed = {pair.name: pair for wanted in self._wanted.values() for pair in wanted}
        self._by_mints = {}
        for pair in self._followed.values():
            self._by_mints.setdefault(_mints(pair), []).append(pair)
        self._shown = {name: tick for name, tick in self._shown.items() if name in self._followed}
        if self._followed:
            self._follows.set()
        else:
            self._follows.clear()

    def on_tick(self, listener: TickListener) -> None:
        """Have `listener` called with all ticks, whoever they come for."""
        self._listeners.append(listener)

    def latest(self, pair: Pair) -> Tick | None:
        """Prices now, as far as the feed shows them."""
        now_us = self._clock.now_us()
        if self._faults.any:
            if self._lasts("feed_silent", now_us):
                return None
            if self._lasts("feed_stale", now_us) and (shown := self._shown.get(pair.name)) is not None:
                return shown
        curves = self._curves(pair, now_us)
        if not curves:
            return None
        tick = Tick(pair, self._slots.slot(now_us), now_us, curves)
        if pair.name in self._followed:
            self._shown[pair.name] = tick
        return tick

    async def run(self) -> None:
        """Let ticks come, until cancelled."""
        tasks = [asyncio.ensure_future(self._tick_by_time()), asyncio.ensure_future(self._tick_by_moves())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick_by_time(self) -> None:
        while True:
            await self._follows.wait()
            since_us = (self._clock.now_us() - self._slots.anchor_us) % self._every_us
            await self._clock.sleep((self._every_us - since_us) / 1e6)
            for number, pair in enumerate(list(self._followed.values()), 1):
                self._tell(pair)
                if number % PAIRS_AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def _tick_by_moves(self) -> None:
        while True:
            await self._has_moved.wait()
            self._has_moved.clear()
            moved, self._moved = self._moved, {}
            for pair in moved.values():
                self._tell(pair)

    def _note_move(self, pool: Pool) -> None:
        if not self._by_mints:
            return
        for pair in self._by_mints.get(frozenset((pool.token_a.mint, pool.token_b.mint)), ()):
            self._moved[pair.name] = pair
            self._has_moved.set()

    def _tell(self, pair: Pair) -> None:
        if pair.name not in self._followed:
            return
        tick = self.latest(pair)
        if tick is not None:
            for listener in self._listeners:
                listener(tick)

    def _curves(self, pair: Pair, now_us: int) -> tuple[Curve, ...]:
        curves: list[Curve] = []
        for venue in VENUES:
            side = self._market.side(venue, pair.base.mint, pair.quote.mint)
            if side is None or (self._faults.any and self._faults.strikes("feed_gap")):
                continue
            self._market.settle(side.pool, now_us)
            curves.append(side.pool.curve(side.a_to_b))
        return tuple(curves)

    def _lasts(self, fault: str, now_us: int) -> bool:
        """Whether the fault lasts on or strikes now; without a probability it is over at once."""
        if not self._faults.values[fault]:
            return False
        if now_us < self._until_us.get(fault, 0):
            return True
        if not self._faults.strikes(fault):
            return False
        self._until_us[fault] = now_us + int(self._faults.size(f"{fault}_s") * 1e6)
        return True


def _mints(pair: Pair) -> frozenset[str]:
    return frozenset((pair.base.mint, pair.quote.mint))
