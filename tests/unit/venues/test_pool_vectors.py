"""Swaps that the real programs executed come out of the pool math to the base unit."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bestex.venues.meteora import damm_v2
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from bestex.venues.raydium import cpmm

VECTORS = Path(__file__).parents[2] / "vectors"


def vectors_of(file_name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / file_name).read_text())["vectors"]
    return vectors


CPMM = vectors_of("raydium_cpmm.json")
CPMM_FOLLOWED = 77  # vectors whose successor in the file is the next swap on the same pool
DAMM_V2 = vectors_of("meteora_damm_v2.json")
DAMM_V2_FOLLOWED = 96


def test_every_vector_is_there() -> None:
    assert (len(CPMM), len(DAMM_V2)) == (150, 200)


@pytest.mark.parametrize("vector", CPMM, ids=lambda vector: f"{vector['kind']}-{vector['amount_in']}")
def test_cpmm_swaps_as_the_program_did(vector: dict[str, Any]) -> None:
    amount_in, amount_out = int(vector["amount_in"]), int(vector["amount_out"])
    pool = (int(vector["reserve_in"]), int(vector["reserve_out"]), vector["fee_rate_ppm"])
    match vector["kind"]:
        case "exact_in":
            computed, _fee = cpmm.swap_exact_in(amount_in, *pool)
            assert computed == amount_out
        case "exact_out":
            computed, _fee = cpmm.swap_exact_out(amount_out, *pool)
            assert computed == amount_in
        case kind:
            pytest.fail(f"a kind of vector that no test covers: {kind}")


def test_cpmm_fees_are_those_the_program_took() -> None:
    """Where a swap follows another on its pool, the reserves show what left: 12 % of its fee, and 4 %."""
    followed = 0
    for vector, following in pairwise(CPMM):
        sold, bought = int(vector["amount_in"]), int(vector["amount_out"])
        reserve_in, reserve_out = int(vector["reserve_in"]), int(vector["reserve_out"])
        next_in, next_out = int(following["reserve_in"]), int(following["reserve_out"])
        if following["zero_for_one"] != vector["zero_for_one"]:
            next_in, next_out = next_out, next_in
        if next_out != reserve_out - bought:
            continue  # another pool, or swaps in between
        if vector["kind"] == "exact_in":
            _out, fee = cpmm.swap_exact_in(sold, reserve_in, reserve_out, vector["fee_rate_ppm"])
        else:
            _in, fee = cpmm.swap_exact_out(bought, reserve_in, reserve_out, vector["fee_rate_ppm"])
        assert next_in == reserve_in + sold - fee * 12 // 100 - fee * 4 // 100
        followed += 1
    assert followed == CPMM_FOLLOWED


def damm_v2_swap(vector: dict[str, Any]) -> damm_v2.SwapResult:
    return damm_v2.swap_exact_in(
        int(vector["amount_in"]),
        int(vector["liquidity"]),
        int(vector["sqrt_price_x64"]),
        vector["a_to_b"],
        vector["fee_numerator"],
        CollectFeeMode(vector["collect_fee_mode"]),
    )


@pytest.mark.parametrize(
    "vector",
    DAMM_V2,
    ids=lambda vector: (
        f"{vector['collect_fee_mode']}-{'a_to_b' if vector['a_to_b'] else 'b_to_a'}-{vector['amount_in']}"
    ),
)
def test_damm_v2_swaps_as_the_program_did(vector: dict[str, Any]) -> None:
    assert vector["fee_denominator"] == damm_v2.FEE_DENOMINATOR
    assert damm_v2_swap(vector).amount_out == int(vector["amount_out"])


def test_damm_v2_leaves_the_price_that_the_program_left() -> None:
    """Where a swap follows another on its pool, it starts from the price that the other left."""
    followed = sum(
        damm_v2_swap(vector).next_sqrt_price == int(following["sqrt_price_x64"])
        for vector, following in pairwise(DAMM_V2)
    )
    assert followed == DAMM_V2_FOLLOWED
