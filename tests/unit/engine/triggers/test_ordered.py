"""A sequence in blocks is the sorted list that it stands for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bestex.engine.triggers.ordered import BLOCK_ITEMS, Ordered

MANY = 5 * BLOCK_ITEMS
SPREAD = 7919  # coprime to MANY's factors: visits every number in a scattered order


def by_number(number: int) -> tuple[int, int]:
    return number // 10, number


def scattered(count: int) -> list[int]:
    return [number * SPREAD % count for number in range(count)]


def test_many_items_come_in_one_by_one_and_stand_in_order() -> None:
    ordered = Ordered(by_number)
    for number in scattered(MANY):
        ordered.add(number)

    assert list(ordered) == list(range(MANY))
    assert (len(ordered), ordered.first()) == (MANY, 0)


def test_many_items_leave_one_by_one_and_the_rest_stay_in_order() -> None:
    ordered = Ordered(by_number, range(MANY))
    left = set(range(MANY))
    for number in scattered(MANY):
        ordered.remove(number)
        left.remove(number)
        if number % 97 == 0:
            assert list(ordered) == sorted(left)
    assert len(ordered) == 0
    assert list(ordered.after((-1, -1))) == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, MANY)), max_size=300), st.integers(-1, MANY))
def test_it_holds_what_was_added_and_not_removed_and_goes_on_behind_any_place(
    steps: list[tuple[bool, int]], place: int
) -> None:
    ordered = Ordered(by_number, range(0, MANY, 3))
    held = set(range(0, MANY, 3))
    for adds, number in steps:
        if adds and number not in held:
            ordered.add(number)
            held.add(number)
        elif not adds and number in held:
            ordered.remove(number)
            held.remove(number)
        elif not adds:
            try:
                ordered.remove(number)
            except KeyError:
                continue
            raise AssertionError("what was not there was removed")
    assert list(ordered) == sorted(held)
    assert list(ordered.after(by_number(place))) == sorted(number for number in held if number > place)


def test_a_few_and_many_of_another_one_are_added_alike() -> None:
    for count in (10, 2_000):
        ordered = Ordered(by_number, range(0, 2 * MANY, 2))
        ordered.add_all(Ordered(by_number, range(1, 2 * count, 2)))
        assert list(ordered) == sorted([*range(0, 2 * MANY, 2), *range(1, 2 * count, 2)])
