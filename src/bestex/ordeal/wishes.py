"""What clients wish for: orders of every kind, at prices so near the market's that most of them come to pass."""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from bestex.domain.events import timestamp_text

Body = dict[str, object]

SWAPS: Final = (("SOL", "USDC", 0.05, 0.5), ("SOL", "USDT", 0.05, 0.5), ("USDC", "SOL", 5.0, 60.0))
"""Token in, token out, least and most amount."""

NEAR: Final = 0.03
"""The farthest that an order's price is from the market's, as a share of it."""
FAR: Final = (0.1, 0.2)
"""Of orders that must not fire as they come: farther than the price moves within the time that a request takes."""
EXITS: Final = (("takeProfit", "gainBps"), ("stopLoss", "lossBps"), ("trailingStop", "trailBps"))
EXIT_BPS: Final = (10, 300)
EXPIRES_IN_S: Final = (1.0, 10.0)
EXITS_CHANCE: Final = 0.2  # that an order which may have exits asks for them
LIMIT_CHANCE: Final = 0.3  # that an order which may have a limit says one
IMMEDIATE_CHANCE: Final = 0.7  # that an order may be beyond its trigger as it comes
MIGRATIONS_CHANCE: Final = 0.3

FILTERS: Final[tuple[Body, ...]] = (
    {},
    {"minLiquidity": "20", "mintAuthorityRevoked": True, "freezeAuthorityRevoked": True, "lpBurntOrLocked": True},
    {"maxAgeSeconds": 600, "consecutivePasses": 2},
    {"topHoldersMaxBps": 3_000},
)


class Wishes:
    """One client's, all from its chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._kinds: Final[tuple[tuple[int, Callable[[Body, Decimal], None]], ...]] = (
            (50, self._market),
            (16, self._limit),
            (8, self._stop),
            (8, self._take_profit),
            (8, self._trailing_stop),
            (4, self._twap),
            (6, self._sniper),
        )

    def order(self, price: Decimal | None, now_us: int) -> Body:
        """The body of the next order; `price` is what one SOL costs, None: not known yet."""
        chance = self._chance
        token_in, token_out, least, most = chance.choice(SWAPS)
        body: Body = {
            "tokenIn": token_in,
            "tokenOut": token_out,
            "amount": f"{chance.uniform(least, most):.4f}",
            "slippageBps": chance.choice((100, 300, 1_000)),
        }
        if price is None:
            return body
        weights, makers = zip(*self._kinds, strict=True)
        [make] = chance.choices(makers, weights)
        make(body, price)
        if body.get("kind") != "twap" and chance.random() < EXITS_CHANCE:
            body["exits"] = self._exits()
        if "timeInForce" not in body and chance.random() < 0.1:
            body |= self._expiry(now_us)
        return body

    def change(self, body: Body, price: Decimal | None) -> Body | None:
        """A change of the order with this body; None where its kind has no price to change."""
        if price is None:
            return None
        if body.get("kind") == "limit":
            return {"limitPrice": self._price(body, price, self._chance.uniform(0, NEAR))}
        if body.get("kind") == "stop" and body.get("allowImmediate"):
            return {"triggerPrice": self._price(body, price, -self._chance.uniform(0, NEAR))}
        return None

    def _market(self, body: Body, price: Decimal) -> None:
        """Nothing but what every order says."""

    def _limit(self, body: Body, price: Decimal) -> None:
        body |= {"kind": "limit", "limitPrice": self._price(body, price, self._chance.uniform(-NEAR / 6, NEAR))}
        if self._chance.random() < 0.25:
            body["timeInForce"] = self._chance.choice(("IOC", "FOK"))

    def _stop(self, body: Body, price: Decimal) -> None:
        share = self._waiting(body)
        body |= {"kind": "stop", "triggerPrice": self._price(body, price, -share)}
        if self._chance.random() < LIMIT_CHANCE:
            body["limitPrice"] = self._price(body, price, -share - NEAR)

    def _take_profit(self, body: Body, price: Decimal) -> None:
        body |= {"kind": "takeProfit", "triggerPrice": self._price(body, price, self._waiting(body))}

    def _trailing_stop(self, body: Body, price: Decimal) -> None:
        body |= {"kind": "trailingStop", "trailBps": self._chance.randint(*EXIT_BPS)}

    def _twap(self, body: Body, price: Decimal) -> None:
        body |= {
            "kind": "twap",
            "slices": self._chance.randint(2, 4),
            "intervalSeconds": 1,
            "onSliceFailure": self._chance.choice(("continue", "stop")),
        }
        if self._chance.random() < LIMIT_CHANCE:
            body["limitPrice"] = self._price(body, price, -self._chance.uniform(0, NEAR))

    def _sniper(self, body: Body, price: Decimal) -> None:
        del body["tokenOut"]
        body |= {
            "kind": "sniper",
            "tokenIn": "SOL",
            "amount": f"{self._chance.uniform(0.05, 0.5):.4f}",
            "filters": self._chance.choice(FILTERS),
            "migrations": self._chance.random() < MIGRATIONS_CHANCE,
        }

    def _exits(self) -> Body:
        chance = self._chance
        exits = chance.sample(EXITS, chance.randint(1, len(EXITS)))
        return {name: {share: chance.randint(*EXIT_BPS)} for name, share in exits}

    def _expiry(self, now_us: int) -> Body:
        return {"expiresAt": timestamp_text(now_us + round(self._chance.uniform(*EXPIRES_IN_S) * 1e6))}

    def _waiting(self, body: Body) -> float:
        """How far the market is from an order's trigger: one that comes too near must say that it may fire at once."""
        if self._chance.random() < IMMEDIATE_CHANCE:
            body["allowImmediate"] = True
            return self._chance.uniform(0, NEAR)
        return self._chance.uniform(*FAR)

    @staticmethod
    def _price(body: Body, price: Decimal, better: float) -> str:
        """The price that is so much better than the market's for the order: higher for a seller, lower for a buyer."""
        share = better if body["tokenIn"] == "SOL" else -better
        return f"{price * (1 + Decimal(f'{share:.6f}')):.6f}"
