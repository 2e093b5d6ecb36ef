"""The simulated world, put together: `open_simulation` makes it, `SimulatedWorld` holds its parts."""

import asyncio
import hashlib
import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from bestex.domain.tokens import TokenRegistry
from bestex.ports import (
    Chain,
    Clock,
    Simulation,
    Venue,
)
from bestex.venues.simulated import base58
from bestex.venues.simulated.agenda import Agenda
from bestex.venues.simulated.books import Books
from bestex.venues.simulated.chain import SimulatedChain
from bestex.venues.simulated.control import Control
from bestex.venues.simulated.faults import Faults
from bestex.venues.simulated.launch_nature import Schedule
from bestex.venues.simulated.launches import Launches
from bestex.venues.simulated.ledger import (
    Anchor,
    Genesis,
    Ledger,
    LedgerFencedError,
    LedgerUnavailableError,
    Stored,
)
from bestex.venues.simulated.market import VENUES, Market
from bestex.venues.simulated.market_data import SimulatedMarketData
from bestex.venues.simulated.price_feed import PriceFeed
from bestex.venues.simulated.slots import BLOCKHASH_SLOTS_MAX, SlotClock
from bestex.venues.simulated.venue import SimulatedVenue
from bestex.venues.simulated.wallet import PaperWallet

ProfileName = Literal["realistic", "instant"]


class Timing(msgspec.Struct, frozen=True):
    """How long things take."""

    slot_ms: int
    quote_s: tuple[float, float] = (0.0, 0.0)
    build_s: float = 0.0
    landing_us: tuple[int, int] = (0, 0)


TIMINGS: Final[Mapping[ProfileName, Timing]] = {
    "realistic": Timing(400, (0.18, 0.36), 0.4, (1_800_000, 2_600_000)),
    "instant": Timing(4),
}


LOOK_EVERY_S: Final[Mapping[ProfileName, float]] = {"realistic": 1.0, "instant": 0.1}
"""How often it is worth looking at what was sent, by how long things take."""

LAUNCH_EVERY_S: Final[Mapping[ProfileName, int]] = {"realistic": 120, "instant": 0}
"""One token is launched in so many seconds on average; 0: none."""

_FIRST_SLOT: Final = 1_000
"""Slot 0 is before everything: what claims to know nothing says 0. There are old blockhashes from the start."""


