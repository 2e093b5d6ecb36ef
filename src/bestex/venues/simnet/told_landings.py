"""What the world told of a client's transactions when it told that they had landed: a look that was made for it.

Only of those that executed without an error, and only where nothing goes wrong in the world. Each is good for one look,
right after it was told; any other look, and every proof that something did not execute, asks the chain.
"""

from collections.abc import Sequence
from typing import Final

from bestex.domain.route import Fill
from bestex.ports import Clock, Commitment, StatusReport, TransactionStatus
from bestex.venues.simnet import wire
from bestex.venues.simulated.chain import MAIN_NODE

TOLD_LIFE_S: Final = 0.5
"""What was told longer ago may not be so any more."""
TOLD_MAX: Final = 20_000
"""Transactions that were told of and not looked at; the oldest are forgotten."""


class _Told:
    __slots__ = ("at", "fill", "finalized_slot", "slot", "status")

    def __init__(self, at: float, status: TransactionStatus, fill: Fill, slot: int, finalized_slot: int) -> None:
        self.at = at  # monotonic seconds
        self.status = status
        self.fill = fill
        self.slot = slot  # this and the next: the node's
        self.finalized_slot = finalized_slot


class ToldLandings:
    """What has been told and not been asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._statuses: dict[str, _Told] = {}  # by signature, the oldest first
        self._fills: dict[str, _Told] = {}  # of those whose status was asked for

    def __len__(self) -> int:
        return len(self._statuses) + len(self._fills)

    def add(self, news: wire.Landed) -> None:
        if not news.executed:
            return
        now, statuses = self._clock.monotonic(), self._statuses
        for signature, executed in zip(news.signatures, news.executed, strict=True):
            statuses.pop(signature, None)
            self._fills.pop(signature, None)
            if executed is not None:
                slot, fill = executed
                status = TransactionStatus(slot, Commitment.CONFIRMED)
                statuses[signature] = _Told(now, status, fill, news.slot, news.finalized_slot)
        _forget_oldest(statuses)

    def report(self, signatures: Sequence[str]) -> StatusReport | None:
        """The look at these that was told; None unless it was told of all of them, just now and for the first time."""
        found = self._take(self._statuses, signatures)
        if found is None:
            return None
        self._fills.update(zip(signatures, found, strict=True))
        _forget_oldest(self._fills)
        return StatusReport(
            endpoint=MAIN_NODE,
            slot=min(each.slot for each in found),
            finalized_slot=min(each.finalized_slot for each in found),
            history_from_slot=0,
            statuses=tuple([each.status for each in found]),
        )

    def fills(self, signatures: Sequence[str]) -> list[Fill] | None:
        """What these did, as it was told with their statuses; None unless of all of them."""
        found = self._take(self._fills, signatures)
        return None if found is None else [each.fill for each in found]

    def _take(self, table: dict[str, _Told], signatures: Sequence[str]) -> list[_Told] | None:
        since = self._clock.monotonic() - TOLD_LIFE_S
        found = [table.pop(signature, None) for signature in signatures]
        told = [each for each in found if each is not None and each.at >= since]
        return told if told and len(told) == len(signatures) else None


def _forget_oldest(table: dict[str, _Told]) -> None:
    while len(table) > TOLD_MAX:
        del table[next(iter(table))]
