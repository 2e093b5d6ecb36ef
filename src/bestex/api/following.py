"""Follow committed events without a gap: history from the journal, then what the hub pushes, each exactly once."""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from bestex.domain.events import StoredEvent, settles
from bestex.domain.lifecycle import ENDS
from bestex.engine.order_log import absent
from bestex.ports import Hub, Journal

FEED_PAGE: Final = 500
"""Events read from the journal at a time."""


async def follow_order(
    journal: Journal, hub: Hub, order_id: str, after_seq: int, *, until_settled: bool = False
) -> AsyncGenerator[list[StoredEvent], None]:
    """The order's events behind `after_seq`: first its history, maybe empty, then each batch; ends with the order.

    An executed order's first `confirmed` is its end; with `until_settled`, the note that it is final, or lost for good.

    Subscribing before reading closes the gap between history and live; sequence numbers drop what stands in both.
    `NotFoundError` for an unknown order, `OrderArchivedError` for one that was archived.
    """
    subscription = hub.watch(order_id)
    try:
        history = await journal.events(order_id)
        if not history:
            raise await absent(journal, order_id)
        last_seq = max(after_seq, history[-1].event.seq)
        yield [event for event in history if event.event.seq > after_seq]
        ended = _is_end(history[-1], until_settled)
        while not ended:
            pushed = await subscription.next()
            if pushed is None:  # the queue overflowed: the journal has what was dropped
                pushed = await journal.events(order_id, last_seq)
            fresh = [event for event in pushed if event.event.seq > last_seq]
            if fresh:
                last_seq = fresh[-1].event.seq
                ended = _is_end(fresh[-1], until_settled)
                yield fresh
    finally:
        subscription.close()


def _is_end(stored: StoredEvent, until_settled: bool) -> bool:
    return settles(stored.event) if until_settled else stored.event.status in ENDS


async def follow_all(
    journal: Journal, hub: Hub, after_position: int | None
) -> AsyncGenerator[Sequence[StoredEvent], None]:
    """The whole log behind a position, from now on when None, in commit order and without end."""
    subscription = hub.watch_all()
    try:
        last = await journal.head() if after_position is None else after_position
        behind = after_position is not None
        while True:
            if behind:
                page = await journal.feed(last, FEED_PAGE)
                behind = len(page) == FEED_PAGE
            else:
                pushed = await subscription.next()
                if pushed is None:
                    behind = True
                    continue
                page = [event for event in pushed if event.position > last]
            if page:
                last = page[-1].position
                yield page
    finally:
        subscription.close()
