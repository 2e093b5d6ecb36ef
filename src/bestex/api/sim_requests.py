"""Read the bodies of requests that move the simulated world."""

import re
from collections.abc import Sequence
from typing import Final

from bestex.api.fields import Fields, Number, read_object, type_name
from bestex.api.problems import ProblemError
from bestex.domain.money import AmountError, parse_amount
from bestex.domain.tokens import Pair, TokenRegistry, pair_of
from bestex.ports import LaunchWish

PERCENT_LEAST: Final = -99
PERCENT_MOST: Final = 9_900
TICKER_LETTERS_MAX: Final = 10
DRIFT_BPS_MAX: Final = 5_000
"""Per minute, up or down."""
LIQUIDITY_MAX: Final = 1_000_000 * 10**9
"""Lamports."""
_SOL_DECIMALS: Final = 9
_BPS: Final = 10_000
_PERCENT: Final = re.compile(r"[+-]?\d{1,4}(?:\.\d{1,9})?", re.ASCII)
_TICKER: Final = re.compile(rf"[!-~]{{1,{TICKER_LETTERS_MAX}}}", re.ASCII)
_WISH_FIELDS: Final = (
    "ticker",
    "venue",
    "liquidity",
    "mintAuthorityRevoked",
    "freezeAuthorityRevoked",
    "lpBurntBps",
    "lpLockedBps",
    "topHoldersBps",
    "creator",
    "driftBpsPerMinute",
)


def read_price_move(body: bytes, tokens: TokenRegistry) -> tuple[Pair, float]:
    """The pair and the percent of `{"pair", "percent"}`. `ProblemError` with every bad field."""
    fields = Fields(read_object(body), ("pair", "percent"))
    pair = _pair(fields, tokens)
    percent = _percent(fields)
    fields.finish()
    if pair is None or percent is None:  # `finish` has raised then
        raise ProblemError("validation")
    return pair, percent


def read_launch_wish(body: bytes, venues: Sequence[str]) -> LaunchWish:
    """What a launch is to be like. `ProblemError` with every bad field."""
    fields = Fields(read_object(body), _WISH_FIELDS)
    ticker = fields.text("ticker")
    if ticker is not None and _TICKER.fullmatch(ticker) is None:
        fields.bad("ticker", f"must be 1 to {TICKER_LETTERS_MAX} printable ASCII characters without a space")
    venue = fields.text("venue")
    if venue is not None and venue not in venues:
        fields.bad("venue", f"must be one of {', '.join(venues)}")
    burnt_bps = fields.optional_whole("lpBurntBps", 0, _BPS)
    locked_bps = fields.optional_whole("lpLockedBps", 0, _BPS)
    if (burnt_bps or 0) + (locked_bps or 0) > _BPS:
        fields.bad("lpLockedBps", f"together with lpBurntBps it must be at most {_BPS}")
    wish = LaunchWish(
        ticker=ticker,
        venue=venue,
        liquidity=_liquidity(fields),
        mint_authority_revoked=_flag(fields, "mintAuthorityRevoked"),
        freeze_authority_revoked=_flag(fields, "freezeAuthorityRevoked"),
        lp_burnt_bps=burnt_bps,
        lp_locked_bps=locked_bps,
        top_holders_bps=fields.optional_whole("topHoldersBps", 0, _BPS),
        creator=fields.address("creator"),
        drift_bps_per_minute=fields.optional_whole("driftBpsPerMinute", -DRIFT_BPS_MAX, DRIFT_BPS_MAX),
    )
    fields.finish()
    return wish


def read_migration(body: bytes) -> str:
    """The mint in `{"mint"}`."""
    fields = Fields(read_object(body), ("mint",))
    if "mint" not in fields:
        fields.bad("mint", "is missing")
    mint = fields.address("mint")
    fields.finish()
    if mint is None:
        raise ProblemError("validation")
    return mint


def _pair(fields: Fields, tokens: TokenRegistry) -> Pair | None:
    text = fields.text("pair", required=True)
    if text is None:
        return None
    base_name, slash, quote_name = text.partition("/")
    base, quote = tokens.find(base_name), tokens.find(quote_name)
    if not slash or base is None or quote is None or base is quote:
        known = ", ".join(each.symbol for each in tokens)
        fields.bad("pair", f'must be two known tokens such as "SOL/USDC"; known are {known} and the mints of launches')
        return None
    pair = pair_of(base, quote)
    if pair.base != base:
        fields.bad("pair", f"the price is in {pair.quote.symbol}: this pair is {pair.name}")
        return None
    return pair


def _percent(fields: Fields) -> float | None:
    wanted = f"a number from {PERCENT_LEAST} to {PERCENT_MOST}, such as -5"
    if "percent" not in fields:
        fields.bad("percent", f"is missing: {wanted}")
        return None
    value = fields.values["percent"]
    if type(value) is not str and not isinstance(value, Number):
        fields.bad("percent", f"must be {wanted}, not {type_name(value)}")
        return None
    if _PERCENT.fullmatch(value) is None or not PERCENT_LEAST <= float(value) <= PERCENT_MOST:
        fields.bad("percent", f"must be {wanted}")
        return None
    return float(value)


def _liquidity(fields: Fields) -> str | None:
    """An amount of SOL as it was written."""
    value = fields.values.get("liquidity")
    if "liquidity" not in fields:
        return None
    if type(value) is not str and not isinstance(value, Number):
        fields.bad("liquidity", f"must be a decimal number or its text, not {type_name(value)}")
        return None
    try:
        parse_amount(value, _SOL_DECIMALS, most=LIQUIDITY_MAX)
    except AmountError as error:
        fields.bad("liquidity", str(error))
    return str(value)


def _flag(fields: Fields, field: str) -> bool | None:
    return fields.flag(field) if field in fields else None
