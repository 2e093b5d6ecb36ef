"""What an order demands beside its tokens and its amount, in words."""

from typing import Final

from bestex.cli.views.text import duration_text
from bestex.domain.events import PendingDetail, Trigger
from bestex.domain.launches import LaunchFilters
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView
from bestex.domain.terms import ExitLeg, ExitTerms, Kind, Leg, OnSliceFailure, TimeInForce

_BUYS_BELOW: Final = {Kind.LIMIT: True, Kind.TAKE_PROFIT: True, Kind.STOP: False}
"""Whether a buyer waits for a price at or below the one that is said; a seller waits for the opposite."""


def request_text(order: PendingDetail | OrderView) -> str:
    """What was ordered, in words that cannot be read the wrong way round."""
    if order.kind == Kind.SNIPER:
        what = f"buy {order.mint} once it is launched" if order.mint is not None else "buy what is launched"
        found = f", {order.token_out}," if order.token_out not in ("*", order.mint) else ""
        return f"{what}{found} with {order.amount} {order.token_in}"
    if order.side == "buy":
        return f"buy {order.token_out} with {order.amount} {order.token_in}"
    return f"sell {order.amount} {order.token_in} for {order.token_out}"


def terms_texts(order: PendingDetail | OrderView) -> list[str]:
    """Each demand of the order; none of a plain market order."""
    texts: list[str | None] = [
        _trigger_text(order),
        f"{percent_text(order.trail_bps)} behind its best price" if order.trail_bps is not None else None,
        f"limit {_priced(order.limit_price, order.pair)}" if order.limit_price is not None else None,
        f"at least {order.min_amount_out} {order.token_out}" if order.min_amount_out is not None else None,
        _slices_text(order),
        _filters_text(order.filters) if order.filters is not None else None,
        "migrations count" if order.migrations else None,
        _time_text(order.time_in_force, order.expires_at),
        "may fire at once" if order.allow_immediate else None,
        _exits_text(order.exits) if order.exits is not None else None,
        ", or ".join(_leg_text(leg, order.pair) for leg in order.legs) or None,
        f"slice {order.slice_number} of {order.parent_id}" if order.slice_number is not None else None,
        f"closes {order.parent_id}" if order.kind == Kind.EXITS else None,
    ]
    return [text for text in texts if text is not None]


def waits_text(order: OrderView) -> str:
    """What a `watching` order waits for, short; empty for one that does not wait."""
    if order.status != Status.WATCHING:
        return ""
    if order.not_before is not None:
        return f"again from {order.not_before}"
    match order.kind:
        case Kind.LIMIT if order.limit_price is None:
            return f"≥ {order.min_amount_out} {order.token_out}"
        case Kind.LIMIT | Kind.STOP | Kind.TAKE_PROFIT:
            price = order.limit_price if order.kind == Kind.LIMIT else order.trigger_price
            below = _BUYS_BELOW[Kind(order.kind)] is (order.side == "buy")
            return f"{'≤' if below else '≥'} {price}"
        case Kind.TRAILING_STOP:
            return f"{percent_text(order.trail_bps or 0)} back"
        case Kind.SNIPER:
            return "a launch"
        case Kind.TWAP:
            return f"slice {order.slices_begun} of {order.slices}"
        case _:
            return " or ".join(_leg_threshold(leg) for leg in order.legs)


def trigger_text(trigger: Trigger, pair: str | None) -> str:
    """Why an order fired."""
    parts = [trigger.kind]
    if trigger.price is not None:
        pair = trigger.pair or pair
        against = f", threshold {trigger.threshold}" if trigger.threshold is not None else ""
        best = f", best since armed {trigger.extreme}" if trigger.extreme is not None else ""
        parts.append(f"saw {_priced(trigger.price, pair or '')}{against}{best}")
    if trigger.mint is not None:
        passed = sum(verdict.passed for verdict in trigger.verdicts)
        judged = f", {passed} of {len(trigger.verdicts)} filters passed" if trigger.verdicts else ""
        parts.append(f"{trigger.mint}{judged}")
    if trigger.venue is not None:
        parts.append(trigger.venue)
    if trigger.slot is not None:
        parts.append(f"slot {trigger.slot}")
    if trigger.age_ms is not None:
        parts.append(f"{duration_text(round(trigger.age_ms * 1000))} old")
    return " · ".join(parts)


def percent_text(bps: int) -> str:
    return f"{bps / 100:g} %"


def _trigger_text(order: PendingDetail | OrderView) -> str | None:
    if order.trigger_price is None:
        return None
    return f"once at {_priced(order.trigger_price, order.pair)}"


def _slices_text(order: PendingDetail | OrderView) -> str | None:
    if order.slices is None:
        return None
    stops = ", ends at a failed one" if order.on_slice_failure is OnSliceFailure.STOP else ""
    return f"{order.slices} slices, {order.interval_seconds} s apart{stops}"


def _time_text(time_in_force: TimeInForce, expires_at: str | None) -> str | None:
    if time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
        return f"now or never ({time_in_force.value})"
    return f"until {expires_at}" if expires_at is not None else None


def _filters_text(filters: LaunchFilters) -> str:
    wanted = [
        f"liquidity from {filters.min_liquidity}" if filters.min_liquidity is not None else None,
        f"liquidity up to {filters.max_liquidity}" if filters.max_liquidity is not None else None,
        "mint authority revoked" if filters.mint_authority_revoked else None,
        "freeze authority revoked" if filters.freeze_authority_revoked else None,
        "LP burnt or locked" if filters.lp_burnt_or_locked else None,
        f"top holders {percent_text(filters.top_holders_max_bps)} at most"
        if filters.top_holders_max_bps is not None
        else None,
        f"{len(filters.creators_allowed)} creators allowed" if filters.creators_allowed else None,
        f"{len(filters.creators_denied)} creators denied" if filters.creators_denied else None,
        f"{filters.min_age_seconds} s old at least" if filters.min_age_seconds is not None else None,
        f"{filters.max_age_seconds} s old at most" if filters.max_age_seconds is not None else None,
        f"{filters.consecutive_passes} passes in a row" if filters.consecutive_passes > 1 else None,
    ]
    return ", ".join(each for each in wanted if each is not None) or "no filter"


def _exits_text(exits: ExitTerms) -> str:
    return "exits: " + ", ".join(f"{name.value} {_exit_text(leg)}" for name, leg in exits.legs())


def _exit_text(leg: ExitLeg) -> str:
    if leg.gain_bps is not None:
        return f"+{percent_text(leg.gain_bps)}"
    if leg.loss_bps is not None:
        return f"-{percent_text(leg.loss_bps)}"
    if leg.trail_bps is not None:
        return f"{percent_text(leg.trail_bps)} back"
    return f"at {leg.trigger_price}"


def _leg_text(leg: Leg, pair: str) -> str:
    if leg.trigger_price is None:
        return f"{leg.name.value} {percent_text(leg.trail_bps or 0)} back"
    return f"{leg.name.value} at {_priced(leg.trigger_price, pair)}"


def _leg_threshold(leg: Leg) -> str:
    return leg.trigger_price if leg.trigger_price is not None else f"{percent_text(leg.trail_bps or 0)} back"


def _priced(price: str, pair: str) -> str:
    base, slash, quote = pair.partition("/")
    return f"{price} {quote} per {base}" if slash and base != "*" else price
