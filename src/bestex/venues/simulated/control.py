"""The handles on the simulated world."""

from collections.abc import Mapping

from bestex.domain.launches import Launch
from bestex.domain.money import MAX_BASE_UNITS, format_amount
from bestex.domain.tokens import Pair, Token
from bestex.ports import Clock, LaunchWish, SimulationStatus
from bestex.venues.simulated.books import Books
from bestex.venues.simulated.chain import SimulatedChain
from bestex.venues.simulated.faults import Faults
from bestex.venues.simulated.launches import Launches
from bestex.venues.simulated.market import Market
from bestex.venues.simulated.slots import block_height


class Control:
    """`Simulation`: the handles on the simulated world."""

    def __init__(
        self,
        *,
        profile: str,
        seed: int,
        clock: Clock,
        market: Market,
        chain: SimulatedChain,
        books: Books,
        launches: Launches,
        faults: Faults,
    ) -> None:
        self._profile = profile
        self._seed = seed
        self._clock = clock
        self._market = market
        self._chain = chain
        self._books = books
        self._launches = launches
        self._faults = faults

    async def status(self) -> SimulationStatus:
        view = self._chain.view()
        return SimulationStatus(
            profile=self._profile,
            seed=self._seed,
            slot=view.slot,
            finalized_slot=view.finalized_slot,
            block_height=block_height(view.slot),
            transactions=self._books.transactions,
            in_flight=self._chain.in_flight,
            faults=dict(self._faults.values),
            spreads=self._market.spreads(self._clock.now_us()),
        )

    async def fund(self, token: Token, units: int) -> None:
        held = self._books.balances.get(token.mint, 0)
        if not 0 < units <= MAX_BASE_UNITS - held:
            most = format_amount(MAX_BASE_UNITS - held, token.decimals)
            raise ValueError(f"the amount must be above zero and at most {most} {token.symbol}")
        self._books.adjust(token.mint, units, "fund")
        await self._books.stored()

    async def set_faults(self, changes: Mapping[str, float]) -> dict[str, float]:
        self._faults.change(changes)
        return dict(self._faults.values)

    async def move_price(self, pair: Pair, percent: float) -> None:
        for pool in self._market.move_price(pair, percent, self._clock.now_us()):
            self._books.change_pool(pool)
        self._books.shift(pair.base.mint, self._market.shifts[pair.base.mint])
        await self._books.stored()

    async def launch(self, wish: LaunchWish) -> Launch:
        return await self._launches.launch(wish)

    async def migrate(self, mint: str) -> Launch:
        return await self._launches.migrate(mint)

    async def reset(self) -> None:
        self._faults.clear()
        self._market.reset()
        for pool in self._market.pools.values():
            self._books.change_pool(pool)
            self._market.moved(pool)
        for mint, log_price in self._market.shifts.items():
            self._books.shift(mint, log_price)
        starts = {token.mint: self._market.start_balance(token) for token in self._market.tokens}
        for mint, held in list(self._books.balances.items()):
            change = starts.get(mint, 0) - held
            if change:
                self._books.adjust(mint, change, "reset")
        await self._books.stored()
