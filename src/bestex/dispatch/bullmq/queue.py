"""The BullMQ queue that orders are in, and its clients.

BullMQ's Python client retries a call for minutes after Redis went away, and can hang for ever once it is back. So no
call is waited for longer than `call_s`, and a client that did not answer is thrown away for a new one.
"""

import asyncio
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
from bullmq import Queue, Worker

QUEUE: Final = "bestex-orders"
CONNECT_TIMEOUT_S: Final = 2.0
CLOSE_S: Final = 1.0


class BullMqLimits(msgspec.Struct, frozen=True):
    rings: int = 20_000  # orders that wait to be added as jobs; those beyond are left to the workers' own looks
    batch: int = 250  # jobs added at a time
    in_hand: int = 32  # jobs of one worker whose orders' leases are not taken yet; BullMQ asks so often when idle
    call_s: float = 3.0  # for an answer of Redis
    look_every_s: float = 1.0  # whether the client still brings jobs
    hang_s: float = 3.0  # jobs wait, and the client has room for them and brings none: it hangs
    retry_s: float = 0.5  # before a new client takes a broken one's place
    lock_s: float = 15.0  # a worker that is silent for this long loses the jobs in its hand


def url_of(redis_url: str) -> str:
    """With a bound on how long connecting takes."""
    parts = urlsplit(redis_url)
    query = "&".join(filter(None, (parts.query, f"socket_connect_timeout={CONNECT_TIMEOUT_S}")))
    return urlunsplit(parts._replace(query=query))


async def close(client: Queue | Worker) -> None:
    """Close the client's connections, whatever state they are in."""
    closing = asyncio.ensure_future(client.backend.close(force=True))
    _, unfinished = await asyncio.wait((closing,), timeout=CLOSE_S)
    for each in unfinished:
        each.cancel()
