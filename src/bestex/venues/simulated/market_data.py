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

    def follow(self, pairs: Iterable[Pair]) -> None:
        self._prices.follow(pairs)

    def on_tick(self, listener: TickListener) -> None:
        self._prices.on_tick(listener)

    def latest(self, pair: Pair) -> Tick | None:
        return self._prices.latest(pair)

    def on_launch(self, listener: LaunchListener) -> None:
        self._launches.on_launch(listener)

    def look_again(self, pool: str) -> Launch | None:
        return self._launches.look_again(pool)

    async def launches(self, since_us: int, limit: int) -> list[Launch]:
        return self._launches.since(since_us, limit)
