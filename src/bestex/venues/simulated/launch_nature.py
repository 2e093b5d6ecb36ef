"""What launches are like, from one seed: when they come, what they are called, which are bad and how.

The schedule is a pure function of the seed and the time, as the market's prices are.
"""

import hashlib
import math
import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from bestex.domain.launches import LP_SECURE_BPS
from bestex.domain.money import parse_amount
from bestex.ports import LaunchWish
from bestex.venues.simulated import base58
from bestex.venues.simulated.listing import Listing
from bestex.venues.simulated.market import VENUES

TOKEN_DECIMALS: Final = 6
SUPPLY: Final = 10**9 * 10**TOKEN_DECIMALS
IN_POOL: Final = SUPPLY * 8 // 10  # base units of the token that the pool starts with
SOL_DECIMALS: Final = 9
LIQUIDITY_MAX: Final = 1_000_000 * 10**SOL_DECIMALS
"""Of a wish, lamports: with more there is no room for the price to move."""
DRIFT_BPS_MAX: Final = 5_000
"""Of a wish, per minute, up or down."""
BPS: Final = 10_000

_CREATORS: Final = 12  # that list by the schedule, again and again
_VOLATILITY: Final = 1.2  # of the log price over a day: about 3 % a minute
_FIRST: Final = ("Turbo", "Quiet", "Lunar", "Tiny", "Royal", "Rusty", "Velvet", "Solar", "Grumpy", "Paper", "Cosmic")
_SECOND: Final = ("Otter", "Badger", "Teapot", "Walrus", "Pickle", "Comet", "Gecko", "Lantern", "Moose", "Waffle")


class Character(StrEnum):
    """What is wrong with a launch, if anything."""

    SOUND = "sound"
    SLOW = "slow"  # its authorities are revoked and its holders spread out only after a while
    MINT_KEPT = "mint kept"
    FREEZE_KEPT = "freeze kept"
    LP_LOOSE = "lp loose"
    CROWDED = "crowded"  # a few hold most of it
    TINY = "tiny"  # hardly any liquidity


_WEIGHTS: Final = {
    Character.SOUND: 48,
    Character.SLOW: 12,
    Character.MINT_KEPT: 10,
    Character.FREEZE_KEPT: 8,
    Character.LP_LOOSE: 10,
    Character.CROWDED: 7,
    Character.TINY: 5,
}


