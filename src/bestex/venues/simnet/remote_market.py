"""The simulated world's prices and launches, as another process has them."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import structlog
from msgspec.structs import replace

from bestex.domain.errors import ChainUnreachableError
from bestex.domain.launches import Launch
from bestex.domain.tokens import Pair, pair_of
from bestex.ports import Clock, LaunchListener, Tick, TickListener
from bestex.venues.simnet import wire
from bestex.venues.simnet.connection import Connection
from bestex.venues.simnet.prices import tick_of

MEASURE_LIFE_S: Final = 2.0
"""What was measured of a pool longer ago is not shown: it is measured every half second."""
MAX_MISSED: Final = 2_000
"""Pools that were asked for while they could not be measured, and are told of when they can."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class RemoteMarketData:
    """`MarketData`. `latest` knows followed pairs only; without a connection its ticks get old, as they say."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._followed: dict[tuple[str, str], Pair] = {}  # by the mints of base and quote token
        self._lent: dict[tuple[str, str], Pair] = {}  # followed for another's sake, by the same
        self._follow_is_due = False
        self._latest: dict[tuple[str, str], Tick] = {}  # the same
        self._at_launch: Tick | None = None  # the prices of the pool that is being told of
        self._tick_listeners: list[TickListener] = []
        self._launch_listeners: list[LaunchListener] = []
        self._pools: dict[str, Launch] = {}  # the open ones by address, as they were measured last
        self._slot = 0  # of that
        self._measured_at: float | None = None  # monotonic seconds; None: not since the connection was made
        self._has_seen_all = False  # ever
        self._missed: dict[str, None] = {}  # pools
        connection.on_connect.append(self._say_again)
        connection.on_disconnect.append(self._forget)

    # --- The port

    def follow(self, pairs: Iterable[Pair]) -> None:
        self._followed = {_mints(pair): pair for pair in pairs}
        self._latest = {mints: tick for mints, tick in self._latest.items() if mints in self._followed}
        self._say_pairs_soon()

    def lend(self, pairs: Iterable[Pair]) -> None:
        """Have ticks of these pairs come, too, for another who takes them."""
        self._lent = {_mints(pair): pair for pair in pairs}
        self._say_pairs_soon()

    def _say_pairs_soon(self) -> None:
        if not self._follow_is_due:  # many come one by one: all of one turn are said at once
            self._follow_is_due = True
            asyncio.get_running_loop().call_soon(self._say_pairs)

    def on_tick(self, listener: TickListener) -> None:
        self._tick_listeners.append(listener)

    def latest(self, pair: Pair) -> Tick | None:
        at_launch = self._at_launch
        if at_launch is not None and at_launch.pair == pair:
            return at_launch
        return self._latest.get(_mints(pair))

    async def read(self, pair: Pair) -> Tick | None:
        try:
            tick: wire.WireTick | None = await self._connection.ask(
                wire.AskPrices(self._connection.number(), pair), ChainUnreachableError
            )
        except ChainUnreachableError:
            return None  # nothing is known of them
        return None if tick is None else tick_of(tick, pair)

    def on_launch(self, listener: LaunchListener) -> None:
        if not self._launch_listeners:
            self._connection.say(wire.FollowLaunches())
        self._launch_listeners.append(listener)

    def look_again(self, pool: str) -> Launch | None:
        launch = self._pools.get(pool)
        if self._is_fresh():
            return None if launch is None else self._as_measured(launch)
        if len(self._missed) < MAX_MISSED:
            self._missed[pool] = None
        return None

    async def launches(self, since_us: int, limit: int) -> list[Launch]:
        call = wire.AskLaunches(self._connection.number(), since_us, limit)
        launches: list[Launch] = await self._connection.ask(call, ChainUnreachableError)
        return launches

    # --- What comes

    def ticked(self, news: wire.Ticked) -> None:
        mints = news.tick.base, news.tick.quote
        pair = self._followed.get(mints)
        if pair is None:  # it was on its way when it was followed no more
            return
        tick = self._latest[mints] = tick_of(news.tick, pair)
        _tell(self._tick_listeners, tick)

    def listed(self, news: wire.Listed) -> None:
        launch = news.launch
        self._pools[launch.pool] = launch
        if news.tick is not None:
            self._at_launch = tick_of(news.tick, pair_of(launch.token, launch.quote))
        _tell(self._launch_listeners, launch)
        self._at_launch = None

    def measured(self, news: wire.Measured) -> None:
        before = self._pools
        if news.is_all:
            self._pools = {}
        for pool in news.closed:
            self._pools.pop(pool, None)
        self._pools.update((launch.pool, launch) for launch in news.launches)
        self._slot = news.slot
        self._measured_at = self._clock.monotonic()
        if news.is_all and self._has_seen_all:  # what came, or could not be seen, while there was no connection
            self._missed.update((launch.pool, None) for launch in news.launches if launch.pool not in before)
        self._has_seen_all |= news.is_all
        missed, self._missed = self._missed, {}
        found = [self._as_measured(self._pools[pool]) for pool in missed if pool in self._pools]
        for launch in sorted(found, key=lambda each: each.listed_us):
            _tell(self._launch_listeners, launch)

    def _as_measured(self, launch: Launch) -> Launch:
        """What is not told of anew looks as before, in the slot of the last look."""
        return launch if launch.slot >= self._slot else replace(launch, slot=self._slot)

    def _is_fresh(self) -> bool:
        return self._measured_at is not None and self._clock.monotonic() - self._measured_at <= MEASURE_LIFE_S

    def _say_pairs(self) -> None:
        self._follow_is_due = False
        self._connection.say(wire.FollowPairs(list((self._lent | self._followed).values())))

    def _say_again(self) -> None:
        if self._followed or self._lent:
            self._say_pairs()
        if self._launch_listeners:
            self._connection.say(wire.FollowLaunches())

    def _forget(self) -> None:
        self._measured_at = None


def _mints(pair: Pair) -> tuple[str, str]:
    return pair.base.mint, pair.quote.mint


def _tell(listeners: Iterable[Callable[[T], None]], news: T) -> None:
    for listener in listeners:
        try:
            listener(news)
        except Exception:  # noqa: BLE001 -- one listener's defect must not break the connection
            _log.exception("simnet.listener_broke")
