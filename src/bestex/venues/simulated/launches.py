"""Launched tokens: new pools at their times, wished ones, pools that move to another venue, and those who hear of them.

A pool is shown to nobody, and takes no swap, before its listing is in the ledger: what was seen stays.
"""

import random  # noqa: TID251 - only ever seeded, never ambient
from itertools import count, islice, takewhile
from typing import Final

import msgspec

from bestex.domain.launches import Launch
from bestex.domain.money import parse_amount
from bestex.domain.tokens import TokenRegistry
from bestex.ports import Clock, LaunchListener, LaunchWish
from bestex.venues.simulated.books import Books
from bestex.venues.simulated.launch_nature import (
    BPS,
    DRIFT_BPS_MAX,
    LIQUIDITY_MAX,
    SOL_DECIMALS,
    Schedule,
    address,
    draw,
)
from bestex.venues.simulated.ledger import Stored
from bestex.venues.simulated.listing import Listing, moved_listing
from bestex.venues.simulated.market import VENUES, Market
from bestex.venues.simulated.slots import SlotClock

LISTED_MAX: Final = 2_000
"""Launched pools that are open at once; of more the oldest closes that the wallet holds nothing of."""
MISSED_MAX: Final = 500
"""Launches of the time when the engine was dead that are made up for, the newest."""
TICKER_LETTERS_MAX: Final = 10


