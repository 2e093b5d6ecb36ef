"""What a follower takes for an order's end."""

import pytest

from bench.lanes import is_confirmation


@pytest.mark.parametrize(
    ("detail", "is_one"),
    [
        ('{"venue":"raydium","txHash":"a","amountIn":"1","commitment":"confirmed"}', True),
        ('{"venue":"raydium","txHash":"a","amountIn":"1","commitment":"finalized"}', True),  # seen late
        ('{"commitment":"finalized"}', False),
        ('{"commitment":"lost"}', False),
    ],
)
def test_the_first_confirmation_ends_an_order_and_a_note_does_not(detail: str, is_one: bool) -> None:
    update = f'{{"data":{{"orderId":"1","status":"confirmed","seq":5,"detail":{detail}}},"type":"update"}}'
    assert is_confirmation(update.encode()) is is_one
