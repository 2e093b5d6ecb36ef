"""Read the filters of a sniper: what a new pool must pass."""

from typing import Final

from bestex.api.fields import Fields
from bestex.domain.launches import LaunchFilters
from bestex.domain.money import format_amount
from bestex.domain.tokens import Token

MAX_CREATORS: Final = 100
MAX_AGE_S: Final = 366 * 86_400
MAX_PASSES: Final = 100
_ALL_BPS: Final = 10_000

FILTERS: Final = (
    "minLiquidity",
    "maxLiquidity",
    "mintAuthorityRevoked",
    "freezeAuthorityRevoked",
    "lpBurntOrLocked",
    "topHoldersMaxBps",
    "creatorsAllowed",
    "creatorsDenied",
    "minAgeSeconds",
    "maxAgeSeconds",
    "consecutivePasses",
)


def read_filters(order: Fields, quote: Token | None) -> LaunchFilters | None:
    """The filters of an order that pays with `quote`; what is wrong with them stands in `order` then."""
    fields = order.nested("filters", FILTERS, "filter")
    if fields is None:
        return None
    least, most = (
        fields.amount("minLiquidity", quote, required=False),
        fields.amount("maxLiquidity", quote, required=False),
    )
    if least and most and least > most:
        fields.bad("maxLiquidity", "must not be under minLiquidity")
    min_age, max_age = (fields.optional_whole(name, 0, MAX_AGE_S) for name in ("minAgeSeconds", "maxAgeSeconds"))
    if min_age is not None and max_age is not None and min_age > max_age:
        fields.bad("maxAgeSeconds", "must not be under minAgeSeconds")
    allowed, denied = (fields.addresses(name, MAX_CREATORS) for name in ("creatorsAllowed", "creatorsDenied"))
    if set(allowed) & set(denied):
        fields.bad("creatorsDenied", "denies a creator that creatorsAllowed allows")
    return LaunchFilters(
        min_liquidity=_text(least, quote),
        max_liquidity=_text(most, quote),
        mint_authority_revoked=fields.flag("mintAuthorityRevoked"),
        freeze_authority_revoked=fields.flag("freezeAuthorityRevoked"),
        lp_burnt_or_locked=fields.flag("lpBurntOrLocked"),
        top_holders_max_bps=fields.optional_whole("topHoldersMaxBps", 0, _ALL_BPS),
        creators_allowed=allowed,
        creators_denied=denied,
        min_age_seconds=min_age,
        max_age_seconds=max_age,
        consecutive_passes=fields.whole("consecutivePasses", 1, 1, MAX_PASSES),
    )


def _text(units: int, token: Token | None) -> str | None:
    return format_amount(units, token.decimals) if units and token is not None else None
