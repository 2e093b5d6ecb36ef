"""Which watched orders this process fires: all of them, alone, or those in the books whose leases it has.

- A book's key is its pair's name. Snipers, whose pair is not known yet, share one with the launches; the dead-man
  switches have another. No pair can be called as these: a pair's name has a slash.
- A lease is good until `BOOK_LEASE_S` after its renewal was sent, by this process's own clock: whoever takes it over
  waits longer. Should a process not see that its time has passed, the journal's fence does.
"""

from collections.abc import Collection, Iterable
from typing import Final, Protocol

from bestex.domain.orders import UNKNOWN_TOKEN, Order
from bestex.ports import BookLease, Clock

LAUNCHES: Final = "launches"
SWITCHES: Final = "switches"
ALWAYS_THERE: Final = frozenset({LAUNCHES, SWITCHES})
"""The keys of the books that are no pair's."""


def book_key(pair: str) -> str:
    """The key of the book in which orders of a pair wait, by the pair's name."""
    return LAUNCHES if UNKNOWN_TOKEN.symbol in pair.split("/") else pair


def key_of_order(order: Order) -> str:
    return book_key(order.pair.name)


class Books(Protocol):
    """What this process has of the books."""

    def owns(self, key: str) -> bool:
        """Whether the orders of a book are watched here."""

    def may_fire(self, key: str) -> bool:
        """Whether they may fire at this moment."""

    def fence(self, key: str) -> BookLease | None:
        """Under which lease they do; None where there is one process only."""


class AllBooks:
    """`Books` of a process that is alone."""

    def owns(self, key: str) -> bool:
        return True

    def may_fire(self, key: str) -> bool:
        return True

    def fence(self, key: str) -> BookLease | None:
        return None


class LeasedBooks:
    """`Books` of one of several processes: what it was told last of its leases, and until when that is good."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[str, BookLease] = {}  # by key
        self._good_until = 0.0  # by the clock's `monotonic`

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def keys(self) -> Collection[str]:
        return self._leases.keys()

    def owns(self, key: str) -> bool:
        return key in self._leases

    def may_fire(self, key: str) -> bool:
        return key in self._leases and self._clock.monotonic() < self._good_until

    def fence(self, key: str) -> BookLease | None:
        """`KeyError` for a book that is another's: nothing may be fired from it, then."""
        return self._leases[key]

    def good_until(self, monotonic: float) -> None:
        self._good_until = monotonic

    def take_up(self, leases: Iterable[BookLease]) -> None:
        self._leases.update((lease.key, lease) for lease in leases)

    def let_go(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._leases.pop(key, None)
