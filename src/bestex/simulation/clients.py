"""Clients that place an order, repeat it, change it and cancel it, whatever it takes."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from bestex.domain.derived_ids import derived_id
from bestex.domain.errors import (
    BestexError,
    EngineFencedError,
    JournalUnavailableError,
    NotFoundError,
    OutcomeUnknownError,
)
from bestex.domain.terms import Kind, TimeInForce
from bestex.engine.errors import AlreadyEndedError, FieldError, NotWatchingError
from bestex.engine.intake import CALLER, Accepted, OrderRequest
from bestex.simulation.database import Request
from bestex.simulation.network import ConnectionLostError, Network
from bestex.simulation.prices import MarketPrices
from bestex.simulation.watchers import Watcher
from bestex.simulation.wishes import Amend, Wish, changes_of, priced

_CANCELS_MAX: Final = 200  # of one order that its client gives up, until its end is somebody else's


class Client:
    """Places one order, and sees to its end."""

    def __init__(self, network: Network, wish: Wish, prices: MarketPrices) -> None:
        self._network = network
        self._wish = wish
        self._prices = prices

    async def run(self) -> None:
        wish, network = self._wish, self._network
        await asyncio.sleep(wish.at_s)
        request = priced(wish, self._prices)
        if request is None:
            return
        accepted = await self._place(request)
        if accepted is None:
            return
        order_id = accepted.order_id
        works: list[Coroutine[Any, Any, None]] = [Watcher(network, order_id).run() for _ in range(wish.watchers)]
        if wish.repeats and wish.key is not None:
            works.append(self._repeat(request))
        if wish.cancel_after_s is not None:
            works.append(self._cancel_after(order_id, wish.cancel_after_s))
        works += [self._amend(order_id, request, amend) for amend in wish.amends]
        works.append(self._see_to_its_end(order_id))
        for task in [asyncio.create_task(work) for work in works]:
            await task

    # --- Placing

    async def _place(self, asked: OrderRequest) -> Accepted | None:
        """The 202; None when the client cannot know and has no key to ask again with, and when it was refused."""
        network, wish = self._network, self._wish
        while True:
            request = Request()
            try:
                accepted = await network.call(
                    lambda engine: engine.engine.intake.accept(asked, CALLER, wish.key), request=request
                )
            except (JournalUnavailableError, EngineFencedError):
                if request.order_id is not None:
                    network.referee.answers.denied(request.order_id)
                    network.trace.note("answered 503, nothing stored", request.order_id)
            except (ConnectionLostError, OutcomeUnknownError):
                if wish.key is None:
                    return None
            except FieldError:  # the price is beyond its trigger, or its time has passed
                return None
            except BestexError:
                pass  # full, halted, or another try under way: later
            else:
                network.trace.note("answered 202", accepted.order_id)
                network.referee.answers.accepted(accepted.order_id, wish.key)
                return accepted
            await network.pause()

    async def _repeat(self, request: OrderRequest) -> None:
        await self._network.pause()
        self._network.luck.struck["repeat"] += 1
        await self._place(request)

    # --- Changing and cancelling

    async def _amend(self, order_id: str, request: OrderRequest, amend: Amend) -> None:
        network = self._network
        await asyncio.sleep(amend.after_s)
        network.luck.struck["amend"] += 1
        changes = changes_of(amend, request, self._prices, network.clock.now_us())
        try:
            view = await network.insist(lambda engine: engine.engine.orders.amend(order_id, changes))
        except (AlreadyEndedError, NotWatchingError, FieldError):
            return
        network.trace.note("a change was answered", order_id, view.status)
        network.referee.answers.amended(order_id, view.seq)

    async def _cancel_after(self, order_id: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._network.luck.struck["cancel"] += 1
        await self._cancel(order_id)

    async def _cancel(self, order_id: str) -> None:
        network = self._network
        try:
            view = await network.insist(lambda engine: engine.engine.orders.cancel(order_id))
        except (AlreadyEndedError, NotFoundError):
            return
        network.trace.note("a cancel was answered", order_id, view.status)
        network.referee.answers.cancelled(order_id, view.status)

    async def _see_to_its_end(self, order_id: str) -> None:
        """Cancel what still rests when one has waited long enough: the order, and the exits that it may have made."""
        request, network = self._wish.request, self._network
        rests = request.kind is not Kind.MARKET and request.terms.time_in_force in (TimeInForce.GTC, TimeInForce.GTT)
        while not rests and network.referee.is_open(order_id):
            await network.clock.sleep(1.0)
        exits = [derived_id(order_id, "exits")] if request.terms.exits is not None else []
        for each in (order_id, *exits):
            await self._wait_for(each)
            for _ in range(_CANCELS_MAX):
                if not network.referee.is_open(each):
                    break
                await self._cancel(each)
                await network.pause()

    async def _wait_for(self, order_id: str) -> None:
        wish, network = self._wish, self._network
        if not network.referee.is_open(order_id):
            return
        if wish.is_patient:
            await network.healed.wait()
        left_s = wish.waits_s
        while left_s > 0 and network.referee.is_open(order_id):
            await asyncio.sleep(min(1.0, left_s))
            left_s -= 1.0
