"""Open-loop arrivals."""

from bench.generator import poisson_offsets


def test_arrivals_come_at_the_rate_and_the_same_again_from_a_seed() -> None:
    offsets = list(poisson_offsets(1_000, 10.0, seed=1))
    assert 9_500 < len(offsets) < 10_500
    assert offsets == sorted(offsets)
    assert offsets[-1] < 10_000_000_000
    assert offsets == list(poisson_offsets(1_000, 10.0, seed=1))
    assert offsets != list(poisson_offsets(1_000, 10.0, seed=2))
