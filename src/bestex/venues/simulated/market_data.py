"""What the simulated world shows of its prices and of its new pools."""

from collections.abc import Iterable

from bestex.domain.launches import Launch
from bestex.domain.tokens import Pair
from bestex.ports import LaunchListener, Tick, TickListener
from bestex.venues.simulated.launches import Launches
from bestex.venues.simulated.price_feed import PriceFeed


class SimulatedMarketData:
    """`MarketData` of the simulated world. Nothing comes unless both parts run."""

    def __init__(self, prices: PriceFeed, launches: Launches) -> None:
        self._prices = prices
        self._launches = launches
        self._followed: frozenset[str] = frozenset()  # names of pairs

    def another(self) -> "SimulatedMarketData":
        """The same world's, for somebody who follows other pairs."""
        return SimulatedMarketData(self._prices, self._launches)

    def follow(self, pairs: Iterable[Pair]) -> None:
        wanted = tuple(pairs)
        self._followed = frozenset(pair.name for pair in wanted)
        self._prices.follow(self, wanted)

    def on_tick(self, listener: TickListener) -> None:
        def tell(tick: Tick) -> None:
            if tick.pair.name in self._followed:
                listener(tick)

        self._prices.on_tick(tell)

    def latest(self, pair: Pair) -> Tick | None:
        return self._prices.latest(pair)

    async def read(self, pair: Pair) -> Tick | None:
        return self._prices.latest(pair)

    def on_launch(self, listener: LaunchListener) -> None:
        self._launches.on_launch(listener)

    def look_again(self, pool: str) -> Launch | None:
        return self._launches.look_again(pool)

    async def launches(self, since_us: int, limit: int) -> list[Launch]:
        return self._launches.since(since_us, limit)
