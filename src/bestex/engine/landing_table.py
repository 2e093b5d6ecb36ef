"""The transactions that are not final: those of which it is unknown what became, and those that were confirmed."""

from bestex.domain.events import SignedTransaction
from bestex.domain.lifecycle import Status
from bestex.engine.order_log import OrderLog


class Waiting:
    """A transaction that is not final."""

    __slots__ = ("log", "look_at", "note_at", "note_pause_s", "resend_at", "transaction")

    def __init__(self, log: OrderLog, transaction: SignedTransaction, now: float, note_after_s: float) -> None:
        self.log = log
        self.transaction = transaction
        self.look_at = now  # these are times of the clock's `monotonic`
        self.resend_at = now
        self.note_at = now + note_after_s
        self.note_pause_s = note_after_s

    @property
    def is_open(self) -> bool:
        """Whether it is unknown what became of it."""
        return self.log.state.status is Status.SUBMITTED


class LandingTable:
    """By signature; an order stands in it once at most."""

    def __init__(self) -> None:
        self.open: dict[str, Waiting] = {}  # it is unknown what became of them
        self.confirmed: dict[str, Waiting] = {}  # executed, and not final; those to be looked at first stand first

    def __len__(self) -> int:
        return len(self.open) + len(self.confirmed)

    def order_ids(self) -> set[str]:
        return {waiting.log.order.id for table in (self.open, self.confirmed) for waiting in table.values()}

    def put(self, waiting: Waiting) -> None:
        """Enter it where it belongs now, instead of what stood under its signature; not when it is settled."""
        signature = waiting.transaction.signature
        self.forget(signature)
        if waiting.is_open:
            self.open[signature] = waiting
        elif not waiting.log.state.settled:
            self.confirmed[signature] = waiting

    def due_for_finality(self, now: float, limit: int) -> list[Waiting]:
        """At most `limit` of the confirmed ones whose time to be looked at has come."""
        due: list[Waiting] = []
        for waiting in self.confirmed.values():
            if waiting.look_at > now or len(due) >= limit:
                break
            due.append(waiting)
        return due

    def look_later(self, waiting: Waiting, at: float) -> None:
        """Have a confirmed one looked at again at `at`, behind all others."""
        waiting.look_at = at
        self.confirmed[waiting.transaction.signature] = self.confirmed.pop(waiting.transaction.signature)

    def find(self, signature: str) -> Waiting | None:
        return self.open.get(signature) or self.confirmed.get(signature)

    def holds(self, waiting: Waiting) -> bool:
        """Whether it stands here still, and not another view of the same order."""
        return self.find(waiting.transaction.signature) is waiting

    def forget(self, signature: str) -> None:
        self.open.pop(signature, None)
        self.confirmed.pop(signature, None)
