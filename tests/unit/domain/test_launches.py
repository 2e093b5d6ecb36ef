"""The filters of launches: what each measures, and where it draws the line."""

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.launches import LP_SECURE_BPS, STANDARD_FILTERS, FilterVerdict, Launch, LaunchFilters, judge
from bestex.domain.tokens import Token, load_tokens

SOL = load_tokens().get("SOL")
LISTED_US = 1_750_000_000_000_000
LAUNCH = Launch(
    token=Token("mint", "mint", 6),
    name="Turbo Otter",
    ticker="OTTER",
    venue="raydium",
    pool="pool",
    quote=SOL,
    liquidity=50 * 10**9,
    mint_authority_revoked=True,
    freeze_authority_revoked=True,
    lp_burnt_bps=10_000,
    lp_locked_bps=0,
    top_holders_bps=1_500,
    creator="creator",
    listed_us=LISTED_US,
    slot=7,
)


def one(filters: LaunchFilters, now_us: int = LISTED_US, **changes: object) -> FilterVerdict:
    """The only verdict of filters that are one."""
    [verdict] = judge(filters, msgspec.structs.replace(LAUNCH, **changes), now_us)
    return verdict


def test_filters_that_are_not_set_judge_nothing() -> None:
    assert judge(LaunchFilters(), LAUNCH, LISTED_US) == ()
    assert judge(LaunchFilters(consecutive_passes=5), LAUNCH, LISTED_US) == ()


@pytest.mark.parametrize(
    ("filters", "good", "bad"),
    [
        (LaunchFilters(min_liquidity="50"), {"liquidity": 50 * 10**9}, {"liquidity": 50 * 10**9 - 1}),
        (LaunchFilters(max_liquidity="50"), {"liquidity": 50 * 10**9}, {"liquidity": 50 * 10**9 + 1}),
        (
            LaunchFilters(mint_authority_revoked=True),
            {"mint_authority_revoked": True},
            {"mint_authority_revoked": False},
        ),
        (
            LaunchFilters(freeze_authority_revoked=True),
            {"freeze_authority_revoked": True},
            {"freeze_authority_revoked": False},
        ),
        (
            LaunchFilters(lp_burnt_or_locked=True),
            {"lp_burnt_bps": LP_SECURE_BPS - 4_000, "lp_locked_bps": 4_000},
            {"lp_burnt_bps": LP_SECURE_BPS - 4_001, "lp_locked_bps": 4_000},
        ),
        (LaunchFilters(top_holders_max_bps=3_000), {"top_holders_bps": 3_000}, {"top_holders_bps": 3_001}),
        (LaunchFilters(top_holders_max_bps=0), {"top_holders_bps": 0}, {"top_holders_bps": 1}),
        (LaunchFilters(creators_allowed=("a", "b")), {"creator": "b"}, {"creator": "c"}),
        (LaunchFilters(creators_denied=("a", "b")), {"creator": "c"}, {"creator": "b"}),
        (LaunchFilters(min_age_seconds=5), {"listed_us": LISTED_US - 5_000_000}, {"listed_us": LISTED_US - 4_999_999}),
        (LaunchFilters(max_age_seconds=5), {"listed_us": LISTED_US - 5_000_000}, {"listed_us": LISTED_US - 5_000_001}),
    ],
)
def test_each_filter_passes_up_to_its_line_and_not_beyond(
    filters: LaunchFilters, good: Mapping[str, object], bad: Mapping[str, object]
) -> None:
    assert one(filters, LISTED_US, **good).passed
    assert not one(filters, LISTED_US, **bad).passed


@pytest.mark.parametrize(
    ("filters", "changes", "verdict"),
    [
        (
            LaunchFilters(min_liquidity="20.5"),
            {"liquidity": 10**9},
            FilterVerdict("minLiquidity", "20.5", "1", False),
        ),
        (
            LaunchFilters(mint_authority_revoked=True),
            {"mint_authority_revoked": False},
            FilterVerdict("mintAuthorityRevoked", "true", "false", False),
        ),
        (
            LaunchFilters(lp_burnt_or_locked=True),
            {"lp_burnt_bps": 1_000, "lp_locked_bps": 500},
            FilterVerdict("lpBurntOrLocked", "at least 9500 bps", "1500 bps", False),
        ),
        (LaunchFilters(creators_allowed=("a",)), {}, FilterVerdict("creatorsAllowed", "one of 1", "creator", False)),
        (
            LaunchFilters(max_age_seconds=1),
            {"listed_us": LISTED_US - 1_234_500},
            FilterVerdict("maxAgeSeconds", "1", "1.234", False),
        ),
    ],
)
def test_a_verdict_says_what_was_wanted_and_what_was_measured(
    filters: LaunchFilters, changes: Mapping[str, object], verdict: FilterVerdict
) -> None:
    assert one(filters, LISTED_US, **changes) == verdict


def test_a_creator_on_both_lists_is_allowed_and_denied() -> None:
    filters = LaunchFilters(creators_allowed=("creator",), creators_denied=("creator",))
    assert [verdict.passed for verdict in judge(filters, LAUNCH, LISTED_US)] == [True, False]


def test_a_pool_from_a_clock_that_is_ahead_has_no_age() -> None:
    verdict = one(LaunchFilters(min_age_seconds=1), LISTED_US - 5_000_000)
    assert (verdict.measured, verdict.passed) == ("0.0", False)


def test_the_standard_filters_pass_a_sound_launch_and_name_what_is_wrong_with_a_bad_one() -> None:
    assert all(verdict.passed for verdict in judge(STANDARD_FILTERS, LAUNCH, LISTED_US))
    bad = msgspec.structs.replace(LAUNCH, freeze_authority_revoked=False, top_holders_bps=6_000)
    failed = [verdict.filter for verdict in judge(STANDARD_FILTERS, bad, LISTED_US) if not verdict.passed]
    assert failed == ["freezeAuthorityRevoked", "topHoldersMaxBps"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "min_liquidity": st.just("1"),
            "max_liquidity": st.just("100"),
            "mint_authority_revoked": st.just(True),
            "freeze_authority_revoked": st.just(True),
            "lp_burnt_or_locked": st.just(True),
            "top_holders_max_bps": st.just(2_000),
            "creators_allowed": st.just(("creator",)),
            "creators_denied": st.just(("other",)),
            "min_age_seconds": st.just(0),
            "max_age_seconds": st.just(60),
        },
    )
)
def test_every_filter_that_is_set_has_one_verdict_named_as_clients_write_it(chosen: dict[str, object]) -> None:
    filters = LaunchFilters(**chosen)  # type: ignore[arg-type] # any mix of them
    verdicts = judge(filters, LAUNCH, LISTED_US)
    names = set(msgspec.to_builtins(filters))
    assert {verdict.filter for verdict in verdicts} == names - {"consecutivePasses"}
    assert len(verdicts) == len(chosen)
    assert all(verdict.passed for verdict in verdicts)
