"""New pools, what is measured of them, and the filters that say whether a sniper may buy.

Each criterion has one measured value and one verdict; a filter that is not set lets everything pass.
"""

from typing import Final

import msgspec

from bestex.domain.money import format_amount, parse_amount
from bestex.domain.tokens import Token


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as it is measured at one moment: new, or moved to another venue."""

    token: Token  # its symbol is its mint: what a launch calls itself proves nothing
    name: str  # what it calls itself
    ticker: str  # the same, short
    venue: str
    pool: str  # base58
    quote: Token  # what it is sold for
    liquidity: int  # quote token's side of the pool, its base units
    mint_authority_revoked: bool
    freeze_authority_revoked: bool
    lp_burnt_bps: int  # share of the pool's liquidity tokens that are burnt
    lp_locked_bps: int  # that are locked
    top_holders_bps: int  # share of the supply that the ten largest holders have, the pool excluded
    creator: str  # base58
    listed_us: int  # Unix time of the listing at this venue, microseconds
    slot: int
    migrated_from: str | None = None  # the venue it was at before


class LaunchFilters(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What a new pool must pass. None and empty: anything passes."""

    min_liquidity: str | None = None  # of the quote token, token units
    max_liquidity: str | None = None
    mint_authority_revoked: bool = False  # True: must be
    freeze_authority_revoked: bool = False
    lp_burnt_or_locked: bool = False  # at least LP_SECURE_BPS of it
    top_holders_max_bps: int | None = None
    creators_allowed: tuple[str, ...] = ()  # none but these
    creators_denied: tuple[str, ...] = ()
    min_age_seconds: int | None = None
    max_age_seconds: int | None = None
    consecutive_passes: int = 1  # looks in a row, a slot apart or more, that must all pass


LP_SECURE_BPS: Final = 9_500
"""Less liquidity than this burnt or locked can be pulled from under the buyers."""

STANDARD_FILTERS: Final = LaunchFilters(
    min_liquidity="20",
    mint_authority_revoked=True,
    freeze_authority_revoked=True,
    lp_burnt_or_locked=True,
    top_holders_max_bps=3_000,
)
"""What every pool is judged by, beside the filters of those who wait."""


class FilterVerdict(msgspec.Struct, frozen=True, rename="camel"):
    """One criterion of one pool."""

    filter: str  # its name in `LaunchFilters`, as clients write it
    wanted: str
    measured: str
    passed: bool


def judge(filters: LaunchFilters, launch: Launch, now_us: int) -> tuple[FilterVerdict, ...]:
    """A verdict for each filter that is set, in their order; consecutive passes are not judged here."""
    verdicts: list[FilterVerdict] = []

    def check(name: str, wanted: object, measured: object, passed: bool) -> None:
        verdicts.append(FilterVerdict(name, _text(wanted), _text(measured), passed))

    decimals = launch.quote.decimals
    liquidity = format_amount(launch.liquidity, decimals)
    if filters.min_liquidity is not None:
        enough = launch.liquidity >= parse_amount(filters.min_liquidity, decimals)
        check("minLiquidity", filters.min_liquidity, liquidity, enough)
    if filters.max_liquidity is not None:
        enough = launch.liquidity <= parse_amount(filters.max_liquidity, decimals)
        check("maxLiquidity", filters.max_liquidity, liquidity, enough)
    if filters.mint_authority_revoked:
        revoked = launch.mint_authority_revoked
        check("mintAuthorityRevoked", True, revoked, revoked)
    if filters.freeze_authority_revoked:
        revoked = launch.freeze_authority_revoked
        check("freezeAuthorityRevoked", True, revoked, revoked)
    if filters.lp_burnt_or_locked:
        secure_bps = launch.lp_burnt_bps + launch.lp_locked_bps
        check("lpBurntOrLocked", f"at least {LP_SECURE_BPS} bps", f"{secure_bps} bps", secure_bps >= LP_SECURE_BPS)
    if (most_bps := filters.top_holders_max_bps) is not None:
        check("topHoldersMaxBps", most_bps, launch.top_holders_bps, launch.top_holders_bps <= most_bps)
    if filters.creators_allowed:
        allowed = launch.creator in filters.creators_allowed
        check("creatorsAllowed", f"one of {len(filters.creators_allowed)}", launch.creator, allowed)
    if filters.creators_denied:
        denied = launch.creator in filters.creators_denied
        check("creatorsDenied", f"none of {len(filters.creators_denied)}", launch.creator, not denied)
    age_s = max(0, now_us - launch.listed_us) / 1e6
    if filters.min_age_seconds is not None:
        check("minAgeSeconds", filters.min_age_seconds, round(age_s, 3), age_s >= filters.min_age_seconds)
    if filters.max_age_seconds is not None:
        check("maxAgeSeconds", filters.max_age_seconds, round(age_s, 3), age_s <= filters.max_age_seconds)
    return tuple(verdicts)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
