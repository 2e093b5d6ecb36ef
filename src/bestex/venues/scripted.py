"""Market data that a script writes: prices and launches exactly as they are said, for tests and for demonstrations."""

from collections.abc import Iterable
from typing import Final

import msgspec

from bestex.domain.launches import Launch
from bestex.domain.price import most_out, parse_price
from bestex.domain.tokens import Pair
from bestex.ports import Clock, Curve, LaunchListener, Tick, TickListener

UNLIMITED: Final = 2**64 - 1
"""A depth that no swap exhausts."""


class FixedCurve(msgspec.Struct, frozen=True):
    """`Curve` of one price for any amount up to its depth, without a fee."""

    pair: Pair
    price: int  # quote token per base token, times `PRICE_SCALE`
    venue: str = "raydium"
    pool: str = "fixed pool"
    depth: int = UNLIMITED  # base units of the base token that it still trades, either way

    def amount_out(self, amount_in: int, sells_base: bool) -> int:
        if amount_in <= 0:
            return 0
        amount_out = most_out(self.price, amount_in, self.pair, sells_base=sells_base)
        return amount_out if (amount_in if sells_base else amount_out) <= self.depth else 0

    def after(self, amount_in: int, sells_base: bool) -> "FixedCurve":
        amount_out = self.amount_out(amount_in, sells_base)
        if amount_out == 0 or self.depth == UNLIMITED:
            return self
        return msgspec.structs.replace(self, depth=self.depth - (amount_in if sells_base else amount_out))


def fixed_curve(
    pair: Pair, price: str, *, venue: str = "raydium", pool: str = "fixed pool", depth: int = UNLIMITED
) -> FixedCurve:
    """The curve at a price in decimal text; `depth` in base units of the base token."""
    return FixedCurve(pair, parse_price(price), venue, pool, depth)


class ScriptedMarketData:
    """`MarketData` whose ticks and launches come when they are told to, at once."""

    def __init__(self, clock: Clock) -> None:
        self.followed: dict[str, Pair] = {}  # by name
        self._clock = clock
        self._slot = 0
        self._latest: dict[str, Tick] = {}  # by the pair's name
        self._pools: dict[str, Launch] = {}  # by address, as measured last
        self._tick_listeners: list[TickListener] = []
        self._launch_listeners: list[LaunchListener] = []

    # --- The port

    def follow(self, pairs: Iterable[Pair]) -> None:
        self.followed = {pair.name: pair for pair in pairs}

    def on_tick(self, listener: TickListener) -> None:
        self._tick_listeners.append(listener)

    def latest(self, pair: Pair) -> Tick | None:
        return self._latest.get(pair.name)

    async def read(self, pair: Pair) -> Tick | None:
        return self.latest(pair)

    def on_launch(self, listener: LaunchListener) -> None:
        self._launch_listeners.append(listener)

    def look_again(self, pool: str) -> Launch | None:
        return self._pools.get(pool)

    async def launches(self, since_us: int, limit: int) -> list[Launch]:
        listed = sorted(self._pools.values(), key=lambda launch: launch.listed_us)
        return [launch for launch in listed if launch.listed_us >= since_us][:limit]

    # --- The script

    def tick(self, pair: Pair, *curves: Curve, at_us: int | None = None, slot: int | None = None) -> Tick:
        """Have these prices come now; `at_us` says when they were read, `slot` of which slot they are: the next one."""
        self._slot = self._slot + 1 if slot is None else slot
        tick = Tick(pair, self._slot, self._clock.now_us() if at_us is None else at_us, curves)
        self._latest[pair.name] = tick
        if pair.name in self.followed:
            for listener in self._tick_listeners:
                listener(tick)
        return tick

    def fall_silent(self, pair: Pair) -> None:
        """Have nothing known of the pair's prices."""
        self._latest.pop(pair.name, None)

    def launch(self, launch: Launch) -> None:
        """Have a pool listed now."""
        self.measure(launch)
        for listener in self._launch_listeners:
            listener(launch)

    def measure(self, launch: Launch) -> None:
        """Have a pool look like this from now on; nobody is told."""
        self._pools[launch.pool] = launch

    def close(self, pool: str) -> None:
        """Have a pool known no more."""
        self._pools.pop(pool, None)
