"""What must hold of the database itself: the log against the chain's ledger."""

from pathlib import Path
from typing import Final

import asyncpg

from bestex.journal.embedded import EmbeddedPostgres

TOLD_MAX: Final = 20

_EXECUTED_TWICE: Final = """
    select order_id::text, count(*) from sim.transactions where error is null group by order_id having count(*) > 1
"""
_EXECUTED_UNCONFIRMED: Final = """
    select order_id::text from sim.transactions t where error is null
    and not exists (select from bestex.orders o where o.id::text = t.order_id::text and o.status = 'confirmed')
"""
_CONFIRMED_UNEXECUTED: Final = """
    select id::text from bestex.orders o where status = 'confirmed' and view ->> 'commitment' <> 'lost'
    and not exists (select from sim.transactions t where o.id::text = t.order_id::text and t.error is null)
"""


async def audit(data_dir: Path) -> list[str]:
    """What is wrong with the database in the folder, whose server runs."""
    connection = await asyncpg.connect(EmbeddedPostgres(data_dir).dsn)
    try:
        found = [f"order {row[0]} was executed {row[1]} times" for row in await connection.fetch(_EXECUTED_TWICE)]
        found += [
            f"order {row[0]} was executed, unknown to it" for row in await connection.fetch(_EXECUTED_UNCONFIRMED)
        ]
        found += [f"order {row[0]} was never executed" for row in await connection.fetch(_CONFIRMED_UNEXECUTED)]
    finally:
        await connection.close()
    return found[:TOLD_MAX]
