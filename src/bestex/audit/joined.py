"""The log and its archives as one, from the first row on: as though nothing had been archived.

Rows of orders that stayed are taken from where they stayed, so that a change of them shows against the archives' chain.
"""

from collections.abc import AsyncIterator, Callable, Sequence

from bestex.audit.archives import ArchivedIds, archived_ids
from bestex.audit.evidence import Counts, Evidence, JournalHead, LogRow, OrderImage

OpenArchive = Callable[[bool], Evidence]
"""Begins to read an archive; with True, what is read leaves the log's rows out."""


def joined(own: Evidence, archives: Sequence[OpenArchive], differing: Sequence[str] = ()) -> Evidence:
    """The evidence of a journal and of all its archives, the oldest first; `differing`: those that were changed."""
    if own.checkpoint is None:
        return own
    journal = JoinedJournal(own, own.checkpoint.position, archives)
    return Evidence(journal, own.ledger, archives=len(archives), differing=tuple(differing))


class JoinedJournal:
    """`JournalEvidence` of a journal with its archives. Memory: the rows that stayed, and an id of each that left."""

    def __init__(self, own: Evidence, begin: int, archives: Sequence[OpenArchive]) -> None:
        """`begin` is the position up to which the log was archived."""
        self._own = own
        self._begin = begin
        self._archives = archives
        self._archived = ArchivedIds(None)

    async def head(self) -> JournalHead:
        return await self._own.journal.head()

    async def log(self) -> AsyncIterator[Sequence[LogRow]]:
        self._archived = await archived_ids(self._own, Counts())
        own = self._own.journal.log()
        kept: dict[int, LogRow] = {}
        behind: list[LogRow] = []
        async for rows in own:
            kept.update((row.position, row) for row in rows if row.position <= self._begin)
            behind = [row for row in rows if row.position > self._begin]
            if behind:
                break
        done = 0  # the position up to which archives have been read
        for archive in self._archives:
            evidence = archive(False)
            async for rows in evidence.journal.log():
                yield [row for each in rows if each.position > done and (row := self._stored(each, kept)) is not None]
            done = (await evidence.journal.head()).position
        yield list(kept.values())  # those that no archive has
        yield behind
        async for rows in own:
            yield rows

    def _stored(self, row: LogRow, kept: dict[int, LogRow]) -> LogRow | None:
        """The row as it stands now: where it stayed, else in the archive. None when it should have stayed."""
        here = kept.pop(row.position, None)
        return here if here is not None else row if self._archived.may_have(row.order_id) else None

    async def orders(self) -> AsyncIterator[Sequence[OrderImage]]:
        seen: set[str] = set()
        async for images in self._own.journal.orders():
            seen.update(image.order_id for image in images if self._archived.may_have(image.order_id))
            yield images
        for archive in reversed(self._archives):  # one that stayed after all stands in a later one, too
            async for images in archive(True).journal.orders():
                left = [
                    image for image in images if image.order_id not in seen and self._archived.may_have(image.order_id)
                ]
                seen.update(image.order_id for image in left)
                yield left
