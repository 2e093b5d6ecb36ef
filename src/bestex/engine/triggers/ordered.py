"""A sorted sequence in blocks: finding, adding and removing take a search and the move of one block's rest."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

BLOCK_ITEMS: Final = 512  # at loading; a block that reaches twice as many is cut in two

FEW: Final = 16  # of others to one: so many times fewer are added one by one

T = TypeVar("T")
SortKey = tuple[int, int]


class Ordered(Generic[T]):
    """Items by their sort key, which no two of them share and none may change while it stands here."""

    __slots__ = ("_blocks", "_key", "_lasts", "_size")

    def __init__(self, key: Callable[[T], SortKey], items: Iterable[T] = ()) -> None:
        self._key = key
        self._blocks: list[list[T]] = []
        self._lasts: list[SortKey] = []  # of each block: no key in it is greater, none behind it is less
        self._size = 0
        self.load(items)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        for block in self._blocks:
            yield from block

    def load(self, items: Iterable[T]) -> None:
        """Add many at once: sorted once."""
        found = [*self, *items]
        found.sort(key=self._key)
        self._blocks = [found[start : start + BLOCK_ITEMS] for start in range(0, len(found), BLOCK_ITEMS)]
        self._lasts = [self._key(block[-1]) for block in self._blocks]
        self._size = len(found)

    def first(self) -> T:
        """The one with the smallest key; `IndexError` when there is none."""
        return self._blocks[0][0]

    def after(self, key: SortKey) -> Iterator[T]:
        """Those with a greater key than this, in order."""
        at = bisect_right(self._lasts, key)
        if at == len(self._blocks):
            return
        block = self._blocks[at]
        yield from block[bisect_right(block, key, key=self._key) :]
        for block in self._blocks[at + 1 :]:
            yield from block

    def add(self, item: T) -> None:
        key = self._key(item)
        self._size += 1
        if not self._blocks:
            self._blocks.append([item])
            self._lasts.append(key)
            return
        at = bisect_left(self._lasts, key)
        if at == len(self._blocks):
            at -= 1
            self._blocks[at].append(item)
            self._lasts[at] = key
        else:
            block = self._blocks[at]
            block.insert(bisect_left(block, key, key=self._key), item)
        block = self._blocks[at]
        if len(block) >= 2 * BLOCK_ITEMS:
            self._blocks[at : at + 1] = [block[:BLOCK_ITEMS], block[BLOCK_ITEMS:]]
            self._lasts.insert(at, self._key(block[BLOCK_ITEMS - 1]))

    def add_all(self, items: "Ordered[T]") -> None:
        """Add the items of another one: one by one where they are few, else sorted once."""
        if len(items) * FEW < len(self):
            for item in items:
                self.add(item)
        else:
            self.load(items)

    def remove(self, item: T) -> None:
        """Take out the item with this one's key; `KeyError` when there is none."""
        key = self._key(item)
        at = bisect_left(self._lasts, key)
        if at < len(self._blocks):
            block = self._blocks[at]
            index = bisect_left(block, key, key=self._key)
            if index < len(block) and self._key(block[index]) == key:
                del block[index]
                self._size -= 1
                if not block:
                    del self._blocks[at], self._lasts[at]
                return
        raise KeyError(key)
