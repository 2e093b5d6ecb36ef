"""Wait for a time or for an event, whichever comes first."""

import asyncio

from bestex.ports import Clock


async def sleep_or(clock: Clock, seconds: float, event: asyncio.Event) -> None:
    """Sleep by the clock until `seconds` have passed or the event is set."""
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((sleeping, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeping.cancel()
        waiting.cancel()
        await asyncio.gather(sleeping, waiting, return_exceptions=True)
