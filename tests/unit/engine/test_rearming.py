"""What becomes of an order whose attempt was given up."""

from typing import Any

import pytest

from bestex.domain.errors import FailureCode
from bestex.domain.order_state import OrderState
from bestex.domain.orders import Order
from bestex.domain.terms import Kind, Terms, TimeInForce
from bestex.domain.tokens import load_tokens
from bestex.engine.rearming import Next, RearmPolicy, next_step
from bestex.engine.retry import RetryPolicy

TOKENS = load_tokens()
_C = FailureCode
IOC: dict[str, Any] = {"time_in_force": TimeInForce.IOC}
EXPIRED: dict[str, Any] = {"expires_at": "1970-01-01T00:00:01Z"}


@pytest.mark.parametrize(
    ("kind", "terms", "attempt", "code", "expected"),
    [
        (Kind.MARKET, {}, 1, _C.QUOTE_TIMEOUT, Next.TRY_AGAIN),
        (Kind.MARKET, {}, 3, _C.QUOTE_TIMEOUT, Next.FAIL),
        (Kind.MARKET, {}, 1, _C.NO_ROUTE, Next.FAIL),
        (Kind.MARKET, EXPIRED, 1, _C.QUOTE_TIMEOUT, Next.EXPIRE),
        (Kind.LIMIT, {}, 1, _C.LIMIT_NOT_MET, Next.WAIT_AGAIN),
        (Kind.LIMIT, {}, 1, _C.SLIPPAGE_EXCEEDED, Next.TRY_AGAIN),
        (Kind.LIMIT, {}, 3, _C.SLIPPAGE_EXCEEDED, Next.WAIT_AGAIN),
        (Kind.LIMIT, {}, 3, _C.INSUFFICIENT_FUNDS, Next.FAIL),
        (Kind.LIMIT, IOC, 1, _C.LIMIT_NOT_MET, Next.EXPIRE),
        (Kind.LIMIT, IOC, 1, _C.INSUFFICIENT_FUNDS, Next.FAIL),
        (Kind.STOP, {}, 3, _C.BLOCKHASH_EXPIRED, Next.WAIT_AGAIN),
        (Kind.SNIPER, {}, 3, _C.SLIPPAGE_EXCEEDED, Next.FAIL),
        (Kind.EXITS, {}, 3, _C.SLIPPAGE_EXCEEDED, Next.WAIT_AGAIN),
        (Kind.EXITS, {}, 1, _C.INSUFFICIENT_FUNDS, Next.WAIT_AGAIN),
        (Kind.EXITS, {}, 1, _C.INTERNAL, Next.WAIT_AGAIN),
        (Kind.EXITS, {}, 1, _C.UNKNOWN_TOKEN, Next.FAIL),
    ],
)
def test_what_it_does_next(kind: Kind, terms: dict[str, Any], attempt: int, code: FailureCode, expected: Next) -> None:
    order = Order("id", kind, TOKENS.get("SOL"), TOKENS.get("USDC"), 1, 50, 0, terms=Terms(**terms))
    state = OrderState()
    state.attempt, state.fired = attempt, 1
    assert next_step(order, state, code, RetryPolicy(), 2_000_000) is expected


def test_attempts_count_from_the_last_time_it_fired() -> None:
    order = Order("id", Kind.LIMIT, TOKENS.get("SOL"), TOKENS.get("USDC"), 1, 50, 0)
    state = OrderState()
    state.fired, state.first_attempt = 2, 4
    for attempt, expected in ((4, Next.TRY_AGAIN), (5, Next.TRY_AGAIN), (6, Next.WAIT_AGAIN)):
        state.attempt = attempt
        assert next_step(order, state, _C.QUOTE_STALE, RetryPolicy(), 0) is expected


def test_a_cancel_goes_before_everything() -> None:
    order = Order("id", Kind.EXITS, TOKENS.get("SOL"), TOKENS.get("USDC"), 1, 50, 0, terms=Terms(**EXPIRED))
    state = OrderState()
    state.attempt, state.fired, state.cancel_requested = 1, 1, True
    assert next_step(order, state, _C.QUOTE_STALE, RetryPolicy(), 2_000_000) is Next.CANCEL


def test_the_pause_doubles_and_has_an_end() -> None:
    policy = RearmPolicy()
    assert [policy.pause_s(fired) for fired in (1, 2, 3, 7, 8, 10_000)] == [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]
