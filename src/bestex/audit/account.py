"""What the audit remembers of one order: the fold of its events, small once nothing is left to do for it."""

from typing import Final, Self

import msgspec
from msgspec.structs import replace

from bestex.domain.events import (
    BuildingDetail,
    Changes,
    ConfirmedDetail,
    Event,
    FailedDetail,
    PendingDetail,
    SealedTokens,
    SubmittedDetail,
    Trigger,
)
from bestex.domain.lifecycle import FIRST, Status
from bestex.domain.order_state import OrderState


class Account:
    """One order under audit."""

    __slots__ = ("broken", "pending", "signed_attempt", "state", "tokens")

    def __init__(self) -> None:
        self.state = OrderState()
        self.pending: PendingDetail | None = None
        self.tokens: SealedTokens | None = None
        self.signed_attempt = 0  # the last that was signed
        self.broken = False  # its events do not fold: what follows from the fold cannot be checked

    def packed(self) -> bytes:
        """As few bytes as the rest of the audit needs, without the quotes; `unpacked` gives the account back."""
        state = self.state
        if self.pending is None or state.status is None:
            raise ValueError("an order without its first event has nothing to pack")
        return _encoder.encode(
            _Packed(
                pending=self.pending,
                tokens=self.tokens,
                signed_attempt=self.signed_attempt,
                status=state.status,
                seq=state.seq,
                attempt=state.attempt,
                created_us=state.created_us,
                updated_us=state.updated_us,
                building=replace(state.building, quotes=()) if state.building is not None else None,
                submitted=state.submitted,
                confirmed=state.confirmed,
                settled=state.settled,
                failure=state.failure,
                cancel_requested=state.cancel_requested,
                fired=state.fired,
                first_attempt=state.first_attempt,
                trigger=state.trigger,
                waits_because=state.waits_because,
                not_before=state.not_before,
                slices_begun=state.slices_begun,
                changes=state.changes,
            )
        )

    @classmethod
    def unpacked(cls, order_id: str, packed: bytes) -> Self:
        kept = _decoder.decode(packed)
        account = cls()
        account.pending = kept.pending
        account.tokens = kept.tokens
        account.signed_attempt = kept.signed_attempt
        state = account.state
        state.apply(Event(order_id, 1, FIRST, 0, kept.created_us, kept.pending))
        state.status = kept.status
        state.seq = kept.seq
        state.attempt = kept.attempt
        state.updated_us = kept.updated_us
        state.building = kept.building
        state.submitted = kept.submitted
        state.confirmed = kept.confirmed
        state.settled = kept.settled
        state.failure = kept.failure
        state.cancel_requested = kept.cancel_requested
        state.fired = kept.fired
        state.first_attempt = kept.first_attempt
        state.trigger = kept.trigger
        state.waits_because = kept.waits_because
        state.not_before = kept.not_before
        state.slices_begun = kept.slices_begun
        state.changes = kept.changes
        return account


class _Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pending: PendingDetail
    tokens: SealedTokens | None
    signed_attempt: int
    status: Status
    seq: int
    attempt: int
    created_us: int
    updated_us: int
    building: BuildingDetail | None
    submitted: SubmittedDetail | None
    confirmed: ConfirmedDetail | None
    settled: bool
    failure: FailedDetail | None
    cancel_requested: bool
    fired: int
    first_attempt: int
    trigger: Trigger | None
    waits_because: str | None
    not_before: str | None
    slices_begun: int
    changes: Changes | None


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Packed)
