"""Read what clients do to resting orders: change one, or tie all of them to a dead-man switch."""

from typing import Final

import msgspec

from bestex.api.fields import Fields, bad_fields, read_object
from bestex.api.order_exits import MAX_SLIPPAGE_BPS
from bestex.api.order_terms import read_expiry
from bestex.api.problems import FieldProblem
from bestex.domain.events import Changes
from bestex.domain.money import format_amount
from bestex.domain.tokens import Token

CHANGE_FIELDS: Final = ("limitPrice", "minAmountOut", "triggerPrice", "expiresAt", "slippageBps")
MAX_DEAD_MAN_S: Final = 86_400


def read_changes(body: bytes, token_out: Token | None, now_us: int | None) -> Changes:
    """The changes in a request body. `ProblemError` with every bad field.

    `token_out` is the order's, `now_us` what its expiry is held against: what needs one that is None is not checked.
    """
    fields = Fields(read_object(body), CHANGE_FIELDS)
    if not fields.values:
        nothing = FieldProblem(f"says no change; say one or more of {', '.join(CHANGE_FIELDS)}", "")
        raise bad_fields((nothing,))
    if "limitPrice" in fields and "minAmountOut" in fields:
        fields.bad("minAmountOut", "says the same as limitPrice: leave one of them out")
    units = fields.amount("minAmountOut", token_out, required=False)
    changes = Changes(
        limit_price=fields.price_text("limitPrice"),
        min_amount_out=format_amount(units, token_out.decimals) if units and token_out is not None else None,
        trigger_price=fields.price_text("triggerPrice"),
        expires_at=read_expiry(fields, now_us),
        slippage_bps=fields.optional_whole("slippageBps", 0, MAX_SLIPPAGE_BPS),
    )
    fields.finish()
    return changes


class DeadManWish(msgspec.Struct, frozen=True):
    """How a dead-man switch is to stand."""

    seconds: int  # until it strikes; 0: disarmed
    keeps_stops: bool


def read_dead_man(body: bytes) -> DeadManWish:
    """`{"seconds", "keepStops"}`. `ProblemError` with every bad field."""
    fields = Fields(read_object(body), ("seconds", "keepStops"))
    seconds = fields.optional_whole("seconds", 0, MAX_DEAD_MAN_S, required=True)
    wish = DeadManWish(seconds or 0, fields.flag("keepStops"))
    fields.finish()
    return wish
