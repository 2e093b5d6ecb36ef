"""What clients want of orders, drawn from the seed: of every kind, with prices said against the market's."""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Mapping, Sequence
from typing import Final, assert_never

import msgspec
from msgspec.structs import replace

from bestex.domain.events import Changes, timestamp_text
from bestex.domain.launches import STANDARD_FILTERS, LaunchFilters
from bestex.domain.money import format_amount
from bestex.domain.orders import UNKNOWN_TOKEN
from bestex.domain.terms import NO_TERMS, ExitLeg, ExitTerms, Kind, OnSliceFailure, Terms, TimeInForce
from bestex.domain.tokens import Token, pair_of
from bestex.engine.intake import OrderRequest
from bestex.simulation.clock import START_US
from bestex.simulation.prices import MarketPrices


class Levels(msgspec.Struct, frozen=True):
    """Prices, as so many bps better for the order than the market's when they are said; negative: worse."""

    limit_bps: int | None = None
    trigger_bps: int | None = None
    take_profit_bps: int | None = None  # of the exits: absolute ones, against the price the entry sees
    stop_loss_bps: int | None = None
    as_amount: bool = False  # the limit is said as an amount of the output token


class Amend(msgspec.Struct, frozen=True):
    """A change that a client makes while its order waits."""

    after_s: float
    limit_bps: int | None = None
    trigger_bps: int | None = None
    slippage_bps: int | None = None
    expires_after_s: float | None = None  # from then on


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is going to do."""

    request: OrderRequest  # without the prices that `levels` say
    levels: Levels = Levels()
    at_s: float
    key: str | None
    repeats: bool  # sends the order again although it was accepted
    cancel_after_s: float | None
    watchers: int
    amends: tuple[Amend, ...] = ()
    waits_s: float = 0.0  # for what rests; then it is cancelled
    is_patient: bool = False  # that time begins when nothing goes wrong any more


_KINDS: Final = {
    Kind.MARKET: 0.42,
    Kind.LIMIT: 0.2,
    Kind.STOP: 0.09,
    Kind.TAKE_PROFIT: 0.09,
    Kind.TRAILING_STOP: 0.08,
    Kind.TWAP: 0.06,
}
_NEAR_BPS: Final = (10, 40, 120)
_LIMITS_BPS: Final = (-300, -50, 0, 10, 30, 100, 400, 2_000)
_TRIGGERS_BPS: Final = (5, 20, 60, 200, 1_000)
_TRAILS_BPS: Final = (5, 20, 80, 300)
_EXITS_BPS: Final = (10, 50, 200, 600)
_SHARE_IMMEDIATE: Final = 0.2  # of limit orders
_SHARE_IN_UNITS: Final = 0.3  # of limit orders, those that say an amount
_SHARE_WITH_EXITS: Final = 0.5
_SHARE_EXPIRING: Final = 0.2
_SHARE_LIMITED: Final = 0.35  # of triggered and sliced orders, those with a limit of their own
_SHARE_NAMED: Final = 0.5  # of snipers, those that wait for one token
_SNIPES: Final = (10_000_000, 200_000_000, 3_000_000_000)  # lamports
_FILTERS: Final = (
    LaunchFilters(),
    STANDARD_FILTERS,
    LaunchFilters(min_liquidity="30", mint_authority_revoked=True),
    LaunchFilters(min_age_seconds=2, consecutive_passes=2),
    LaunchFilters(top_holders_max_bps=2_500, consecutive_passes=3),
)
_LIVES_S: Final = (1.0, 6.0, 20.0, 60.0, 200.0)


def draw_request(
    token_in: Token, token_out: Token, amount_in: int, at_s: float, luck: random.Random
) -> tuple[OrderRequest, Levels]:
    """An order of some kind, and its prices."""
    is_priced = pair_of(token_in, token_out).is_priced
    [kind] = luck.choices(list(_KINDS), list(_KINDS.values()))
    if not is_priced and kind is not Kind.TWAP:
        kind = luck.choice((Kind.MARKET, Kind.LIMIT))
    terms, levels = _terms(kind, luck)
    if not is_priced and kind is Kind.LIMIT:
        levels = replace(levels, as_amount=True)
    if not is_priced and kind is Kind.TWAP:
        levels = Levels()
    if is_priced and kind is not Kind.TWAP and luck.random() < _SHARE_WITH_EXITS:
        exits, take_profit_bps, stop_loss_bps = _exits(luck, absolute=luck.random() < 0.3)
        terms = replace(terms, exits=exits)
        levels = replace(levels, take_profit_bps=take_profit_bps, stop_loss_bps=stop_loss_bps)
    if terms.time_in_force is TimeInForce.GTC and luck.random() < _SHARE_EXPIRING:
        terms = replace(terms, time_in_force=TimeInForce.GTT, expires_at=_time(at_s + _life_s(luck)))
    slippage_bps = luck.choice((10, 50, 50, 100, 300))
    if terms == NO_TERMS:
        terms = NO_TERMS
    return OrderRequest(kind, token_in, token_out, amount_in, slippage_bps, terms=terms), levels


def _terms(kind: Kind, luck: random.Random) -> tuple[Terms, Levels]:
    limited = luck.random() < _SHARE_LIMITED
    match kind:
        case Kind.MARKET:
            return (Terms(time_in_force=TimeInForce.IOC) if luck.random() < 0.1 else NO_TERMS), Levels()
        case Kind.LIMIT:
            at_once = luck.random() < _SHARE_IMMEDIATE
            in_force = luck.choice((TimeInForce.IOC, TimeInForce.FOK)) if at_once else TimeInForce.GTC
            as_amount = luck.random() < _SHARE_IN_UNITS
            return Terms(time_in_force=in_force), Levels(luck.choice(_LIMITS_BPS), as_amount=as_amount)
        case Kind.STOP | Kind.TAKE_PROFIT:
            at_once = luck.random() < 0.15
            way = -1 if (kind is Kind.STOP) is not at_once else 1
            trigger_bps = way * luck.choice(_NEAR_BPS if at_once else _TRIGGERS_BPS)
            limit_bps = trigger_bps + luck.choice((-200, -30, 60)) if limited else None
            return Terms(allow_immediate=at_once), Levels(limit_bps, trigger_bps)
        case Kind.TRAILING_STOP:
            return Terms(trail_bps=luck.choice(_TRAILS_BPS)), Levels()
        case Kind.TWAP:
            failure = luck.choice(tuple(OnSliceFailure))
            terms = Terms(slices=luck.randint(2, 5), interval_seconds=luck.choice((1, 1, 2)), on_slice_failure=failure)
            return terms, Levels(luck.choice((-300, -20, 20)) if limited else None)
        case Kind.SNIPER | Kind.EXITS:
            raise ValueError(f"an order of kind {kind} is drawn otherwise")
        case _:
            assert_never(kind)


def _exits(luck: random.Random, *, absolute: bool) -> tuple[ExitTerms, int | None, int | None]:
    """Exits, and the prices of the absolute ones among them."""
    names = luck.sample(("take_profit", "stop_loss", "trailing_stop"), luck.choice((1, 1, 2, 2, 3)))
    take_profit = stop_loss = trailing_stop = take_profit_bps = stop_loss_bps = None
    slippage_bps = luck.choice((None, 100, 500))
    if "take_profit" in names:
        gain_bps = luck.choice(_EXITS_BPS)
        take_profit = ExitLeg(gain_bps=None if absolute else gain_bps, slippage_bps=slippage_bps)
        take_profit_bps = gain_bps if absolute else None
    if "stop_loss" in names:
        loss_bps = luck.choice(_EXITS_BPS)
        stop_loss = ExitLeg(loss_bps=None if absolute else loss_bps, slippage_bps=slippage_bps)
        stop_loss_bps = -loss_bps if absolute else None
    if "trailing_stop" in names:
        trailing_stop = ExitLeg(trail_bps=luck.choice(_TRAILS_BPS))
    exits = ExitTerms(take_profit=take_profit, stop_loss=stop_loss, trailing_stop=trailing_stop)
    return exits, take_profit_bps, stop_loss_bps


def draw_sniper(sol: Token, mints: Sequence[str], luck: random.Random) -> OrderRequest:
    """An order for a token that is to be launched: one of `mints`, or whatever passes."""
    named = luck.random() < _SHARE_NAMED
    terms = Terms(
        mint=luck.choice(mints) if named else None,
        filters=None if named and luck.random() < 0.5 else luck.choice(_FILTERS),
        migrations=luck.random() < 0.3,
    )
    if luck.random() < _SHARE_WITH_EXITS:
        exits, _, _ = _exits(luck, absolute=False)
        terms = replace(terms, exits=exits)
    return OrderRequest(
        Kind.SNIPER, sol, UNKNOWN_TOKEN, luck.choice(_SNIPES), luck.choice((100, 500, 2_000)), terms=terms
    )


def draw_amends(kind: Kind, levels: Levels, faults: Mapping[str, float], luck: random.Random) -> tuple[Amend, ...]:
    """The changes that the order's client makes."""
    if luck.random() >= faults.get("amend", 0.0):
        return ()
    amends: list[Amend] = []
    for _ in range(luck.randint(1, 2)):
        after_s = luck.choice((0.0, 0.3, 2.0, 8.0)) * luck.random()
        what = luck.choice(("limit", "trigger", "slippage", "expiry"))
        if what == "limit" and levels.limit_bps is not None and not levels.as_amount:
            amends.append(Amend(after_s, limit_bps=luck.choice(_LIMITS_BPS)))
        elif what == "trigger" and levels.trigger_bps is not None:
            amends.append(Amend(after_s, trigger_bps=luck.choice(_NEAR_BPS) * luck.choice((-1, 1))))
        elif what == "slippage":
            amends.append(Amend(after_s, slippage_bps=luck.choice((30, 200))))
        elif kind is not Kind.MARKET:
            amends.append(Amend(after_s, expires_after_s=_life_s(luck)))
    return tuple(amends)


