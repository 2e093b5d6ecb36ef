"""What moves around the clients: the price, new pools, and a dead man's switch that is armed and renewed."""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Final

import httpx
import msgspec

from bestex.ordeal.doors import Doors
from bestex.ordeal.report import Tally
from bestex.ordeal.watchers import OPEN_TIMEOUT_S
from bestex.ports import Clock

PAUSE_S: Final = (0.2, 1.0)  # between two things that happen
MOVE_PERCENT: Final = 3.0
"""The farthest that the price is moved at a time."""
PULL: Final = 0.25
"""The share of all moves so far that the next one takes back: the price stays near where it was."""
LAUNCH_CHANCE: Final = 0.3
MIGRATION_CHANCE: Final = 0.1
RENEW_CHANCE: Final = 0.85
SWITCH_S: Final = 4
"""The dead man's switch strikes now and then: when it was renewed late, or the engine was down too long."""
PAIR: Final = "SOL/USDC"
ANSWER_TIMEOUT_S: Final = 10.0


class _Quote(msgspec.Struct, rename="camel"):
    amount_out: Decimal | None = None


class _Quotes(msgspec.Struct):
    quotes: list[_Quote]


class _Launched(msgspec.Struct):
    mint: str


class World:
    """The simulated world of one ordeal, from outside."""

    def __init__(self, urls: Sequence[str], seed: int, clock: Clock, tally: Tally) -> None:
        self.price: Decimal | None = None  # USDC for one SOL; None: not known yet
        self._doors = Doors(urls)
        self._clock = clock
        self._tally = tally
        self._chance = random.Random(f"{seed} world")  # noqa: S311 - needs repetition, not secrecy
        self._moved_percent = 0.0
        self._mint: str | None = None  # of the latest launch

    async def run(self) -> None:
        """Let things happen until cancelled. What the engine does not answer has not happened, or has: all the same."""
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=OPEN_TIMEOUT_S)
        async with httpx.AsyncClient(trust_env=False, timeout=timeout) as http:
            while True:
                with suppress(httpx.TransportError):
                    await self._happen(http)
                await self._clock.sleep(self._chance.uniform(*PAUSE_S))

    async def _happen(self, http: httpx.AsyncClient) -> None:
        chance = self._chance
        renewed, launches, migrates = (
            chance.random() < each for each in (RENEW_CHANCE, LAUNCH_CHANCE, MIGRATION_CHANCE)
        )
        percent = round(chance.uniform(-MOVE_PERCENT, MOVE_PERCENT) - self._moved_percent * PULL, 3)
        if renewed and (await self._post(http, "/api/deadman", {"seconds": SWITCH_S, "keepStops": True})).is_success:
            self._tally.world["dead man's switch armed or renewed"] += 1
        if (await self._post(http, "/api/sim/price", {"pair": PAIR, "percent": percent})).is_success:
            self._tally.world["price moved"] += 1
            self._moved_percent += percent
        if launches and (answer := await self._post(http, "/api/sim/launch", {})).is_success:
            self._tally.world["token launched"] += 1
            self._mint = msgspec.json.decode(answer.content, type=_Launched).mint
        if (
            migrates
            and self._mint is not None
            and (await self._post(http, "/api/sim/migrate", {"mint": self._mint})).is_success
        ):
            self._tally.world["pool migrated"] += 1
        await self._look(http)

    async def _post(self, http: httpx.AsyncClient, path: str, json: object) -> httpx.Response:
        return await http.post(f"{self._doors.next()}{path}", json=json)

    async def _look(self, http: httpx.AsyncClient) -> None:
        """Learn the price."""
        answer = await http.get(
            f"{self._doors.next()}/api/quotes", params={"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1"}
        )
        if answer.is_success:
            quotes = msgspec.json.decode(answer.content, type=_Quotes).quotes
            self.price = max((each.amount_out for each in quotes if each.amount_out is not None), default=self.price)
