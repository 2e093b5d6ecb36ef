"""The bodies that clients send, as OpenAPI describes them; what they hold is read field by field, see `fields`."""

from typing import Annotated, Final

import msgspec

from bestex.domain.launches import LaunchFilters
from bestex.domain.terms import ExitTerms, OnSliceFailure, TimeInForce

_Decimal = str | float


def _said(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class OrderBody(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What `POST /api/orders/execute` takes. Which fields an order may have, and which it must, depends on `kind`."""

    token_in: Annotated[str, msgspec.Meta(description="Symbol or mint address.", examples=["SOL"])]
    token_out: (
        Annotated[str, msgspec.Meta(description="Symbol or mint address; not of a sniper.", examples=["USDC"])] | None
    ) = None
    amount: Annotated[
        _Decimal,
        msgspec.Meta(description="In token units; text, or a JSON number read exactly.", examples=["1.5"]),
    ]
    kind: Annotated[
        str,
        _said("`market`, `limit`, `stop`, `takeProfit`, `trailingStop`, `sniper` or `twap`."),
    ] = "market"
    slippage_bps: (
        Annotated[
            int, msgspec.Meta(ge=0, le=10_000, description="Largest loss against the quote: 50, of a sniper 500.")
        ]
        | None
    ) = None
    client_order_id: (
        Annotated[str, msgspec.Meta(max_length=64, description="Yours; a second order with it is not made.")] | None
    ) = None
    limit_price: (
        Annotated[_Decimal, _said("No worse than this, in quote token per base token: limit, stop, takeProfit, twap.")]
        | None
    ) = None
    min_amount_out: Annotated[_Decimal, _said("The same as an amount of the output token: limit.")] | None = None
    trigger_price: (
        Annotated[_Decimal, _said("Executes once the price is as bad (stop), or as good (takeProfit).")] | None
    ) = None
    trail_bps: (
        Annotated[int, msgspec.Meta(ge=1, le=9_000, description="How far back from its best price: trailingStop.")]
        | None
    ) = None
    time_in_force: Annotated[TimeInForce, _said("`IOC` and `FOK`, which are the same: market and limit only.")] = (
        TimeInForce.GTC
    )
    expires_at: Annotated[str, _said("RFC 3339, at most 366 days from now; alone it means `GTT`.")] | None = None
    allow_immediate: Annotated[bool, _said("The price may be beyond the trigger already: stop, takeProfit.")] = False
    exits: Annotated[ExitTerms, _said("How the position is closed, by whichever comes first; not of twap.")] | None = (
        None
    )
    mint: Annotated[str, _said("The token that a sniper waits for.")] | None = None
    filters: Annotated[LaunchFilters, _said("What a new pool must pass for a sniper to buy.")] | None = None
    migrations: Annotated[bool, _said("A pool that moves to another venue counts as a new one: sniper.")] = False
    slices: Annotated[int, msgspec.Meta(ge=2, le=1_000, description="How many: twap.")] | None = None
    interval_seconds: (
        Annotated[int, msgspec.Meta(ge=1, le=86_400, description="Between the starts of two slices: twap.")] | None
    ) = None
    on_slice_failure: Annotated[OnSliceFailure, _said("Whether the slices behind a failed one begin: twap.")] = (
        OnSliceFailure.CONTINUE
    )


class BatchBody(msgspec.Struct, kw_only=True):
    """What `POST /api/orders/batch` takes."""

    orders: Annotated[list[OrderBody], msgspec.Meta(min_length=1, max_length=1_000)]


class ChangesBody(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What may be changed of an order that waits: one or more of these."""

    limit_price: _Decimal | None = None
    min_amount_out: _Decimal | None = None
    trigger_price: _Decimal | None = None
    expires_at: str | None = None
    slippage_bps: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None


class DeadManBody(msgspec.Struct, rename="camel", omit_defaults=True):
    """When resting orders are to be cancelled, unless that is said again before."""

    seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400, description="From now; 0 disarms.")]
    keep_stops: Annotated[bool, _said("Spare stops, trailing stops and exits.")] = False


ORDER_EXAMPLES: Final[dict[str, dict[str, object]]] = {
    "market": {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"},
    "limit": {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "kind": "limit", "limitPrice": "220"},
    "stop": {
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amount": "1.5",
        "kind": "stop",
        "triggerPrice": "120",
        "limitPrice": "118",
    },
    "takeProfit": {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "kind": "takeProfit", "triggerPrice": "250"},
    "trailingStop": {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "kind": "trailingStop", "trailBps": 500},
    "sniper": {
        "tokenIn": "SOL",
        "amount": "0.5",
        "kind": "sniper",
        "filters": {
            "minLiquidity": "20",
            "mintAuthorityRevoked": True,
            "freezeAuthorityRevoked": True,
            "lpBurntOrLocked": True,
            "topHoldersMaxBps": 3000,
        },
        "exits": {"takeProfit": {"gainBps": 5000}, "stopLoss": {"lossBps": 2000}},
    },
    "twap": {
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amount": "5",
        "kind": "twap",
        "slices": 5,
        "intervalSeconds": 2,
        "onSliceFailure": "continue",
    },
    "exits": {
        "tokenIn": "USDC",
        "tokenOut": "SOL",
        "amount": "300",
        "exits": {
            "takeProfit": {"gainBps": 500},
            "stopLoss": {"lossBps": 300},
            "trailingStop": {"trailBps": 200},
        },
    },
    "expiry": {
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amount": "1.5",
        "kind": "limit",
        "limitPrice": "220",
        "timeInForce": "GTT",
        "expiresAt": "2027-01-31T18:00:00Z",
    },
}
"""One for each kind, and for what entries may carry: the same ones as in the how-to guides."""
