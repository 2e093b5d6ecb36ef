"""Which snipers a new pool makes fire, when it is looked at again, and what is kept of it."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bestex.domain.launches import STANDARD_FILTERS, Launch, LaunchFilters, judge
from bestex.domain.tokens import Token
from bestex.engine.triggers.snipers import (
    MAX_CANDIDATES,
    MAX_SETS_SHOWN,
    PASSES_WITHIN_US,
    Sighting,
    Snipers,
    launch_trigger,
)
from bestex.ports import RestingOrder
from tests.support.curves import SOL, USDC

NEW = Token("NewMint", "NewMint", 6)
LISTED_US = 1_000_000_000
GOOD = Launch(
    token=NEW, name="New", ticker="NEW", venue="raydium", pool="pool-1", quote=SOL, liquidity=50 * 10**9,
    mint_authority_revoked=True, freeze_authority_revoked=True, lp_burnt_bps=10_000, lp_locked_bps=0,
    top_holders_bps=1_000, creator="creator", listed_us=LISTED_US, slot=7,
)  # fmt: skip
ANY = LaunchFilters()
RICH = LaunchFilters(min_liquidity="51")
TWICE = LaunchFilters(mint_authority_revoked=True, consecutive_passes=2)
AGED = LaunchFilters(min_age_seconds=10, mint_authority_revoked=True)


def an_order(
    number: int,
    filters: LaunchFilters | None = None,
    mint: str | None = None,
    *,
    pay: Token = SOL,
    migrations: bool = False,
) -> RestingOrder:
    order_id = str(uuid.UUID(int=number))
    return RestingOrder(order_id, 2, "sniper", pay.symbol, "*", "1", mint=mint, filters=filters, migrations=migrations)


def waiting(*orders: RestingOrder) -> Snipers:
    snipers = Snipers()
    for order in orders:
        snipers.add(order, SOL if order.token_in == "SOL" else USDC)
    return snipers


def keys(sighting: Sighting) -> list[int]:
    return [match.sniper.key for match in sighting.matches]


def test_a_pool_is_bought_by_those_who_name_its_mint_and_by_those_whose_filters_it_passes() -> None:
    snipers = waiting(
        an_order(5, ANY),
        an_order(4, RICH),
        an_order(3, mint="NewMint"),
        an_order(2, mint="OtherMint"),
        an_order(1, ANY),
    )
    assert keys(snipers.launched(GOOD, LISTED_US)) == [1, 3, 5]


def test_who_names_a_mint_and_filters_wants_both() -> None:
    snipers = waiting(an_order(1, RICH, "NewMint"), an_order(2, ANY, "NewMint"), an_order(3, ANY, "OtherMint"))
    assert keys(snipers.launched(GOOD, LISTED_US)) == [2]


def test_only_those_buy_who_pay_what_the_pool_sells_for() -> None:
    snipers = waiting(an_order(1, ANY, pay=USDC), an_order(2, mint="NewMint", pay=USDC), an_order(3, ANY))
    assert keys(snipers.launched(GOOD, LISTED_US)) == [3]


def test_a_migration_is_bought_by_those_who_asked_for_it() -> None:
    snipers = waiting(
        an_order(1, ANY), an_order(2, ANY, migrations=True), an_order(3, mint="NewMint"),
        an_order(4, mint="NewMint", migrations=True),
    )  # fmt: skip
    moved = replace(GOOD, migrated_from="meteora", pool="pool-2")

    assert keys(snipers.launched(moved, LISTED_US)) == [2, 4]
    assert keys(snipers.launched(GOOD, LISTED_US)) == [1, 2, 3, 4]


def test_who_left_does_not_buy() -> None:
    snipers = waiting(an_order(1, ANY), an_order(2, ANY), an_order(3, mint="NewMint"))
    removed = snipers.remove(an_order(1).order_id)
    snipers.remove(an_order(3).order_id)

    assert removed is not None
    assert removed.key == 1
    assert snipers.remove(an_order(1).order_id) is None
    assert (len(snipers), an_order(2).order_id in snipers) == (1, True)
    assert keys(snipers.launched(GOOD, LISTED_US)) == [2]


def test_who_changes_his_terms_waits_on_the_new_ones_only() -> None:
    snipers = waiting(an_order(1, ANY))
    snipers.add(replace(an_order(1, RICH), seq=3), SOL)

    assert len(snipers) == 1
    assert keys(snipers.launched(GOOD, LISTED_US)) == []
    assert snipers.launched(replace(GOOD, liquidity=10**12), LISTED_US).matches[0].sniper.seq == 3


def test_a_set_of_filters_is_judged_once_and_the_standard_ones_come_first() -> None:
    snipers = waiting(an_order(1, ANY), an_order(2, RICH), an_order(3, RICH), an_order(4, ANY, pay=USDC))
    verdicts = snipers.launched(GOOD, LISTED_US).verdicts

    assert [(verdict.filters, verdict.orders, verdict.passed) for verdict in verdicts] == [
        (STANDARD_FILTERS, 0, True),
        (RICH, 2, False),
        (ANY, 1, True),
    ]
    assert verdicts[1].checks == judge(RICH, GOOD, LISTED_US)


def test_the_verdicts_kept_of_a_pool_are_bounded() -> None:
    sets = [LaunchFilters(min_liquidity=str(1_000 + number)) for number in range(2 * MAX_SETS_SHOWN)]
    snipers = waiting(*(an_order(number, filters) for number, filters in enumerate(sets)))
    assert len(snipers.launched(GOOD, LISTED_US).verdicts) == MAX_SETS_SHOWN


def test_consecutive_passes_are_counted_slot_by_slot_and_begin_anew_after_a_failure() -> None:
    snipers = waiting(an_order(1, replace(TWICE, consecutive_passes=3)))
    bad = replace(GOOD, mint_authority_revoked=False)
    steps = [(GOOD, 7, "1"), (GOOD, 7, "1"), (GOOD, 8, "2"), (bad, 9, "0"), (GOOD, 10, "1"), (GOOD, 11, "2")]
    for number, (launch, slot, count) in enumerate(steps):
        look = snipers.looked_again if number else snipers.launched
        sighting = look(replace(launch, slot=slot), LISTED_US + number)
        assert (keys(sighting), sighting.is_candidate) == ([], True)
        assert sighting.verdicts[1].checks[-1].measured == count

    sighting = snipers.looked_again(replace(GOOD, slot=12), LISTED_US + 9)
    assert (keys(sighting), sighting.is_candidate) == ([1], False)
    assert sighting.verdicts[1].passed
    assert snipers.due(LISTED_US + 10**9) == []


def test_a_pool_that_never_passes_often_enough_is_given_up() -> None:
    snipers = waiting(an_order(1, TWICE))
    bad = replace(GOOD, mint_authority_revoked=False)
    assert snipers.launched(bad, LISTED_US).is_candidate
    assert snipers.looked_again(replace(bad, slot=8), LISTED_US + PASSES_WITHIN_US - 1).is_candidate
    assert not snipers.looked_again(replace(bad, slot=9), LISTED_US + PASSES_WITHIN_US).is_candidate


def test_a_pool_that_is_too_young_is_looked_at_when_it_is_old_enough() -> None:
    snipers = waiting(an_order(1, AGED))
    of_age_us = LISTED_US + 10_000_000
    young = snipers.launched(replace(GOOD, mint_authority_revoked=False), LISTED_US)
    assert (keys(young), young.is_candidate) == ([], True)
    assert snipers.due(of_age_us - 1) == []
    assert snipers.due(of_age_us) == ["pool-1"]

    assert keys(snipers.looked_again(replace(GOOD, slot=30), of_age_us)) == [1]


def test_a_pool_that_is_old_enough_and_does_not_pass_is_not_looked_at_again() -> None:
    snipers = waiting(an_order(1, AGED))
    assert not snipers.launched(replace(GOOD, mint_authority_revoked=False), LISTED_US + 10_000_000).is_candidate


def test_a_pool_that_nobody_waits_for_is_no_candidate() -> None:
    snipers = waiting(an_order(1, TWICE))
    assert snipers.launched(GOOD, LISTED_US).is_candidate
    snipers.remove(an_order(1).order_id)
    assert not snipers.looked_again(replace(GOOD, slot=8, mint_authority_revoked=False), LISTED_US).is_candidate


def test_who_comes_while_a_pool_is_a_candidate_buys_with_the_others() -> None:
    snipers = waiting(an_order(2, TWICE))
    snipers.launched(GOOD, LISTED_US)
    snipers.add(an_order(1, TWICE), SOL)
    assert keys(snipers.looked_again(replace(GOOD, slot=8), LISTED_US)) == [1, 2]


def test_candidates_are_bounded_and_the_oldest_are_given_up() -> None:
    snipers = waiting(an_order(1, TWICE))
    for number in range(MAX_CANDIDATES + 1):
        assert snipers.launched(replace(GOOD, pool=f"pool-{number}"), LISTED_US).is_candidate
    due = snipers.due(LISTED_US)
    assert len(due) == MAX_CANDIDATES
    assert "pool-0" not in due

    snipers.forget("pool-1")
    assert "pool-1" not in snipers.due(LISTED_US)
    with pytest.raises(KeyError):
        snipers.looked_again(replace(GOOD, pool="pool-1"), LISTED_US)


@pytest.mark.parametrize("liquidity", ["much", "0.0000000001"])
def test_who_wants_nothing_or_what_cannot_be_read_is_refused_when_he_comes(liquidity: str) -> None:
    snipers = Snipers()
    with pytest.raises(ValueError, match="neither a mint nor filters"):
        snipers.add(an_order(1), SOL)
    with pytest.raises(ValueError, match="decimal"):
        snipers.add(an_order(1, LaunchFilters(min_liquidity=liquidity)), SOL)
    assert len(snipers) == 0


def test_the_story_names_the_token_and_the_verdicts() -> None:
    [match] = waiting(an_order(1, LaunchFilters(min_liquidity="1"))).launched(GOOD, LISTED_US).matches
    story = launch_trigger(match, GOOD, LISTED_US + 2_500)

    assert (story.kind, story.mint, story.decimals, story.pair) == ("launch", "NewMint", 6, "NewMint/SOL")
    assert (story.venue, story.pool, story.slot, story.age_ms) == ("raydium", "pool-1", 7, 2.5)
    assert [(check.filter, check.passed) for check in story.verdicts] == [("minLiquidity", True)]
    assert launch_trigger(match, replace(GOOD, migrated_from="meteora"), LISTED_US).kind == "migration"


FILTERS = st.sampled_from(
    [None, ANY, RICH, STANDARD_FILTERS, LaunchFilters(top_holders_max_bps=500), LaunchFilters(creators_denied=("x",))]
)
WISHES = st.tuples(FILTERS, st.sampled_from([None, "NewMint", "Other"]), st.booleans(), st.booleans())


@given(
    st.lists(WISHES.filter(lambda wish: wish[0] is not None or wish[1] is not None), max_size=30),
    st.sets(st.integers(0, 29)),
    st.integers(1, 100),
    st.sampled_from(["x", "y"]),
    st.sampled_from([None, "meteora"]),
)
def test_the_index_finds_whom_asking_each_one_would_find(
    wishes: list[tuple[LaunchFilters | None, str | None, bool, bool]],
    gone: set[int],
    liquidity: int,
    creator: str,
    migrated_from: str | None,
) -> None:
    launch = replace(GOOD, liquidity=liquidity * 10**9, creator=creator, migrated_from=migrated_from)
    orders = [
        an_order(number, filters, mint, pay=USDC if pays_usdc else SOL, migrations=migrations)
        for number, (filters, mint, pays_usdc, migrations) in enumerate(wishes)
    ]
    snipers = waiting(*orders)
    for number in gone & set(range(len(orders))):
        snipers.remove(orders[number].order_id)

    assert keys(snipers.launched(launch, LISTED_US)) == [
        number
        for number, (filters, mint, pays_usdc, migrations) in enumerate(wishes)
        if number not in gone
        and not pays_usdc
        and mint in (None, "NewMint")
        and (migrations or migrated_from is None)
        and (filters is None or all(check.passed for check in judge(filters, launch, LISTED_US)))
    ]
