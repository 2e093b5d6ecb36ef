"""The chain with a deadline on every call: an endpoint that hangs is one that does not answer."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from bestex.domain.errors import ChainUnreachableError
from bestex.domain.events import SignedTransaction
from bestex.domain.route import Fill
from bestex.engine.deadline import within
from bestex.ports import BlockHeight, Chain, StatusReport

T = TypeVar("T")


class PatientChain:
    """`Chain` whose calls take at most `deadline_s` seconds."""

    def __init__(self, chain: Chain, deadline_s: float) -> None:
        self._chain = chain
        self._deadline_s = deadline_s

    def send_at_once(self, transaction: SignedTransaction) -> bool:
        return self._chain.send_at_once(transaction)

    async def send(self, transaction: SignedTransaction) -> None:
        await self._within(self._chain.send(transaction))

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        return await self._within(self._chain.statuses(signatures))

    async def finalized_height(self) -> BlockHeight:
        return await self._within(self._chain.finalized_height())

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        return await self._within(self._chain.fills(signatures))

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        self._chain.on_status(listener)

    async def _within(self, answer: Coroutine[Any, Any, T]) -> T:
        try:
            return await within(self._deadline_s, answer)
        except TimeoutError as error:
            raise ChainUnreachableError(f"no answer within {self._deadline_s:g} s") from error
