"""A deadline on a call, which costs nothing where the call need not wait."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def within(seconds: float, call: Coroutine[Any, Any, T]) -> T:
    """The call's result; `TimeoutError` when it takes longer. A timer is set only once the call has to wait."""
    try:
        awaited = call.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    async with asyncio.timeout(seconds):
        return await _Begun(call, awaited)


class _Begun(Generic[T]):
    """A call that has begun in this task and waits for something; awaiting it goes on from there."""

    def __init__(self, call: Coroutine[Any, Any, T], awaited: object) -> None:
        self._call = call
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, T]:
        call, awaited = self._call, self._awaited
        sent = None
        while True:
            try:
                sent = yield awaited
            except GeneratorExit:
                call.close()
                raise
            except BaseException as error:  # noqa: BLE001 -- a cancellation is the call's to answer
                thrown: BaseException | None = error
            else:
                thrown = None
            try:
                awaited = call.send(sent) if thrown is None else call.throw(thrown)
            except StopIteration as done:
                result: T = done.value
                return result
