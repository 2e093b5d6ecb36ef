"""The wallet's units that executing orders are about to spend: no two of them may count on the same.

An order reserves its input before it is routed, and holds it until it ends or waits again. One that finds its funds
reserved by others waits for them; what the wallet does not hold at all is left to the venue to refuse.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from bestex.domain.events import StoredEvent
from bestex.domain.lifecycle import ENDS, Status
from bestex.domain.orders import Order
from bestex.ports import Wallet

_LETTING_GO: Final = ENDS | {Status.WATCHING}


class Funds:
    """Reservations of one engine over one wallet."""

    def __init__(self, wallet: Wallet, patience_s: float) -> None:
        """`patience_s`: how long an order waits for others to let funds go."""
        self._wallet = wallet
        self._patience_s = patience_s
        self._held: dict[str, tuple[str, int]] = {}  # by order id: mint, base units
        self._reserved: defaultdict[str, int] = defaultdict(int)  # base units by mint
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)  # by mint
        self._complete = asyncio.Event()  # cleared while orders are taken over, whose transactions may be spending
        self._complete.set()

    def taking_over(self) -> None:
        """Have nothing reserved until it is known what a dead engine's orders may be spending."""
        self._complete.clear()

    def taken_over(self) -> None:
        """All of that is held here."""
        self._complete.set()

    def covers(self, mint: str, units: int) -> bool | None:
        """Whether the wallet holds so much that no executing order is about to spend; None where that is not known."""
        held = self._wallet.held(mint)
        return None if held is None else held - self._reserved[mint] >= units

    def reserve_at_once(self, order: Order) -> bool:
        """Reserve an order's input if nothing is to be waited for; False: not reserved, `reserve` waits."""
        mint, units = order.token_in.mint, order.amount_in
        if not self._complete.is_set() or order.id in self._held or self._short(mint, units):
            return False
        self._held[order.id] = mint, units
        self._reserved[mint] += units
        return True

    async def reserve(self, order: Order) -> int:
        """Reserve an order's input; what is missing of it, in base units, when others would not let go of it."""
        await self._complete.wait()
        mint, units = order.token_in.mint, order.amount_in
        if order.id in self._held:
            return 0
        held = self._wallet.held(mint)
        if held is not None and held >= units > held - self._reserved[mint]:
            try:
                async with asyncio.timeout(self._patience_s):
                    while self._short(mint, units):
                        await self._change(mint)
            except TimeoutError:
                return units + self._reserved[mint] - (self._wallet.held(mint) or 0)
        self._held[order.id] = mint, units
        self._reserved[mint] += units
        return 0

    def hold(self, order: Order) -> None:
        """Reserve an order's input whatever else is reserved: it may be spent already."""
        self.release(order.id)
        self._held[order.id] = order.token_in.mint, order.amount_in
        self._reserved[order.token_in.mint] += order.amount_in

    def release(self, order_id: str) -> None:
        held = self._held.pop(order_id, None)
        if held is None:
            return
        mint, units = held
        self._reserved[mint] -= units
        if self._waiting:
            for waiter in self._waiting.pop(mint, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Let go of what orders need no more; a listener of the journal."""
        for stored in events:
            if stored.event.status in _LETTING_GO:
                self.release(stored.event.order_id)

    def _short(self, mint: str, units: int) -> bool:
        """Whether the wallet holds enough, but others are about to spend it."""
        held = self._wallet.held(mint)
        return held is not None and held >= units > held - self._reserved[mint]

    async def _change(self, mint: str) -> None:
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[mint].append(changed)
        await changed
