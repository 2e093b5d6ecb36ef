"""The addresses at which the system under fire answers: one, or those of several APIs."""

from collections.abc import Sequence


class Doors:
    """Who comes again comes to the next one: an order is repeated, and a stream resumed, on another API."""

    def __init__(self, urls: Sequence[str], first: int = 0) -> None:
        self._urls = urls
        self._at = first

    def next(self) -> str:
        self._at += 1
        return self._urls[self._at % len(self._urls)]

    def next_socket(self) -> str:
        """The same for WebSockets."""
        return f"ws{self.next().removeprefix('http')}"
