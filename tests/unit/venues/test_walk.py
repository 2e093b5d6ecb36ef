"""The market's nature: the same from one seed for ever, continuous, as volatile as asked, never absurd."""

import math
import subprocess
import sys
from itertools import pairwise

import pytest

from bestex.venues.simulated.walk import BLOCK_S, Smooth, Walk, venue_spread

NOW_S = 1_800_000_000.0
DAY_S = 86_400
VOLATILITY = 0.04
WALK_HEX = ["0x1.d74df1c250fcfp-5", "0x1.d773c4f988420p-5"]
SPREAD_HEX = "-0x1.9028d0f0e2934p-6"


def deviation(values: list[float]) -> float:
    """The root of the mean square."""
    return math.sqrt(sum(value * value for value in values) / len(values))


# ---------------------------------------------------------------- Walk


def test_a_walk_is_the_same_in_any_order_and_after_a_restart() -> None:
    times = [NOW_S + offset * 977.3 for offset in range(600)]
    walk = Walk(7, "SOL/USDC", VOLATILITY)
    forwards = [walk.log_at(t_s) for t_s in times]
    assert [walk.log_at(t_s) for t_s in reversed(times)] == forwards[::-1]
    assert [Walk(7, "SOL/USDC", VOLATILITY).log_at(t_s) for t_s in times] == forwards


def test_a_walk_is_the_same_in_another_process() -> None:
    program = f"from bestex.venues.simulated.walk import Walk; print(Walk(7, 'a', 0.04).log_at({NOW_S}).hex())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert float.fromhex(other.stdout.strip()) == Walk(7, "a", VOLATILITY).log_at(NOW_S)


def test_a_walk_never_changes_between_versions() -> None:
    """A paper market that outlives an upgrade must not jump: a change here is a change of every market."""
    assert [Walk(1, "SOL/USDC", VOLATILITY).log_at(t_s).hex() for t_s in (NOW_S, NOW_S + 0.1)] == WALK_HEX
    assert venue_spread(1, "SOL/USDC", NOW_S).hex() == SPREAD_HEX


@pytest.mark.parametrize(("seed", "name"), [(8, "SOL/USDC"), (7, "SOL/USDT"), (-7, "SOL/USDC")])
def test_another_seed_or_name_walks_another_path(seed: int, name: str) -> None:
    assert Walk(seed, name, VOLATILITY).log_at(NOW_S) != Walk(7, "SOL/USDC", VOLATILITY).log_at(NOW_S)


@pytest.mark.parametrize("start_s", [NOW_S, -1_000.0, 3 * BLOCK_S - 1_000.0])
def test_a_walk_takes_small_steps_also_across_its_blocks(start_s: float) -> None:
    walk = Walk(7, "SOL/USDC", VOLATILITY)
    path = [walk.log_at(start_s + slot * 0.4) for slot in range(5_000)]
    steps = [abs(after - before) for before, after in pairwise(path)]
    typical = VOLATILITY * math.sqrt(0.4 / DAY_S)
    assert max(steps) < 6 * typical
    assert deviation(steps) == pytest.approx(typical, rel=0.15)


@pytest.mark.parametrize("joint_s", [3.0 * BLOCK_S, NOW_S, NOW_S + 0.25, -0.25])
def test_a_walk_has_no_jump_where_its_pieces_meet(joint_s: float) -> None:
    walk = Walk(7, "SOL/USDC", VOLATILITY)
    assert walk.log_at(joint_s - 1e-6) == pytest.approx(walk.log_at(joint_s), abs=1e-8)
    assert walk.log_at(joint_s + 1e-6) == pytest.approx(walk.log_at(joint_s), abs=1e-8)


