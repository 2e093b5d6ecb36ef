"""Which orders are taken up first."""

from typing import Final

from bestex.domain.terms import Kind

SIGNED: Final = 0
"""A transaction of it may land or be final yet, and nobody looks after it."""

_BY_KIND: Final[dict[str, int]] = {
    Kind.SNIPER: 1,
    Kind.STOP: 2,
    Kind.TRAILING_STOP: 2,
    Kind.EXITS: 2,
    Kind.TAKE_PROFIT: 3,
    Kind.LIMIT: 4,
}
_OTHERS: Final = 5
_SLICES: Final = 6  # they have all the time that their parent was given


def priority_of(kind: str, parent_id: str | None) -> int:
    """The smallest is taken up first. The append function says the same."""
    return _BY_KIND.get(kind, _OTHERS if parent_id is None else _SLICES)