class Schedule:
    """One launch in every `every_s` seconds, at a moment of its own. Times are Unix microseconds."""

    def __init__(self, seed: int, every_s: int) -> None:
        self._seed = seed
        self.every_us = every_s * 1_000_000

    def after(self, time_us: int) -> Iterator[int]:
        """The numbers of the launches that come later than `time_us`, in their order."""
        number = time_us // self.every_us
        while True:
            if self.at(number) > time_us:
                yield number
            number += 1

    def at(self, number: int) -> int:
        """The moment of a launch."""
        return number * self.every_us + self._luck(f"moment/{number}").randrange(self.every_us)

    def draw(self, number: int, *, slot: int) -> Listing:
        """The launch, at the `slot` of its moment."""
        luck = self._luck(f"launch/{number}")
        return draw(
            luck,
            LaunchWish(),
            name=f"{self._seed}/{self.every_us}/{number}",
            creator=address("creator", f"{self._seed}/{luck.randrange(_CREATORS)}"),  # they list again and again
            listed_us=self.at(number),
            slot=slot,
            scheduled=True,
        )

    def _luck(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{self.every_us}/{name}")  # noqa: S311 - chance that repeats


def draw(
    luck: random.Random, wish: LaunchWish, *, name: str, creator: str, listed_us: int, slot: int, scheduled: bool
) -> Listing:
    """A launch: what the wish says, the rest by luck. `name`: what its addresses are made of.

    What is wished takes no draw away, so that the rest is the same whatever is wished.
    """
    character = luck.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0]
    first, second = luck.choice(_FIRST), luck.choice(_SECOND)
    venue = luck.choice(VENUES)
    least, most = (0.3, 4.0) if character is Character.TINY else (25.0, 400.0)
    liquidity = round(math.exp(luck.uniform(math.log(least), math.log(most))) * 10**SOL_DECIMALS)
    slow_us = luck.randrange(3_000_000, 25_000_000) if character is Character.SLOW else 0
    secured, is_burnt = luck.randrange(LP_SECURE_BPS, BPS + 1), luck.random() < 0.7
    loose = luck.randrange(0, 5_000)
    holders, crowd = luck.randrange(300, 2_500), luck.randrange(6_000, 9_000)
    drift = _drift(luck)
    pulled_us = listed_us + luck.randrange(60_000_000, 480_000_000) if luck.random() < 0.7 else None

    is_loose = character is Character.LP_LOOSE
    burnt = loose if is_loose else secured if is_burnt else 0
    locked = 0 if is_loose or is_burnt else secured
    burnt, locked = _together(burnt, locked, wish)
    if wish.top_holders_bps is not None:
        holders = first_holders = wish.top_holders_bps
    elif character is Character.CROWDED:
        holders = first_holders = crowd
    else:
        first_holders = holders + (2_000 if character is Character.SLOW else 0)
    revoked_us = listed_us + slow_us
    is_told = wish.drift_bps_per_minute is not None
    if is_told or burnt + locked >= LP_SECURE_BPS:
        pulled_us = None  # what is burnt or locked cannot be pulled
    return Listing(
        pool=address("pool", name),
        mint=address("mint", name),
        decimals=TOKEN_DECIMALS,
        name=f"{first} {second}",
        ticker=wish.ticker or second.upper(),
        creator=wish.creator or creator,
        venue=wish.venue or venue,
        listed_us=listed_us,
        slot=slot,
        scheduled=scheduled,
        reserve_token=IN_POOL,
        reserve_quote=liquidity if wish.liquidity is None else parse_amount(wish.liquidity, SOL_DECIMALS),
        began_us=listed_us,
        drift_bps_per_minute=drift if wish.drift_bps_per_minute is None else wish.drift_bps_per_minute,
        volatility=0.0 if is_told else _VOLATILITY,
        pulled_us=pulled_us,
        mint_authority_revoked_us=_revoked(
            wish.mint_authority_revoked, character is Character.MINT_KEPT, listed_us, revoked_us
        ),
        freeze_authority_revoked_us=_revoked(
            wish.freeze_authority_revoked, character is Character.FREEZE_KEPT, listed_us, revoked_us
        ),
        lp_burnt_bps=burnt,
        lp_locked_bps=locked,
        top_holders_first_bps=first_holders,
        top_holders_bps=holders,
    )


def address(kind: str, name: str) -> str:
    """A base58 address that follows from a name."""
    return base58.address_text(hashlib.blake2b(f"launched {kind} {name}".encode(), digest_size=32).digest())


def _drift(luck: random.Random) -> int:
    """Bps a minute: some are bought up, some stay where they are, most fade."""
    kind = luck.random()
    if kind < 0.3:
        return luck.randrange(100, 700)
    if kind < 0.55:
        return luck.randrange(-20, 21)
    return luck.randrange(-400, -60)


def _revoked(wished: bool | None, is_kept: bool, listed_us: int, revoked_us: int) -> int | None:
    """When an authority is revoked; what is wished holds from the listing on."""
    if wished is None:
        return None if is_kept else revoked_us
    return listed_us if wished else None


def _together(burnt: int, locked: int, wish: LaunchWish) -> tuple[int, int]:
    """Burnt and locked liquidity, bps: what the wish says, and never more than there is."""
    if wish.lp_burnt_bps is not None:
        burnt = wish.lp_burnt_bps
        locked = min(locked, BPS - burnt) if wish.lp_locked_bps is None else wish.lp_locked_bps
    elif wish.lp_locked_bps is not None:
        locked = wish.lp_locked_bps
        burnt = min(burnt, BPS - locked)
    return burnt, locked
