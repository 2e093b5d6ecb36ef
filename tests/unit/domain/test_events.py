"""Details and times come back from the form they are kept and shown in."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.events import (
    SignedTransaction,
    decode_detail,
    encode_detail,
    seal,
    timestamp_text,
    unseal,
    update_of,
)
from bestex.domain.lifecycle import Status
from tests.support.histories import DETAIL
from tests.support.orders import DETAILS, DraftOrder


@given(st.sampled_from(list(DETAIL)).flatmap(lambda status: st.tuples(st.just(status), DETAIL[status])))
def test_every_detail_comes_back_as_it_was(case: tuple[Status, object]) -> None:
    status, detail = case
    assert decode_detail(status, encode_detail(detail)) == detail  # type: ignore[arg-type]


@pytest.mark.parametrize("status", list(DETAILS))
def test_every_detail_is_a_json_object_in_camel_case(status: Status) -> None:
    shown = msgspec.json.decode(encode_detail(DETAILS[status]))

    assert isinstance(shown, dict)
    assert not [name for name in shown if "_" in name]


@given(st.builds(SignedTransaction, st.text(), st.binary(), st.text(), st.integers(0, 2**63), st.integers(0, 2**63)))
def test_a_sealed_transaction_comes_back_to_the_byte(transaction: SignedTransaction) -> None:
    assert unseal(seal(transaction)) == transaction


@given(st.integers(0, 4_102_444_800_000_000))
def test_a_timestamp_is_utc_to_the_millisecond_never_ahead_of_time(at_us: int) -> None:
    text = timestamp_text(at_us)

    assert len(text) == len("2026-01-02T03:04:05.678Z")
    shown = datetime.fromisoformat(text)
    assert shown.tzinfo == UTC
    assert round(shown.timestamp() * 1000) == at_us // 1000


def test_an_update_is_what_watchers_get_without_what_is_sealed() -> None:
    draft = DraftOrder()
    draft.add((Status.PENDING, DETAILS[Status.PENDING]), sealed=b"secret")

    assert msgspec.json.decode(msgspec.json.encode(update_of(draft.events[0]))) == {
        "orderId": draft.id,
        "status": "pending",
        "seq": 1,
        "attempt": 0,
        "timestamp": "2025-06-15T15:06:40.123Z",
        "detail": {
            "kind": "market",
            "tokenIn": "SOL",
            "tokenOut": "USDC",
            "amount": "1.5",
            "slippageBps": 50,
            "pair": "SOL/USDC",
            "side": "sell",
        },
    }