def _life_s(luck: random.Random) -> float:
    return luck.choice(_LIVES_S) * luck.uniform(0.3, 1.5)


def _time(at_s: float) -> str:
    return timestamp_text(START_US + round(at_s * 1e6))


# --- Prices


def priced(wish: Wish, prices: MarketPrices) -> OrderRequest | None:
    """The order with its prices, as the market is now; None where it has none for so much."""
    request, levels = wish.request, wish.levels
    if levels == Levels():
        return request
    token_in, token_out, amount_in = request.token_in, request.token_out, request.amount_in

    def price(bps: int | None) -> str | None:
        return None if bps is None else prices.price(token_in, token_out, amount_in, bps)

    if not prices.best_out(token_in, token_out, amount_in):
        return None
    terms = replace(request.terms, trigger_price=price(levels.trigger_bps))
    if levels.limit_bps is not None and levels.as_amount:
        least = prices.best_out(token_in, token_out, amount_in) * (10_000 + levels.limit_bps) // 10_000
        terms = replace(terms, min_amount_out=format_amount(max(1, least), token_out.decimals))
    else:
        terms = replace(terms, limit_price=price(levels.limit_bps))
    return replace(request, terms=replace(terms, exits=_priced_exits(wish, prices)))


def _priced_exits(wish: Wish, prices: MarketPrices) -> ExitTerms | None:
    """What its exits' prices are better by, the entry's are worse by: they sell what it buys."""
    exits, levels, request = wish.request.terms.exits, wish.levels, wish.request
    if exits is None:
        return None
    token_in, token_out, amount_in = request.token_in, request.token_out, request.amount_in
    take_profit, stop_loss = exits.take_profit, exits.stop_loss
    if take_profit is not None and levels.take_profit_bps is not None:
        price = prices.price(token_in, token_out, amount_in, -levels.take_profit_bps)
        take_profit = replace(take_profit, trigger_price=price)
    if stop_loss is not None and levels.stop_loss_bps is not None:
        price = prices.price(token_in, token_out, amount_in, -levels.stop_loss_bps)
        stop_loss = replace(stop_loss, trigger_price=price)
    return replace(exits, take_profit=take_profit, stop_loss=stop_loss)


def changes_of(amend: Amend, request: OrderRequest, prices: MarketPrices, now_us: int) -> Changes:
    """The change as it is said now."""

    def price(bps: int | None) -> str | None:
        return None if bps is None else prices.price(request.token_in, request.token_out, request.amount_in, bps)

    expires_at = None
    if amend.expires_after_s is not None:
        expires_at = timestamp_text(now_us + round(amend.expires_after_s * 1e6))
    return Changes(
        limit_price=price(amend.limit_bps),
        trigger_price=price(amend.trigger_bps),
        expires_at=expires_at,
        slippage_bps=amend.slippage_bps,
    )
