"""Whether anything may be signed: a halt closes the gate, and the orders that come to it are held until it opens."""

from bestex.ports import Halt, HaltCause


class SigningGate:
    """Open unless there is a halt."""

    def __init__(self) -> None:
        self.halt: Halt | None = None
        self.held: set[str] = set()  # ids of orders that would have signed; read anew when it opens

    @property
    def journal_is_behind(self) -> bool:
        """Whether orders may have executed that the journal does not know: then none ends on its word alone."""
        return self.halt is not None and self.halt.cause is HaltCause.JOURNAL_BEHIND

    def close(self, halt: Halt) -> None:
        self.halt = halt

    def open(self) -> set[str]:
        """Open it; the orders that were held."""
        self.halt = None
        held, self.held = self.held, set()
        return held
