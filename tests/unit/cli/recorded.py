"""Answers as the engine gives them, and what else the command line's tests share."""

import asyncio
import io
from typing import Any

import msgspec
from rich.console import Console, RenderableType

from bestex.cli.answers import Update
from bestex.cli.views.steps import Step, step_of

ORDER_ID = "01a20470-bc2f-7016-ae45-f9d2688ab31b"
SIGNATURE = "2Sv9pc3e6FTphNRaG7kSPQPVKCpQHMLM9P8bGHu5eCo4rEdxvVVJWconX5H8SaFpE5gGCGjcm1gn2cyiFBiUmaMp"

RAYDIUM: dict[str, Any] = {
    "venue": "raydium",
    "latencyMs": 205.9,
    "pool": "FJXAViwGJc1S5vuCDjr3WuAetQBz2QmoCVvwTSwcgLtW",
    "amountOut": "244.451776",
    "fee": "0.00375",
    "feeToken": "SOL",
    "priceImpactBps": 1,
    "netAmountOut": "244.449367",
    "chosen": True,
}
METEORA: dict[str, Any] = {
    "venue": "meteora",
    "latencyMs": 315.8,
    "pool": "4AUKrmQ9DgKvbnvB1vL2uTDKFQujC7gnKFqqhTPFU9Lg",
    "amountOut": "236.150595",
    "fee": "0.473248",
    "feeToken": "USDC",
    "priceImpactBps": 1,
    "netAmountOut": "236.148186",
    "reason": "pays 8.301181 USDC less (3.40 %)",
}
METEORA_LATE: dict[str, Any] = {
    "venue": "meteora",
    "latencyMs": 1000.2,
    "reason": "did not answer within 1000 ms",
    "error": "quote_timeout",
}
PENDING = {
    "kind": "market",
    "tokenIn": "SOL",
    "tokenOut": "USDC",
    "amount": "1.5",
    "slippageBps": 50,
    "pair": "SOL/USDC",
    "side": "sell",
}
BUILDING = {
    "venue": "raydium",
    "pool": RAYDIUM["pool"],
    "amountOut": "244.451776",
    "minAmountOut": "243.229518",
    "priceImpactBps": 1,
    "quotes": [RAYDIUM, METEORA],
    "wrapsSol": True,
}
SUBMITTED = {"venue": "raydium", "signature": SIGNATURE, "lastValidBlockHeight": 901}
CONFIRMED = {
    "venue": "raydium",
    "txHash": SIGNATURE,
    "amountIn": "1.5",
    "amountOut": "244.409472",
    "executedPrice": "162.939648",
    "slippageBps": 1.73,
    "feePaid": "0.000015",
    "commitment": "confirmed",
}


def update(seq: int, status: str, ms: int, detail: dict[str, Any], attempt: int = 1) -> dict[str, Any]:
    """An update `ms` milliseconds (below a minute) after the order was accepted."""
    return {
        "orderId": ORDER_ID,
        "status": status,
        "seq": seq,
        "attempt": attempt,
        "timestamp": f"2026-11-22T18:07:{ms // 1000:02d}.{ms % 1000:03d}Z",
        "detail": detail,
    }


HAPPY = [
    update(1, "pending", 0, PENDING, attempt=0),
    update(2, "routing", 3, {}),
    update(3, "building", 319, BUILDING),
    update(4, "submitted", 720, SUBMITTED),
    update(5, "confirmed", 2979, CONFIRMED),
]

_STORY_1 = {
    "attempt": 1,
    "code": "quote_timeout",
    "message": "no venue answered in time",
    "quotes": [METEORA_LATE],
}
_STORY_2 = {"attempt": 2, "code": "slippage_exceeded", "message": "pays 240, not 243.229518", "venue": "raydium"}
SLIPPED = [
    update(1, "pending", 0, PENDING, attempt=0),
    update(2, "routing", 3, {}),
    update(3, "routing", 1500, {"reason": "no venue answered in time", "previous": _STORY_1}, attempt=2),
    update(4, "building", 1800, BUILDING, attempt=2),
    update(
        5,
        "failed",
        2200,
        {"code": "slippage_exceeded", "message": "pays 240, not 243.229518", "attempts": [_STORY_1, _STORY_2]},
        attempt=2,
    ),
]

