"""What the ordeal itself asks of the engine, until it is answered: a database may still be starting."""

from collections.abc import Sequence
from typing import Final

import httpx
import msgspec

from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.order_state import OrderView
from bestex.ordeal.doors import Doors
from bestex.ordeal.watchers import seen_of
from bestex.ports import Clock

POLL_S: Final = 0.25
ANSWER_TIMEOUT_S: Final = 20.0
PAGE: Final = 500


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    data: list[OrderView]
    next_cursor: str | None = None


class Asking:
    """One engine, asked as often as it takes."""

    def __init__(self, urls: Sequence[str], clock: Clock) -> None:
        self._doors = Doors(urls)
        self._clock = clock
        self.views: dict[str, OrderView] = {}  # every order, as it was when last asked
        self.events = 0  # in the log, of these

    async def ask(self, method: str, path: str, body: object = None) -> bytes:
        """The answer with 200."""
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_TIMEOUT_S) as http:
            while True:
                try:
                    answer = await http.request(method, f"{self._doors.next()}{path}", json=body)
                    if answer.status_code == 200:
                        return answer.content
                except httpx.TransportError:
                    pass
                await self._clock.sleep(POLL_S)

    async def look(self) -> list[OrderView]:
        """Every order that there is, as the engine shows it now."""
        views: list[OrderView] = []
        cursor = ""
        while True:
            path = f"/api/orders?limit={PAGE}" + (f"&cursor={cursor}" if cursor else "")
            page = msgspec.json.decode(await self.ask("GET", path), type=_Page)
            views += page.data
            if page.next_cursor is None:
                break
            cursor = page.next_cursor
        self.views = {view.order_id: view for view in views}
        self.events = sum(view.seq for view in views)
        return views

    async def until_all_are_settled(self) -> None:
        """Wait for every order's end and finality; what rests is cancelled, also exits that come meanwhile."""
        while not await self._all_are_settled(await self.look()):
            if any(view.status == Status.WATCHING for view in self.views.values()):
                await self.ask("DELETE", "/api/orders?all=true")
            await self._clock.sleep(POLL_S)

    async def _all_are_settled(self, views: list[OrderView]) -> bool:
        for view in views:
            if view.status not in ENDS or (view.status == Status.CONFIRMED and view.commitment == "confirmed"):
                return False
        for view in views:  # a fork's doing: the same bytes are sent again, until they can never land any more
            if view.commitment == "lost":
                history = msgspec.json.decode(await self.ask("GET", f"/api/orders/{view.order_id}/history"))
                if not seen_of(history["data"][-1]).settles:
                    return False
        return True
