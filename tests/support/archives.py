"""A journal on PostgreSQL with a trading day on it, and archives of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from bestex.ambient import SystemClock
from bestex.archiving.archiver import Archiver, Outcome, Plan
from bestex.archiving.files import archives_up_to, read_archive
from bestex.audit.audit import Progress, audit
from bestex.audit.evidence import Evidence
from bestex.audit.findings import Report
from bestex.audit.joined import joined
from bestex.domain.terms import Kind
from bestex.journal.archive import PostgresArchive, connect_for_archive
from bestex.journal.evidence import PostgresJournalEvidence, checkpoint, connect_for_audit
from bestex.journal.postgres import PostgresJournal
from tests.support.trading_day import DayOrder, TradingDay

NEVER_US = 2**62  # later than any row


class Past:
    """Orders that come to a journal one after the other."""

    def __init__(self, journal: PostgresJournal) -> None:
        self.journal = journal
        self.day = TradingDay()

    def order(self, kind: Kind = Kind.MARKET) -> DayOrder:
        return self.day.order(kind)

    def keyed(self, key: str | None = None, client_order_id: str | None = None) -> DayOrder:
        """An order that comes with keys."""
        order = self.day.order(client_order_id=client_order_id)
        append = self.day.appends.pop()
        assert append.new is not None
        new = replace(append.new, idempotency_key=key, client_order_id=client_order_id, request_hash=b"request")
        self.day.appends.append(replace(append, new=new))
        return order

    async def write(self) -> None:
        """Have the journal hold what has happened since."""
        for append in self.day.appends:
            await self.journal.append(append)
        self.day.appends.clear()

    async def executed(self, orders: int) -> list[str]:
        """So many orders that are final; their ids."""
        ids = [self.order().execute().id for _ in range(orders)]
        await self.write()
        return ids


async def archived(
    dsn: str,
    folder: Path,
    *,
    before_us: int = NEVER_US,
    keys_kept_for: timedelta | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    rows_max: int = 10_000,
) -> Outcome:
    async with _archiver(dsn, folder, on_progress, rows_max) as archiver:
        return await archiver.run(before_us, keys_kept_for)


async def planned(dsn: str, before_us: int = NEVER_US) -> Plan:
    async with _archiver(dsn, Path(), lambda _: None, 10_000) as archiver:
        return await archiver.plan(before_us)


@asynccontextmanager
async def _archiver(
    dsn: str, folder: Path, on_progress: Callable[[Progress], None], rows_max: int
) -> AsyncIterator[Archiver]:
    connection = await connect_for_archive(dsn)
    try:
        yield Archiver(PostgresArchive(connection), folder, SystemClock(), on_progress, rows_max)
    finally:
        connection.terminate()


async def verified(dsn: str, archives: Path | None = None) -> Report:
    """What an audit of the database finds; with its archives, when their folder is named."""
    connection = await connect_for_audit(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            journal = PostgresJournalEvidence(connection)
            own = Evidence(journal, checkpoint=await checkpoint(connection), archived=journal.archived)
            if archives is None:
                return await audit(own)
            paths, differing = archives_up_to(archives, own.checkpoint)
            opens = [lambda without_log, path=path: read_archive(path, without_log=without_log) for path in paths]
            return await audit(joined(own, opens, differing))
    finally:
        connection.terminate()


async def verified_alone(path: Path) -> Report:
    """What an audit of one archive finds."""
    return await audit(read_archive(path))
