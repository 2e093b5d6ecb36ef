"""A worker as a process of its own, to be stopped and continued: `worker_process DSN REDIS_URL TTL_S LEDGER`.

It builds slowly, tells of each swap that it has built, and sends to a chain that is a file.
"""

import asyncio
import os
import sys
import uuid
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from bestex.ambient import SystemClock, SystemIds
from bestex.dispatch.bullmq import BullMqDispatcher
from bestex.dispatch.bullmq.queue import BullMqLimits
from bestex.dispatch.postgres import PostgresDispatcher
from bestex.domain.events import SignedTransaction
from bestex.domain.route import SwapRequest
from bestex.engine.worker import Worker
from bestex.journal.engines import Enrolment
from bestex.journal.postgres import PostgresJournal
from bestex.ports import Dispatcher, EngineMode
from bestex.routing.router import QuoteLimits, Router
from tests.support.cluster import LIMITS, QUICK, Chain
from tests.support.small_engine import TOKENS, ScriptedVenue, ScriptedWallet

CONCURRENCY = 4
BUILD_S = 0.2


class SlowVenue(ScriptedVenue):
    async def build(self, request: SwapRequest) -> SignedTransaction:
        tell("building", request.order_id)
        await asyncio.sleep(BUILD_S)
        transaction = await super().build(request)
        signature = f"{transaction.signature}/{os.getpid()}"  # another's, of the same attempt, is another
        tell("built", request.order_id)
        return replace(transaction, signature=signature)


def tell(what: str, order_id: str) -> None:
    sys.stdout.write(f"{what} {order_id}\n")
    sys.stdout.flush()


def dispatcher_over(dsn: str, redis_url: str) -> Dispatcher:
    """BullMQ where there is a Redis."""
    clock = SystemClock()
    return BullMqDispatcher(redis_url, clock, BullMqLimits()) if redis_url else PostgresDispatcher(dsn, clock)


async def _goes_on() -> None:
    """What a server is met with that has lost nothing."""


async def work(dsn: str, redis_url: str, ttl_s: float, ledger: Path) -> None:
    clock = SystemClock()
    enrolment = Enrolment(dsn, str(uuid.uuid4()), "a test's worker", clock, EngineMode.WORKER)
    await enrolment.enrol()
    journal = PostgresJournal(dsn, enrolment.engine_id, clock, timedelta(seconds=ttl_s))
    dispatcher = dispatcher_over(dsn, redis_url)
    worker = Worker(
        journal,
        dispatcher,
        Router([SlowVenue()], clock, QuoteLimits()),
        Chain(ledger),
        ScriptedWallet(),
        TOKENS,
        clock,
        SystemIds(),
        replace(LIMITS, concurrency=CONCURRENCY),
        QUICK,
    )
    journal.listen(worker.committed)
    await asyncio.gather(enrolment.keep(_goes_on), journal.run(), dispatcher.run(), worker.run())


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])))