class SimulatedWorld:
    """The parts of one simulated world. `run` is its passing of time: nothing lands and nothing is stored without."""

    def __init__(
        self,
        *,
        venues: list[Venue],
        chain: SimulatedChain,
        wallet: PaperWallet,
        control: Simulation,
        market: Market,
        market_data: SimulatedMarketData,
        prices: PriceFeed,
        launches: Launches,
        agenda: Agenda,
        books: Books,
        ledger: Ledger,
        faults: Faults,
        takes_no_time: bool,
        key: bytes,
    ) -> None:
        """`takes_no_time`: quotes and transactions are there at once. `key`: what the paper wallet signs with."""
        self.faults = faults
        self.takes_no_time = takes_no_time
        self.key = key
        self.venues = venues
        self.chain: Chain = chain
        self.nodes = chain  # the same, with what only its own process may ask
        self.wallet = wallet
        self.control = control
        self.market = market
        self.market_data = market_data
        self._prices = prices
        self._launches = launches
        self._agenda = agenda
        self._books = books
        self._ledger = ledger

    @property
    def struck(self) -> Mapping[str, int]:
        """How often each fault has happened."""
        return self.faults.struck

    @property
    def answers_at_once(self) -> bool:
        """Whether venues quote and sign by arithmetic alone: nothing takes time, and nothing goes wrong."""
        return self.takes_no_time and not self.faults.any

    async def run(self) -> None:
        """Landing, storing, prices and launches, until cancelled.

        Raises `LedgerFencedError` when another opened the ledger.
        """
        works = (self._agenda.run(), self._books.run(), self._prices.run(), self._launches.run())
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Store what can be stored and let the ledger go; `run` has ended before."""
        try:
            await self._books.flush()
        except (LedgerUnavailableError, LedgerFencedError):
            pass  # what is not stored was shown to nobody
        finally:
            await self._ledger.close()


async def open_simulation(
    *,
    seed: int,
    profile: ProfileName,
    slot_ms: int | None,
    tokens: TokenRegistry,
    clock: Clock,
    entropy: bytes,
    ledger: Ledger,
    faults: Mapping[str, float],
    launch_every_s: int | None = None,
) -> SimulatedWorld:
    """The simulated world over a ledger: a new one, or as it was left, with the chain gone on meanwhile.

    `entropy`: at least 16 random bytes, of which a new ledger's wallet key is made. `slot_ms`: None for the profile's.
    `launch_every_s`: seconds in which one token is launched on average, 0 for never, None for the profile's.
    Raises `LedgerUnavailableError`, and `ValueError` for an unknown fault or a bad value.
    """
    if len(entropy) < 16:
        raise ValueError("entropy must be at least 16 bytes")
    timing = TIMINGS[profile]
    slot_us = (timing.slot_ms if slot_ms is None else slot_ms) * 1000
    if slot_us <= 0:
        raise ValueError(f"slot_ms must be above 0, not {slot_ms}")
    every_s = LAUNCH_EVERY_S[profile] if launch_every_s is None else launch_every_s
    if every_s < 0:
        raise ValueError(f"launch_every_s must not be below 0, not {every_s}")
    checked_faults = Faults("", faults)  # before anything is opened
    now_us = clock.now_us()
    wallet_key = hashlib.blake2b(entropy, person=b"wallet key", digest_size=32).digest()
    stored = await ledger.open(Genesis(now_us, wallet_key), Anchor(now_us, _FIRST_SLOT, slot_us))
    slots = await _slots(ledger, stored, slot_us, now_us)
    recent = await ledger.since(slots.slot(now_us) - BLOCKHASH_SLOTS_MAX)

    key = stored.genesis.wallet_key
    market = Market(seed, tokens)
    _restore(market, tokens, stored)
    books = Books(ledger, stored, recent, slots, clock, market.pools)
    await _grant_starts(market, books)
    # The epoch takes part, so that a restart meets new weather and not the same fault at the same first step.
    weather = Faults(f"{seed}/faults/{stored.epoch}", checked_faults.values)
    nature = random.Random(f"{seed}/nature/{stored.epoch}")  # noqa: S311 - nature needs repetition, not secrecy
    agenda = Agenda(clock)
    chain = SimulatedChain(
        clock=clock,
        slots=slots,
        books=books,
        market=market,
        agenda=agenda,
        faults=weather,
        nature=nature,
        key=key,
        landing_us=timing.landing_us,
    )
    launches = Launches(
        stored,
        schedule=Schedule(seed, every_s) if every_s and market.sol is not None else None,
        clock=clock,
        slots=slots,
        market=market,
        books=books,
        tokens=tokens,
    )
    await launches.make_up()
    prices = PriceFeed(clock=clock, slots=slots, market=market, faults=weather)
    venues: list[Venue] = [
        SimulatedVenue(
            name,
            clock=clock,
            market=market,
            chain=chain,
            books=books,
            faults=weather,
            nature=nature,
            key=key,
            quote_s=timing.quote_s,
            build_s=timing.build_s,
        )
        for name in VENUES
    ]
    address = base58.address_text(hashlib.blake2b(key, person=b"wallet address", digest_size=32).digest())
    return SimulatedWorld(
        venues=venues,
        chain=chain,
        wallet=PaperWallet(address, books),
        control=Control(
            profile=profile,
            seed=seed,
            clock=clock,
            market=market,
            chain=chain,
            books=books,
            launches=launches,
            faults=weather,
        ),
        market=market,
        market_data=SimulatedMarketData(prices, launches),
        prices=prices,
        launches=launches,
        agenda=agenda,
        books=books,
        ledger=ledger,
        faults=weather,
        takes_no_time=not timing.quote_s[1] and not timing.build_s,
        key=key,
    )


async def _slots(ledger: Ledger, stored: Stored, slot_us: int, now_us: int) -> SlotClock:
    """The chain's clock as stored; with a new anchor when slots have another length from now on.

    When they get longer, so many are skipped that no blockhash lives on: it would for longer than was said.
    """
    anchor = stored.anchor
    slots = SlotClock(anchor.at_us, anchor.slot, anchor.slot_us, stored.slot)
    if anchor.slot_us == slot_us:
        return slots
    skipped = BLOCKHASH_SLOTS_MAX if slot_us > anchor.slot_us else 0
    anchor = Anchor(now_us, slots.slot(now_us) + skipped, slot_us)
    await ledger.set_anchor(stored.epoch, anchor)
    return SlotClock(anchor.at_us, anchor.slot, anchor.slot_us, anchor.slot)


def _restore(market: Market, tokens: TokenRegistry, stored: Stored) -> None:
    """The market as it was changed: launched tokens with their pools, and prices that were moved."""
    for listing in stored.listings:
        token = tokens.learn(listing.mint, listing.decimals)
        if listing.closed_us is None and market.sol is not None:
            market.add(listing, token)
    for mint, log_price in stored.shifts.items():
        market.shift(mint, log_price)


async def _grant_starts(market: Market, books: Books) -> None:
    """Give the wallet its start in every token it never had."""
    for token in market.tokens:
        if token.mint not in books.balances:
            books.adjust(token.mint, market.start_balance(token), "start")
    await books.flush()