def test_a_walk_is_straight_within_a_quarter_of_a_second() -> None:
    walk = Walk(7, "SOL/USDC", VOLATILITY)
    start, quarter, half, end = (walk.log_at(NOW_S + offset_s) for offset_s in (0.0, 0.0625, 0.125, 0.249999))
    assert start != end
    assert quarter == pytest.approx(start + (end - start) / 4, rel=1e-9, abs=1e-9)
    assert half == pytest.approx(start + (end - start) / 2, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("step_s", [1, 60, 3_600, DAY_S, 7 * DAY_S // 2])
def test_realised_volatility_is_the_one_asked_for_on_every_scale(step_s: int) -> None:
    changes = []
    for seed in range(20):
        walk = Walk(seed, "SOL/USDC", VOLATILITY)
        for sample in range(100):
            start_s = NOW_S + sample * BLOCK_S * 1.37
            changes.append(walk.log_at(start_s + step_s) - walk.log_at(start_s))
    assert deviation(changes) / math.sqrt(step_s / DAY_S) == pytest.approx(VOLATILITY, rel=0.06)


def test_changes_one_after_another_do_not_foretell_each_other() -> None:
    walk = Walk(7, "SOL/USDC", VOLATILITY)
    path = [walk.log_at(NOW_S + minute * 60) for minute in range(4_000)]
    changes = [after - before for before, after in pairwise(path)]
    products = [before * after for before, after in pairwise(changes)]
    assert abs(sum(products) / len(products)) < 0.06 * deviation(changes) ** 2


def test_a_walk_stays_near_its_base_for_years() -> None:
    path = [Walk(seed, "SOL/USDC", VOLATILITY).log_at(NOW_S + seed * 4 * DAY_S) for seed in range(1_000)]
    assert deviation(path) == pytest.approx(1.74 * VOLATILITY, rel=0.1)
    assert max(map(abs, path)) < 5 * 1.74 * VOLATILITY


def test_a_walk_forgets_what_it_need_not_remember() -> None:
    walk = Walk(7, "SOL/USDC", VOLATILITY)
    for hour in range(2_000):
        walk.log_at(NOW_S + hour * 3_600)
    assert len(walk._leaves) <= 256
    assert len(walk._coarse) <= 256


def test_no_volatility_is_a_flat_line() -> None:
    walk = Walk(7, "SOL/USDC", 0.0)
    assert {walk.log_at(NOW_S + hour * 3_600) for hour in range(100)} == {0.0}


@pytest.mark.parametrize("volatility", [-0.01, math.inf, math.nan])
def test_a_volatility_that_means_nothing_is_refused(volatility: float) -> None:
    with pytest.raises(ValueError, match="volatility_per_sqrt_day"):
        Walk(7, "SOL/USDC", volatility)


# ---------------------------------------------------------------- Smooth


def test_smooth_noise_fills_its_range_and_never_leaves_it() -> None:
    noise = Smooth(7, "depth", 60.0)
    values = [noise.at(NOW_S + second) for second in range(60_000)]
    assert -1 <= min(values) < -0.98
    assert 0.98 < max(values) <= 1


def test_smooth_noise_is_smooth() -> None:
    noise = Smooth(7, "depth", 60.0)
    step_s = 0.1
    values = [noise.at(NOW_S + step * step_s) for step in range(60_000)]
    slopes = [(after - before) / step_s for before, after in pairwise(values)]
    assert max(map(abs, slopes)) <= 3.75 / 60
    # also where two periods meet
    assert max(abs(after - before) for before, after in pairwise(slopes)) < 12 * step_s / 60**2


def test_smooth_noise_is_the_same_from_the_same_seed_only() -> None:
    assert Smooth(7, "depth", 60.0).at(NOW_S) == Smooth(7, "depth", 60.0).at(NOW_S)
    assert len({Smooth(seed, name, 60.0).at(NOW_S) for seed in (7, 8) for name in ("depth", "tilt")}) == 4


@pytest.mark.parametrize("period_s", [0.0, -1.0, math.inf, math.nan])
def test_a_period_that_means_nothing_is_refused(period_s: float) -> None:
    with pytest.raises(ValueError, match="period_s"):
        Smooth(7, "depth", period_s)


# ---------------------------------------------------------------- the venues' spread

SPREAD_STEP_S = 0.5
SPREADS = [
    [venue_spread(seed, "SOL/USDC", NOW_S + step * SPREAD_STEP_S) for step in range(24_000)] for seed in range(5)
]


def test_venues_differ_by_two_to_five_percent_nearly_always() -> None:
    magnitudes = [abs(spread) for spreads in SPREADS for spread in spreads]
    assert max(magnitudes) < 0.05
    assert sum(magnitude >= 0.02 for magnitude in magnitudes) / len(magnitudes) > 0.92
    assert max(magnitudes) - sorted(magnitudes)[len(magnitudes) // 5] > 0.015  # it drifts


def test_the_dearer_venue_changes_about_every_ten_minutes() -> None:
    hours = sum(map(len, SPREADS)) * SPREAD_STEP_S / 3_600
    flips = sum((before < 0) != (after < 0) for spreads in SPREADS for before, after in pairwise(spreads))
    assert flips / hours == pytest.approx(6, rel=0.1)


def test_the_spread_moves_slowly_enough_for_a_quote_to_hold() -> None:
    slopes = [abs(after - before) / SPREAD_STEP_S for spreads in SPREADS for before, after in pairwise(spreads)]
    assert max(slopes) < 0.0012


def test_neither_venue_is_dearer_on_the_whole() -> None:
    for spreads in SPREADS:
        assert 0.3 < sum(spread > 0 for spread in spreads) / len(spreads) < 0.7


def test_pairs_and_seeds_have_spreads_of_their_own() -> None:
    assert len({venue_spread(seed, pair, NOW_S) for seed in (1, 2) for pair in ("SOL/USDC", "RAY/SOL")}) == 4
    assert venue_spread(1, "SOL/USDC", NOW_S) == venue_spread(1, "SOL/USDC", NOW_S)
