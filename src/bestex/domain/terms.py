"""What an order demands beside its tokens and its amount: by its kind, as the client said it.

Prices and amounts are decimal text, as they are stored and shown; `Order` reads them as integers. Times are RFC 3339.
"""

from enum import StrEnum

import msgspec

from bestex.domain.launches import LaunchFilters


class Kind(StrEnum):
    MARKET = "market"  # executes at once at the best venue's price
    LIMIT = "limit"  # executes at its limit or better
    STOP = "stop"  # executes once the price is as bad as its trigger
    TAKE_PROFIT = "takeProfit"  # executes once the price is as good as its trigger
    TRAILING_STOP = "trailingStop"  # executes once the price has fallen back from its best by so much
    SNIPER = "sniper"  # buys a new pool's token
    TWAP = "twap"  # executes in slices, each an order of its own
    EXITS = "exits"  # closes a position by whichever of its legs comes first; made by its entry, never by a client


RESTING = frozenset(Kind) - {Kind.MARKET}
"""The kinds that wait for something; a limit order that may not wait is none of them."""


class TimeInForce(StrEnum):
    GTC = "GTC"  # until it is cancelled
    GTT = "GTT"  # until `expiresAt`
    IOC = "IOC"  # now, or not at all
    FOK = "FOK"  # the same: a swap executes whole or not at all


class OnSliceFailure(StrEnum):
    CONTINUE = "continue"
    STOP = "stop"


class LegName(StrEnum):
    TAKE_PROFIT = "takeProfit"
    STOP_LOSS = "stopLoss"
    TRAILING_STOP = "trailingStop"


class ExitLeg(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """One way out of a position, as the entry asks for it."""

    trigger_price: str | None = None  # absolute; or one of the next two, against the entry's executed price
    gain_bps: int | None = None  # of a take-profit
    loss_bps: int | None = None  # of a stop-loss
    trail_bps: int | None = None  # of a trailing stop
    limit_price: str | None = None  # once triggered; None: at the market
    slippage_bps: int | None = None  # None: the entry's


class ExitTerms(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The exits that an entry asks for."""

    take_profit: ExitLeg | None = None
    stop_loss: ExitLeg | None = None
    trailing_stop: ExitLeg | None = None

    def legs(self) -> list[tuple[LegName, ExitLeg]]:
        named = (
            (LegName.TAKE_PROFIT, self.take_profit),
            (LegName.STOP_LOSS, self.stop_loss),
            (LegName.TRAILING_STOP, self.trailing_stop),
        )
        return [(name, leg) for name, leg in named if leg is not None]


class Leg(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One leg of an `exits` order: what its entry's exits came to."""

    name: LegName
    slippage_bps: int
    trigger_price: str | None = None  # not of a trailing stop
    trail_bps: int | None = None
    limit_price: str | None = None


class Terms(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """All that an order may demand; which of it stands there depends on its kind."""

    limit_price: str | None = None  # quote token per base token: no worse
    min_amount_out: str | None = None  # the same as an amount of the output token
    trigger_price: str | None = None  # quote token per base token
    trail_bps: int | None = None  # how far the price may fall back from its best
    time_in_force: TimeInForce = TimeInForce.GTC
    expires_at: str | None = None
    allow_immediate: bool = False  # a stop may be beyond its trigger already
    exits: ExitTerms | None = None
    mint: str | None = None  # of the token that a sniper waits for
    filters: LaunchFilters | None = None  # that a new pool must pass
    migrations: bool = False  # a pool that moves to another venue counts as a new one
    slices: int | None = None
    interval_seconds: int | None = None  # between the starts of two slices
    on_slice_failure: OnSliceFailure = OnSliceFailure.CONTINUE
    parent_id: str | None = None  # the sliced order that this is a slice of, or the entry that this is the exits of
    slice_number: int | None = None  # 1, 2, 3 ...
    legs: tuple[Leg, ...] = ()


NO_TERMS = Terms()
