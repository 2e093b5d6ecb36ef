"""What happened in a run, line by line: an order's story, and a digest by which two runs are compared."""

import hashlib
from typing import Final

from bestex.simulation.loop import VirtualLoop

MAX_LINES: Final = 400_000

Line = tuple[float, str, str | None, tuple[object, ...]]


class Trace:
    """Lines with their virtual time. What is noted is put into words only when someone reads it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._lines: list[Line] = []

    def note(self, what: str, order_id: str | None = None, *details: object) -> None:
        """Note what happened; `order_id` None: something that concerns all orders."""
        if len(self._lines) < MAX_LINES:
            self._lines.append((self._loop.time(), what, order_id, details))

    def story(self, order_id: str | None) -> tuple[str, ...]:
        """What concerns an order."""
        return tuple(_text(line) for line in self._lines if line[2] is None or line[2] == order_id)

    def digest(self) -> str:
        """A hash over every line."""
        whole = hashlib.sha256()
        for line in self._lines:
            whole.update(f"{_text(line)} {line[2]}\n".encode())
        return whole.hexdigest()


def _text(line: Line) -> str:
    at_s, what, _, details = line
    return f"{at_s:11.6f} s  {what}" + "".join(f"  {detail}" for detail in details if detail != "")
