"""Write evidence as an export."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from bestex.audit.audit import Progress, ProgressListener
from bestex.audit.evidence import Counts, Evidence
from bestex.audit.export import lines

_encoder: Final = msgspec.json.Encoder()


async def write_export(
    evidence: Evidence,
    write: Callable[[bytes], object],
    exported_at: str,
    on_progress: ProgressListener = lambda _: None,
) -> Counts:
    """Write all of `evidence`, some lines at a time; `exported_at` is RFC 3339. How many lines of each kind."""
    head = await evidence.journal.head()
    counts = Counts()
    ledger = evidence.ledger
    header = lines.Header(
        lines.FORMAT,
        head.journal_id,
        head.position,
        head.hash.hex(),
        exported_at,
        ledger=ledger is not None,
        archive=evidence.is_archive,
    )
    write(_encoded([header]))
    if evidence.checkpoint is not None:
        write(_encoded([lines.checkpoint_line(evidence.checkpoint)]))
    if evidence.archived is not None:
        async for ids in evidence.archived():
            write(_encoded(map(lines.ArchivedLine, ids)))
            counts.archived += len(ids)
    async for rows in evidence.journal.log():
        write(_encoded(map(lines.log_line, rows)))
        counts.log += len(rows)
        on_progress(Progress("events", counts.log, head.position))
    if ledger is not None:
        async for transactions in ledger.transactions():
            write(_encoded(map(lines.transaction_line, transactions)))
            counts.transactions += len(transactions)
            on_progress(Progress("transactions", counts.transactions, None))
        async for adjustments in ledger.adjustments():
            write(_encoded(map(lines.adjustment_line, adjustments)))
            counts.adjustments += len(adjustments)
        async for balances in ledger.balances():
            write(_encoded(map(lines.balance_line, balances)))
            counts.balances += len(balances)
    async for images in evidence.journal.orders():
        write(_encoded(map(lines.order_line, images)))
        counts.orders += len(images)
        on_progress(Progress("orders", counts.orders, None))
    write(_encoded([lines.End(**msgspec.structs.asdict(counts))]))
    return counts


def _encoded(of: Iterable[lines.Line]) -> bytes:
    return _encoder.encode_lines(of)
