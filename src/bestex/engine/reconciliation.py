"""Reconcile: bring a journal that is older than the world up to what the wallet's own history says.

First it waits until nothing that was signed before can land any more: a transaction that the journal lost may still be
on its way. Then it reads the wallet's history back to where the journal ends, and adopts what it finds.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from bestex.domain.errors import (
    AppendRefusedError,
    ChainUnreachableError,
    JournalError,
    UnknownTokenError,
)
from bestex.domain.events import AttemptStory, Event
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import fold
from bestex.domain.orders import Order, order_as_it_stands
from bestex.domain.tokens import TokenRegistry
from bestex.engine.adoption import Adopted, Contradiction, adopt, order_of_landing, unknown_landings
from bestex.engine.deadline import within
from bestex.engine.decision import UNSEEN, Answer, Decision, GiveUp, Look, decide
from bestex.engine.order_log import open_transaction
from bestex.ports import Append, Chain, Clock, Journal, NewOrder, Wallet, WalletTransaction

BLOCKHASH_BLOCKS: Final = 150  # after its own, in which a blockhash may be used
PAGE: Final = 500  # transactions of the wallet's history at a time
MARGIN_US: Final = 600_000_000  # how far behind the journal's end its history is read: clocks differ
LOOK_EVERY_S: Final = 0.5
HISTORY_S: Final = 30.0  # for a page of the wallet's history
APPEND_TRIES: Final = 5
TIP_LOOKS: Final = 8  # at where the chain stands: one node may lag, and the newest answer counts
PROOF_TRIES: Final = 120  # looks at an open attempt, until some node proves what became of it

_log = structlog.get_logger(__name__)


class Reconciled(msgspec.Struct, rename="camel"):
    """What a reconciliation found."""

    transactions: int = 0  # of the wallet's history that were looked at
    adopted: list[str] = []  # ids of orders that got attempts which the journal did not know
    unknown_orders: list[str] = []  # those of them that the journal did not know at all
    foreign: list[str] = []  # signatures that are no order's, or whose tokens are not in the registry
    contradictions: list[Contradiction] = []  # for a person to look at


class Progress(msgspec.Struct, frozen=True):
    """How far it is."""

    stage: str  # "waiting" for what may still land, "reading" the wallet's history
    done: int  # blocks, or transactions
    of: int | None  # None: not known before


class Reconciliation:
    """One journal, one wallet."""

    def __init__(self, journal: Journal, chain: Chain, wallet: Wallet, tokens: TokenRegistry, clock: Clock) -> None:
        self._journal = journal
        self._chain = chain
        self._wallet = wallet
        self._tokens = tokens
        self._clock = clock

    async def run(self, caller: str, on_progress: Callable[[Progress], None]) -> Reconciled:
        """Adopt what is found. Nothing may be signed meanwhile. `caller` owns orders that nobody knows.

        Raises `JournalError`; an endpoint that does not answer is asked again.
        """
        await self._until_nothing_can_land(on_progress)
        ends_us = await self._end_of_journal()
        result = Reconciled()
        landed: list[WalletTransaction] = []  # all of it, before any is adopted: an order's attempts may be pages apart
        before: str | None = None
        while True:
            page = await self._history(before)
            recent = [each for each in page if each.landed_us >= ends_us - MARGIN_US]
            landed += recent
            result.transactions = len(landed)
            on_progress(Progress("reading", result.transactions, None))
            if len(recent) < PAGE:
                break
            before = page[-1].signature
        await self._adopt_all(landed, caller, result)
        return result

    async def _until_nothing_can_land(self, on_progress: Callable[[Progress], None]) -> None:
        """Wait until every blockhash that existed when this began has expired, finally."""
        first = last = looks = 0
        while True:
            try:
                height = await self._chain.finalized_height()
                if looks < TIP_LOOKS:
                    report = await self._chain.statuses([])
                    looks += 1
                    first = max(first, height.height)
                    # The newest block is at most as many blocks ahead as slots.
                    last = max(last, height.height + max(0, report.slot - height.slot) + BLOCKHASH_BLOCKS)
                    continue
            except ChainUnreachableError as error:
                _log.warning("reconcile.chain_unreachable", error=str(error))
            else:
                on_progress(Progress("waiting", max(0, min(height.height, last) - first), last - first))
                if height.height > last:
                    return
            await self._clock.sleep(LOOK_EVERY_S)

    async def _end_of_journal(self) -> int:
        """When its last event before the halt was, Unix microseconds; 0 when there is none.

        A halted engine goes on resolving what was signed: what it has written says nothing of where the journal ended.
        """
        halt = await self._journal.halted()
        until_us = halt.since_us if halt is not None else self._clock.now_us()
        head = await self._journal.log_head()
        ends_us, low, high = await self._journal.archived_until(), head.archived_to + 1, head.position
        while low <= high:
            middle = (low + high) // 2
            [stored] = await self._journal.feed(middle - 1, 1)
            if stored.event.at_us < until_us:
                ends_us, low = stored.event.at_us, middle + 1
            else:
                high = middle - 1
        return ends_us

    async def _history(self, before: str | None) -> list[WalletTransaction]:
        while True:
            try:
                return await within(HISTORY_S, self._wallet.history(before, PAGE))
            except (ChainUnreachableError, TimeoutError) as error:
                _log.warning("reconcile.chain_unreachable", error=str(error))
                await self._clock.sleep(LOOK_EVERY_S)

    async def _adopt_all(self, landed: list[WalletTransaction], caller: str, result: Reconciled) -> None:
        by_order: dict[str, list[WalletTransaction]] = defaultdict(list)
        for transaction in landed:
            by_order[transaction.order_id].append(transaction)
        for order_id in sorted(by_order):
            for _ in range(APPEND_TRIES):
                try:
                    await self._adopt_order(order_id, by_order[order_id], caller, result)
                    break
                except AppendRefusedError:
                    continue  # a landing concluded meanwhile, or a cancel came: look again
            else:
                raise JournalError(f"order {order_id} moved on {APPEND_TRIES} times while it was adopted")

    async def _adopt_order(
        self, order_id: str, landed: list[WalletTransaction], caller: str, result: Reconciled
    ) -> None:
        events = (await self._journal.histories([order_id]))[order_id]
        if not events and await self._journal.archived(order_id) is not None:
            return  # it ended long ago, and what it did was final
        unknown = unknown_landings(events, landed)
        if not unknown:
            return
        try:
            order = self._order(events, unknown[0])
        except UnknownTokenError as error:
            _log.warning("reconcile.foreign", order_id=order_id, error=str(error))
            result.foreign += [each.signature for each in unknown]
            return
        adopted = adopt(order, events, unknown, await self._given_up(events), self._clock.now_us())
        if isinstance(adopted, Contradiction):
            _log.error("reconcile.contradiction", order_id=order_id, reason=adopted.reason)
            result.contradictions.append(adopted)
            return
        await self._journal.append(_append(adopted, events, caller))
        _log.warning("reconcile.adopted", order_id=order_id, signatures=[each.signature for each in unknown])
        if order_id not in result.adopted:
            result.adopted.append(order_id)
        if adopted.is_new:
            result.unknown_orders.append(order_id)

    def _order(self, events: list[Event], landing: WalletTransaction) -> Order:
        """The order of a landing that the journal does not know; of a sniper, the chain tells what it bought."""
        if not events:
            return order_of_landing(landing, self._tokens)
        order = order_as_it_stands(events, self._tokens)
        return replace(order, token_out=self._tokens.get(landing.mint_out)) if not order.token_out.mint else order

    async def _given_up(self, events: list[Event]) -> AttemptStory | None:
        """The open attempt's story when it is proven that it did not execute."""
        state = fold(events)
        transaction = open_transaction(events)
        if state.status is not Status.SUBMITTED or transaction is None:
            return None
        decision: Decision = UNSEEN
        for _ in range(PROOF_TRIES):
            decision = decide(state, transaction, await self._answer(transaction.signature))
            if not isinstance(decision, Look):
                break
            await self._clock.sleep(LOOK_EVERY_S)  # a node that lags or forgets: another will know
        if not isinstance(decision, GiveUp):
            return None
        return AttemptStory(state.attempt, decision.code.value, decision.message, signature=transaction.signature)

    async def _answer(self, signature: str) -> Answer:
        while True:
            try:
                height = await self._chain.finalized_height()
                report = await self._chain.statuses([signature])
            except ChainUnreachableError as error:
                _log.warning("reconcile.chain_unreachable", error=str(error))
                await self._clock.sleep(LOOK_EVERY_S)
            else:
                return Answer(report.statuses[0], report, height)


def _append(adopted: Adopted, events: list[Event], caller: str) -> Append:
    order = adopted.order
    new = NewOrder(order.id, order.kind.value, order.pair.name, caller) if adopted.is_new else None
    last = events[-1] if events else None
    return Append(
        order.id,
        last.seq if last else 0,
        last.status if last else None,
        None,
        adopted.events,
        adopted.state.view(),
        new,
    )