ORDER: dict[str, Any] = {
    "orderId": ORDER_ID,
    "kind": "market",
    "status": "confirmed",
    "seq": 5,
    "attempt": 1,
    "pair": "SOL/USDC",
    "side": "sell",
    "tokenIn": "SOL",
    "tokenOut": "USDC",
    "amount": "1.5",
    "slippageBps": 50,
    "createdAt": "2026-11-22T18:07:00.000Z",
    "updatedAt": "2026-11-22T18:07:02.979Z",
    "venue": "raydium",
    "txHash": SIGNATURE,
    "amountIn": "1.5",
    "amountOut": "244.409472",
    "executedPrice": "162.939648",
    "feePaid": "0.000015",
    "commitment": "confirmed",
}
FAILED_ORDER: dict[str, Any] = {
    **{name: value for name, value in ORDER.items() if not name.startswith(("amount", "executed", "fee", "tx"))},
    "amount": "1.5",
    "status": "failed",
    "attempt": 3,
    "failure": {"code": "slippage_exceeded", "message": "pays 240, not 243.229518", "attempts": []},
}
RECEIPT = {
    "orderId": ORDER_ID,
    "status": "confirmed",
    "attempts": [
        {
            "attempt": 1,
            "quotes": [RAYDIUM, METEORA],
            "venue": "raydium",
            "pool": RAYDIUM["pool"],
            "quotedAmountOut": "244.451776",
            "minAmountOut": "243.229518",
            "wrapsSol": True,
            "signature": SIGNATURE,
            "fill": {
                "amountIn": "1.5",
                "amountOut": "244.409472",
                "executedPrice": "162.939648",
                "slippageBps": 1.73,
                "feePaid": "0.000015",
            },
            "latencyMs": {
                "route": 316.0,
                "build": 401.0,
                "commit": 4.0,
                "send": 1.0,
                "land": 1804.0,
                "confirm": 450.0,
            },
        }
    ],
    "latencyMs": {"accept": 2.0, "queue": 1.0, "total": 2979.0},
}
QUOTES = {
    "tokenIn": "SOL",
    "tokenOut": "USDC",
    "amount": "1.5",
    "pair": "SOL/USDC",
    "quotes": [RAYDIUM, METEORA],
    "best": "raydium",
}
ACCEPTED = {
    "orderId": ORDER_ID,
    "statusEndpoint": f"/api/orders/{ORDER_ID}/status",
    "createdAt": "2026-11-22T18:07:00.000Z",
    "status": "pending",
}
NOT_FOUND = {"type": "/problems/order-not-found", "title": "There is no such order", "status": 404}
INVALID = {
    "type": "/problems/validation",
    "title": "The request has bad fields",
    "status": 422,
    "detail": "2 fields are bad",
    "errors": [
        {"detail": "unknown token", "pointer": "/tokenIn"},
        {"detail": "must be above zero", "pointer": "/amount"},
    ],
}

LAUNCH: dict[str, Any] = {
    "mint": "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs",
    "name": "Dog in a Hat",
    "ticker": "HAT",
    "venue": "raydium",
    "pool": "9wFF",
    "quote": "SOL",
    "listedAt": "2026-11-22T18:07:00.000Z",
    "seenAt": "2026-11-22T18:07:00.400Z",
    "slot": 77,
    "migratedFrom": None,
    "measured": {"liquidity": "12.5", "creator": "4Nd1"},
    "verdicts": [
        {
            "filters": {"minLiquidity": "20"},
            "orders": 0,
            "passed": False,
            "checks": [
                {"filter": "minLiquidity", "wanted": "20", "measured": "12.5", "passed": False},
                {"filter": "mintAuthorityRevoked", "wanted": "true", "measured": "true", "passed": True},
                {"filter": "freezeAuthorityRevoked", "wanted": "true", "measured": "false", "passed": False},
            ],
        },
        {"filters": {}, "orders": 2, "passed": True, "checks": []},
    ],
    "boughtBy": 2,
    "sinceListed": {"paid": "1", "worthNow": "1.23456789", "changePercent": 23.45},
}


def unavailable(code: str) -> dict[str, Any]:
    return {"type": f"/problems/{code}", "title": f"503 for {code}", "status": 503}


def steps(updates: list[dict[str, Any]]) -> list[Step]:
    return [step_of(msgspec.convert(raw_detail(each), Update)) for each in updates]


def raw_detail(each: dict[str, Any]) -> dict[str, Any]:
    return {**each, "detail": msgspec.Raw(msgspec.json.encode(each["detail"]))}


def printed(view: RenderableType, width: int = 80) -> str:
    """`view` as a terminal of `width` columns without colours shows it, without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(view)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


class HastyClock:
    """`Clock` that sleeps no time at all and remembers how long it should have."""

    def __init__(self, now_us: int = 1_795_370_820_000_000) -> None:
        self.at_us = now_us
        self.slept: list[float] = []

    def now_us(self) -> int:
        return self.at_us

    def monotonic(self) -> float:
        return self.at_us / 1e6

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