class Launches:
    """All launched tokens. Times are Unix microseconds."""

    def __init__(
        self,
        stored: Stored,
        *,
        schedule: Schedule | None,
        clock: Clock,
        slots: SlotClock,
        market: Market,
        books: Books,
        tokens: TokenRegistry,
    ) -> None:
        """`schedule`: None for no launches but wished ones. The stored listings' pools are open already."""
        self._schedule = schedule
        self._clock = clock
        self._slots = slots
        self._market = market
        self._books = books
        self._tokens = tokens
        self._open = {each.pool: each for each in stored.listings if each.pool in market.pools}  # by pool
        self._key = f"{stored.genesis.wallet_key.hex()}/{stored.epoch}"  # no other opening of any ledger has it
        self._wishes = count(1)
        self._listeners: list[LaunchListener] = []
        scheduled = (listing.listed_us for listing in stored.listings if listing.scheduled)
        self._listed_until_us = max(scheduled, default=stored.genesis.genesis_us)

    # --- The port's part

    def on_launch(self, listener: LaunchListener) -> None:
        self._listeners.append(listener)

    def look_again(self, pool: str) -> Launch | None:
        listing = self._open.get(pool)
        return None if listing is None else self._measured(listing)

    def since(self, since_us: int, limit: int) -> list[Launch]:
        """The open pools that were listed at `since_us` or later, oldest first."""
        listed = sorted(self._open.values(), key=lambda listing: listing.listed_us)
        later = (listing for listing in listed if listing.listed_us >= since_us)
        return [self._measured(listing) for listing in islice(later, limit)]

    # --- Making them

    async def make_up(self) -> None:
        """List what the schedule had for the time in which nothing ran; `run` is not running yet."""
        if (schedule := self._schedule) is None:
            return
        now_us = self._clock.now_us()
        numbers = schedule.after(self._begin_us(schedule, now_us))
        missed = takewhile(lambda number: schedule.at(number) <= now_us, numbers)
        listings = [self._scheduled(schedule, number) for number in missed]
        for listing in listings:
            self._books.list_pool(listing)
        await self._books.flush()
        for listing in listings:
            self._show(listing)

    async def run(self) -> None:
        """Launch by the schedule, until cancelled. Raises `LedgerFencedError`."""
        if (schedule := self._schedule) is None:
            return
        while True:
            now_us = self._clock.now_us()
            number = next(schedule.after(self._begin_us(schedule, now_us)))
            due_us = schedule.at(number)
            if due_us > now_us:
                await self._clock.sleep((due_us - now_us) / 1e6)
            else:
                await self._list(self._scheduled(schedule, number))

    async def launch(self, wish: LaunchWish) -> Launch:
        """List a pool now; `ValueError` for a wish that cannot be."""
        _check(wish)
        if self._market.sol is None:
            raise ValueError("launched tokens are sold for SOL, which the token registry lacks")
        now_us = self._clock.now_us()
        name = f"{self._key}/{next(self._wishes)}"
        luck = random.Random(name)  # noqa: S311 - chance that repeats
        listing = draw(
            luck,
            wish,
            name=name,
            creator=address("creator", name),
            listed_us=now_us,
            slot=self._slots.slot(now_us),
            scheduled=False,
        )
        launch = await self._list(listing)
        if launch is None:
            raise ValueError("it was listed and has closed again: too many others came at once")
        return launch

    async def migrate(self, mint: str) -> Launch:
        """Move a launched token's pool to the other venue, at its price; `ValueError` for an unknown token."""
        listing = next((each for each in self._open.values() if each.mint == mint), None)
        if listing is None:
            raise ValueError(f"no launched token with the mint {mint} has a pool")
        now_us = self._clock.now_us()
        old = self._market.pools[listing.pool]
        self._market.settle(old, now_us)
        moved = moved_listing(
            listing,
            old,
            venue=next(venue for venue in VENUES if venue != listing.venue),
            address=address("pool", f"{self._key}/{listing.pool}/{next(self._wishes)}"),
            slot=self._slots.slot(now_us),
            now_us=now_us,
        )
        self._close(listing, now_us)
        launch = await self._list(moved)
        if launch is None:
            raise ValueError("it has moved and closed again: too many others came at once")
        return launch

    async def _list(self, listing: Listing) -> Launch | None:
        """List a pool, durably; None when so many came meanwhile that it is closed already."""
        self._books.list_pool(listing)
        await self._books.stored()
        self._show(listing)
        return self.look_again(listing.pool)

    def _show(self, listing: Listing) -> None:
        """Open the pool and tell of it."""
        if listing.scheduled:
            self._listed_until_us = max(self._listed_until_us, listing.listed_us)
        self._market.add(listing, self._tokens.learn(listing.mint, listing.decimals))
        self._open[listing.pool] = listing
        while len(self._open) > LISTED_MAX:
            self._close(self._oldest(), self._clock.now_us())
        launch = self.look_again(listing.pool)
        if launch is not None:
            for listener in self._listeners:
                listener(launch)

    def _close(self, listing: Listing, now_us: int) -> None:
        """Nothing swaps against the pool any more."""
        self._market.remove(listing.pool)
        del self._open[listing.pool]
        self._books.list_pool(msgspec.structs.replace(listing, closed_us=now_us))

    def _oldest(self) -> Listing:
        """The one to close; one that the wallet holds nothing of, if there is any."""
        unheld = (each for each in self._open.values() if not self._books.balances.get(each.mint))
        return next(unheld, next(iter(self._open.values())))

    def _begin_us(self, schedule: Schedule, now_us: int) -> int:
        """From when on the schedule is looked at; not from further back than `MISSED_MAX` launches."""
        return max(self._listed_until_us, now_us - MISSED_MAX * schedule.every_us)

    def _scheduled(self, schedule: Schedule, number: int) -> Listing:
        listed_us = schedule.at(number)
        return schedule.draw(number, slot=max(0, self._slots.slot_at(listed_us)))

    def _measured(self, listing: Listing) -> Launch:
        now_us = self._clock.now_us()
        pool = self._market.pools[listing.pool]
        self._market.settle(pool, now_us)
        return listing.measured(pool, self._slots.slot(now_us), now_us)


def _check(wish: LaunchWish) -> None:
    """`ValueError` says what of the wish cannot be."""
    if wish.venue is not None and wish.venue not in VENUES:
        raise ValueError(f"the venue must be one of {', '.join(VENUES)}")
    if wish.ticker is not None and not 1 <= len(wish.ticker) <= TICKER_LETTERS_MAX:
        raise ValueError(f"the ticker must have 1 to {TICKER_LETTERS_MAX} characters")
    if wish.liquidity is not None:
        parse_amount(wish.liquidity, SOL_DECIMALS, most=LIQUIDITY_MAX)
    for bps in (wish.lp_burnt_bps, wish.lp_locked_bps, wish.top_holders_bps):
        if bps is not None and not 0 <= bps <= BPS:
            raise ValueError(f"a share must be from 0 to {BPS} bps, not {bps}")
    if (wish.lp_burnt_bps or 0) + (wish.lp_locked_bps or 0) > BPS:
        raise ValueError(f"burnt and locked liquidity together are at most {BPS} bps")
    drift_bps = wish.drift_bps_per_minute
    if drift_bps is not None and not -DRIFT_BPS_MAX <= drift_bps <= DRIFT_BPS_MAX:
        raise ValueError(f"the drift must be from -{DRIFT_BPS_MAX} to {DRIFT_BPS_MAX} bps a minute")
