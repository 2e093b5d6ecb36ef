"""Landing: from signed bytes on disk to proof of what became of them.

Every order that waits for proof stands in one table, outside the executors' concurrency limit. The same bytes are
sent again while their blockhash lives; statuses are looked up in batches. What the chain says decides:

- found without an error, at `confirmed` or better: executed;
- found with an error, `finalized`: not executed;
- not found, on an endpoint whose finalized height is past the last valid block height, whose finalized slot is no
  earlier than the one that showed that height, and whose history reaches back before the signature: not executed;
- anything else: unknown. Unknown is never failed: look again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from bestex.domain.errors import AppendRefusedError, ChainUnreachableError, FailureCode, JournalError, NotFoundError
from bestex.domain.events import AttemptStory, ConfirmedDetail, SignedTransaction
from bestex.domain.lifecycle import Status
from bestex.domain.money import format_amount, parse_amount, price_text
from bestex.domain.route import Fill
from bestex.engine.order_log import OrderLog
from bestex.ports import BlockHeight, Chain, Clock, Commitment, Ids, StatusReport, TransactionStatus

MAX_SIGNATURES_A_CALL: Final = 256
_LAMPORT_DECIMALS: Final = 9

_log = structlog.get_logger(__name__)


class LandingLimits(msgspec.Struct, frozen=True):
    look_every_s: float = 1.0  # at every signature that no hint came for
    resend_every_s: float = 2.0  # the same bytes, give or take a quarter at random


class _Waiting:
    """An open attempt."""

    __slots__ = ("log", "resend_at", "transaction")

    def __init__(self, log: OrderLog, transaction: SignedTransaction, resend_at: float) -> None:
        self.log = log
        self.transaction = transaction
        self.resend_at = resend_at


class Landing:
    """The table of open attempts."""

    def __init__(
        self,
        chain: Chain,
        clock: Clock,
        ids: Ids,
        limits: LandingLimits,
        not_executed: Callable[[OrderLog, AttemptStory], None],
        refold: Callable[[str], None],
    ) -> None:
        """`not_executed` gets orders whose attempt is proven not executed, `refold` the ids of those to read anew."""
        self._chain = chain
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._not_executed = not_executed
        self._refold = refold
        self._table: dict[str, _Waiting] = {}
        self._hinted: list[str] = []
        self._wake = asyncio.Event()
        chain.on_status(self._hint)

    def __len__(self) -> int:
        return len(self._table)

    def order_ids(self) -> set[str]:
        """The orders that wait for proof."""
        return {waiting.log.order.id for waiting in self._table.values()}

    async def land(self, log: OrderLog, transaction: SignedTransaction) -> None:
        """Send a transaction whose `submitted` event has been committed, and follow it."""
        waiting = self._wait_for(log, transaction)
        await self._send(waiting)

    def resume(self, log: OrderLog) -> None:
        """Follow the open attempt of an order that was read from the journal; its bytes go out again."""
        if log.transaction is None:
            raise ValueError(f"order {log.order.id} has no open attempt")
        self._wait_for(log, log.transaction).resend_at = 0.0
        self._hint((log.transaction.signature,))

    def reload(self, log: OrderLog) -> None:
        """Give up this view of an order: its next step depends on what another wrote."""
        if log.transaction is not None:
            self._table.pop(log.transaction.signature, None)
        self._refold(log.order.id)

    async def run(self) -> None:
        """Follow hints and look at the whole table regularly, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_hints())
            tasks.create_task(self._look_regularly())

    def _wait_for(self, log: OrderLog, transaction: SignedTransaction) -> _Waiting:
        waiting = _Waiting(log, transaction, self._next_resend())
        self._table[transaction.signature] = waiting
        return waiting

    def _next_resend(self) -> float:
        return self._clock.monotonic() + self._limits.resend_every_s * (0.75 + self._ids.fraction() / 2)

    async def _send(self, waiting: _Waiting) -> None:
        """Hand the bytes over. Whatever the endpoint says, what became of them is unknown until looked up."""
        try:
            await self._chain.send(waiting.transaction)
        except Exception as error:  # noqa: BLE001 -- whatever broke, the bytes may have arrived
            _log.info("landing.send_unknown", signature=waiting.transaction.signature, error=repr(error))

    def _hint(self, signatures: Sequence[str]) -> None:
        self._hinted.extend(signatures)
        self._wake.set()

    async def _follow_hints(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            hinted, self._hinted = self._hinted, []
            known = [waiting for signature in hinted if (waiting := self._table.get(signature))]
            await self._look_at(known, None)

    async def _look_regularly(self) -> None:
        while True:
            await self._clock.sleep(self._limits.look_every_s)
            table = list(self._table.values())
            if not table:
                continue
            try:
                height = await self._chain.finalized_height()
            except Exception as error:  # noqa: BLE001 -- unreachable or broken, nothing is proven: look again
                _log.warning("landing.chain_unreachable", open_attempts=len(table), error=repr(error))
                continue
            await self._look_at(table, height)
            await self._resend(table, height)

    async def _resend(self, table: Iterable[_Waiting], height: BlockHeight) -> None:
        now = self._clock.monotonic()
        for waiting in table:
            transaction = waiting.transaction
            open_still = self._table.get(transaction.signature) is waiting
            if open_still and waiting.resend_at <= now and height.height <= transaction.last_valid_block_height:
                waiting.resend_at = self._next_resend()
                await self._send(waiting)

    async def _look_at(self, waiting: Sequence[_Waiting], height: BlockHeight | None) -> None:
        """Look statuses up and act on what is proven; `height` was read before, for the proof of expiry."""
        for start in range(0, len(waiting), MAX_SIGNATURES_A_CALL):
            batch = waiting[start : start + MAX_SIGNATURES_A_CALL]
            try:
                report = await self._chain.statuses([each.transaction.signature for each in batch])
            except Exception as error:  # noqa: BLE001 -- unreachable or broken, the statuses are unknown: look again
                _log.warning("landing.chain_unreachable", open_attempts=len(self._table), error=repr(error))
                return
            for each, status in zip(batch, report.statuses, strict=True):
                if self._table.get(each.transaction.signature) is each:
                    await self._act_safely(each, status, report, height)

    async def _act_safely(
        self, waiting: _Waiting, status: TransactionStatus | None, report: StatusReport, height: BlockHeight | None
    ) -> None:
        """One order's defect must not stop the landing of the others; it stays in the table, unknown."""
        try:
            await self._act(waiting, status, report, height)
        except Exception:  # noqa: BLE001 -- logged, and looked at again
            _log.exception("landing.defect", order_id=waiting.log.order.id, signature=waiting.transaction.signature)

    async def _act(
        self, waiting: _Waiting, status: TransactionStatus | None, report: StatusReport, height: BlockHeight | None
    ) -> None:
        if status is None:
            if height is not None and expiry_is_proven(waiting.transaction, report, height):
                self._conclude_not_executed(
                    waiting, FailureCode.BLOCKHASH_EXPIRED, "its blockhash expired before it landed"
                )
        elif status.error is not None:
            if status.commitment is Commitment.FINALIZED:
                code = _failure_code(status.error)
                self._conclude_not_executed(waiting, code, f"the chain executed it with an error: {status.error}")
        elif status.commitment is not Commitment.PROCESSED:
            await self._confirm(waiting, status)

    def _conclude_not_executed(self, waiting: _Waiting, code: FailureCode, message: str) -> None:
        del self._table[waiting.transaction.signature]
        self._not_executed(waiting.log, waiting.log.story(code, message))

    async def _confirm(self, waiting: _Waiting, status: TransactionStatus) -> None:
        log, signature = waiting.log, waiting.transaction.signature
        try:
            fill = await self._chain.fill(signature)
        except (ChainUnreachableError, NotFoundError) as error:
            _log.info("landing.fill_unknown", signature=signature, error=str(error))
            return
        if self._table.get(signature) is not waiting:
            return  # while the chain was asked, the other look at the table concluded, or the order was read anew
        detail = confirmed_detail(log, signature, fill, status.commitment)
        del self._table[signature]
        try:
            appended = log.record(Status.CONFIRMED, detail)
        except JournalError:
            self._refold(log.order.id)
        else:
            appended.add_done_callback(partial(self._recorded, log))

    def _recorded(self, log: OrderLog, appended: "asyncio.Future[int]") -> None:
        """An end that was refused is decided again on what stands in the journal; of other errors the sweep does it."""
        if not appended.cancelled() and isinstance(appended.exception(), AppendRefusedError):
            self._refold(log.order.id)


def expiry_is_proven(transaction: SignedTransaction, report: StatusReport, height: BlockHeight) -> bool:
    """Whether a signature that `report` does not know can never land, by a `height` read before the report."""
    return (
        report.endpoint == height.endpoint
        and height.height > transaction.last_valid_block_height
        and report.finalized_slot >= height.slot
        and report.history_from_slot <= transaction.blockhash_slot
    )


def confirmed_detail(log: OrderLog, signature: str, fill: Fill, commitment: Commitment) -> ConfirmedDetail:
    """The end of an executed order: amounts as the transaction moved them, against what was quoted."""
    order, building = log.order, log.state.building
    if building is None:
        raise ValueError(f"order {order.id} was submitted without a chosen venue")
    pair = order.pair
    amounts = {order.token_in: fill.amount_in, order.token_out: fill.amount_out}
    quoted = parse_amount(building.amount_out, order.token_out.decimals)
    return ConfirmedDetail(
        venue=building.venue,
        tx_hash=signature,
        amount_in=format_amount(fill.amount_in, order.token_in.decimals),
        amount_out=format_amount(fill.amount_out, order.token_out.decimals),
        executed_price=price_text(amounts[pair.quote], pair.quote.decimals, amounts[pair.base], pair.base.decimals),
        slippage_bps=round((quoted - fill.amount_out) * 10_000 / quoted, 2) if quoted else 0.0,
        fee_paid=format_amount(fill.fee_paid, _LAMPORT_DECIMALS),
        commitment=commitment.value,
    )


def _failure_code(error: str) -> FailureCode:
    try:
        return FailureCode(error)
    except ValueError:
        return FailureCode.TRANSACTION_FAILED
