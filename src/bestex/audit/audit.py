"""The audit from its first row to its report."""

from collections import Counter
from collections.abc import Callable

import msgspec

from bestex.audit.archives import ArchivedIds, KeptRows, archived_ids, check_archives
from bestex.audit.chain import ChainCheck
from bestex.audit.events import EventChecks
from bestex.audit.evidence import Counts, Evidence, JournalHead, LedgerEvidence, LedgerTransaction
from bestex.audit.findings import LEDGER_CHECKS, Check, Findings, Kind, Report
from bestex.audit.outcomes import OrderChecks
from bestex.domain.log_hash import PublishedHead
from bestex.domain.tokens import WRAPPED_SOL_MINT


class Progress(msgspec.Struct, frozen=True):
    """How far a reading of the evidence has come."""

    what: str  # "events", "transactions", "orders"
    done: int
    of: int | None  # how many there are, where that is known


ProgressListener = Callable[[Progress], None]


async def audit(
    evidence: Evidence, published: PublishedHead | None = None, on_progress: ProgressListener = lambda _: None
) -> Report:
    """Check everything that must hold of the evidence, reading it once.

    `published`: a head to hold the log against. The same evidence gives the same report. Memory: about 2.5 kB for
    each order, plus the folds of those that are open. Raises only what reading the evidence raises.
    """
    findings = Findings()
    head = await evidence.journal.head()
    _check_identity(findings, head, published)
    events = EventChecks(findings)
    chain = ChainCheck(findings, head, published, evidence.checkpoint)
    kept = KeptRows(evidence.checkpoint)
    counts = Counts()
    archived = await archived_ids(evidence, counts)
    async for rows in evidence.journal.log():
        chain.feed(kept.feed(rows))
        events.feed(rows)
        on_progress(Progress("events", chain.rows + kept.rows, head.position - kept.begin + kept.rows))
    chain.finish()
    check_archives(findings, evidence, kept)
    counts.log = chain.rows + kept.rows
    events.finish()
    orders_in_log = len(events.accounts)

    executed = None
    if evidence.ledger is None:
        for check in LEDGER_CHECKS:
            findings.skip(check, "there is no ledger of a simulated chain")
    else:
        ledger = _LedgerChecks(findings, events, counts, archived)
        await ledger.read(evidence.ledger, on_progress)
        executed = ledger.executed

    orders = OrderChecks(findings, events, executed)
    async for images in evidence.journal.orders():
        orders.feed(images)
        counts.orders += len(images)
        on_progress(Progress("orders", counts.orders, orders_in_log))
    if not evidence.is_archive:
        orders.finish()
    if evidence.stated is None:
        findings.skip(Check.EXPORT, "this is no export")
    else:
        _check_counts(findings, evidence.stated(), counts)
    return findings.report(head, published, counts.log, orders_in_log, counts.transactions)


def _check_counts(findings: Findings, stated: Counts, read: Counts) -> None:
    for name in Counts.__struct_fields__:
        findings.checked[Check.EXPORT] += 1
        if getattr(stated, name) != getattr(read, name):
            findings.add(
                Kind.COUNT_DIFFERS,
                f"the export has {getattr(read, name)} lines of {name}; its last line says {getattr(stated, name)}",
            )


def _check_identity(findings: Findings, head: JournalHead, published: PublishedHead | None) -> None:
    if published is None:
        findings.skip(Check.PUBLISHED_HEAD, "no published head was given")
    elif published.journal_id != head.journal_id:
        findings.checked[Check.PUBLISHED_HEAD] = 1
        findings.add(
            Kind.OTHER_JOURNAL,
            f"this is journal {head.journal_id}; the published head is of journal {published.journal_id}",
        )


class _LedgerChecks:
    """Whose each transaction is, and whether the wallet holds what they moved."""

    def __init__(self, findings: Findings, events: EventChecks, counts: Counts, archived: ArchivedIds) -> None:
        self._archived = archived
        self._findings = findings
        self._signed = events.signed
        self._counts = counts
        self._expected: Counter[str] = Counter()  # base units by mint
        self.executed: dict[str, LedgerTransaction] = {}  # swaps by order id

    async def read(self, ledger: LedgerEvidence, on_progress: ProgressListener) -> None:
        counts = self._counts
        async for transactions in ledger.transactions():
            for transaction in transactions:
                self._transaction(transaction)
            counts.transactions += len(transactions)
            on_progress(Progress("transactions", counts.transactions, None))
        self._findings.checked[Check.TRANSACTIONS] = counts.transactions
        async for adjustments in ledger.adjustments():
            counts.adjustments += len(adjustments)
            for adjustment in adjustments:
                self._expected[adjustment.mint] += adjustment.units
        balances: Counter[str] = Counter()
        async for some in ledger.balances():
            counts.balances += len(some)
            for balance in some:
                balances[balance.mint] += balance.units
        self._check_balances(balances)

    def _transaction(self, transaction: LedgerTransaction) -> None:
        expected = self._expected
        expected[transaction.mint_in] -= transaction.amount_in
        expected[transaction.mint_out] += transaction.amount_out
        expected[WRAPPED_SOL_MINT] -= transaction.network_fee
        signature, order_id = transaction.signature, transaction.order_id
        signed = self._signed.get(signature)
        if signed is None and self._archived.may_have(order_id):
            pass  # the archive has the event
        elif signed is None:
            self._findings.add(
                Kind.NEVER_SUBMITTED,
                f"transaction {signature} of order {order_id}, attempt {transaction.attempt}, landed, but no event"
                " of the log submitted it",
                order_id=order_id,
                signature=signature,
            )
        elif (signed.order_id, signed.attempt) != (order_id, transaction.attempt):
            self._findings.add(
                Kind.OTHER_ATTEMPT,
                f"transaction {signature} landed for order {order_id}, attempt {transaction.attempt}, but the log"
                f" submitted it for order {signed.order_id}, attempt {signed.attempt}",
                order_id=order_id,
                signature=signature,
            )
        if transaction.error is not None:
            return
        first = self.executed.setdefault(order_id, transaction)
        if first is not transaction:
            self._findings.add(
                Kind.EXECUTED_TWICE,
                f"order {order_id} was executed twice: by {first.signature} and by {signature}",
                order_id=order_id,
                signature=signature,
            )

    def _check_balances(self, balances: Counter[str]) -> None:
        expected = self._expected
        mints = sorted(expected.keys() | balances.keys())
        self._findings.checked[Check.BALANCES] = len(mints)
        for mint in mints:
            if expected[mint] != balances[mint]:
                self._findings.add(
                    Kind.BALANCE_DIFFERS,
                    f"the wallet holds {balances[mint]} base units of {mint}; what it was given and what"
                    f" transactions moved make {expected[mint]}",
                    mint=mint,
                )
