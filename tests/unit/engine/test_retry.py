"""Which failures are tried again, how often, and after which pause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.errors import FailureCode, OrderError
from bestex.engine.retry import RETRIED, RetryPolicy

POLICY = RetryPolicy()


def error_classes() -> list[type[OrderError]]:
    return OrderError.__subclasses__()


def test_every_failure_code_is_decided() -> None:
    assert set(RETRIED) == set(FailureCode)


def test_every_error_of_an_attempt_carries_a_code_that_is_decided() -> None:
    assert {error.code for error in error_classes()} <= set(RETRIED)
    # No errors of a step: landing proves them, slices end with them, a person decides, or the engine is at fault.
    others = {
        FailureCode.BLOCKHASH_EXPIRED,
        FailureCode.TRANSACTION_FAILED,
        FailureCode.SLICES_FAILED,
        FailureCode.RESOLVED,
        FailureCode.INTERNAL,
    }
    assert set(FailureCode) - {error.code for error in error_classes()} == others


@pytest.mark.parametrize("code", ["quote_timeout", "venue_down", "slippage_exceeded", "blockhash_expired"])
def test_what_may_pass_is_tried_three_times(code: str) -> None:
    assert [POLICY.allows(attempt, FailureCode(code)) for attempt in (1, 2, 3, 4)] == [True, True, False, False]


@pytest.mark.parametrize("code", ["insufficient_funds", "unknown_token", "no_route", "internal"])
def test_what_will_not_pass_is_not_tried_again(code: str) -> None:
    assert not POLICY.allows(1, FailureCode(code))


@pytest.mark.parametrize("code", [code for code in FailureCode if RETRIED[code]])
def test_a_policy_of_one_attempt_never_tries_again(code: FailureCode) -> None:
    assert not RetryPolicy(attempts=1).allows(1, code)


def test_pauses_grow_exponentially() -> None:
    steady = RetryPolicy(base_s=0.5, factor=2.0, max_s=10.0, jitter=0.0)
    assert [steady.pause_s(attempt, 0.7) for attempt in range(1, 8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_orders_do_not_come_back_in_step() -> None:
    assert POLICY.pause_s(1, 0.0) == pytest.approx(0.45)
    assert POLICY.pause_s(1, 0.5) == pytest.approx(0.5)
    assert POLICY.pause_s(1, 0.999) < 0.55


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_never_longer_than_its_bound_and_half_the_jitter(attempt: int, fraction: float) -> None:
    assert 0 < POLICY.pause_s(attempt, fraction) <= POLICY.max_s * (1 + POLICY.jitter / 2)
