"""Run a coroutine's first step at once: most of those that the simulated world is called with need no second one."""

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """A coroutine that is under way and waits; awaiting this lets it go on."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            yield self._waits_for
        except BaseException:
            self._coroutine.close()
            raise
        return (yield from self._coroutine.__await__())


class Ended(Generic[T]):
    """What a coroutine gave that had nothing to wait for."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


def begin(coroutine: Coroutine[Any, Any, T]) -> Ended[T] | Begun[T]:
    """Take a coroutine's first step, and raise what it raises.

    That step belongs to whichever task runs now: nothing in it may ask for the current task, as timeouts do.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as stop:
        return Ended(stop.value)
    return Begun(coroutine, waits_for)
