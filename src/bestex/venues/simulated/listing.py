"""A launched token's pool and its fate: what is stored when it is listed, and what follows from it at any time.

All that changes is a function of the time, so that a restarted world goes on as if it had never stopped.
"""

import math
from typing import Final

import msgspec

from bestex.domain.launches import Launch
from bestex.venues.simulated.pools import Pool
from bestex.venues.simulated.walk import Walk

PULL_LOG_PRICE: Final = -7.0
"""How far the logarithm of the price falls when the liquidity is pulled: to about a thousandth."""
PULL_LOG_DEPTH: Final = -4.6
"""What is left of the depth then: about a hundredth."""
DRIFT_MINUTES_MAX: Final = 60.0
"""A price drifts for so long and then only wanders."""
DRIFT_LOG_MAX: Final = 6.0
"""The most that all the drift may come to, up or down: so that the pool's integers have room for it."""
HOLDERS_SPREAD_US: Final = 60_000_000
"""In this time from the listing on the holders of the first hour come down to those that stay."""
_BPS: Final = 10_000


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of a launched token, as the ledger keeps it. Times are Unix microseconds."""

    pool: str  # base58, as `mint` and `creator`
    mint: str
    decimals: int
    name: str
    ticker: str
    creator: str
    venue: str
    listed_us: int
    slot: int
    scheduled: bool  # False: somebody wished for it
    reserve_token: int  # base units when listed
    reserve_quote: int
    began_us: int  # when its price's story began: at its first venue
    drift_bps_per_minute: int
    volatility: float  # standard deviation of the log price over a day
    pulled_us: int | None  # when its liquidity is pulled
    mint_authority_revoked_us: int | None
    freeze_authority_revoked_us: int | None
    lp_burnt_bps: int
    lp_locked_bps: int
    top_holders_first_bps: int  # when listed
    top_holders_bps: int  # later
    migrated_from: str | None = None
    closed_us: int | None = None  # moved away, or closed for age

    def is_pulled(self, at_us: int) -> bool:
        return self.pulled_us is not None and at_us >= self.pulled_us

    def log_path(self, walk: Walk, at_us: int) -> float:
        """Where nature has the logarithm of the price; only differences mean anything."""
        minutes = min(max(0.0, (at_us - self.began_us) / 60e6), DRIFT_MINUTES_MAX)
        drift = minutes * self.drift_bps_per_minute / _BPS
        pull = PULL_LOG_PRICE if self.is_pulled(at_us) else 0.0
        wandering = walk.log_at(at_us / 1e6) if self.volatility else 0.0
        return min(max(drift, -DRIFT_LOG_MAX), DRIFT_LOG_MAX) + wandering + pull

    def holders_bps(self, at_us: int) -> int:
        """The ten largest holders' share, rounded down."""
        left_us = max(0, HOLDERS_SPREAD_US - max(0, at_us - self.listed_us))
        excess_bps = self.top_holders_first_bps - self.top_holders_bps
        return self.top_holders_bps + excess_bps * left_us // HOLDERS_SPREAD_US

    def measured(self, pool: Pool, slot: int, at_us: int) -> Launch:
        """The pool as it looks now; `pool` has been settled."""
        return Launch(
            token=pool.token_a,
            name=self.name,
            ticker=self.ticker,
            venue=self.venue,
            pool=self.pool,
            quote=pool.token_b,
            liquidity=pool.reserve_b(),
            mint_authority_revoked=_has_come(self.mint_authority_revoked_us, at_us),
            freeze_authority_revoked=_has_come(self.freeze_authority_revoked_us, at_us),
            lp_burnt_bps=self.lp_burnt_bps,
            lp_locked_bps=self.lp_locked_bps,
            top_holders_bps=self.holders_bps(at_us),
            creator=self.creator,
            listed_us=self.listed_us,
            slot=slot,
            migrated_from=self.migrated_from,
        )


def moved_listing(listing: Listing, pool: Pool, *, venue: str, address: str, slot: int, now_us: int) -> Listing:
    """The listing of a pool that moves to another venue as it stands, its price with it."""
    reserve_token, reserve_quote = pool.reserves()
    return msgspec.structs.replace(
        listing,
        pool=address,
        venue=venue,
        listed_us=now_us,
        slot=slot,
        scheduled=False,
        reserve_token=reserve_token,
        reserve_quote=reserve_quote,
        pulled_us=None if listing.is_pulled(now_us) else listing.pulled_us,
        top_holders_first_bps=listing.holders_bps(now_us),
        migrated_from=listing.venue,
        closed_us=None,
    )


def log_ratio(percent: float) -> float:
    """A change in percent as a difference of logarithms."""
    return math.log1p(percent / 100)


def _has_come(moment_us: int | None, at_us: int) -> bool:
    return moment_us is not None and at_us >= moment_us
